"""An order in, its text out, and at the end a signed receipt for the whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from aos.clock import Clock
from aos.control_order import argument_digest
from aos.errors import ModelUnsuitable
from aos.operator.beside import Beside
from aos.operator.embedding import messages as embeddings
from aos.operator.engine import Engine
from aos.operator.logprobs import messages
from aos.operator.modes import Mode
from aos.operator.pool import AnyEngine, Pool
from aos.operator.rendering import RenderEngine
from aos.operator.steering import Steering
from aos.operator.stream import End, Piece, Vector
from aos.operator.tracing import traced
from aos.operator.upstream_answer import answering
from aos.operator.upstream_group import Group
from aos.operator.waiting import Terms
from aos.order import canonical_sampling, check_order, cost, digest_order, digest_tokens, with_defaults
from aos.picture_order import digest_input, digest_pictures, picture_tokens, with_digests
from aos.telemetry import Telemetry
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order, Picture, Price, Usage, VectorClock
from aos.verification import clock as vector
from aos.verification.keys import OperatorKey
from aos.verification.receipts import embeddings_digest, sign, text_digest
from aos.verification.states import NOTHING, state_root

SHORT_TOKENS: Final = 256
"""Answers of up to so many tokens, the prompt's counted in, are signed together; longer ones each on a thread of its own."""

Answer = AsyncGenerator[Piece | End]
Measured = Callable[[str, Answer], Answer]
"""Given a model's name and an answer of its, gives the answer as it is (OperatorMetrics.measured)."""
Events = AsyncGenerator[Chunk | Finish]
Told = Callable[[str, Events], Events]
"""The same, of a registered model's (OperatorMetrics.told)."""


