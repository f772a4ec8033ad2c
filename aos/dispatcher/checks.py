"""What is drawn and who may be, whether a claim is true, and what the operators' answers come to. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import rfc8785

from aos.dispatcher.lottery import Claim, Ticket, check
from aos.dispatcher.lottery import Evidence as FalseClaim
from aos.dispatcher.risk import Position, Tag
from aos.dispatcher.verdict import STEPS, Contradiction, Dissent, Ruling, Steps, judge
from aos.errors import BadReceipt, InvalidField
from aos.v1.dispatcher_pb2 import Draw as DrawMessage
from aos.v1.dispatcher_pb2 import Evidence, JobResult, LeaseFinished, RiskPosition, RiskTag, StateRoots, Verdict, Vrf
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order
from aos.verification.attribution import check_result
from aos.verification.receipts import address
from aos.verification.results import hash_input, read_draw, said_of_result, sent_suite
from aos.verification.vrf import Suite

POSITIONS: Final = {
    Position.NONE: RiskPosition.RISK_POSITION_UNSPECIFIED,
    Position.BEFORE: RiskPosition.RISK_POSITION_BEFORE,
    Position.AFTER: RiskPosition.RISK_POSITION_AFTER,
}
"""As messages carry them."""
RESULTS: Final = 64
"""Most results that are kept of a job."""
FAILURES: Final = RESULTS // 2
"""Once there are so many, no more are kept of operators that did not check it: answers have room."""
REVIEWERS: Final = 31
"""Most operators that check one job."""


@dataclass(frozen=True, slots=True)
class Risk:
    """How closely one job is looked at, and what came of it."""

    tag: Tag = Tag.NONE
    position: Position = Position.NONE
    width: int = 0
    """In ten-thousandths of all operators."""
    redundancy: int = 0
    """How many operators the caller wants to run it, at least."""
    exact: bool = False
    """Whether each operator's answer must be the same."""
    verdict: Verdict = Verdict.VERDICT_UNSPECIFIED
    reason: str = ""


NO_RISK: Final = Risk()
Roots = Mapping[bytes, StateRoots]
"""By the `state_root` that they belong to."""


@dataclass(frozen=True, slots=True)
class CheckKey:
    """One check of one job. A job of a user that is tagged later is checked again."""

    job_id: str
    position: Position
    tag: Tag


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the answers come to."""

    verdict: Verdict
    reason: str
    words: dict[str, str]
    """By operator, what became of its answer."""
    evidence: tuple[Evidence, ...] = ()
    settled: bool = True
    """Whether asking more operators would not help."""


def sent_tag(tag: Tag) -> RiskTag:
    """Return the tag as messages carry it."""
    return cast("RiskTag", int(tag))


def epoch_of(time: datetime, seconds: float) -> int:
    """Return the number of the epoch, each of so many seconds since 1970, that the time is in."""
    return int(time.timestamp() // seconds)


def in_force(since: datetime | None, epoch: int, seconds: float) -> bool:
    """Say whether a key registered then counts in a draw of that epoch. A new one does not: nobody chooses one for a job."""
    return since is not None and epoch_of(since, seconds) < epoch


def draw_for(job_id: str, order: Order, created: datetime, *, width: int, epoch_seconds: float, suite: Suite) -> DrawMessage:
    """Return a job's draw."""
    job, epoch, sent = bytes.fromhex(job_id), epoch_of(created, epoch_seconds), sent_suite(suite)
    return DrawMessage(job=job, prompt_hash=hash_input(order), epoch=epoch, width=width, suite=sent)


