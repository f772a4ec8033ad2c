"""The span of one answer, around the stream that it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aos.errors import AosError
from aos.telemetry import Span
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.types_pb2 import Usage

ABANDONED = "ABANDONED"
"""`error.type` of an answer whose reader went away."""
UNFORESEEN = "UNFORESEEN"
"""That of a failure that no caller can act on."""


async def traced(span: Span, events: AsyncGenerator[Chunk | Finish]) -> AsyncGenerator[Chunk | Finish]:
    """Yield the events as they are, and end the span with them, however they end."""
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Finish):
                    usage = Usage()
                    usage.CopyFrom(event.receipt.usage)
                    usage.cached_tokens = event.cached_tokens
                    span.complete(event.reason, usage)
                yield event
    except AosError as error:
        span.fail(error.reason)
        raise
    except (GeneratorExit, asyncio.CancelledError):
        span.fail(ABANDONED)
        raise
    except Exception:
        span.fail(UNFORESEEN)
        raise
