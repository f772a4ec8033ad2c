"""What an operator counts of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from aos.errors import ContextOverflow
from aos.metrics import CollectorRegistry
from aos.operator.metrics import OperatorMetrics
from aos.operator.stream import End, Piece
from aos.operator.timings import Timings
from aos.v1.types_pb2 import FinishReason

LENGTH = FinishReason.FINISH_REASON_LENGTH


class Counted:
    """A registry, its metrics, and a clock that stands still unless told."""

    def __init__(self) -> None:
        self.registry, self.time = CollectorRegistry(), 100.0
        self.metrics = OperatorMetrics(self.registry, operator="0xab", monotonic=lambda: self.time)

    def value(self, name: str, **more: str) -> float | None:
        return self.registry.get_sample_value(name, {"model_name": "m", "operator": "0xab", **more})

    async def answer(self, *parts: tuple[float, Piece | End | Exception]) -> AsyncGenerator[Piece | End]:
        """Each part comes so many seconds after the one before."""
        for seconds, part in parts:
            self.time += seconds
            if isinstance(part, Exception):
                raise part
            yield part


@pytest.fixture
def counted() -> Counted:
    return Counted()


def piece(*tokens: int) -> Piece:
    return Piece("x" * len(tokens), list(tokens))


def end(*tokens: int) -> End:
    return End(LENGTH, "", [1, 2, 3], list(tokens), "x" * len(tokens), cached=2)


class TestMeasured:
    async def test_an_answer_passes_as_it_is(self, counted):
        """Measuring changes nothing."""
        parts = [piece(7), Piece("late", []), end(7)]
        answer = counted.answer(*((1.0, part) for part in parts))
        assert [part async for part in counted.metrics.measured("m", answer)] == parts

    async def test_times_and_tokens(self, counted):
        """The first token's time, the gaps between tokens, the whole, and what was read and drawn."""
        answer = counted.answer((2.0, piece(7)), (0.5, piece(8, 9)), (0.25, end(7, 8, 9)))
        async for _ in counted.metrics.measured("m", answer):
            pass
        value = counted.value
        assert value("vllm:time_to_first_token_seconds_sum") == 2.0
        # two tokens came together: they share the time
        assert (value("vllm:inter_token_latency_seconds_sum"), value("vllm:inter_token_latency_seconds_count")) == (0.5, 2)
        assert value("vllm:inter_token_latency_seconds_bucket", le="0.3") == 2
        assert value("vllm:e2e_request_latency_seconds_sum") == 2.75
        assert (value("vllm:prompt_tokens_total"), value("vllm:generation_tokens_total")) == (3, 3)
        assert (value("vllm:request_prompt_tokens_sum"), value("vllm:request_generation_tokens_sum")) == (3, 3)
        assert (value("vllm:prefix_cache_queries_total"), value("vllm:prefix_cache_hits_total")) == (3, 2)
        assert value("vllm:request_success_total", finished_reason="length") == 1

    async def test_what_the_engine_knows(self, counted):
        """Waiting, prefill and decoding are the engine's times, however late the reader is."""
        timings = Timings(came=10.0, began=10.5, first=12.5, last=13.25)
        answer = counted.answer((100.0, piece(7)), (0.0, replace(end(7), timings=timings)))
        async for _ in counted.metrics.measured("m", answer):
            pass
        names = ("queue", "prefill", "decode", "inference")
        assert [counted.value(f"vllm:request_{name}_time_seconds_sum") for name in names] == [0.5, 2.0, 0.75, 2.75]

    async def test_tokens_drawn_elsewhere_are_not_counted(self, counted):
        """An answer that was taken over counts what was drawn here."""
        async for _ in counted.metrics.measured("m", counted.answer((1.0, piece(9)), (0.0, end(7, 8, 9)))):
            pass
        assert counted.value("vllm:generation_tokens_total") == 1
        assert counted.value("vllm:request_generation_tokens_sum") == 1

    async def test_a_reader_who_leaves_is_an_abort(self, counted):
        """Its answer is counted as such, and has no time."""
        answer = counted.metrics.measured("m", counted.answer((1.0, piece(7)), (1.0, end(7))))
        await anext(answer)
        await answer.aclose()
        assert counted.value("vllm:request_success_total", finished_reason="abort") == 1
        assert counted.value("vllm:e2e_request_latency_seconds_count") is None

    async def test_a_cancelled_reader_is_an_abort(self, counted):
        """A lease that is taken away cancels its reader's task."""

        async def never() -> AsyncGenerator[Piece | End]:
            yield piece(7)
            await asyncio.Event().wait()

        async def read() -> None:
            async for _ in counted.metrics.measured("m", never()):
                begun.set()

        begun = asyncio.Event()
        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert counted.value("vllm:request_success_total", finished_reason="abort") == 1

    async def test_leaving_behind_the_end_is_no_abort(self, counted):
        """The answer was complete."""
        answer = counted.metrics.measured("m", counted.answer((1.0, end())))
        await anext(answer)
        await answer.aclose()
        assert not counted.value("vllm:request_success_total", finished_reason="abort")
        assert counted.value("vllm:request_success_total", finished_reason="length") == 1

    @pytest.mark.parametrize(
        ("error", "reason"), [(ContextOverflow("m", 9, 8), "CONTEXT_OVERFLOW"), (ValueError("a fault"), "UNFORESEEN")]
    )
    async def test_failures_are_counted_by_reason(self, counted, error, reason):
        """And raised as they are; no answer is counted."""
        with pytest.raises(type(error)):
            async for _ in counted.metrics.measured("m", counted.answer((1.0, error))):
                pass
        assert counted.value("aos_request_failures_total", reason=reason) == 1
        assert counted.value("vllm:e2e_request_latency_seconds_count") is None