def check_claim(vrf: Vrf, operator: str, draw: DrawMessage, key: bytes) -> Ticket | FalseClaim:
    """Return the ticket, or what shows that the claim is false. Raises InvalidField for one that is malformed."""
    if vrf.prompt_hash != draw.prompt_hash:
        raise InvalidField("vrf.prompt_hash", "is not that of the draw", value=vrf.prompt_hash.hex())
    if vrf.suite != draw.suite:
        raise InvalidField("vrf.suite", "is not that of the draw", value=vrf.suite, limit=draw.suite)
    try:
        claim = Claim(operator, vrf.verify_pubkey, vrf.random_value, vrf.proof, vrf.selected)
    except ValueError as error:
        raise InvalidField("vrf", str(error)) from error
    return check(claim, read_draw(draw), key=key)


def check_signed(finished: LeaseFinished, job: str, *, draw: DrawMessage, key: bytes, tag: Tag) -> FalseClaim | None:
    """Check what comes with a receipt whose signature is good: the operator's word for all of it, and its claim.

    Return what shows that the claim is false; None for a true one. Raises BadSignature, or BadReceipt for what is malformed.
    """
    receipt = finished.finish.receipt
    check_result(said_of_result(receipt, finished.vrf, tag=sent_tag(tag)), finished.signature)
    try:
        found = check_claim(finished.vrf, address(receipt), draw, key)
    except InvalidField as error:
        raise BadReceipt(job, "vrf", error.message) from error
    return found if isinstance(found, FalseClaim) else None


def result_of(
    finished: LeaseFinished, text: str, *, risk: Risk, now: datetime, roots: StateRoots | None = None, review: bool = False
) -> JobResult:
    """Return the result to keep; its name comes with its place. ``roots`` are what its `state_root` was checked to be of."""
    receipt = finished.finish.receipt
    result = JobResult(
        operator=address(receipt),
        review=review,
        tag=sent_tag(risk.tag),
        position=POSITIONS[risk.position],
        result=text,
        vrf=finished.vrf if finished.signature else None,
        clock=receipt.clock,
        signature=finished.signature,
        receipt=receipt,
        roots=roots,
    )
    result.created.FromDatetime(now)
    return result


def failed_review(operator: str, why: str, *, risk: Risk, now: datetime) -> JobResult:
    """Return what to keep of an operator that was to check a job and did not."""
    result = JobResult(operator=operator, review=True, tag=sent_tag(risk.tag), position=POSITIONS[risk.position])
    result.reason = f"It did not check the job: {why}"
    result.created.FromDatetime(now)
    return result


def conclude(results: Sequence[JobResult], *, main: str, exact: bool, wanted: int, there: int) -> Conclusion:
    """Say what the answers come to. ``main`` is whose the caller has; ``wanted`` and ``there`` are operators, that one included."""
    answers = [one for one in results if one.HasField("receipt")]
    roots = {one.receipt.state_root: one.roots for one in answers if one.HasField("roots")}
    steps = {state: of.steps for state, of in roots.items()} if exact else {}
    found = judge([one.receipt for one in answers], exact=exact, steps=steps)
    ran = {address(one.receipt) for one in answers}
    stands = {address(one) for one in found.standing}
    evidence = [_dissent_evidence(one, roots) for one in found.dissents]
    evidence += [_contradiction_evidence(one, roots) for one in found.contradictions]
    nothing = f"No {'steps of its profile have' if stands else 'answer has'} more than half."
    words = dict.fromkeys(stands, "It agrees with more than half.")
    words |= {address(one.receipt): _differs(one) for one in found.dissents}
    words |= {address(one): nothing for one in found.undecided if len(ran) > 1}
    words |= {address(one.one): "It signed two answers." for one in found.contradictions}
    reason = _counted(len(ran), _agreement(found.standing, steps, exact=exact), wanted=wanted, there=there)
    if main in stands:
        return Conclusion(Verdict.VERDICT_CHECKED, reason, words, tuple(evidence))
    # what was to be the same everywhere and is not is challenged whatever profile an operator states: who states one that nobody
    # else has must gain nothing by it. Whether it proves anything, the evidence says
    undecided = any(address(one) == main for one in found.undecided) and len(ran) > 1
    against = exact and (undecided or any(address(one.receipt) == main for one in found.dissents))
    against |= any(address(one.one) == main for one in found.contradictions) and bool(stands)
    verdict = Verdict.VERDICT_CHALLENGED if against else Verdict.VERDICT_UNCHECKED
    return Conclusion(verdict, reason, words, tuple(evidence), settled=found.ruling is not Ruling.TIED and not undecided)


