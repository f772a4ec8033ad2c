"""What an operator counts of its answers, under vLLM's names where it has one; docs/reference/metrics.md lists them.

Counted where answers leave the engine, so that counting costs its thread nothing; what only the engine knows comes with the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

from google.api.httpbody_pb2 import HttpBody

from aos.errors import AosError
from aos.metrics import CollectorRegistry, Counter, Gauge, Histogram, exposition
from aos.operator.engine import Engine
from aos.operator.rendering import RenderEngine
from aos.operator.stream import End, Piece
from aos.operator.upstream_group import Group
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.types_pb2 import FinishReason

SHORT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
"""Seconds between tokens: vLLM's buckets, and shorter ones for small models."""
LONG: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
"""Seconds that whole answers take."""
TOKENS: Final = tuple(base * 10**power for power in range(6) for base in (1, 2, 5))
LABELS: Final = ("model_name", "operator")
REASONS: Final = {FinishReason.FINISH_REASON_STOP: "stop", FinishReason.FINISH_REASON_LENGTH: "length"}
ABORT: Final = "abort"
"""vLLM's reason of an answer whose reader went away."""
UNFORESEEN: Final = "UNFORESEEN"
"""The reason of a failure that no caller can act on."""

T = TypeVar("T")
Metric = TypeVar("Metric", Counter, Histogram)


class OperatorMetrics:
    """The counts of one operator, in a registry that nobody else writes to under these names."""

    def __init__(self, registry: CollectorRegistry, *, operator: str, monotonic: Callable[[], float]) -> None:
        """``operator`` is its address, ``monotonic`` a clock in seconds that never goes back."""
        self._registry, self._operator, self._monotonic = registry, operator, monotonic
        self._groups: Callable[[], Sequence[Group]] = lambda: ()
        self._own: dict[str, _Series] = {}
        self._hosted = set[str]()
        """Registered models that there are series of."""

        def counter(name: str, what: str, *more: str) -> Counter:
            return Counter(name, what, (*LABELS, *more), registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, what, LABELS, buckets=buckets, registry=registry)

        self._prompt = counter("vllm:prompt_tokens", "Tokens of the inputs of answers that ended.")
        self._generated = counter("vllm:generation_tokens", "Tokens drawn here.")
        self._asked = counter("vllm:prefix_cache_queries", "Tokens of these inputs that a cached prefix was looked up for.")
        self._cached = counter("vllm:prefix_cache_hits", "Tokens of these inputs that a cached prefix held already.")
        self._success = counter("vllm:request_success", "Answers that ended without a failure.", "finished_reason")
        self._failed = counter("aos_request_failures", "Requests that were refused or failed.", "reason")
        self._first = histogram("vllm:time_to_first_token_seconds", "From the request to its first token.", LONG)
        self._between = histogram("vllm:inter_token_latency_seconds", "From one token to the next.", SHORT)
        self._whole = histogram("vllm:e2e_request_latency_seconds", "From the request to its end.", LONG)
        self._queue = histogram("vllm:request_queue_time_seconds", "From the request to the first step with tokens of it.", LONG)
        self._prefill = histogram("vllm:request_prefill_time_seconds", "From that step to the first token.", LONG)
        self._decode = histogram("vllm:request_decode_time_seconds", "From the first token to the last.", LONG)
        self._inference = histogram("vllm:request_inference_time_seconds", "From the first step to the last token.", LONG)
        self._inputs = histogram("vllm:request_prompt_tokens", "Tokens of an input.", TOKENS)
        self._outputs = histogram("vllm:request_generation_tokens", "Tokens drawn here for a request.", TOKENS)
        self._running = Gauge("vllm:num_requests_running", "Requests being computed now.", LABELS, registry=registry)
        self._waiting = Gauge("vllm:num_requests_waiting", "Requests that wait for a slot.", LABELS, registry=registry)
        self._usage = Gauge(
            "vllm:kv_cache_usage_perc", "Share of the KV cache that requests hold, 0 to 1.", LABELS, registry=registry
        )

    def watch(
        self, models: Iterable[str], engines: Callable[[str], Sequence[Engine | RenderEngine]], loading: Callable[[str], int]
    ) -> None:
        """Show how busy the models' engines, which come and go, are when somebody asks, and count who waits for one as waiting.

        Each model's series stand at 0 from now on.
        """
        for name in models:
            labels = (name, self._operator)
            self._running.labels(*labels).set_function(lambda name=name: sum(one.running for one in engines(name)))
            self._waiting.labels(*labels).set_function(lambda name=name: loading(name) + sum(one.waiting for one in engines(name)))
            self._usage.labels(*labels).set_function(lambda name=name: _share(engines(name)))
            for series in (self._asked, self._cached, self._queue, self._prefill, self._decode, self._inference):
                series.labels(*labels)
            self._begin(labels)

    def watch_hosted(self, groups: Callable[[], Sequence[Group]]) -> None:
        """Show the registered models, too, which come and go: their series stand at 0 when they come, and go with them."""
        self._groups = groups

    def _begin(self, labels: tuple[str, str]) -> None:
        for series in (self._prompt, self._generated, self._first, self._between, self._whole, self._inputs, self._outputs):
            series.labels(*labels)
        for reason in (*REASONS.values(), ABORT):
            self._success.labels(*labels, reason)

    async def measured(self, model: str, answer: AsyncGenerator[Piece | End]) -> AsyncGenerator[Piece | End]:
        """Yield the answer as it is, and count it. ``model`` is a name that the operator offers, never a caller's own.

        Times are those at which the reader takes the pieces: one that reads slowly makes them long.
        """
        series = self._own.get(model)
        if series is None:
            series = self._own[model] = _Series((model, self._operator))
        tally, generated = self._tally(series), series.of(self._generated)

        def take(piece: Piece | End) -> bool:
            if isinstance(piece, End):
                self._end(series, piece, tally)
            elif drawn := len(piece.tokens) + sum(one.sampled for step in piece.run for one in step.branches):
                tally.take(drawn)
                generated.inc(drawn)
            return isinstance(piece, End)

        async with aclosing(self._counted(series, answer, take)) as pieces:
            async for piece in pieces:
                yield piece

    async def told(self, model: str, answer: AsyncGenerator[Chunk | Finish]) -> AsyncGenerator[Chunk | Finish]:
        """Yield a model server's answer as it is, and count it as ``measured`` does.

        Tokens are those that its receipt says; times between them are those between its pieces, however many tokens each has.
        """
        series = _Series((model, self._operator))  # others may have been forgotten
        self._hosted.add(model)
        self._begin(series.labels)
        tally = self._tally(series)

        def take(event: Chunk | Finish) -> bool:
            if isinstance(event, Chunk):
                tally.take(1)
                return False
            usage = event.receipt.usage
            series.of(self._generated).inc(usage.completion_tokens)
            self._done(series, event.reason, usage.prompt_tokens, usage.completion_tokens, tally)
            return True

        try:
            async with aclosing(self._counted(series, answer, take)) as events:
                async for event in events:
                    yield event
        finally:
            self._hosted.add(model)  # it may have been forgotten meanwhile

    def _tally(self, series: _Series) -> _Tally:
        return _Tally(self._monotonic, series.of(self._first), series.of(self._between))

    async def _counted(self, series: _Series, answer: AsyncGenerator[T], take: Callable[[T], bool]) -> AsyncGenerator[T]:
        """Yield the answer as it is, and count how it ended. ``take`` counts a part, and says whether it was the last."""
        ended = False
        try:
            async with aclosing(answer):
                async for part in answer:
                    ended = take(part)
                    yield part
        except AosError as error:
            series.of(self._failed, error.reason).inc()
            raise
        except (GeneratorExit, asyncio.CancelledError):
            if not ended:
                series.of(self._success, ABORT).inc()
            raise
        except Exception:
            series.of(self._failed, UNFORESEEN).inc()
            raise

    def _end(self, series: _Series, end: End, tally: _Tally) -> None:
        self._done(series, end.reason, len(end.prompt), tally.drawn, tally)
        series.of(self._asked).inc(len(end.prompt))
        series.of(self._cached).inc(end.cached)
        times = end.timings
        if times is None or times.began is None or times.first is None or times.last is None:
            return
        series.of(self._queue).observe(times.began - times.came)
        series.of(self._prefill).observe(times.first - times.began)
        series.of(self._decode).observe(times.last - times.first)
        series.of(self._inference).observe(times.last - times.began)

    def _done(self, series: _Series, reason: FinishReason, prompt: int, completion: int, tally: _Tally) -> None:
        series.of(self._success, REASONS.get(reason, "stop")).inc()
        series.of(self._prompt).inc(prompt)
        series.of(self._inputs).observe(prompt)
        series.of(self._outputs).observe(completion)
        series.of(self._whole).observe(self._monotonic() - tally.begun)

    def exposition(self) -> HttpBody:
        """Return all that is counted, in Prometheus' text format. On the loop."""
        groups = {group.model: group for group in self._groups()}
        for gone in self._hosted - groups.keys():
            self._forget(gone)
        for name, group in groups.items():
            labels = (name, self._operator)
            self._begin(labels)
            self._running.labels(*labels).set(sum(one.upstream.running for one in group.members))
            # what waits there, only the server knows; the operator keeps nobody waiting
            self._waiting.labels(*labels).set(0)
        self._hosted = set(groups)
        return exposition(self._registry)

    def _forget(self, model: str) -> None:
        """Drop the series of a model that is not registered any more: there is no end to the names that may come."""
        counted = self._prompt, self._generated, self._success, self._failed, self._running, self._waiting
        for series in (*counted, self._first, self._between, self._whole, self._inputs, self._outputs):
            series.remove_by_labels({"model_name": model, "operator": self._operator})


