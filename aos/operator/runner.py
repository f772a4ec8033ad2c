"""An order in, its text out, and at the end a signed receipt for the whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from aos.clock import Clock
from aos.errors import ModelNotFound
from aos.operator.engine import Engine
from aos.operator.logprobs import messages
from aos.operator.stream import End, Piece
from aos.operator.waiting import Terms
from aos.order import canonical_sampling, cost, digest_order, digest_tokens, with_defaults
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order, Price, Usage, VectorClock
from aos.verification import clock as vector
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign, text_digest

NODES: Final = 1024
"""Most nodes that the operator's clock knows: a dispatcher may claim any number."""
COUNT_LIMIT: Final = 1 << 63
"""Counts from here on are not believed; one more than the largest would be none."""

Answer = AsyncGenerator[Piece | End]
Measured = Callable[[str, Answer], Answer]
"""Given a model's name and an answer of its, gives the answer as it is (OperatorMetrics.measured)."""


class Runner:
    """Runs orders on the operator's engines and signs for them. Keeps the operator's vector clock."""

    def __init__(
        self,
        key: OperatorKey,
        engines: Mapping[str, Engine],
        *,
        price: Price,
        clock: Clock,
        measured: Measured = lambda _, answer: answer,
    ) -> None:
        """``engines`` by the name under which the model is offered; ``price`` is that of each; ``measured`` watches answers."""
        self.key, self.engines, self.price = key, engines, price
        self._clock, self._measured = clock, measured
        self._node = key.address.lower()
        self._seen: vector.Clock = {}

    @property
    def clock(self) -> VectorClock:
        """What the operator has seen by now."""
        return VectorClock(counts=self._seen)

    def tick(self, seen: VectorClock | None = None) -> VectorClock:
        """Count one more event at this operator, which has seen ``seen``; return its clock."""
        claimed = {node: count for node, count in (seen.counts if seen else {}).items() if count < COUNT_LIMIT}
        if len(self._seen) + len(claimed) > NODES:
            claimed = {node: count for node, count in claimed.items() if node in self._seen}
        self._seen = vector.tick(self._node, self._seen, claimed)
        return self.clock

    async def run(
        self,
        order: Order,
        *,
        job: bytes,
        accepted: Sequence[int] = (),
        sent_bytes: int | None = None,
        terms: Terms | None = None,
    ) -> AsyncGenerator[Chunk | Finish]:
        """Stream chunks, then the finish. Leaving early stops the engine within one step.

        ``job`` is the job's id, 32 bytes. ``accepted``, ``sent_bytes`` and ``terms`` are Engine.generate's: the chunks go on behind
        them, the receipt is for the whole answer. Raises ModelNotFound and what Engine.generate raises.
        """
        engine = self.engines.get(order.model)
        if engine is None:
            raise ModelNotFound(order.model, ", ".join(sorted(self.engines)))
        order = with_defaults(order, job=job)
        answer = engine.generate(order, accepted=accepted, sent_bytes=sent_bytes, terms=terms)
        async with aclosing(self._measured(order.model, answer)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    logprobs = messages(piece.logprobs, engine.model.piece)
                    yield Chunk(text=piece.text, tokens=piece.tokens, logprobs=logprobs)
                else:
                    yield await self._finish(order, job, engine, piece)

    async def _finish(self, order: Order, job: bytes, engine: Engine, end: End) -> Finish:
        usage = Usage(prompt_tokens=len(end.prompt), completion_tokens=len(end.tokens))
        price = cost(self.price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        unsigned = Receipt(
            job=job,
            request_digest=digest_order(order),
            model_digest=bytes.fromhex(engine.model.digest),
            profile=engine.model.profile,
            parameters=canonical_sampling(order.sampling),
            seed=order.sampling.seed,
            prompt_digest=digest_tokens(end.prompt),
            output_digest=text_digest(end.text),
            output_tokens_digest=digest_tokens(end.tokens),
            usage=usage,
            finish_reason=end.reason,
            price=str(price),
            clock=self.tick(),
            issued_at=int(self._clock.now().timestamp()),
        )
        # secp256k1 in Python takes milliseconds
        receipt = await asyncio.to_thread(sign, unsigned, self.key)
        return Finish(reason=end.reason, stop=end.stop, receipt=receipt, cached_tokens=end.cached)
