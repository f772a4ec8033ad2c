"""One thread, one model, many requests a step."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Self

from aos.errors import AosError, ContextOverflow, EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.batch import Batcher, Row
from aos.operator.model import Model
from aos.operator.sampling import Draw, Logits, draw
from aos.operator.stream import End, News, Piece, TokenStream, deliver
from aos.operator.text import AnswerText
from aos.order import DEFAULT_MAX_TOKENS, check_order
from aos.v1.types_pb2 import FinishReason, Order

WAITING: Final = 64
"""Most requests that wait for a slot, unless the engine is told otherwise."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    """One request on its way. Made beside the loop, then the engine thread's alone."""

    prompt: list[int]
    tokens: list[int]
    text: AnswerText
    how: Draw
    limit: int
    lacking: str
    """Text that an earlier operator's reader lacks."""

    @property
    def ended(self) -> FinishReason | None:
        """Why nothing more is to be drawn, if so."""
        if self.text.stop:
            return FinishReason.FINISH_REASON_STOP
        return FinishReason.FINISH_REASON_LENGTH if len(self.tokens) >= self.limit else None

    def end(self, reason: FinishReason) -> End:
        return End(reason, self.text.stop, self.prompt, self.tokens, self.text.text)


class _Stop(Exception):
    """Ends the thread's loop."""


