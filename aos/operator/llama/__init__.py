"""llama.cpp in this process: the only folder that imports llama_cpp. ``Weights`` are a file, a ``LlamaModel`` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aos.operator.llama.adapter import Adapter, Lora
from aos.operator.llama.binding import build_features
from aos.operator.llama.context import DEFAULT_CONTEXT, LlamaModel
from aos.operator.llama.weights import Gpu, Weights
from aos.operator.modes import Layout, Mode

__all__ = ["DEFAULT_CONTEXT", "Adapter", "Gpu", "LlamaModel", "Lora", "Mode", "Weights", "build_features", "load", "loaded"]


def load(
    path: Path,
    *,
    name: str = "",
    slots: int = 8,
    context: int = 0,
    threads: int = 0,
    mode: Mode = Mode.EXACT,
    gpu: Gpu | None = None,
    lora: Lora | None = None,
    layout: Layout | None = None,
) -> LlamaModel:
    """Load a file, and an adapter over it, for one model, which frees both when it is closed. Slow.

    Arguments and errors are those of Weights and of its ``open``.
    """
    weights = Weights(path, name=name, gpu=gpu or Gpu())
    try:
        adapter = None if lora is None else weights.adapter(lora.path, scale=lora.scale)
        return weights.open(slots=slots, context=context, threads=threads, mode=mode, adapter=adapter, layout=layout)
    finally:
        weights.close()


@asynccontextmanager
async def loaded(
    path: Path,
    *,
    name: str = "",
    slots: int = 8,
    context: int = 0,
    threads: int = 0,
    mode: Mode = Mode.EXACT,
    gpu: Gpu | None = None,
    lora: Lora | None = None,
    layout: Layout | None = None,
) -> AsyncGenerator[LlamaModel]:
    """Do the same off the event loop, and free it with the block."""
    options = {"name": name, "slots": slots, "context": context, "threads": threads}
    work = partial(load, path, **options, mode=mode, gpu=gpu, lora=lora, layout=layout)
    model = await asyncio.to_thread(work)
    try:
        yield model
    finally:
        await asyncio.to_thread(model.close)
