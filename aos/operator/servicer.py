"""Operator over gRPC, for those who ask one operator directly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.errors import InvalidField, ModelUnsuitable
from aos.operator.engine import Engine
from aos.operator.modes import Mode
from aos.operator.rendering import RenderEngine
from aos.operator.runner import Runner
from aos.operator.source import Facts
from aos.operator.upstream_answer import described
from aos.order import MAX_TOKENS, PROMPT_BYTES, check_order, digest_order
from aos.picture_order import with_digests
from aos.rpc.channel import traceparent
from aos.v1 import operator_pb2, operator_pb2_grpc

JOB_BYTES: Final = 32
TOKENS: Final = "tokens of text"
"""What models and orders of pictures have none of."""
DETOKENIZE_TOKENS: Final = MAX_TOKENS
"""Most tokens that are put together at once."""
DETOKENIZE_BYTES: Final = PROMPT_BYTES
"""Most bytes that they may stand for."""


class OperatorServicer(operator_pb2_grpc.OperatorServicer):
    """Says what is loaded and what is counted, runs orders, and cuts text into tokens and back."""

    def __init__(self, runner: Runner, metrics: Callable[[], HttpBody] = HttpBody) -> None:
        """``metrics`` gives what is counted, as GetMetrics answers it."""
        self._runner, self._metrics = runner, metrics

    async def DescribeOperator(
        self, request: operator_pb2.DescribeOperatorRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> operator_pb2.OperatorDescription:
        """Say who the operator is, what it has loaded and how busy it is."""
        del request, context
        models = [self._loaded(name, facts) for name, facts in sorted(self._runner.pool.facts.items())]
        models += [described(group) for group in self._runner.groups() if group.members]
        return operator_pb2.OperatorDescription(address=self._runner.key.address, models=models)

    async def Generate(
        self, request: operator_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[operator_pb2.GenerateResponse]:
        """Run one order and stream its text; the last message is the end."""
        if request.job and len(request.job) != JOB_BYTES:
            raise InvalidField("job", f"must have {JOB_BYTES} bytes, or none", value=request.job.hex(), limit=JOB_BYTES)
        order = request.order
        if order.HasField("picture"):
            order = await asyncio.to_thread(with_digests, order)
        job = request.job or digest_order(order)
        self._runner.tick()
        async with aclosing(self._runner.run(order, job=job, traceparent=traceparent(context))) as events:
            async for event in events:
                if isinstance(event, operator_pb2.Chunk):
                    yield operator_pb2.GenerateResponse(chunk=event)
                else:
                    yield operator_pb2.GenerateResponse(finish=event)

    async def Tokenize(
        self, request: operator_pb2.TokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> operator_pb2.TokenizeResponse:
        """Give the tokens of an order's input."""
        del context
        order, pool = request.order, self._runner.pool
        if group := self._runner.hosted(order.model):
            check_order(order)
            return operator_pb2.TokenizeResponse(tokens=await group.tokenise(order))
        pool.source(order.model)
        check_order(order)
        if order.WhichOneof("input") == "chat" and not pool.facts[order.model].chat:
            raise ModelUnsuitable(order.model, "chat template")
        async with pool.using(order.model, Mode.EXACT) as engine:
            # beside the loop, since a long input takes long
            if isinstance(engine, RenderEngine) or order.HasField("picture"):
                raise ModelUnsuitable(order.model, TOKENS)
            if not order.HasField("embedding"):
                tokens = await asyncio.to_thread(engine.model.tokenise, order)
            elif engine.embedding is not None:
                tokens = await asyncio.to_thread(engine.embedding.read, order)
            else:
                raise ModelUnsuitable(order.model, "embeddings")
            return operator_pb2.TokenizeResponse(tokens=tokens)

    async def Detokenize(
        self, request: operator_pb2.DetokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> operator_pb2.DetokenizeResponse:
        """Give the text that tokens stand for."""
        del context
        pool, tokens = self._runner.pool, request.tokens
        if self._runner.hosted(request.model):
            raise ModelUnsuitable(request.model, "vocabulary here: its server has it")
        pool.source(request.model)
        if len(tokens) > DETOKENIZE_TOKENS:
            problem = f"has {len(tokens)} tokens; at most {DETOKENIZE_TOKENS} are accepted"
            raise InvalidField("tokens", problem, value=len(tokens), limit=DETOKENIZE_TOKENS)
        async with pool.using(request.model, Mode.EXACT) as engine:
            if isinstance(engine, RenderEngine):
                raise ModelUnsuitable(request.model, TOKENS)
            return await asyncio.to_thread(_detokenize, engine, tokens)

    async def GetMetrics(self, request: operator_pb2.GetMetricsRequest, context: grpc.aio.ServicerContext[Any, Any]) -> HttpBody:
        """Give what is counted, in Prometheus' text format."""
        del request, context
        return self._metrics()

    def _loaded(self, name: str, facts: Facts) -> operator_pb2.LoadedModel:
        pool = self._runner.pool
        engines = pool.engines(name)
        return operator_pb2.LoadedModel(
            name=name,
            digest=facts.digest,
            context_length=facts.context,
            chat=facts.chat,
            profile=facts.profile,
            running=sum(engine.running for engine in engines),
            waiting=pool.waiting(name) + sum(engine.waiting for engine in engines),
            slots=facts.slots,
            exact=facts.exact,
            loaded=bool(engines),
            adapter_digest=facts.adapter_digest,
            embeddings=facts.embeddings,
            images=facts.images,
            controllers=self._runner.steering is not None and not facts.images,
        )


def _detokenize(engine: Engine, tokens: Sequence[int]) -> operator_pb2.DetokenizeResponse:
    model, data = engine.model, bytearray()
    for index, token in enumerate(tokens):
        if token >= model.vocabulary:
            problem = f"must be below {model.vocabulary}, the size of the model's vocabulary"
            raise InvalidField(f"tokens[{index}]", problem, value=token, limit=model.vocabulary)
        data += model.piece(token)
        if len(data) > DETOKENIZE_BYTES:
            raise InvalidField("tokens", f"stand for more than {DETOKENIZE_BYTES} bytes", limit=DETOKENIZE_BYTES)
    return operator_pb2.DetokenizeResponse(text=data.decode(errors="replace"), data=bytes(data))
