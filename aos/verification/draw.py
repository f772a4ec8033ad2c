"""What a VRF is asked about a job, and when its output means that the operator is drawn. Pure.

The dispatcher and the operator compute the same: the operator to know whether it is drawn, the dispatcher to check what it is told.
Layouts: docs/reference/sampling.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from aos.verification.vrf import OUTPUT_BYTES, Suite

TAG: Final = b"OPMLVRF1"
JOB_BYTES: Final = 32
PROMPT_HASH_BYTES: Final = 64
EPOCH_LIMIT: Final = 1 << 64
WHOLE: Final = 1 << 64
"""One more than the largest value that an output of RFC 9381 stands for."""
OLD_RANGE: Final = 600_000
"""`MAX_RANGE` of the range contract: one more than the largest value in the older network."""
OLD_DIGITS: Final = 6
"""`vrf_sort_precision`: how many hex digits of an output count there."""


def hash_prompt(prompt: str) -> bytes:
    """Return the SHA-512 of the prompt's UTF-8 bytes; as hex it is the wire's `vrf_prompt_hash`."""
    return hashlib.sha512(prompt.encode()).digest()


@dataclass(frozen=True, slots=True)
class Draw:
    """One job's draw: what every operator's VRF is asked, and below what an output wins.

    Raises ValueError for parts of another length or out of range.
    """

    job: bytes
    """The job's id, 32 bytes."""
    prompt_hash: bytes
    """64 bytes: see hash_prompt."""
    epoch: int
    """The number of the epoch in which the job was accepted. A key counts from the epoch after that of its registration."""
    threshold: int
    """Values below it win; from 0 to ``range``."""
    suite: Suite = Suite.RFC9381

    def __post_init__(self) -> None:
        if len(self.job) != JOB_BYTES or len(self.prompt_hash) != PROMPT_HASH_BYTES:
            raise ValueError(f"a job's id has {JOB_BYTES} bytes and a prompt's hash {PROMPT_HASH_BYTES}")
        if not 0 <= self.epoch < EPOCH_LIMIT:
            raise ValueError(f"an epoch is from 0 to 2^64 - 1, not {self.epoch}")
        if not 0 <= self.threshold <= self.range:
            raise ValueError(f"a threshold is from 0 to {self.range}, not {self.threshold}")

    @property
    def range(self) -> int:
        """How many values there are, each as likely as the others."""
        return WHOLE if self.suite is Suite.RFC9381 else OLD_RANGE

    @property
    def alpha(self) -> bytes:
        """What the VRF is asked.

        The older network asks about the prompt alone, so that an operator is drawn for a prompt always or never.
        """
        if self.suite is Suite.DRAFT04:
            return self.prompt_hash.hex().encode()
        return TAG + self.job + self.prompt_hash + self.epoch.to_bytes(8, "big")

    def value(self, output: bytes) -> int:
        """Return what the VRF's output stands for, from 0 to ``range`` - 1. Raises ValueError for another length than 64 bytes."""
        if len(output) != OUTPUT_BYTES:
            raise ValueError(f"a VRF's output has {OUTPUT_BYTES} bytes, not {len(output)}")
        if self.suite is Suite.DRAFT04:
            return int(output.hex()[-OLD_DIGITS:], 16) % OLD_RANGE
        return int.from_bytes(output[:8], "big")

    def wins(self, output: bytes) -> bool:
        """Whether the operator with this output is drawn."""
        return self.value(output) < self.threshold


def share(k: int, n: int, *, of: int = WHOLE) -> int:
    """Return the threshold below which one value in n / k falls: of n operators k are drawn, on average; all if k is at least n.

    Raises ValueError for a negative ``k``, or an ``n`` below 1.
    """
    if k < 0 or n < 1:
        raise ValueError(f"{k} of {n} is no share")
    return min(of, of * k // n)
