"""Running a receipt's order again on the same weights, to see whether the model really gives that answer."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import cast

from aos.errors import AosError
from aos.operator.engine import Engine
from aos.operator.foretold import Foretold
from aos.operator.llama import DEFAULT_CONTEXT, LlamaModel, Lora, loaded
from aos.operator.model import Model
from aos.operator.modes import Layout
from aos.operator.replay_vectors import longest, replay_vectors
from aos.operator.stream import End
from aos.order import digest_tokens
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Order
from aos.verification.receipts import Finding

WHAT = "the model gives this answer"


async def replay(bundle: ReceiptBundle, path: Path, lora: Lora | None = None) -> Finding:
    """Load the weights, with an adapter or without, as the receipt's profile says, and run the order again.

    Raises what Weights and its ``open`` raise for a file that cannot be loaded.
    """
    layout = Layout.of(bundle.receipt.profile)
    usage = bundle.receipt.usage
    needed = usage.prompt_tokens + usage.completion_tokens + 1
    if bundle.order.HasField("embedding"):  # each text has a context of its own
        needed = min(needed, longest(bundle.order))
    async with loaded(path, slots=1, context=max(DEFAULT_CONTEXT, needed), lora=lora, layout=layout) as model:
        return await replay_on(bundle, model)


async def replay_on(bundle: ReceiptBundle, model: Model) -> Finding:
    """Run the order again on a loaded model, and say whether the same tokens and the same text come.

    ``good`` is None where a difference proves nothing: other weights, a build whose numbers may differ, or a model that is not
    bit-equal. One that is computes the answer in large pieces, and token by token only if a difference comes of that.
    """
    receipt = bundle.receipt
    if model.digest != receipt.model_digest.hex():
        return Finding(WHAT, good=None, why=f"these weights are {model.digest}, the receipt names {receipt.model_digest.hex()}")
    if bundle.order.HasField("embedding"):
        return await replay_vectors(bundle, model)
    order = Order()
    order.CopyFrom(bundle.order)
    # an answer of that length ends by itself one token on at the latest; one that was cut, exactly there: the operator's context
    # may have been smaller than ours
    own_end = receipt.finish_reason == FinishReason.FINISH_REASON_STOP
    order.sampling.max_tokens = max(1, receipt.usage.completion_tokens + own_end)
    try:
        end = None
        if model.exact and isinstance(model, LlamaModel):
            end = await _run(order, cast("Model", Foretold(model, bundle.output_tokens)))
        if end is None or _difference(bundle, end):
            end = await _run(order, model)
    except AosError as error:
        return Finding(WHAT, good=False, why=f"the order cannot be run: {error.message}")
    why = _difference(bundle, end)
    if not why:
        return Finding(f"{WHAT}: {len(end.tokens)} tokens, run again, are the same", good=True)
    doubt = _doubt(receipt, model)
    return Finding(WHAT, good=None if doubt else False, why=why + doubt)


def _doubt(receipt: Receipt, model: Model) -> str:
    """Return why a difference proves nothing; empty if it does."""
    if model.profile != receipt.profile:
        return f"; but here runs {model.profile}, the receipt names {receipt.profile}"
    return "" if model.exact else "; but with best_effort, the last bits depend on what else was computed"


async def _run(order: Order, model: Model) -> End:
    async with Engine(order.model, model, slots=1) as engine, aclosing(engine.generate(order)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End):
                return piece
    raise AssertionError("every answer ends")


def _difference(bundle: ReceiptBundle, end: End) -> str:
    """Return where the answer that came differs from the bundle's; empty if nowhere."""
    receipt, tokens = bundle.receipt, list(bundle.output_tokens)
    if digest_tokens(end.prompt) != receipt.prompt_digest:
        return "the prompt has other tokens"
    if end.tokens != tokens:
        same = next(
            (at for at, (a, b) in enumerate(zip(end.tokens, tokens, strict=False)) if a != b), min(len(end.tokens), len(tokens))
        )
        return f"token {same + 1} of the answer is another"
    if end.text != bundle.output:
        return "the same tokens make another text"
    return "" if end.reason == receipt.finish_reason else "the answer ends for another reason"
