"""Running a controlled receipt's order again, with its controller: the same rounds must come, and the same steps."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final, cast

from aos.control_order import FORKS
from aos.errors import AosError, ControllerNotFound
from aos.operator.engine import Engine
from aos.operator.foretold_run import Course, ForetoldRun
from aos.operator.llama import LlamaModel
from aos.operator.model import Model
from aos.operator.steering import Again, Open, Steering
from aos.operator.stream import End
from aos.order import digest_tokens
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.compared import apart, first_other, parted
from aos.verification.receipts import Finding
from aos.verification.trace import STEP, Step, step_leaves

WHAT: Final = "the model and the controller give this answer"
SLOTS: Final = 4
"""Most branches that are computed at once."""


def slots_for(bundle: ReceiptBundle) -> int:
    """Return how many sequences running it again needs, at best."""
    new = sum(one.HasField("forked_from") for step in bundle.trace.run for one in step.branches)
    return min(SLOTS, new + 1)


def longest_branch(bundle: ReceiptBundle) -> int:
    """Return how many tokens a branch can have had at most."""
    tokens = sum(len(one.tokens) for step in bundle.trace.run for one in step.branches)
    return min(len(bundle.trace.prompt_tokens) + tokens, max(bundle.trace.context, 1))


async def replay_controlled(bundle: ReceiptBundle, model: Model, opened: Open | None, *, doubt: str, tolerance: float) -> Finding:
    """Run the order again, and say whether the same rounds and steps come.

    Where the model is exact it is told the rounds and computes them in large pieces, and token by token only if a difference comes.
    ``opened`` opens sessions that wait for slow controllers; None, or where the module is missing: ``good`` is None. ``doubt`` is
    why bits that differ prove nothing, empty if they do; logits behind the same tokens must then be within ``tolerance``.
    """
    late = {(at + 1, one.index) for at, step in enumerate(bundle.trace.run) for one in step.branches if one.timed_out}
    unable = ""
    if opened is None:
        unable = f"not checked; the module of controllers/{bundle.order.control.controller.hex()} is needed, too"
    elif any(at == 1 for at, _ in late):
        unable = "its controller took too long before anything was computed, which nobody can run again"
    if opened is None or unable:
        return Finding(WHAT, good=None, why=unable)
    try:
        return await _compared(bundle, model, opened, Again(bundle.trace.context, frozenset(late)), doubt, tolerance)
    except ControllerNotFound as error:
        return Finding(WHAT, good=None, why=f"not checked: {error.message}")
    except AosError as error:
        return Finding(WHAT, good=False, why=f"the order cannot be run: {error.message}")


async def _compared(bundle: ReceiptBundle, model: Model, opened: Open, again: Again, doubt: str, tolerance: float) -> Finding:
    why = "not run yet"
    if model.exact and isinstance(model, LlamaModel) and model.reusable:
        told = ForetoldRun(model, Course(bundle.trace.prompt_tokens, bundle.trace.run), slots=model.slots)
        why = _difference(bundle, *await _run(bundle, cast("Model", told), Steering(opened, again)))
    if why:
        why = _difference(bundle, *await _run(bundle, model, Steering(opened, again)))
    if not why:
        rounds, steps = len(bundle.trace.run), len(bundle.trace.steps) // STEP.size
        return Finding(f"{WHAT}: {rounds} rounds and {steps} steps, run again, are the same", good=True)
    if doubt:
        drawn = tuple(Step.of(leaf).token for leaf in step_leaves(bundle.trace.steps))
        _, steps = await _run(bundle, model, Steering(opened, Again(again.context, again.timed_out, drawn)))
        return _within(bundle, steps, why + doubt, tolerance)
    if again.timed_out:
        why += "; but a controller took too long, and what it did until then nobody can run again"
    return Finding(WHAT, good=None if again.timed_out else False, why=why)


async def _run(bundle: ReceiptBundle, model: Model, steering: Steering) -> tuple[End, bytes]:
    """Return the end of the answer, and its steps."""
    order, slots = bundle.order, min(model.slots, FORKS)
    async with Engine(order.model, model, slots=slots) as engine, aclosing(engine.generate(order, steering=steering)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End) and piece.steps is not None:
                return piece, await asyncio.to_thread(piece.steps.packed)
    raise AssertionError("every answer ends")


def _difference(bundle: ReceiptBundle, end: End, steps: bytes) -> str:
    """Return where the answer that came differs from the bundle's; empty if nowhere."""
    receipt, record = bundle.receipt, end.record
    if record is None or digest_tokens(end.prompt) != receipt.prompt_digest or end.prompt != list(bundle.trace.prompt_tokens):
        return "the prompt has other tokens"
    least = first_other(step_leaves(steps), step_leaves(bundle.trace.steps))
    if least is not None and (why := parted(steps, bundle.trace.steps, least)):
        return why
    at = first_other(record.steps, list(bundle.trace.run))
    place = [None if one is None else one + 1 for one in (at, least)]
    usage = receipt.usage.prompt_tokens, receipt.usage.completion_tokens
    found = {
        f"round {place[0]} is another": at is None,
        f"the token of step {place[1]} is another": least is None,
        "the counts of tokens are others": (record.ff_tokens, record.sampled_tokens) == usage,
        "the tokens of the answer are others": end.tokens == list(bundle.output_tokens),
        "the same tokens make another text": end.text == bundle.output,
        "the answer ends for another reason": end.reason == receipt.finish_reason,
    }
    return next((what for what, good in found.items() if not good), "")


def _within(bundle: ReceiptBundle, steps: bytes, why: str, tolerance: float) -> Finding:
    """Compare the logits of steps behind the same tokens; ``why`` is what differs beyond them."""
    for at, (here, there) in enumerate(zip(step_leaves(steps), step_leaves(bundle.trace.steps), strict=False)):
        off = apart(here, there)
        if off > tolerance:
            return Finding(
                WHAT, good=False, why=f"the logits of step {at + 1} are {off:.2f} from ours; honest ones are within {tolerance}"
            )
    return Finding(f"{WHAT}, within {tolerance} of each logit", good=None, why=why)
