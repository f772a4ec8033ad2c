"""What an operator proves with its answer: that its clock did not go back, and that it was drawn."""

from __future__ import annotations

import asyncio

from aos.clock import Clock
from aos.dispatcher.checks import Risk, check_signed, clock_evidence, false_claim_evidence, result_of
from aos.dispatcher.jobs import Job
from aos.dispatcher.store import CheckStore
from aos.errors import BadReceipt
from aos.v1.dispatcher_pb2 import Draw, LeaseFinished


async def prove(
    finished: LeaseFinished,
    job: Job,
    operator: str,
    *,
    proves: tuple[Draw, bytes] | None,
    risk: Risk,
    began: int,
    checks: CheckStore,
    clock: Clock,
) -> None:
    """Check what comes with a receipt whose signature is good: that its clock did not go back, and the VRF's claim.

    ``proves`` is the draw and the operator's VRF key, None if it has no key in force; ``began`` is its own count when it began.
    Raises BadReceipt or BadSignature; what is false is then on record.
    """
    receipt, now = finished.finish.receipt, clock.now()
    own = max((count for node, count in receipt.clock.counts.items() if node.lower() == operator), default=0)
    if own < began:
        evidence = clock_evidence(operator, job=job.name, before=began, after=own, receipt=receipt)
        await checks.accuse(evidence, now=now)
        raise BadReceipt(job.name, "clock", f"went back from {began} to {own}")
    if proves is None:
        # nothing is kept that nobody has checked
        finished.ClearField("vrf")
        finished.ClearField("signature")
        return
    draw, key = proves
    # in a thread: a signature and a proof take milliseconds
    false = await asyncio.to_thread(check_signed, finished, job.name, draw=draw, key=key, tag=risk.tag)
    if false is not None:
        message = result_of(finished, "", risk=risk, now=now)
        evidence = false_claim_evidence(false, job=job.name, message=message, proves=True)
        await checks.accuse(evidence, now=now)
        raise BadReceipt(job.name, "vrf", f"is false: {false.what.value}")
