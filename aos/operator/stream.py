"""From the engine thread to asyncio readers: one hand-over a step and loop, and no reader ever holds up the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aos.operator.control_run import Record
from aos.operator.logprobs import Likelihood
from aos.operator.steps import Steps
from aos.operator.timings import Timings
from aos.v1.types_pb2 import FinishReason, Picture, RunStep

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """More of an answer."""

    text: str
    """What became certain: whole characters, maybe none."""
    tokens: list[int]
    """The tokens drawn; none for text that only the answer's end made certain."""
    logprobs: Sequence[Likelihood] = ()
    """One for each of ``tokens`` if the order asks for them; else none."""
    vectors: Sequence[Vector] = field(default=(), compare=False)
    """Those of the next texts, for an order for embeddings."""
    pictures: Sequence[Picture] = ()
    """The next one, for an order for pictures."""
    run: Sequence[RunStep] = ()
    """The next steps of a controlled answer, whose pieces have nothing else."""


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended, and the whole of it."""

    reason: FinishReason
    stop: str
    """The stop string that came; empty if none did."""
    prompt: list[int]
    tokens: list[int]
    """All tokens of the answer, those accepted from elsewhere included, without the one that ended it."""
    text: str
    cached: int = field(default=0, compare=False)
    """Tokens of the prompt that were there already, from an earlier request. Says nothing of the answer."""
    vectors: Sequence[Vector] = field(default=(), compare=False)
    """Those of all texts, for an order for embeddings."""
    timings: Timings | None = field(default=None, compare=False)
    """When it was computed; None if nothing was drawn here."""
    steps: Steps | None = field(default=None, compare=False)
    """What its receipt speaks of; None for an order for embeddings or pictures."""
    record: Record | None = None
    """What its receipt speaks of beside that, for a controlled answer."""
    pictures: Sequence[Picture] = ()
    """All of them, without their files, for an order for pictures."""


@dataclass(slots=True)
class News:
    """What one step brought to one reader."""

    stream: TokenStream
    text: str
    tokens: Sequence[int]
    end: End | Exception | None = None
    logprobs: Sequence[Likelihood] = ()
    run: Sequence[RunStep] = ()


class TokenStream:
    """Carries one request's answer to one asyncio reader. Unread tokens gather here; ``max_tokens`` bounds them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[Likelihood] = []
        self._run: list[RunStep] = []
        self._end: End | Exception | None = None

    def take(self, news: News) -> None:
        """Called on the loop."""
        self._text.append(news.text)
        self._tokens += news.tokens
        self._logprobs += news.logprobs
        self._run += news.run
        self._end = self._end or news.end
        self._news.set()

    async def read(self) -> tuple[Piece | None, End | None]:
        """Wait for news; return all that came since, as one piece, and the end if it came. Raises what ended the answer."""
        await self._news.wait()
        self._news.clear()
        text, self._text = "".join(self._text), []
        tokens, self._tokens = self._tokens, []
        logprobs, self._logprobs = self._logprobs, []
        run, self._run = self._run, []
        piece = Piece(text, tokens, logprobs, run=run) if text or tokens or run else None
        if isinstance(self._end, Exception):
            if piece is None:
                raise self._end
            self._news.set()  # what came before the failure is given first
            return piece, None
        return piece, self._end


def deliver(news: Iterable[News]) -> None:
    """Called on the engine thread: hand each loop its streams' news in one call."""
    loops: dict[asyncio.AbstractEventLoop, list[News]] = {}
    for one in news:
        loops.setdefault(one.stream.loop, []).append(one)
    for loop, bundle in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody is left to read
            loop.call_soon_threadsafe(_arrive, bundle)


def _arrive(bundle: list[News]) -> None:
    for one in bundle:
        one.stream.take(one)
