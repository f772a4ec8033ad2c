"""Who is drawn to check a job: operators' VRF outputs, verified; and a record of each claim that was false. Pure."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import rfc8785

from aos.errors import BadProof, InvalidField
from aos.verification.draw import Draw
from aos.verification.vrf import KEY_BYTES, OUTPUT_BYTES, PROOF_BYTES, Suite, verify

VERSION: Final = 1
RECORD_BYTES: Final = 4096
"""Largest record that is read."""


class Falsehood(enum.Enum):
    """What is false in a claim."""

    OTHER_KEY = "other_key"
    """The key is not the one that the operator has registered."""
    BAD_PROOF = "bad_proof"
    """The proof is none, of this key, for this job."""
    OTHER_OUTPUT = "other_output"
    """The output is not the one that is proved."""
    OTHER_RESULT = "other_result"
    """Drawn by its output and said not to be, or the other way round."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an operator says of its own draw. Raises ValueError for parts of another length: what lacks them claims nothing."""

    operator: str
    """`0x` and 40 lower-case hex digits: who sent it, as the connection or the signed envelope shows."""
    public: bytes
    output: bytes
    proof: bytes
    selected: bool

    def __post_init__(self) -> None:
        if (len(self.public), len(self.output), len(self.proof)) != (KEY_BYTES, OUTPUT_BYTES, PROOF_BYTES):
            raise ValueError(f"a claim has a key of {KEY_BYTES} bytes, an output of {OUTPUT_BYTES} and a proof of {PROOF_BYTES}")

    @property
    def wire(self) -> dict[str, object]:
        """The wire's `vrf` object, less the prompt's hash."""
        return {
            "selected": self.selected,
            "vrf_random_value": self.output.hex(),
            "vrf_verify_pubkey": self.public.hex(),
            "vrf_proof": self.proof.hex(),
        }


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A claim that is true. Lower values go first; among equals, which happens once in 2^64 pairs, lower addresses."""

    value: int
    operator: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A claim that is false, with all that anyone needs to see that it is.

    It shows that the claim is false, not whose it is: keep the operator's signed message with it.
    """

    what: Falsehood
    claim: Claim
    draw: Draw
    key: bytes
    """The operator's registered key in that epoch."""

    @property
    def canonical(self) -> bytes:
        """RFC 8785 JSON; its SHA-256 names the record."""
        draw = self.draw
        return rfc8785.dumps(
            {
                "version": VERSION,
                "what": self.what.value,
                "operator": self.claim.operator,
                "registered_key": self.key.hex(),
                "job_id": draw.job.hex(),
                "epoch": str(draw.epoch),
                "threshold": str(draw.threshold),
                "suite": draw.suite.value,
                "vrf": {**cast("dict[str, Any]", self.claim.wire), "vrf_prompt_hash": draw.prompt_hash.hex()},
            }
        )


def check(claim: Claim, draw: Draw, *, key: bytes) -> Ticket | Evidence:
    """Return the operator's ticket, whether it is drawn or not, or what shows that its claim is false.

    ``key`` is the one registered before the draw's epoch. Everything is computed here: the claim is compared, never used.
    """
    if claim.public != key:
        return Evidence(Falsehood.OTHER_KEY, claim, draw, key)
    try:
        output = verify(key, draw.alpha, claim.proof, draw.suite)
    except BadProof:
        return Evidence(Falsehood.BAD_PROOF, claim, draw, key)
    if claim.output != output:
        return Evidence(Falsehood.OTHER_OUTPUT, claim, draw, key)
    if claim.selected != draw.wins(output):
        return Evidence(Falsehood.OTHER_RESULT, claim, draw, key)
    return Ticket(draw.value(output), claim.operator)


def holds(evidence: Evidence) -> bool:
    """Whether the record is of a claim that is false, in the way that it says: for those who were not there."""
    found = check(evidence.claim, evidence.draw, key=evidence.key)
    return isinstance(found, Evidence) and found.what is evidence.what


def sampled(tickets: Iterable[Ticket], draw: Draw, *, least: int = 0, most: int | None = None) -> list[Ticket]:
    """Return the tickets of the operators that run the job, lowest value first; one an operator.

    All below the threshold are in, but no more than ``most``. Where these are fewer than ``least``, the next lowest make up the
    number: no one can choose them either. Fewer come only if there are fewer tickets. Raises ValueError if ``most`` is below
    ``least``.
    """
    if least < 0 or (most is not None and most < least):
        raise ValueError(f"at least {least} and at most {most} cannot be")
    ranked: dict[str, Ticket] = {}
    for ticket in sorted(tickets):
        ranked.setdefault(ticket.operator, ticket)
    queue = list(ranked.values())
    drawn = sum(ticket.value < draw.threshold for ticket in queue)
    return queue[: max(least, drawn)][:most]


def read_claim(operator: str, vrf: dict[str, object], at: str = "vrf") -> Claim:
    """Return what the wire's `vrf` object claims. Raises InvalidField for one that is malformed; no claim of it is evidence."""
    selected = vrf.get("selected")
    if not isinstance(selected, bool):
        raise InvalidField(f"{at}.selected", "must be true or false", value=selected)
    lengths = {"vrf_verify_pubkey": KEY_BYTES, "vrf_random_value": OUTPUT_BYTES, "vrf_proof": PROOF_BYTES}
    public, output, proof = (_hex(vrf.get(name), length, f"{at}.{name}") for name, length in lengths.items())
    return Claim(operator, public, output, proof, selected)


def read_evidence(text: bytes) -> Evidence:
    """Return the record that was kept as ``canonical``, whether it ``holds`` or not. Raises InvalidField for anything else."""
    if len(text) > RECORD_BYTES:
        raise InvalidField("evidence", f"has {len(text)} bytes; no record has more than {RECORD_BYTES}", limit=RECORD_BYTES)
    try:
        kept: Any = json.loads(text)
        vrf, job, suite = kept["vrf"], bytes.fromhex(kept["job_id"]), Suite(kept["suite"])
        draw = Draw(job, bytes.fromhex(vrf["vrf_prompt_hash"]), int(kept["epoch"]), int(kept["threshold"]), suite)
        claim = read_claim(kept["operator"], vrf)
        evidence = Evidence(Falsehood(kept["what"]), claim, draw, bytes.fromhex(kept["registered_key"]))
        same = evidence.canonical == text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidField("evidence", "is no record of a false claim", value=text) from error
    if not same:
        raise InvalidField("evidence", "is not spelt in the one way", value=text)
    return evidence


def _hex(text: object, length: int, at: str) -> bytes:
    # lower case only: what is signed and kept has one spelling
    if isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text):
        return bytes.fromhex(text)
    raise InvalidField(at, f"must be {2 * length} lower-case hex digits", value=text, limit=2 * length)
