"""What is drawn and who may be, whether a claim is true, and what the operators' answers come to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import rfc8785

from aos.dispatcher.lottery import Claim, Ticket, check
from aos.dispatcher.lottery import Evidence as FalseClaim
from aos.dispatcher.risk import Position, Tag
from aos.dispatcher.verdict import Contradiction, Dissent, Ruling, judge
from aos.errors import BadReceipt, InvalidField
from aos.v1.dispatcher_pb2 import Draw as DrawMessage
from aos.v1.dispatcher_pb2 import Evidence, JobResult, LeaseFinished, RiskPosition, RiskTag, Verdict, Vrf
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order
from aos.verification.attribution import check_result
from aos.verification.receipts import address
from aos.verification.results import hash_input, read_draw, said_of_result

POSITIONS: Final = {
    Position.NONE: RiskPosition.RISK_POSITION_UNSPECIFIED,
    Position.BEFORE: RiskPosition.RISK_POSITION_BEFORE,
    Position.AFTER: RiskPosition.RISK_POSITION_AFTER,
}
"""As messages carry them."""
RESULTS: Final = 64
"""Most results that are kept of a job."""
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


def in_force(since: datetime | None, draw: DrawMessage, seconds: float) -> bool:
    """Say whether a key registered then counts in the draw: from the next epoch on, so that nobody chooses one for a job."""
    return since is not None and epoch_of(since, seconds) < draw.epoch


def draw_for(job_id: str, order: Order, created: datetime, *, width: int, epoch_seconds: float) -> DrawMessage:
    """Return a job's draw."""
    epoch = epoch_of(created, epoch_seconds)
    return DrawMessage(job=bytes.fromhex(job_id), prompt_hash=hash_input(order), epoch=epoch, width=width)


def check_claim(vrf: Vrf, operator: str, draw: DrawMessage, key: bytes) -> Ticket | FalseClaim:
    """Return the ticket, or what shows that the claim is false. Raises InvalidField for one that is malformed."""
    if vrf.prompt_hash != draw.prompt_hash:
        raise InvalidField("vrf.prompt_hash", "is not that of the draw", value=vrf.prompt_hash.hex())
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


def result_of(finished: LeaseFinished, text: str, *, risk: Risk, now: datetime, review: bool = False) -> JobResult:
    """Return the result to keep; its name comes with its place."""
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
    )
    result.created.FromDatetime(now)
    return result


def conclude(results: Sequence[JobResult], *, main: str, exact: bool, wanted: int, there: int) -> Conclusion:
    """Say what the answers come to. ``main`` is whose the caller has; ``wanted`` and ``there`` are operators, that one included."""
    receipts = [one.receipt for one in results]
    found = judge(receipts, exact=exact)
    ran = {address(one) for one in receipts}
    stands = {address(one) for one in found.standing}
    evidence = [*(dissent_evidence(one) for one in found.dissents), *(contradiction_evidence(one) for one in found.contradictions)]
    words = dict.fromkeys(stands, "It agrees with more than half.")
    words |= {address(one.receipt): _differs(one) for one in found.dissents}
    words |= {address(one): "No answer has more than half." for one in found.undecided if len(ran) > 1}
    words |= {address(one.one): "It signed two answers." for one in found.contradictions}
    reason = f"{len(ran)} of {max(wanted, len(ran))} wanted operators ran it, {len(stands)} agree"
    reason += f"; {there} were there." if there < wanted else "."
    if main in stands:
        return Conclusion(Verdict.VERDICT_CHECKED, reason, words, tuple(evidence))
    # operators of other builds may honestly differ: only what proves a false answer is held against one
    against = any(one.proves for one in found.dissents if address(one.receipt) == main)
    against |= any(address(one.one) == main for one in found.contradictions) and bool(stands)
    tied = found.ruling is Ruling.TIED
    against |= tied and exact and len({one.profile for one in found.undecided}) < len(found.undecided)
    verdict = Verdict.VERDICT_CHALLENGED if against else Verdict.VERDICT_UNCHECKED
    return Conclusion(verdict, reason, words, tuple(evidence), settled=not tied)


def false_claim_evidence(found: FalseClaim, *, job: str, message: JobResult | None, proves: bool) -> Evidence:
    """Return the record; ``proves`` is whether the operator's signature on its claim is good."""
    evidence = Evidence(operator=found.claim.operator, job=job, what=found.what.value, message=message, proves=proves)
    return _named(evidence, found.canonical)


def clock_evidence(operator: str, *, job: str, before: int, after: int, receipt: Receipt | None = None) -> Evidence:
    """Return the record of an operator that shows fewer events of its own than before."""
    what = {"version": 1, "what": "clock", "operator": operator, "job": job, "before": str(before), "after": str(after)}
    return _named(Evidence(operator=operator, job=job, what="clock", receipt=receipt), rfc8785.dumps(what))


def dissent_evidence(found: Dissent) -> Evidence:
    """Return the record of a receipt that says something else than the one that stands."""
    return _two("dissent", found.receipt, found.against, found.fields, proves=found.proves)


def contradiction_evidence(found: Contradiction) -> Evidence:
    """Return the record of two answers of one operator."""
    return _two("contradiction", found.one, found.other, found.fields, proves=True)


def _two(what: str, one: Receipt, other: Receipt, names: Sequence[str], *, proves: bool) -> Evidence:
    job = f"jobs/{one.job.hex()}"
    digests = [hashlib.sha256(each.SerializeToString(deterministic=True)).hexdigest() for each in (one, other)]
    record = rfc8785.dumps({"version": 1, "what": what, "operator": address(one), "job": job, "receipts": digests})
    evidence = Evidence(operator=address(one), job=job, what=what, receipt=one, against=other, fields=names, proves=proves)
    return _named(evidence, record)


def _named(evidence: Evidence, record: bytes) -> Evidence:
    evidence.name, evidence.record = f"evidence/{hashlib.sha256(record).hexdigest()}", record.decode()
    return evidence


def _differs(one: Dissent) -> str:
    return f"It differs from what more than half say, in {', '.join(one.fields)}."
