"""Traces of `aos up`, sent to a collector that the test serves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from aos.telemetry import Telemetry
from aos.v1.dispatcher_pb2 import CreateJobRequest, WatchJobRequest
from aos.v1.types_pb2 import FinishReason, Order, Sampling, Usage

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUESTION = "What is a token?"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent, with the service that each is of."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.raw = b""

    async def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any):
        self.raw += request.SerializeToString()
        for resource in request.resource_spans:
            (service,) = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, service: str) -> Span:
        (span,) = [span for name, span in self.spans if name == service]
        return span


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Collector]:
    server, kept = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield kept
    await server.stop(0)


def attributes(span: Span) -> dict[str, Any]:
    def value(one: Any) -> Any:
        kind = one.WhichOneof("value")
        return [value(each) for each in one.array_value.values] if kind == "array_value" else getattr(one, kind)

    return {one.key: value(one.value) for one in span.attributes}


class TestTrace:
    async def test_one_trace_from_the_caller_to_the_model(self, up, collector):
        """The caller's REST call, the dispatcher's job and the operator's answer are one trace; the text is in none of them."""
        how = {"temperature": 0, "max_tokens": 6, "seed": 3, "top_p": 0.5, "stop": ["zzz"]}
        asked = {"model": "aos-demo", "messages": [{"role": "user", "content": QUESTION}], **how}
        async with up() as running, httpx.AsyncClient(base_url=running.ready["url"], timeout=60) as client:
            headers = {"authorization": f"Bearer {running.ready['token']}", "traceparent": f"00-{TRACE}-{PARENT}-01"}
            reply = await client.post("/v1/chat/completions", json=asked, headers=headers)
            job = reply.json()
        answer = job["choices"][0]["message"]["content"]

        dispatched, generated = collector.of("aos-dispatcher"), collector.of("aos-operator")
        assert {span.trace_id.hex() for span in (dispatched, generated)} == {TRACE}
        assert dispatched.parent_span_id.hex() == PARENT
        assert generated.parent_span_id == dispatched.span_id
        assert dispatched.start_time_unix_nano < generated.start_time_unix_nano < generated.end_time_unix_nano
        assert [(span.name, span.kind) for span in (dispatched, generated)] == [
            ("chat aos-demo", Span.SPAN_KIND_CLIENT),
            ("chat aos-demo", Span.SPAN_KIND_INTERNAL),
        ]
        for span in (dispatched, generated):
            said = attributes(span)
            assert said["gen_ai.operation.name"] == "chat"
            assert said["gen_ai.provider.name"] == "aos"
            assert said["gen_ai.request.model"] == said["gen_ai.response.model"] == "aos-demo"
            assert (said["gen_ai.request.temperature"], said["gen_ai.request.top_p"]) == (0.0, 0.5)
            assert (said["gen_ai.request.max_tokens"], said["gen_ai.request.seed"]) == (6, 3)
            assert said["gen_ai.request.stop_sequences"] == ["zzz"]
            assert said["gen_ai.response.finish_reasons"] == ["length"]
            assert said["gen_ai.usage.input_tokens"] == job["usage"]["prompt_tokens"]
            assert said["gen_ai.usage.output_tokens"] == 6
            assert said["gen_ai.response.id"].startswith("jobs/")
        assert attributes(dispatched)["aos.operator"].startswith("0x")
        assert answer
        assert answer.encode() not in collector.raw
        assert QUESTION.encode() not in collector.raw

    async def test_failures_and_callers_without_a_trace(self, up, collector):
        """A job that fails ends its spans with the reason; without a caller's trace it begins one of its own."""
        async with up() as running:
            order = Order(model="aos-demo", prompt="word " * 5000, sampling=Sampling(max_tokens=4))
            job = await running.dispatcher.CreateJob(CreateJobRequest(order=order), metadata=(("traceparent", "nonsense"),))
            async with asyncio.timeout(60):
                [event async for event in running.dispatcher.WatchJob(WatchJobRequest(name=job.name))]

        dispatched, generated = collector.of("aos-dispatcher"), collector.of("aos-operator")
        assert not dispatched.parent_span_id
        assert generated.parent_span_id == dispatched.span_id
        assert [attributes(span)["error.type"] for span in (dispatched, generated)] == ["CONTEXT_OVERFLOW"] * 2
        assert {span.status.code for span in (dispatched, generated)} == {Status.STATUS_CODE_ERROR}
        assert dispatched.name == "text_completion aos-demo"


class TestOff:
    async def test_costs_nothing(self):
        """Without a collector's address the SDK is not even imported."""
        code = (
            "import asyncio, sys, aos.up, aos.operate\n"
            "from aos.telemetry import telemetry\n"
            "async def main():\n"
            "    async with telemetry('x', {}) as traces: return type(traces).__name__\n"
            "print(asyncio.run(main()), any(name.startswith('opentelemetry') for name in sys.modules))"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()

        assert said.decode().split() == ["Telemetry", "False"]

    @pytest.mark.parametrize(
        ("parent", "passed"),
        [
            (f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01"),
            (f"00-{'0' * 32}-{PARENT}-01", ""),
            (f"00-{TRACE}-{PARENT}-01\n", ""),
            ("x" * 1000, ""),
            ("", ""),
        ],
    )
    def test_passes_on_the_callers_trace(self, parent, passed):
        """A caller's trace reaches those who do trace; what is none reaches nobody."""
        span = Telemetry().begin(Order(), parent=parent, job="", serving=False)
        span.complete(FinishReason.FINISH_REASON_STOP, Usage())
        span.fail("LATE")

        assert span.traceparent == passed
