"""Operator over gRPC, for those who ask one operator directly."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import grpc

from aos.errors import InvalidField
from aos.operator.runner import Runner
from aos.order import digest_order
from aos.v1 import operator_pb2, operator_pb2_grpc

JOB_BYTES: Final = 32


class OperatorServicer(operator_pb2_grpc.OperatorServicer):
    """Says what is loaded, and runs orders."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def DescribeOperator(
        self, request: operator_pb2.DescribeOperatorRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> operator_pb2.OperatorDescription:
        """Say who the operator is, what it has loaded and how busy it is."""
        del request, context
        models = [
            operator_pb2.LoadedModel(
                name=name,
                digest=engine.model.digest,
                context_length=engine.model.context,
                chat=engine.model.chat,
                profile=engine.model.profile,
                running=engine.running,
                waiting=engine.waiting,
                slots=engine.slots,
            )
            for name, engine in sorted(self._runner.engines.items())
        ]
        return operator_pb2.OperatorDescription(address=self._runner.key.address, models=models)

    async def Generate(
        self, request: operator_pb2.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[operator_pb2.GenerateResponse]:
        """Run one order and stream its text; the last message is the end."""
        del context
        if request.job and len(request.job) != JOB_BYTES:
            raise InvalidField("job", f"must have {JOB_BYTES} bytes, or none", value=request.job.hex(), limit=JOB_BYTES)
        job = request.job or digest_order(request.order)
        self._runner.tick()
        async with aclosing(self._runner.run(request.order, job=job)) as events:
            async for event in events:
                if isinstance(event, operator_pb2.Chunk):
                    yield operator_pb2.GenerateResponse(chunk=event)
                else:
                    yield operator_pb2.GenerateResponse(finish=event)
