"""Whether a receipt is for the answer that came, and asks no more than was agreed. Pure."""

from __future__ import annotations

from typing import Final

from aos.errors import BadReceipt
from aos.order import cost, digest_tokens
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Price
from aos.verification.receipts import address, text_digest

RECEIPT_BYTES: Final = 64 << 10
"""Largest receipt that is kept; its profile and clock are the operator's own words."""


def check_answer(
    receipt: Receipt,
    *,
    job: str,
    operator: str,
    request_digest: bytes,
    parameters: str,
    seed: int,
    model_digest: str,
    price: Price,
    prompt_bound: int,
    completion_bound: int,
    amount: int,
    reason: FinishReason,
    text: str,
    tokens: list[int],
) -> None:
    """Raise BadReceipt, naming the first field that contradicts the job. The signature is the caller's to check.

    ``text`` and ``tokens`` are what the job's log holds; ``price`` is the operator's offer, ``amount`` what is held, in neurons.
    """
    if receipt.ByteSize() > RECEIPT_BYTES:
        raise BadReceipt(job, "size", f"has {receipt.ByteSize()} bytes; at most {RECEIPT_BYTES} are accepted")
    usage = receipt.usage
    stated: list[tuple[str, object, object]] = [
        ("job", receipt.job.hex(), job.removeprefix("jobs/")),
        ("operator", address(receipt), operator.lower()),
        ("request_digest", receipt.request_digest.hex(), request_digest.hex()),
        ("model_digest", receipt.model_digest.hex(), model_digest.lower()),
        ("parameters", receipt.parameters, parameters),
        ("seed", receipt.seed, seed),
        ("output_digest", receipt.output_digest, text_digest(text)),
        ("output_tokens_digest", receipt.output_tokens_digest, digest_tokens(tokens)),
        ("usage.completion_tokens", usage.completion_tokens, len(tokens)),
        ("finish_reason", receipt.finish_reason, reason),
    ]
    for field, said, found in stated:
        if said != found:
            raise BadReceipt(job, field, "is not that of the job")
    if receipt.finish_reason not in (FinishReason.FINISH_REASON_STOP, FinishReason.FINISH_REASON_LENGTH):
        raise BadReceipt(job, "finish_reason", "must be stop or length")
    if usage.prompt_tokens > prompt_bound:
        raise BadReceipt(job, "usage.prompt_tokens", f"{usage.prompt_tokens} is more than the input can have, {prompt_bound}")
    if usage.completion_tokens > completion_bound:
        raise BadReceipt(
            job, "usage.completion_tokens", f"{usage.completion_tokens} is more than was asked for, {completion_bound}"
        )
    due = cost(price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
    if receipt.price != str(due):
        raise BadReceipt(job, "price", f"must be {due}, as the operator offered")
    if due > amount:
        raise BadReceipt(job, "price", f"{due} is more than is held, {amount}")
