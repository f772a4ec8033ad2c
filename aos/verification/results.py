"""Draws, VRF claims and signed results as messages carry them: the operator makes them, the dispatcher checks them. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from aos.errors import InvalidField
from aos.order import canonical_order
from aos.v1.dispatcher_pb2 import Draw as DrawMessage
from aos.v1.dispatcher_pb2 import RiskTag, Vrf, VrfSuite
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order, VectorClock
from aos.verification.attribution import Attributed
from aos.verification.draw import OLD_RANGE, WHOLE, Draw, hash_prompt, share
from aos.verification.receipts import address
from aos.verification.vrf import Suite, VrfKey, proof_to_hash

WIDTHS: Final = 10_000
"""Widths are in ten-thousandths of all operators."""
DRAW_REASON: Final = "draw"
"""What a signed claim that comes without a result has for a reason."""
SUITES: Final = {VrfSuite.VRF_SUITE_UNSPECIFIED: Suite.RFC9381, VrfSuite.VRF_SUITE_DRAFT04: Suite.DRAFT04}
"""As messages carry them."""
RANGES: Final = {Suite.RFC9381: WHOLE, Suite.DRAFT04: OLD_RANGE}
"""How many values an output can stand for."""


def hash_input(order: Order) -> bytes:
    """Return the 64 bytes that a draw is about: the prompt's hash, or, of an order without one, that of its canonical JSON."""
    return hash_prompt(order.prompt) if order.HasField("prompt") else hashlib.sha512(canonical_order(order)).digest()


def read_draw(message: DrawMessage) -> Draw:
    """Return the draw. Raises InvalidField for one that cannot be."""
    if message.width > WIDTHS:
        raise InvalidField("draw.width", f"must be at most {WIDTHS}", value=message.width, limit=WIDTHS)
    suite = SUITES.get(message.suite)
    if suite is None:
        raise InvalidField("draw.suite", "is none that is known here", value=message.suite, limit=", ".join(VrfSuite.keys()))
    try:
        threshold = share(message.width, WIDTHS, of=RANGES[suite])
        return Draw(message.job, message.prompt_hash, message.epoch, threshold, suite)
    except ValueError as error:
        raise InvalidField("draw", str(error)) from error


def claim_of(key: VrfKey, draw: Draw) -> Vrf:
    """Return what the key says about the draw, with the proof. About 0.5 ms."""
    proof = key.prove(draw.alpha, draw.suite)
    output = proof_to_hash(proof, draw.suite)
    return Vrf(
        selected=draw.wins(output),
        prompt_hash=draw.prompt_hash,
        random_value=output,
        verify_pubkey=key.public,
        proof=proof,
        suite=sent_suite(draw.suite),
    )


def sent_suite(suite: Suite) -> VrfSuite:
    """Return the suite as messages carry it."""
    return next(sent for sent, known in SUITES.items() if known is suite)


def vrf_object(vrf: Vrf) -> dict[str, object]:
    """Return the claim as the jobs dialect carries it, and as it is signed; empty for one that says nothing."""
    if not vrf.ByteSize():
        return {}
    return {
        "selected": vrf.selected,
        "vrf_prompt_hash": vrf.prompt_hash.hex(),
        "vrf_random_value": vrf.random_value.hex(),
        "vrf_verify_pubkey": vrf.verify_pubkey.hex(),
        "vrf_proof": vrf.proof.hex(),
    }


def tag_name(tag: RiskTag) -> str:
    """Return the tag as the jobs dialect carries it, and as it is signed: empty, `suspicion` or `malicious`."""
    return "" if tag == RiskTag.RISK_TAG_UNSPECIFIED else RiskTag.Name(tag).removeprefix("RISK_TAG_").lower()


def said_of_result(receipt: Receipt, vrf: Vrf, *, tag: RiskTag) -> Attributed:
    """Return what an operator signs for a result: what the receipt says, the claim, and the tag."""
    return Attributed(
        job_id=receipt.job.hex(),
        request_digest=receipt.request_digest.hex(),
        operator=address(receipt),
        result_digest=receipt.output_digest.hex(),
        state_root=f"0x{receipt.state_root.hex()}" if receipt.state_root else "",
        tag=tag_name(tag),
        vrf=vrf_object(vrf),
        clock=dict(receipt.clock.counts),
    )


def said_of_claim(operator: str, vrf: Vrf, *, job: bytes, request_digest: bytes, tag: RiskTag, clock: VectorClock) -> Attributed:
    """Return what an operator signs for a claim alone."""
    return Attributed(
        job_id=job.hex(),
        request_digest=request_digest.hex(),
        operator=operator,
        reason=DRAW_REASON,
        tag=tag_name(tag),
        vrf=vrf_object(vrf),
        clock=dict(clock.counts),
    )
