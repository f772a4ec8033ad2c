"""What several operators' receipts for one job say together: who agrees, who does not, and what that proves. Pure."""

from __future__ import annotations

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from aos.errors import BadReceipt
from aos.v1.receipt_pb2 import Receipt
from aos.verification.receipts import address

ASKED: Final = ("job", "request_digest", "model_digest", "parameters", "seed")
"""What was asked: receipts that differ here are not for the same job."""
ANSWERED: Final = ("prompt_digest", "output_digest", "output_tokens_digest", "prompt_tokens", "completion_tokens", "finish_reason")
"""What was answered: bit-equal wherever numbers are (exact mode, one profile). Price, clock and time are each operator's own."""
STEPS: Final = "steps"
"""How the root over an answer's steps is called among fields that differ. No receipt has it, but their `state_root` is of it."""

Steps = Mapping[bytes, bytes]
"""Roots over steps by the `state_root` that they were checked to belong to, which is different for each operator."""


class Ruling(enum.Enum):
    """What the receipts come to."""

    AGREED = "agreed"
    """All are the same, and enough."""
    MAJORITY = "majority"
    """More than the share that is needed are the same; others differ."""
    TIED = "tied"
    """No answer has enough of them: more operators are needed."""
    ALONE = "alone"
    """Too few operators to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSettings:
    """When an answer stands. Raises ValueError for a value that cannot work."""

    share: Fraction = Fraction(1, 2)
    """An answer stands when more than this part of the operators gave it."""
    least: int = 2
    """Fewer operators decide nothing."""

    def __post_init__(self) -> None:
        if not Fraction(1, 2) <= self.share < 1:
            raise ValueError(f"verdict setting share must be from 1/2 to below 1, not {self.share}: two answers could stand")
        if self.least < 1:
            raise ValueError(f"verdict setting least must be at least 1, not {self.least}")


@dataclass(frozen=True, slots=True)
class Dissent:
    """A receipt that says something else than the one that stands."""

    receipt: Receipt
    against: Receipt
    """One that stands, of the same profile if there is one."""
    fields: tuple[str, ...]
    """In which they differ."""
    proves: bool
    """Whether one of the two must be false: both were to be exact, on the same profile. Otherwise honest operators may differ."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two receipts that one operator signed for one job, and that say different things. Both are its own words."""

    one: Receipt
    other: Receipt
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the receipts come to. Each operator is in exactly one of the four lists."""

    ruling: Ruling
    standing: tuple[Receipt, ...] = ()
    """Those with the answer that stands, by operator."""
    dissents: tuple[Dissent, ...] = ()
    undecided: tuple[Receipt, ...] = ()
    """Those that no answer stands among, or, with the answer that stands, no steps of their profile; by operator."""
    contradictions: tuple[Contradiction, ...] = ()
    """Of operators whose word does not count."""


def judge(
    receipts: Iterable[Receipt], *, exact: bool, steps: Steps | None = None, settings: VerdictSettings | None = None
) -> Verdict:
    """Compare receipts, whose signatures are good, of operators that ran one job. Their order does not matter.

    ``exact`` is whether the job was to be bit-equal: only then ``steps`` are compared, and between receipts of one profile. Raises
    BadReceipt if they are not for one job.
    """
    settings, steps = settings or VerdictSettings(), (steps or {}) if exact else {}
    words, contradictions = _one_each(receipts, steps)
    if len(words) < settings.least:
        return Verdict(Ruling.ALONE, undecided=tuple(words), contradictions=contradictions)
    groups: defaultdict[tuple[object, ...], list[Receipt]] = defaultdict(list)
    for receipt in words:
        groups[_answer(receipt)].append(receipt)
    largest = max(groups.values(), key=len)
    standing, undecided = _in_step(largest, steps, settings.share)
    if len(standing) <= settings.share * len(words):
        return Verdict(Ruling.TIED, undecided=tuple(words), contradictions=contradictions)
    others = [one for one in words if one not in standing and one not in undecided]
    dissents = tuple(_dissent(one, standing, steps, exact=exact) for one in others)
    ruling = Ruling.MAJORITY if dissents or undecided else Ruling.AGREED
    return Verdict(ruling, tuple(standing), dissents, tuple(undecided), contradictions)


def appeal(asked: int) -> int:
    """Return how many operators to ask in all after ``asked`` of them did not settle it: 2k + 1, so that two answers cannot tie."""
    return 2 * asked + 1


def differing(one: Receipt, other: Receipt, steps: Steps | None = None) -> tuple[str, ...]:
    """Return the fields in which two answers differ."""
    fields = tuple(name for name, a, b in zip(ANSWERED, _answer(one), _answer(other), strict=True) if a != b)
    return fields if _same_steps(one, other, steps or {}) else (*fields, STEPS)


def _same_steps(one: Receipt, other: Receipt, steps: Steps) -> bool:
    """Whether nothing is known to differ step by step. Between profiles nothing is compared."""
    roots = {steps[root] for root in (one.state_root, other.state_root) if root in steps}
    return one.profile != other.profile or len(roots) < 2  # noqa: PLR2004  # two roots


def _in_step(agreed: Sequence[Receipt], steps: Steps, share: Fraction) -> tuple[list[Receipt], list[Receipt]]:
    """Of receipts with one answer, return those whose steps stand within their profile, and those of profiles where none stand."""
    roots: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
    for one in agreed:
        if one.state_root in steps:
            roots[one.profile][steps[one.state_root]] += 1
    standing: list[Receipt] = []
    undecided: list[Receipt] = []
    for one in agreed:
        own, found = steps.get(one.state_root), roots[one.profile]
        most, votes = found.most_common(1)[0] if found else (None, 0)
        if own is None or votes <= share * found.total():
            (standing if own is None else undecided).append(one)
        elif own == most:
            standing.append(one)
    return standing, undecided


def _one_each(receipts: Iterable[Receipt], steps: Steps) -> tuple[list[Receipt], tuple[Contradiction, ...]]:
    """One receipt an operator, by address; and those of operators that contradict themselves."""
    said: dict[str, list[Receipt]] = {}
    first: Receipt | None = None
    for receipt in receipts:
        first = first or receipt
        for name in ASKED:
            if getattr(receipt, name) != getattr(first, name):
                raise BadReceipt(f"jobs/{first.job.hex()}", name, "is another than that of the receipt it is compared with")
        said.setdefault(address(receipt), []).append(receipt)
    words: list[Receipt] = []
    contradictions: list[Contradiction] = []
    for _, own in sorted(said.items()):
        own.sort(key=lambda receipt: receipt.SerializeToString(deterministic=True))
        other = next((one for one in own if differing(own[0], one, steps)), None)
        if other is None:
            words.append(own[0])
        else:
            contradictions.append(Contradiction(own[0], other, differing(own[0], other, steps)))
    return words, tuple(contradictions)


def _dissent(receipt: Receipt, standing: Sequence[Receipt], steps: Steps, *, exact: bool) -> Dissent:
    same = next((one for one in standing if one.profile == receipt.profile and differing(receipt, one, steps)), None)
    against = same or standing[0]
    return Dissent(receipt, against, differing(receipt, against, steps), proves=exact and same is not None)


def _answer(receipt: Receipt) -> tuple[object, ...]:
    usage = receipt.usage
    return (
        receipt.prompt_digest,
        receipt.output_digest,
        receipt.output_tokens_digest,
        usage.prompt_tokens,
        usage.completion_tokens,
        receipt.finish_reason,
    )
