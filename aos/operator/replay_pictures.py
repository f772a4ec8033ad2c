"""Rendering a receipt's pictures again with the same model, to see whether it really gives those."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from aos.errors import AosError
from aos.operator.rendering import RenderEngine, Renderer
from aos.operator.stream import End
from aos.picture_order import files, name_of
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.types_pb2 import Order
from aos.verification.receipts import Finding

WHAT: Final = "the model makes these pictures"


async def replay_pictures(bundle: ReceiptBundle, model: Renderer) -> Finding:
    """Render the pictures again, and say whether the same files come, byte by byte.

    ``good`` is None where a difference proves nothing: another build, whose numbers or files may differ; and where it cannot be
    looked at: another model, or a source whose file is not there any more.
    """
    receipt = bundle.receipt
    if model.digest != receipt.model_digest:
        return Finding(WHAT, good=None, why=f"this model is {model.digest.hex()}, the receipt names {receipt.model_digest.hex()}")
    if missing := [name for name, file in files(bundle.order.picture) if not file.data]:
        return Finding(WHAT, good=None, why=f"the file of {missing[0]} is not in the receipt: the network keeps it for a time only")
    engine = RenderEngine(bundle.order.model, model)
    try:
        end = await _run(bundle.order, engine)
    except AosError as error:
        return Finding(WHAT, good=False, why=f"the order cannot be run: {error.message}")
    finally:
        await engine.aclose()
    stated, found = [name_of(one) for one in bundle.pictures], [name_of(one) for one in end.pictures]
    if stated == found:
        return Finding(f"{WHAT}: {len(found)}, rendered again, are the same", good=True)
    why = f"there are {len(stated)} pictures, and {len(found)} come"
    if len(stated) == len(found):
        number = next(index for index, (here, there) in enumerate(zip(found, stated, strict=True), start=1) if here != there)
        why = f"picture {number} is another"
    if engine.profile != receipt.profile:
        return Finding(WHAT, good=None, why=f"{why}; but here runs {engine.profile}, the receipt names {receipt.profile}")
    return Finding(WHAT, good=False, why=why)


async def _run(order: Order, engine: RenderEngine) -> End:
    async with aclosing(engine.render(order)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End):
                return piece
    raise AssertionError("every answer ends")