class Runner:
    """Runs orders on the operator's engines and signs for them. Keeps the operator's vector clock."""

    def __init__(
        self,
        key: OperatorKey,
        pool: Pool,
        *,
        price: Price,
        clock: Clock,
        measured: Measured = lambda _, answer: answer,
        told: Told = lambda _, answer: answer,
        telemetry: Telemetry | None = None,
    ) -> None:
        """``pool`` has the models; ``price`` is that of each; ``measured`` and ``told`` watch answers."""
        self.key, self.pool, self.price = key, pool, price
        self.hosted: Callable[[str], Group | None] = lambda _: None
        """Gives a registered model's servers; None for the pool's own. Hosting sets it."""
        self.groups: Callable[[], Sequence[Group]] = lambda: ()
        """Gives the servers of every registered model. Hosting sets it."""
        self.steering: Steering | None = None
        """What runs controllers; None: orders that have one are refused. The node sets it."""
        self._clock, self._measured, self._told, self._telemetry = clock, measured, told, telemetry or Telemetry()
        self._signing = Beside()
        self._node, self._operator = key.address.lower(), bytes.fromhex(key.address[2:])
        self._seen: vector.Clock = {}

    @property
    def clock(self) -> VectorClock:
        """What the operator has seen by now."""
        return VectorClock(counts=self._seen)

    def tick(self, seen: VectorClock | None = None) -> VectorClock:
        """Count one more event at this operator, which has seen ``seen``; return its clock."""
        claimed = {node: count for node, count in (seen.counts if seen else {}).items() if count < vector.COUNT_LIMIT}
        if len(self._seen) + len(claimed) > vector.NODES:  # a dispatcher may claim any number
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
        vectors: Sequence[Vector] = (),
        pictures: Sequence[Picture] = (),
        terms: Terms | None = None,
        traceparent: str = "",
    ) -> AsyncGenerator[Chunk | Finish]:
        """Stream chunks, then the finish, as a span of the trace ``traceparent``. Leaving early stops the engine within one step.

        Of an order with a controller, each step is a chunk of its own; behind the last comes one with the whole answer.

        ``job`` is the job's id, 32 bytes. ``accepted``, ``sent_bytes`` and ``terms`` are Engine.generate's, ``vectors`` what
        EmbeddingEngine.embed accepts, ``pictures`` what RenderEngine.render does: the chunks go on behind them, the receipt is for
        the whole answer. Raises what Pool.mode, Pool.using, Engine.generate, EmbeddingEngine.embed and RenderEngine.render raise.
        """
        group = self.hosted(order.model)
        mode = self.pool.mode(order) if group is None else Mode.BEST_EFFORT
        order = with_defaults(order, job=job)
        if order.HasField("picture"):  # in a thread: hashing files takes milliseconds
            order = await asyncio.to_thread(with_digests, order)
        if order.HasField("control") and (group is not None or self.steering is None):
            raise ModelUnsuitable(order.model, "controllers")
        check_order(order)  # no model is loaded for what is refused anyway
        span = self._telemetry.begin(order, parent=traceparent, job=f"jobs/{job.hex()}", serving=True)
        if group is None:
            answer = self._run(order, job, mode, accepted, sent_bytes, vectors, pictures, terms)
        else:
            told = answering(
                group,
                order,
                job=job,
                resumed=bool(accepted or sent_bytes or pictures),
                seconds=terms and terms.seconds,
                key=self.key,
                price=self.price,
                clock=self._clock,
                tick=self.tick,
            )
            answer = self._told(order.model, told)
        async with aclosing(traced(span, answer)) as events:
            async for event in events:
                yield event

    async def _run(
        self,
        order: Order,
        job: bytes,
        mode: Mode,
        accepted: Sequence[int],
        sent_bytes: int | None,
        vectors: Sequence[Vector],
        pictures: Sequence[Picture],
        terms: Terms | None,
    ) -> AsyncGenerator[Chunk | Finish]:
        engines: list[AnyEngine] = []

        async def answered() -> AsyncGenerator[Piece | End]:
            began, seconds, left = self.pool.clock(), terms and terms.seconds, terms
            async with self.pool.using(order.model, mode, seconds=seconds) as engine:
                engines.append(engine)
                if terms is not None and seconds is not None:
                    left = replace(terms, seconds=max(0.0, seconds - (self.pool.clock() - began)))
                answer = self._answer(engine, order, accepted, sent_bytes, vectors, pictures, left)
                async with aclosing(answer) as pieces:
                    async for piece in pieces:
                        yield piece

        # waiting for the model to be loaded is a part of what is measured
        async with aclosing(self._measured(order.model, answered())) as pieces:
            async for piece in pieces:
                engine = engines[0]
                for chunk in _chunks(engine, piece):
                    yield chunk
                if isinstance(piece, End):
                    yield await self._finish(order, job, engine, piece)

    async def _finish(self, order: Order, job: bytes, engine: AnyEngine, end: End) -> Finish:
        usage, prompt = Usage(prompt_tokens=len(end.prompt), completion_tokens=len(end.tokens)), digest_tokens(end.prompt)
        if isinstance(engine, RenderEngine):
            usage.prompt_tokens, usage.completion_tokens = picture_tokens(order.picture)
            prompt = digest_input(order.picture)
        if end.record is not None:
            usage.prompt_tokens, usage.completion_tokens = end.record.ff_tokens, end.record.sampled_tokens
        price = cost(self.price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        profile, output = engine.model.profile, text_digest(end.text)
        if isinstance(engine, RenderEngine):
            model, profile, output = engine.model.digest, engine.profile, digest_pictures(end.pictures)
        else:
            model = bytes.fromhex(engine.model.digest)
        if isinstance(engine, Engine) and order.HasField("embedding") and engine.model.embedder is not None:
            profile, output = engine.model.embedder.profile, await asyncio.to_thread(embeddings_digest, embeddings(end.vectors))
        unsigned = Receipt(
            job=job,
            request_digest=digest_order(order),
            model_digest=model,
            profile=profile,
            parameters=canonical_sampling(order.sampling),
            seed=order.sampling.seed,
            prompt_digest=prompt,
            output_digest=output,
            output_tokens_digest=digest_tokens(end.tokens),
            usage=usage,
            finish_reason=end.reason,
            price=str(price),
            clock=self.tick(),
            issued_at=int(self._clock.now().timestamp()),
        )
        if order.HasField("control"):
            unsigned.controller_digest, unsigned.argument_digest = order.control.controller, argument_digest(order.control)

        def signed() -> Finish:
            finish = Finish(reason=end.reason, stop=end.stop, cached_tokens=end.cached)
            unsigned.operator, unsigned.state_root = self._operator, NOTHING
            if end.steps is not None:
                finish.trace.prompt_tokens.extend(end.prompt)
                finish.trace.steps = end.steps.packed()
                if end.record is not None:
                    finish.trace.run.extend(end.record.steps)
                    finish.trace.context = end.record.context
                unsigned.state_root = state_root(unsigned, finish.trace)
            finish.receipt.CopyFrom(sign(unsigned, self.key))
            return finish

        # hashing steps and signing take a millisecond, and those of a long answer more
        return await (asyncio.to_thread(signed) if len(end.prompt) + len(end.tokens) > SHORT_TOKENS else self._signing.do(signed))

    def _answer(
        self,
        engine: AnyEngine,
        order: Order,
        accepted: Sequence[int],
        sent_bytes: int | None,
        vectors: Sequence[Vector],
        pictures: Sequence[Picture],
        terms: Terms | None,
    ) -> Answer:
        """Return what the engine answers. Raises ModelUnsuitable for what it cannot."""
        if isinstance(engine, RenderEngine):
            if not order.HasField("picture"):
                raise ModelUnsuitable(order.model, "text: it makes pictures")
            return engine.render(order, accepted=pictures, terms=terms)
        if order.HasField("picture"):
            raise ModelUnsuitable(order.model, "pictures")
        if not order.HasField("embedding"):
            return engine.generate(order, accepted=accepted, sent_bytes=sent_bytes, terms=terms, steering=self.steering)
        if engine.embedding is None:
            raise ModelUnsuitable(order.model, "embeddings")
        return engine.embedding.embed(order, accepted=vectors, terms=terms)


def _chunks(engine: AnyEngine, piece: Piece | End) -> list[Chunk]:
    """Return what is told of a piece, and of an end: the whole answer, where it could be taken back until then."""
    if isinstance(piece, End):
        steered = piece.record is not None and (piece.text or piece.tokens)
        return [Chunk(text=piece.text, tokens=piece.tokens)] if steered else []
    if isinstance(engine, RenderEngine):
        return [Chunk(pictures=piece.pictures)]
    if piece.run:
        return [Chunk(run=step) for step in piece.run]
    logprobs = messages(piece.logprobs, engine.model.piece)
    return [Chunk(text=piece.text, tokens=piece.tokens, logprobs=logprobs, embeddings=embeddings(piece.vectors))]