def alone(risk: Risk) -> str:
    """Return what the verdict on a job rests on that has one answer, because nobody else is there to check it.

    It is the reason that ``conclude`` gives for one answer, whatever that is: nobody agrees with nobody.
    """
    return _counted(1, _agreement([], {}, exact=risk.exact), wanted=max(risk.redundancy, 1), there=1)


def _counted(ran: int, agreement: str, *, wanted: int, there: int) -> str:
    reason = f"{ran} of {max(wanted, ran)} wanted operators ran it, {agreement}"
    return f"{reason}; {there} were there." if there < wanted else f"{reason}."


def _agreement(standing: Sequence[Receipt], steps: Steps, *, exact: bool) -> str:
    """Say how many agree, and in what: steps are compared within a profile only."""
    said = f"{len(standing)} agree"
    profiles = Counter(one.profile for one in standing if one.state_root in steps)
    compared = max(profiles.values(), default=0)
    if len(standing) < 2:  # noqa: PLR2004  # nobody agrees with nobody
        return said
    if compared == len(standing):
        return f"{said}, step by step"
    if compared > 1:
        return f"{said}, {compared} of them step by step and the others, of another profile, in their outputs"
    return f"{said} in their outputs" + (", being of different profiles" if exact and profiles else "")


def false_claim_evidence(found: FalseClaim, *, job: str, message: JobResult | None, proves: bool) -> Evidence:
    """Return the record; ``proves`` is whether the operator's signature on its claim is good."""
    evidence = Evidence(operator=found.claim.operator, job=job, what=found.what.value, message=message, proves=proves)
    return _named(evidence, found.canonical)


def clock_evidence(operator: str, *, job: str, before: int, after: int, receipt: Receipt | None = None) -> Evidence:
    """Return the record of an operator that shows fewer events of its own than before."""
    what = {"version": 1, "what": "clock", "operator": operator, "job": job, "before": str(before), "after": str(after)}
    return _named(Evidence(operator=operator, job=job, what="clock", receipt=receipt), rfc8785.dumps(what))


def _dissent_evidence(found: Dissent, roots: Roots) -> Evidence:
    """Return the record of a receipt that says something else than the one that stands."""
    return _two("dissent", found.receipt, found.against, found.fields, roots, proves=found.proves)


def _contradiction_evidence(found: Contradiction, roots: Roots) -> Evidence:
    """Return the record of two answers of one operator."""
    return _two("contradiction", found.one, found.other, found.fields, roots, proves=True)


def _two(what: str, one: Receipt, other: Receipt, names: Sequence[str], roots: Roots, *, proves: bool) -> Evidence:
    job = f"jobs/{one.job.hex()}"
    digests = [hashlib.sha256(each.SerializeToString(deterministic=True)).hexdigest() for each in (one, other)]
    record = rfc8785.dumps({"version": 1, "what": what, "operator": address(one), "job": job, "receipts": digests})
    evidence = Evidence(operator=address(one), job=job, what=what, receipt=one, against=other, fields=names, proves=proves)
    if STEPS in names:
        evidence.receipt_roots.CopyFrom(roots[one.state_root])
        evidence.against_roots.CopyFrom(roots[other.state_root])
    return _named(evidence, record)


def _named(evidence: Evidence, record: bytes) -> Evidence:
    evidence.name, evidence.record = f"evidence/{hashlib.sha256(record).hexdigest()}", record.decode()
    return evidence


def _differs(one: Dissent) -> str:
    return f"It differs from what more than half say, in {', '.join(one.fields)}."