class Engine:
    """Runs orders on one model, each as a stream of text. The engine owns the model's sequences, not the model itself."""

    def __init__(self, name: str, model: Model, *, slots: int | None = None, waiting: int = WAITING) -> None:
        """``slots``: most requests computed at once, at most and by default the model's. ``waiting``: most that wait."""
        self.name, self.model = name, model
        self.slots = min(slots or model.slots, model.slots)
        self._batcher = Batcher(slots=self.slots, budget=model.step_tokens)
        self._live: dict[int, tuple[_Answer, TokenStream]] = {}
        self._waiting_limit = waiting
        # the door: how many requests are inside, and whether it is shut
        self._door, self._inside, self._closed = Lock(), 0, False
        self._keys = itertools.count()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"aos-engine-{name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Requests being computed now."""
        return min(self._inside, self.slots)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return max(0, self._inside - self.slots)

    async def generate(
        self, order: Order, *, accepted: Sequence[int] = (), sent_bytes: int | None = None
    ) -> AsyncGenerator[Piece | End]:
        """Stream the answer: pieces, then one End. Leaving early frees the sequence within one step.

        ``accepted`` are tokens drawn elsewhere: the answer goes on behind them, and they are not given again. ``sent_bytes``
        says how much of its text the reader has; None: all that was certain with those tokens.

        Raises, before any work, InvalidField, ModelUnsuitable, ContextOverflow, QueueFull or ShuttingDown; and, at any time,
        EngineFailed or ShuttingDown.
        """
        check_order(order)
        if order.WhichOneof("input") == "chat" and not self.model.chat:
            raise ModelUnsuitable(self.name, "chat template")
        with self._admitted():
            answer = await asyncio.to_thread(self._prepare, order, list(accepted), sent_bytes)
            if answer.lacking:
                yield Piece(answer.lacking, [])
            if answer.ended is not None:  # all tokens were drawn elsewhere; what they leave uncertain is certain now
                if rest := answer.text.finish():
                    yield Piece(rest, [])
                yield answer.end(answer.ended)
                return
            key, stream = next(self._keys), TokenStream()
            self._send(lambda: self._add(key, answer, stream))
            try:
                end: End | None = None
                while end is None:
                    piece, end = await stream.read()
                    if piece is not None:
                        yield piece
                yield end
            finally:  # finished, failed, cancelled or abandoned: one way out, and the slot is free
                self._inbox.put(lambda: self._drop(key))

    async def aclose(self) -> None:
        """End every live request with ShuttingDown, then the thread. Idempotent."""
        with self._door:
            first, self._closed = not self._closed, True
            if first:
                self._inbox.put(self._stop)
        self.model.interrupt()
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @contextmanager
    def _admitted(self) -> Generator[None]:
        limit = self.slots + self._waiting_limit
        with self._door:
            if self._closed:
                raise ShuttingDown
            if self._inside >= limit:
                raise QueueFull(f"engine {self.name}", limit)
            self._inside += 1
        try:
            yield
        finally:
            with self._door:
                self._inside -= 1

    def _prepare(self, order: Order, accepted: list[int], sent_bytes: int | None) -> _Answer:
        """Read the order: on a thread of its own, since a long input takes long to tokenise."""
        model, sampling = self.model, order.sampling
        prompt = model.tokenise(order)
        if not prompt:
            raise InvalidField("order.prompt", "has no tokens")
        if len(prompt) >= model.context or len(prompt) + len(accepted) > model.context:
            raise ContextOverflow(self.name, len(prompt) + len(accepted), model.context)
        if any(token >= model.vocabulary or token in model.ends for token in accepted):
            raise InvalidField("accepted_tokens", "these are no tokens that this model's answers can have")
        text = AnswerText(sampling.stop)
        lacking = text.resume((model.piece(token) for token in accepted), sent_bytes)
        limit = min(sampling.max_tokens or DEFAULT_MAX_TOKENS, model.context - len(prompt))
        return _Answer(prompt, accepted, text, Draw.of(sampling), limit, lacking)

    def _send(self, work: Callable[[], None]) -> None:
        with self._door:  # so that nothing is put behind the stop, where nobody would answer it
            if self._closed:
                raise ShuttingDown
            self._inbox.put(work)

    # What follows runs on the engine thread, and nothing else touches what it touches.

    def _run(self) -> None:
        try:
            while True:
                while not self._live or not self._inbox.empty():
                    self._inbox.get()()  # sleeps only when there is nothing to compute
                self._step()
        except _Stop:
            self._fail(list(self._live), ShuttingDown)
        except BaseException:  # a bug: nobody may wait for a dead thread
            log.exception("the engine of %s died", self.name)
            with self._door:
                self._closed = True
            while not self._inbox.empty():
                with suppress(Exception, _Stop):
                    self._inbox.get()()
            self._tell(list(self._live), lambda: EngineFailed(self.name))

    def _stop(self) -> None:
        raise _Stop

    def _add(self, key: int, answer: _Answer, stream: TokenStream) -> None:
        self._live[key] = answer, stream
        self._batcher.add(key, answer.prompt + answer.tokens)

    def _drop(self, key: int) -> None:
        slot = self._batcher.drop(key)
        if slot is not None:
            self.model.forget(slot)
        self._live.pop(key, None)

    def _step(self) -> None:
        rows = self._batcher.plan()
        try:
            drawn = self.model.decode(rows)
        except Exception as error:
            log.exception("a step of %s failed", self.name)
            problem = str(error) or type(error).__name__
            self._fail([row.key for row in rows], lambda: EngineFailed(self.name, problem))
            # what the failed step left in the model's memory is anyone's guess
            self.model.clear()
            self._batcher.rewind()
            return
        drawing = [row for row in rows if row.draws]
        deliver([self._draw(row, logits) for row, logits in zip(drawing, drawn, strict=True)])

    def _draw(self, row: Row, logits: Logits) -> News:
        answer, stream = self._live[row.key]
        try:
            return self._advance(row.key, answer, stream, logits)
        except Exception as error:
            log.exception("drawing a token of %s failed", self.name)
            self._drop(row.key)
            return News(stream, "", [], EngineFailed(self.name, str(error) or type(error).__name__))

    def _advance(self, key: int, answer: _Answer, stream: TokenStream, logits: Logits) -> News:
        token = draw(logits, answer.how, len(answer.tokens))
        if token in self.model.ends:
            self._drop(key)
            return News(stream, answer.text.finish(), [], answer.end(FinishReason.FINISH_REASON_STOP))
        text = answer.text.feed(self.model.piece(token))
        answer.tokens.append(token)
        reason = answer.ended
        if reason is None:
            self._batcher.drew(key, token)
            return News(stream, text, [token])
        self._drop(key)
        return News(stream, text + answer.text.finish(), [token], answer.end(reason))

    def _fail(self, keys: list[int], error: Callable[[], AosError]) -> None:
        self._tell(keys, error)
        for key in keys:
            self._drop(key)

    def _tell(self, keys: list[int], error: Callable[[], AosError]) -> None:
        deliver([News(self._live[key][1], "", [], error()) for key in keys])
