"""Whether a receipt is for the answer that came, and asks no more than was agreed; whether a chunk has what it must. Pure."""

from __future__ import annotations

from typing import Final

from aos.errors import BadReceipt
from aos.order import EMBEDDING_VALUES, LEAST_LOGPROB, cost, digest_tokens
from aos.v1.dispatcher_pb2 import StateRoots
from aos.v1.operator_pb2 import Chunk, Finish, TokenLogprob
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Price, Sampling
from aos.vectors import length
from aos.verification.receipts import address
from aos.verification.states import check_state
from aos.verification.upstream import is_upstream

RECEIPT_BYTES: Final = 64 << 10
"""Largest receipt that is kept; its profile and clock are the operator's own words."""
LENGTH_ERROR: Final = 1e-3
"""How far the length of a vector may be from 1: its numbers have 32 bits."""
PIECE_BYTES: Final = 512
"""Most bytes that one token may stand for in a log-probability: it bounds what an operator can put into the log."""


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
    output_digest: bytes,
    tokens: list[int],
    completion_tokens: int,
    upstream: bool = False,
) -> None:
    """Raise BadReceipt, naming the first field that contradicts the job. The signature is the caller's to check.

    ``upstream`` is whether the model is one of those that nobody has the weights of: then it has no tokens, and counts as stated.

    ``output_digest``, ``tokens`` and ``completion_tokens``, what they count as, are of what the job's log holds; ``price`` is the
    operator's offer, ``amount`` what is held, in neurons.
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
        ("output_digest", receipt.output_digest.hex(), output_digest.hex()),
        ("output_tokens_digest", receipt.output_tokens_digest, digest_tokens(tokens)),
        ("profile", is_upstream(receipt), upstream),
        ("usage.completion_tokens", len(tokens) if upstream else usage.completion_tokens, 0 if upstream else completion_tokens),
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


def traced(finish: Finish, *, embeds: bool) -> StateRoots | BadReceipt | None:
    """Return the roots that the receipt's `state_root` is of, or why it is not that of the trace that came. Slow for long answers.

    None: vectors have no steps.
    """
    try:
        return check_state(finish.receipt, finish.trace, embeds=embeds)
    except BadReceipt as error:
        return error


def check_logprobs(chunk: Chunk, sampling: Sampling, *, job: str) -> None:
    """Raise BadReceipt unless the chunk has a log-probability for each of its tokens, or none where the order asks for none."""
    tokens = list(chunk.tokens) if sampling.logprobs else []
    if [one.token for one in chunk.logprobs] != tokens:
        raise BadReceipt(job, "logprobs", "are not those of the tokens" if tokens else "were not asked for")
    for one in chunk.logprobs:
        if len(one.top) > sampling.top_logprobs:
            raise BadReceipt(job, "logprobs", f"{len(one.top)} in one place are more than was asked for, {sampling.top_logprobs}")
        if not _sound(one) or any(other.top or not _sound(other) for other in one.top):
            raise BadReceipt(job, "logprobs", "have a value that no token can have")


def check_embeddings(chunk: Chunk, dimensions: int, *, texts: int, job: str) -> int:
    """Return how many numbers the answer's vectors have, ``dimensions`` unless that is 0.

    Raises BadReceipt unless the chunk's vectors have as many, not too many for ``texts`` of them, and are of length 1.
    """
    for one in chunk.embeddings:
        dimensions = dimensions or len(one.values)
        if len(one.values) != dimensions or not 0 < dimensions * texts <= EMBEDDING_VALUES:
            raise BadReceipt(job, "embeddings", f"a vector of {len(one.values)} numbers cannot be one of them")
        # that of one with NaN or an infinity is not near 1 either
        if not abs(length(one) - 1) <= LENGTH_ERROR:
            raise BadReceipt(job, "embeddings", "a vector's length is not 1")
    return dimensions


def _sound(one: TokenLogprob) -> bool:
    return LEAST_LOGPROB <= one.logprob <= 0 and len(one.piece) <= PIECE_BYTES
