"""The evidence that a `tee` job's answer must come with: verified before the answer counts; what is false is kept."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Final

import rfc8785

from aos.clock import Clock
from aos.dispatcher.jobs import TEE, Job
from aos.dispatcher.store import CheckStore
from aos.errors import BadEvidence, BadReceipt
from aos.v1.attestation_pb2 import Attestation, Attested
from aos.v1.dispatcher_pb2 import Evidence, LeaseFinished
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.check import check
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.statement import answer
from aos.verification.attestation.wire import check_signed, evidence_digest, read_attestation, write_attested
from aos.verification.receipts import address, digest

WHAT: Final = "attestation"
PROVING: Final = frozenset({"binding", "nonce", "public_key"})
"""What is false whenever and by whatever policy it is looked at; the rest may be another judge's to take."""

PROBLEM_CHARS: Final = 1000
"""Most characters that are kept of why it is not taken."""

log = logging.getLogger(__name__)


async def verified(finished: LeaseFinished, job: Job, *, policy: Policy, checks: CheckStore, clock: Clock) -> Attested | None:
    """Return what the evidence for a receipt whose signature is good was taken for; None if the job asks for none.

    Raises BadReceipt for evidence that is missing or not taken, which is then on record, or BadSignature for one that the operator
    did not sign.
    """
    if job.job_type != TEE:
        finished.ClearField("attestation")  # nothing is kept that nobody has checked
        return None
    if not finished.HasField("attestation"):
        raise BadReceipt(job.name, WHAT, "is missing: the job asks for evidence of trusted execution")
    receipt, message, now = finished.finish.receipt, finished.attestation, clock.now()
    try:
        # in a thread: signatures and chains take up to 50 ms
        return await asyncio.to_thread(_verify, message, receipt, policy, int(now.timestamp()))
    except _Signed as false:
        evidence = _record(message, receipt, job.name, false.error)
        log.warning("operator %s sent false evidence for %s: %s", evidence.operator, job.name, false.error)
        await checks.accuse(evidence, now=now)
        raise BadReceipt(job.name, WHAT, false.error.message) from false.error
    except BadEvidence as error:  # too large, or of nobody: the signature cannot be looked at, and nothing is kept
        raise BadReceipt(job.name, WHAT, error.message) from error


class _Signed(Exception):
    """What the operator signed as evidence is not taken."""

    def __init__(self, error: BadEvidence) -> None:
        super().__init__(error.message)
        self.error = error


def _verify(message: Attestation, receipt: Receipt, policy: Policy, now: int) -> Attested:
    check_signed(message, receipt)
    try:
        return write_attested(check(read_attestation(message), answer(receipt), policy=policy, now=now), now=now)
    except BadEvidence as error:
        raise _Signed(error) from error


def _record(message: Attestation, receipt: Receipt, job: str, error: BadEvidence) -> Evidence:
    """Return the record; it proves by itself that the operator lied if the evidence was made for something else."""
    said = {
        "version": 1,
        "what": WHAT,
        "operator": address(receipt),
        "job": job,
        "receipt": digest(receipt).hex(),
        "evidence": evidence_digest(read_attestation(message)).hex(),
        "provider": error.facts["provider"],
        "field": error.facts["field"],
        "problem": error.message[:PROBLEM_CHARS],
    }
    record = rfc8785.dumps(said)
    return Evidence(
        name=f"evidence/{hashlib.sha256(record).hexdigest()}",
        operator=address(receipt),
        job=job,
        what=WHAT,
        record=record.decode(),
        receipt=receipt,
        attestation=message,
        fields=[error.facts["field"]],
        proves=error.facts["field"] in PROVING,
    )
