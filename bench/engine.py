"""How near the engine comes to llama.cpp's own limit: many requests at once, in one process.

    python -m bench.engine [--sizes 15M 110M] [--at 1 2 4 8 16 32] [--rounds 3] [--threads 0]

The limit is a bare loop around `llama_decode` that does nothing else: it draws no token, makes no text, serves nobody. Both run the
same random-weight Q8_0 model with the same context, KV cache and threads, 64 tokens in and 128 out, in turn, round after
round. Shown are medians of the tokens drawn per second over all requests, and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import llama_cpp as c
import numpy as np

from aos import loop
from aos.operator.engine import Engine
from aos.operator.llama import LlamaModel, load
from aos.order import with_defaults
from aos.v1.types_pb2 import Order, Sampling
from bench.weights import SIZES, write

TOKENS_IN = 64
TOKENS_OUT = 128
CONTEXT = 256


def limit(model: LlamaModel, requests: int) -> float:
    """Return the tokens per second of a bare decode loop: prompts in one go, then one token a request and step."""
    c.llama_memory_clear(model._memory, False)
    begun = time.perf_counter()
    for start in range(0, requests, model.step_tokens // TOKENS_IN):
        slots = range(start, min(requests, start + model.step_tokens // TOKENS_IN))
        _decode(model, np.tile(np.arange(300, 300 + TOKENS_IN), len(slots)), np.tile(np.arange(TOKENS_IN), len(slots)),
                np.repeat(slots, TOKENS_IN), np.tile(np.arange(TOKENS_IN) == TOKENS_IN - 1, len(slots)))  # fmt: skip
    slots = np.arange(requests)
    for step in range(TOKENS_OUT - 1):  # the prompt's own logits give the first token
        _decode(model, 400 + slots, np.full(requests, TOKENS_IN + step), slots, np.ones(requests))
    return requests * TOKENS_OUT / (time.perf_counter() - begun)


def _decode(model: LlamaModel, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray, wanted: np.ndarray) -> None:
    count = len(tokens)
    for target, source in ((model._token, tokens), (model._pos, positions), (model._seq, slots), (model._wanted, wanted)):
        target[:count] = source
    model._batch.n_tokens = count
    if c.llama_decode(model._context, model._batch):
        raise RuntimeError("llama_decode failed")


async def ours(model: LlamaModel, requests: int) -> float:
    """Return the tokens per second of the engine, every request a stream of its own."""

    async def one(number: int) -> int:
        # different from the first letter on, so that no request finds another's beginning in memory
        prompt = f"{chr(33 + number)}" + "x" * (TOKENS_IN - 1)
        order = Order(model="m", prompt=prompt, sampling=Sampling(max_tokens=TOKENS_OUT))
        tokens = 0
        async with aclosing(engine.generate(with_defaults(order, job=bytes(32)))) as pieces:
            async for piece in pieces:
                tokens = len(piece.tokens) if hasattr(piece, "reason") else tokens
        return tokens

    async with Engine("m", model, tenant_waiting=requests) as engine:
        begun = time.perf_counter()
        drawn = sum(await asyncio.gather(*map(one, range(requests))))
        return drawn / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--at", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: what an operator takes")
    given = parser.parse_args()
    print("model  at once  limit, tokens/s  engine, tokens/s  ratio")
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as folder:
        for name in given.sizes:
            model = load(write(Path(folder), SIZES[name], CONTEXT), slots=max(given.at), context=CONTEXT, threads=given.threads)
            for requests in given.at:
                bare: list[float] = []
                engine: list[float] = []
                for _ in range(given.rounds):
                    bare.append(limit(model, requests))
                    model.clear()
                    engine.append(loop.serve(ours(model, requests)))
                at_most, we = statistics.median(bare), statistics.median(engine)
                print(f"{name:>5}  {requests:7}  {at_most:15.0f}  {we:16.0f}  {we / at_most:5.2f}", flush=True)
            model.close()


if __name__ == "__main__":
    main()
