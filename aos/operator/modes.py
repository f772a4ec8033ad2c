"""In which ways a model can be run, and which of them an order gets. Pure.

llama.cpp's kernels add in another order when the shape of the work changes, and then the last bits differ. What shapes decide was
read in ggml's ``ggml_compute_forward_flash_attn_ext_f16`` and measured (docs/reference/determinism.md): matrices of the Q8_0 kind
give the same bits whatever is multiplied with them, and attention does as long as it takes one of its kernels only. With an f16
cache it takes a second one from 64 tokens of a sequence on, 64 at a time, and a third where several threads compute a single token
behind 256 others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from aos.errors import ModelUnsuitable
from aos.v1.types_pb2 import Determinism

MICRO_BATCH: Final = 256
"""Tokens that are computed together where nothing limits them; no step has more. 512 took a tenth to a quarter longer."""
MICRO_BATCH_F16: Final = 48
"""With an f16 cache, micro-batches of 64 and more take another kernel, whose sums differ in the last bits."""
BLOCK: Final = 64
"""So many queries that kernel takes at once. Each has the same bits in whichever block it is, and however many there are."""
Q8_BLOCK: Final = 32
"""Values in a q8_0 block; heads of other sizes cannot be cached in it."""
FEW_THREADS: Final = 2
"""Up to so many threads, computing single tokens on one of them costs less than another cache would."""
NEEDS_EXACT: Final = "weights that give the same bits whatever the load"


class Mode(Enum):
    """How a model is opened."""

    EXACT = "exact"
    """Bit-equal, in the way that costs least; where there is none, as BEST_EFFORT."""
    BEST_EFFORT = "best effort"
    """The fastest way; bits may differ with the load."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is set in llama.cpp for a mode: all that decides the bits apart from weights and build."""

    keys: str
    """Type of the KV cache's keys: `f16` or `q8_0`."""
    values: str
    """Type of its values: `f16`, `q8_0` or `bf16`."""
    ubatch: int
    """Most tokens in a micro-batch."""
    exact: bool
    """Whether it is meant to be bit-equal."""
    single: bool = False
    """Whether a micro-batch of a single token must be computed by a single thread."""
    block: int = 0
    """Prompts are computed in whole blocks of so many tokens, counted from the beginning, each sequence by itself; what is left of
    them, and what is drawn, in smaller pieces. 0: in any."""

    @property
    def profile(self) -> str:
        """Its part of a receipt's profile."""
        kv = self.keys if self.keys == self.values else f"{self.keys}/{self.values}"
        block = f" block={self.block}" if self.block else ""
        return f"kv={kv} fa=on ubatch={self.ubatch}{block} determinism={'exact' if self.exact else 'best_effort'}"

    @staticmethod
    def of(profile: str) -> Layout | None:
        """Return what a receipt's profile names; None if that is none of ours."""
        return next((one for one in (BLOCKS, F16, Q8_0, MIXED, FASTEST) if profile.endswith(f" {one.profile}")), None)


BLOCKS: Final = Layout("f16", "f16", MICRO_BATCH, exact=True, single=True, block=BLOCK)
"""As fast as can be, but that what was drawn is computed anew where it becomes a part of a prompt."""
F16: Final = Layout("f16", "f16", MICRO_BATCH_F16, exact=True, single=True)
"""The same for texts that become vectors: no answer follows them, and they go in small pieces."""
Q8_0: Final = Layout("q8_0", "q8_0", MICRO_BATCH, exact=True)
"""Attention has one kernel for such a cache, for any number of threads; it is slower, the more the longer the context."""
MIXED: Final = Layout("f16", "bf16", MICRO_BATCH, exact=True)
"""The same for keys and values of different types; for heads of any size."""
FASTEST: Final = Layout("f16", "f16", MICRO_BATCH, exact=False)


def fits(layout: Layout, heads: tuple[int, ...]) -> bool:
    """Say whether heads of such sizes can be cached in it."""
    return layout.values != Q8_0.values or all(size % Q8_BLOCK == 0 for size in heads)


def layouts(mode: Mode, *, heads: tuple[int, ...], threads: int) -> tuple[Layout, ...]:
    """Return the layouts to be tried for a mode, the cheapest first; the last needs no trial.

    ``heads``: how many values a head's keys and values have; ``threads``: how many will compute.
    """
    if mode is Mode.BEST_EFFORT:
        return (FASTEST,)
    whole = (Q8_0, MIXED) if fits(Q8_0, heads) else (MIXED,)
    return (BLOCKS, *whole, FASTEST) if threads <= FEW_THREADS else (*whole, FASTEST)


def mode_for(determinism: Determinism, *, model: str, exact: bool) -> Mode:
    """Return the mode that an order gets from a model that can be ``exact`` or not. Raises ModelUnsuitable if it gets none."""
    if determinism == Determinism.DETERMINISM_BEST_EFFORT:
        return Mode.BEST_EFFORT
    if determinism == Determinism.DETERMINISM_EXACT and not exact:
        raise ModelUnsuitable(model, NEEDS_EXACT)
    return Mode.EXACT if exact else Mode.BEST_EFFORT
