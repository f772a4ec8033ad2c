"""Running a receipt's order again on the same weights, to see whether the model really gives that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, cast

from aos.errors import AosError
from aos.operator.engine import Engine
from aos.operator.foretold import Foretold
from aos.operator.llama import DEFAULT_CONTEXT, LlamaModel, Lora, loaded
from aos.operator.model import Model
from aos.operator.modes import Layout
from aos.operator.replay_controlled import longest_branch, replay_controlled, slots_for
from aos.operator.replay_pictures import replay_pictures
from aos.operator.replay_vectors import longest, replay_vectors
from aos.operator.steering import Open
from aos.operator.stream import End
from aos.order import digest_tokens
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Order
from aos.verification.compared import apart, first_other, parted
from aos.verification.receipts import Finding
from aos.verification.trace import STEP, Step, step_leaves

WHAT: Final = "the model gives this answer"
LOGIT_TOLERANCE: Final = 2.0
"""How far a logit may be from ours where bits may differ: twice the largest difference that was measured between honest runs, of
other instruction sets, kernels and batches (docs/reference/receipt.md)."""


async def replay(bundle: ReceiptBundle, path: Path, lora: Lora | None = None, opened: Open | None = None) -> Finding:
    """Load the weights, with an adapter or without, as the receipt's profile says, and run the order again.

    ``opened`` opens sessions of controllers; without it, an order that has one cannot be run.
    Raises what Weights and its ``open`` raise for a file that cannot be loaded, or, of pictures, what ImageModel raises.
    """
    if bundle.order.HasField("picture"):
        from aos.operator.images import ImageModel  # onnxruntime: slow, and of no use for text

        return await replay_pictures(bundle, await asyncio.to_thread(ImageModel.open, path))
    layout = Layout.of(bundle.receipt.profile)
    usage = bundle.receipt.usage
    needed = usage.prompt_tokens + usage.completion_tokens + 1
    if bundle.order.HasField("embedding"):  # each text has a context of its own
        needed = min(needed, longest(bundle.order))
    slots = 1
    if bundle.order.HasField("control"):
        needed, slots = longest_branch(bundle) + 1, slots_for(bundle)
    async with loaded(path, slots=slots, context=max(DEFAULT_CONTEXT, needed), lora=lora, layout=layout) as model:
        return await replay_on(bundle, model, opened)


async def replay_on(bundle: ReceiptBundle, model: Model, opened: Open | None = None) -> Finding:
    """Run the order again on a loaded model, and say whether the same steps, and with them the same text, come.

    Where both are exact, the steps must be the same bit by bit; the first that is not is named. The model is told the answer and
    computes it in large pieces, and token by token only if a difference comes of that. Else the logits of each step, behind the
    tokens of the receipt, must be within LOGIT_TOLERANCE; ``good`` is then None if another token is drawn, as that proves nothing.
    It is also None for other weights.
    """
    receipt = bundle.receipt
    if model.digest != receipt.model_digest.hex():
        return Finding(WHAT, good=None, why=f"these weights are {model.digest}, the receipt names {receipt.model_digest.hex()}")
    if bundle.order.HasField("embedding"):
        return await replay_vectors(bundle, model)
    if bundle.order.HasField("control"):
        return await replay_controlled(bundle, model, opened, doubt=_doubt(receipt, model), tolerance=LOGIT_TOLERANCE)
    return await _replay_text(bundle, model)


async def _replay_text(bundle: ReceiptBundle, model: Model) -> Finding:
    receipt = bundle.receipt
    order = Order()
    order.CopyFrom(bundle.order)
    # an answer of that length ends by itself one token on at the latest; one that was cut, exactly there: the operator's context
    # may have been smaller than ours
    own_end = receipt.finish_reason == FinishReason.FINISH_REASON_STOP
    order.sampling.max_tokens = max(1, receipt.usage.completion_tokens + own_end)
    try:
        ran = None
        if model.exact and isinstance(model, LlamaModel):
            ran = await _run(order, cast("Model", Foretold(model, bundle.output_tokens)))
        if ran is None or _difference(bundle, *ran):
            ran = await _run(order, model)
        why = _difference(bundle, *ran)
        if not why:
            return Finding(f"{WHAT}: {len(bundle.trace.steps) // STEP.size} steps, run again, are the same", good=True)
        doubt = _doubt(receipt, model)
        if not doubt:
            return Finding(WHAT, good=False, why=why)
        return _within_tolerance(bundle, await _run(order, model, bundle.output_tokens), why + doubt)
    except AosError as error:
        return Finding(WHAT, good=False, why=f"the order cannot be run: {error.message}")


def _doubt(receipt: Receipt, model: Model) -> str:
    """Return why a difference of bits proves nothing; empty if it does."""
    if model.profile != receipt.profile:
        return f"; but here runs {model.profile}, the receipt names {receipt.profile}"
    return "" if model.exact else "; but with best_effort, the last bits depend on what else was computed"


def _within_tolerance(bundle: ReceiptBundle, ran: tuple[End, bytes], why: str) -> Finding:
    """Compare the logits of steps behind the same tokens; ``why`` is what differs beyond them."""
    for here, there in zip(step_leaves(ran[1]), step_leaves(bundle.trace.steps), strict=False):
        off = apart(here, there)
        if off > LOGIT_TOLERANCE:
            at = Step.of(there).position + 1
            return Finding(
                WHAT, good=False, why=f"the logits of step {at} are {off:.2f} from ours; honest ones are within {LOGIT_TOLERANCE}"
            )
    return Finding(f"{WHAT}, within {LOGIT_TOLERANCE} of each logit", good=None, why=why)


async def _run(order: Order, model: Model, accepted: Sequence[int] = ()) -> tuple[End, bytes]:
    """Return the end of the answer, and its steps."""
    async with Engine(order.model, model, slots=1) as engine, aclosing(engine.generate(order, accepted=accepted)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End) and piece.steps is not None:
                return piece, await asyncio.to_thread(piece.steps.packed)
    raise AssertionError("every answer ends")


def _difference(bundle: ReceiptBundle, end: End, steps: bytes) -> str:
    """Return where the answer that came differs from the bundle's; empty if nowhere."""
    receipt, tokens = bundle.receipt, list(bundle.output_tokens)
    if digest_tokens(end.prompt) != receipt.prompt_digest or end.prompt != list(bundle.trace.prompt_tokens):
        return "the prompt has other tokens"
    least = first_other(end.tokens, tokens)
    if (at := first_other(step_leaves(steps), step_leaves(bundle.trace.steps))) is not None and (least is None or at <= least):
        if why := parted(steps, bundle.trace.steps, at):
            return why
        least = at
    if least is not None:
        return f"token {least + 1} of the answer is another"
    if end.text != bundle.output:
        return "the same tokens make another text"
    return "" if end.reason == receipt.finish_reason else "the answer ends for another reason"
