"""Traces of jobs and answers, as OpenTelemetry's GenAI conventions have them; never a prompt or an answer.

The SDK is imported only if the standard environment variables name a collector. Otherwise a span is its caller's trace context,
passed on, and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aos.v1.types_pb2 import FinishReason, Order, Usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OpenSpan

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that name a collector; the first one that is set counts. The SDK reads them, and OpenTelemetry's others, itself."""
PROVIDER: Final = "aos"
"""`gen_ai.provider.name`."""
OPERATIONS: Final = {"chat": "chat", "embedding": "embeddings", "picture": "generate_content", "prompt": "text_completion"}
"""`gen_ai.operation.name`, by the kind of an order's input."""
EXPORT_SECONDS: Final = 2.0
"""How long the last spans may take to be sent when a process ends, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise."""
REASONS: Final = {FinishReason.FINISH_REASON_STOP: "stop", FinishReason.FINISH_REASON_LENGTH: "length"}
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/, version 00."""


class Span:
    """One piece of work in a trace. This one is recorded nowhere."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent
        """What is to be sent along with work that is done for it; empty if it is in no trace."""

    def complete(self, reason: FinishReason, usage: Usage, **attributes: str) -> None:
        """End it: there is an answer. Attributes' names have underscores for dots. Ending twice does nothing."""

    def fail(self, error: str, **attributes: str) -> None:
        """End it: there is none, for this reason."""


class Telemetry:
    """Where spans come from. This one records none."""

    def begin(self, order: Order, *, parent: str, job: str, serving: bool) -> Span:
        """Begin the span of a job or an answer; an empty or malformed ``parent`` begins a new trace.

        ``serving``: the model runs in this process; if not, another is asked.
        """
        del order, job, serving
        return Span(parent if TRACEPARENT.fullmatch(parent) else "")


def wanted(environment: Mapping[str, str]) -> bool:
    """Say whether these variables ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    return any(environment.get(name) for name in ENDPOINTS)


@asynccontextmanager
async def telemetry(service: str, environment: Mapping[str, str]) -> AsyncGenerator[Telemetry]:
    """Give what a process traces with; with the block's end the last spans are sent. ``service``: its name unless one is set."""
    if not wanted(environment):
        yield Telemetry()
        return
    exporting = await asyncio.to_thread(_Exporting, service, environment)
    try:
        yield exporting
    finally:
        await asyncio.to_thread(exporting.close)


class _Exporting(Telemetry):
    """Sends spans to a collector by OTLP over gRPC, in batches, on a thread of the SDK's own."""

    def __init__(self, service: str, environment: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": service}), shutdown_on_exit=False
        )
        patient = "OTEL_EXPORTER_OTLP_TIMEOUT" in environment
        exporter = OTLPSpanExporter() if patient else OTLPSpanExporter(timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aos")

    def begin(self, order: Order, *, parent: str, job: str, serving: bool) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # an explicit, empty context: whatever else traces in this process is no parent of ours
        context = TraceContextTextMapPropagator().extract({"traceparent": parent}, context=Context())
        asked = _asked(order)
        span = self._tracer.start_span(
            f"{asked['gen_ai.operation.name']} {order.model}",
            context=context,
            kind=SpanKind.INTERNAL if serving else SpanKind.CLIENT,
            attributes={**asked, "gen_ai.response.id": job},
        )
        return _Recorded(span, order.model)

    def close(self) -> None:
        """Send what is left, and end the SDK's thread."""
        self._provider.shutdown()


class _Recorded(Span):
    def __init__(self, span: OpenSpan, model: str) -> None:
        context = span.get_span_context()
        super().__init__(f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
        self._span, self._model = span, model

    def complete(self, reason: FinishReason, usage: Usage, **attributes: str) -> None:
        if not self._span.is_recording():
            return
        self._span.set_attributes(
            {
                "gen_ai.response.model": self._model,
                "gen_ai.response.finish_reasons": [REASONS.get(reason, "stop")],
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                **_dotted(attributes),
            }
        )
        self._span.end()

    def fail(self, error: str, **attributes: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        if not self._span.is_recording():
            return
        self._span.set_attributes({"error.type": error, **_dotted(attributes)})
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _asked(order: Order) -> dict[str, Any]:
    """Return what a request's span says of it: its parameters, not its input."""
    sampling = order.sampling
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS.get(order.WhichOneof("input") or "", "text_completion"),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": order.model,
    }
    for name in ("temperature", "top_p", "top_k", "max_tokens", "presence_penalty", "frequency_penalty", "seed"):
        if sampling.HasField(name):
            attributes[f"gen_ai.request.{name}"] = getattr(sampling, name)
    if sampling.stop:
        attributes["gen_ai.request.stop_sequences"] = list(sampling.stop)
    return attributes


def _dotted(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in attributes.items()}
