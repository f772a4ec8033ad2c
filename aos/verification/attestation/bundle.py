"""What a receipt's evidence of trusted execution proves by itself, offline. Up to 50 ms of arithmetic. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from aos.errors import BadEvidence, BadReceipt, BadSignature, InvalidField
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.attestation.check import read
from aos.verification.attestation.evidence import Facts, Provider
from aos.verification.attestation.policy import Policy, appraise, check_binding
from aos.verification.attestation.statement import Statement, answer
from aos.verification.attestation.wire import check_signed, read_attestation
from aos.verification.receipts import Finding


def check_attestation(bundle: ReceiptBundle, policy: Policy | None) -> Iterator[Finding]:
    """Check the evidence, as of when the receipt was signed. It may be anybody's: whatever it holds, this raises nothing.

    Without a ``policy``, which program it is of is only told. Nothing comes of a bundle without evidence.
    """
    if not bundle.HasField("attestation"):
        return
    receipt, message = bundle.receipt, bundle.attestation
    try:
        check_signed(message, receipt)
        evidence, statement = read_attestation(message), answer(receipt)
        facts = read(evidence, now=receipt.issued_at)
        check_binding(facts, statement)
    except (BadEvidence, BadReceipt, BadSignature, InvalidField) as error:
        yield Finding("the evidence of trusted execution", good=False, why=error.message)
        return
    if evidence.provider is Provider.SIMULATED:
        yield Finding("evidence of simulated execution for this very answer", good=None, why="it proves nothing: its key is public")
    else:
        yield Finding(f"evidence of {evidence.provider} for this very answer, good when the receipt was signed", good=True)
    yield _program(facts, statement, policy, receipt.issued_at)


def _program(facts: Facts, statement: Statement, policy: Policy | None, now: int) -> Finding:
    what = "the program and the platform"
    if policy is None:
        shown = ", ".join(f"{name} {value}" for name, value in sorted(facts.measurements.items()) if value.strip("0"))
        status = f"platform {facts.tcb_status}; " if facts.tcb_status else ""
        debug = "debugging is ON; " if facts.debug else ""
        return Finding(what, good=None, why=f"not checked; {debug}{status}{shown}; give --tee-policy FILE to compare")
    try:
        found = appraise(facts, statement, policy=policy, now=now)
    except BadEvidence as error:
        return Finding(what, good=False, why=error.message)
    return Finding(f"{what} are trusted: image {found.image}", good=True)
