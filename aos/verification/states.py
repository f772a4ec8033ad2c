"""Whether a receipt's `state_root` is that of the trace that comes with it. Pure; slow for long answers: not for an event loop."""

from __future__ import annotations

import hashlib
from typing import Final

from aos.errors import BadReceipt, InvalidField
from aos.order import digest_tokens
from aos.v1.dispatcher_pb2 import StateRoots
from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason
from aos.verification.controlled import answer_of, trace_root
from aos.verification.trace import DIGEST_BYTES, MOST_TOKENS, STEP, Header, model_id, read_steps, steps_root, tokens_root
from aos.verification.upstream import is_upstream

NOTHING: Final = bytes(DIGEST_BYTES)
"""Stands for the state of an order for embeddings or pictures: no token is drawn, so there are no steps."""


def state_root(receipt: Receipt, trace: Trace) -> bytes:
    """Return what the receipt must state; of ``receipt``, all but the signature counts. Raises BadReceipt.

    That the tokens and steps are those of the receipt is not looked at: see ``check_state``.
    """
    return header(receipt, roots_of(receipt, trace)).state_root


def roots_of(receipt: Receipt, trace: Trace) -> StateRoots:
    """Return the roots that ``state_root`` is made from. Raises BadReceipt for a trace of more than fits."""
    if len(trace.steps) % STEP.size:
        raise BadReceipt(_job(receipt), "trace", f"its steps are not of {STEP.size} bytes each")
    if receipt.controller_digest:
        tokens = answer_of(receipt, trace)
    else:
        tokens = [token for _, _, token, *_ in STEP.iter_unpack(trace.steps)][: receipt.usage.completion_tokens]
    try:
        steps = steps_root(trace.steps)
        if receipt.controller_digest:
            steps = trace_root(steps, trace)
        return StateRoots(prompt=tokens_root(list(trace.prompt_tokens)), output=tokens_root(tokens), steps=steps)
    except InvalidField as error:
        raise BadReceipt(_job(receipt), "trace", error.message) from error


def check_state(receipt: Receipt, trace: Trace, *, embeds: bool) -> StateRoots | None:
    """Return the roots that the receipt's `state_root` is of; None for embeddings, which have no steps.

    Raises BadReceipt unless tokens and steps are those that the receipt speaks of, and its `state_root` is theirs.
    """
    job = _job(receipt)
    if is_upstream(receipt):
        _check_untold(receipt, trace)
        return None
    if embeds:
        if trace.steps or receipt.state_root != NOTHING:
            raise BadReceipt(job, "state_root", "must be 32 zero bytes: nothing is drawn, so there are no steps")
        return None
    try:
        tokens = [step.token for step in read_steps(trace.steps)]
    except InvalidField as error:
        raise BadReceipt(job, "trace", error.message) from error
    if not receipt.controller_digest:
        _check_tokens(receipt, trace, tokens)
    elif digest_tokens(answer_of(receipt, trace)) != receipt.output_tokens_digest:
        raise BadReceipt(job, "trace.run", "its rounds are of another answer")
    if digest_tokens(list(trace.prompt_tokens)) != receipt.prompt_digest:
        raise BadReceipt(job, "trace", "its prompt is another")
    roots = roots_of(receipt, trace)
    if header(receipt, roots).state_root != receipt.state_root:
        raise BadReceipt(job, "state_root", "is not that of the answer's steps")
    return roots


def _check_tokens(receipt: Receipt, trace: Trace, tokens: list[int]) -> None:
    """Raise BadReceipt unless the counts and the answer are those of the tokens that the steps drew."""
    job, usage = _job(receipt), receipt.usage
    if trace.run or trace.context:
        raise BadReceipt(job, "trace.run", "is only of an answer with a controller")
    if receipt.finish_reason not in (FinishReason.FINISH_REASON_STOP, FinishReason.FINISH_REASON_LENGTH):
        raise BadReceipt(job, "finish_reason", "must be stop or length")
    # the token that ended the answer has a step and is no part of it; an answer that was cut, or ends in a stop string, has none
    ended = len(tokens) == usage.completion_tokens + 1 and receipt.finish_reason == FinishReason.FINISH_REASON_STOP
    if usage.completion_tokens > MOST_TOKENS or not (ended or len(tokens) == usage.completion_tokens):
        raise BadReceipt(job, "trace", f"has {len(tokens)} steps for {usage.completion_tokens} tokens")
    if digest_tokens(tokens[: usage.completion_tokens]) != receipt.output_tokens_digest:
        raise BadReceipt(job, "trace", "its steps are of another answer")
    if len(trace.prompt_tokens) != usage.prompt_tokens:
        raise BadReceipt(job, "trace", "its prompt is another")


def _check_untold(receipt: Receipt, trace: Trace) -> None:
    if trace.steps or trace.prompt_tokens or receipt.state_root != NOTHING:
        raise BadReceipt(_job(receipt), "state_root", "must be 32 zero bytes: a model server tells no steps")


def header(receipt: Receipt, roots: StateRoots) -> Header:
    """Return the job header: all of it but the roots stands in the receipt."""
    usage = receipt.usage
    return Header(
        reason=receipt.finish_reason,
        model_id=model_id(receipt.model_digest),
        request=receipt.request_digest,
        prompt_root=roots.prompt,
        output_root=roots.output,
        parameters=hashlib.sha256(receipt.parameters.encode()).digest(),
        seed=receipt.seed,
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        trace_root=roots.steps,
        replay_class=hashlib.sha256(receipt.profile.encode()).digest() if is_exact(receipt.profile) else None,
        operator=receipt.operator,
    )


def is_exact(profile: str) -> bool:
    """Say whether what ran gives the same bits wherever it runs again."""
    return profile.endswith(" determinism=exact")


def _job(receipt: Receipt) -> str:
    return f"jobs/{receipt.job.hex()}"