def _share(engines: Sequence[Engine | RenderEngine]) -> float:
    """Return which share of their memory is taken; 0 if there are none."""
    return sum(one.usage for one in engines) / max(1, len(engines))


class _Series:
    """Those of one model, each looked up once: that takes longer than to count."""

    def __init__(self, labels: tuple[str, str]) -> None:
        self.labels = labels
        self._found: dict[tuple[object, str], Any] = {}

    def of(self, metric: Metric, more: str = "") -> Metric:
        """Return the model's; ``more`` is its third label, if it has one."""
        at = (metric, more)
        if at not in self._found:
            self._found[at] = metric.labels(*self.labels, *([more] if more else []))
        return self._found[at]


class _Tally:
    """One answer's tokens, as they come."""

    def __init__(self, monotonic: Callable[[], float], first: Histogram, between: Histogram) -> None:
        self._monotonic, self._first, self._between = monotonic, first, between
        self.begun = self._last = monotonic()
        self.drawn = 0

    def take(self, count: int) -> None:
        """Count tokens that came together: they share the time since the ones before."""
        now = self._monotonic()
        share, gaps = (now - self._last) / count, count
        if not self.drawn:
            self._first.observe(now - self.begun)
            share, gaps = 0.0, count - 1
        for _ in range(gaps):
            self._between.observe(share)
        self._last, self.drawn = now, self.drawn + count
