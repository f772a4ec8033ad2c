"""Everything that Prometheus scrapes, at one path: this machine's services and the operators beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.v1 import operator_pb2, operator_pb2_grpc
from gateway.http import Context, Metadata, passed_on
from gateway.v1 import metrics_pb2, metrics_pb2_grpc

OPERATOR_SECONDS: Final = 2.0
"""How long an operator may take to tell its metrics; scrapers give up after 10 s by default."""
SILENT: Final = "aos_operators_silent"


class MetricsServicer(metrics_pb2_grpc.MetricsServicer):
    """Gives the services' own metrics and asks each operator for its, with the caller's token."""

    def __init__(self, own: Callable[[], HttpBody], operators: Sequence[grpc.aio.Channel]) -> None:
        self._own, self._operators = own, [operator_pb2_grpc.OperatorStub(one) for one in operators]

    async def GetMetrics(self, request: metrics_pb2.GetMetricsRequest, context: Context) -> HttpBody:
        del request
        metadata = passed_on(context)
        told = await asyncio.gather(*(_told(operator, metadata) for operator in self._operators))
        own = self._own()
        silent = (
            f"# HELP {SILENT} Operators that did not tell their metrics just now.\n# TYPE {SILENT} gauge\n"
            f"{SILENT} {told.count(None)}\n"
        )
        texts = [own.data.decode(), silent, *(text for text in told if text is not None)]
        return HttpBody(content_type=own.content_type, data=merged(texts).encode())


async def _told(operator: operator_pb2_grpc.OperatorAsyncStub, metadata: Metadata) -> str | None:
    try:
        wanted = operator_pb2.GetMetricsRequest()
        return (await operator.GetMetrics(wanted, metadata=metadata, timeout=OPERATOR_SECONDS)).data.decode()
    except grpc.aio.AioRpcError:  # counted, and seen by whoever looks at the counts
        return None


def merged(texts: Iterable[str]) -> str:
    """Return expositions as one: a metric that several have is described once, with all their series behind it.

    The format wants all series of a metric together. No two may have the same series; operators' have the operator's address.
    """
    heads: dict[str, list[str]] = {}
    series: dict[str, list[str]] = {}
    for text in texts:
        name, described = "", set(heads)
        for line in text.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                series.setdefault(name, [])
                if name not in described:
                    heads.setdefault(name, []).append(line)
            elif line:
                series[name].append(line)
    return "".join(f"{line}\n" for name in heads for line in (*heads[name], *series[name]))
