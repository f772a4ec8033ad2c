"""One thread, one model, many requests a step."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Self

from aos.errors import AosError, Deadline, EngineFailed, InvalidField, ModelUnsuitable, ShuttingDown
from aos.operator.answer import Answer
from aos.operator.batch import Batcher, Row
from aos.operator.constraints import Form, Grammars, Work
from aos.operator.control_engine import LATE_SECONDS, Steered, SteeredAnswers
from aos.operator.door import Door
from aos.operator.embedding import EmbeddingEngine
from aos.operator.grouping import groups
from aos.operator.model import Model
from aos.operator.modes import NEEDS_EXACT
from aos.operator.pace import Pace
from aos.operator.sampling import Logits
from aos.operator.steering import Steering, steer
from aos.operator.steps import Steps, Witness
from aos.operator.stream import End, News, Piece, TokenStream, deliver
from aos.operator.tools import CALLS_FIELD, effective_constraint
from aos.operator.waiting import PRIORITY_LIMIT, TENANT_CHARS, Terms
from aos.order import check_order
from aos.toolcalls import may_call
from aos.v1.types_pb2 import Determinism, Order

WAITING: Final = 64
"""Most requests that wait for a slot, unless the engine is told otherwise."""
TENANT_WAITING: Final = 32
"""Most of them that are one tenant's: the others find room, too."""
SHORT_BYTES: Final = 2048
"""Orders up to this size, accepted tokens counted in, are read at once; longer ones on a thread of their own."""

log = logging.getLogger(__name__)


class _Stop(Exception):
    """Ends the thread's loop."""


class Engine:
    """Runs orders on one model, each as a stream of text. The engine owns the model's sequences, not the model itself."""

    def __init__(
        self,
        name: str,
        model: Model,
        *,
        slots: int | None = None,
        waiting: int = WAITING,
        tenant_waiting: int = TENANT_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``slots``: most requests computed at once, at most and by default the model's. ``waiting``: most that wait, and
        ``tenant_waiting`` of one tenant. ``clock`` gives seconds from anywhere, for deadlines and to know what a step takes.
        """
        self.name, self.model = name, model
        self.slots = min(slots or model.slots, model.slots)
        self._batcher = Batcher(slots=self.slots, budget=model.step_tokens, reuse=model.reusable, block=model.block)
        self._pace, self._clock = Pace(model.step_tokens, model.step_seconds), clock
        self._now, self._held = clock(), 0
        self.embedding = None if model.embedder is None else EmbeddingEngine(name, model.embedder, clock=clock)
        """Runs orders for embeddings; None: the model cannot."""
        self._due: list[tuple[float, int]] = []
        self._live: dict[int, tuple[Answer, TokenStream]] = {}
        self._grammars = Grammars(name, model)
        self._witness = Witness(name, model.vocabulary)
        self._keys = itertools.count()
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # of those whose form was not worked out when the model was done: what to draw from
        self._late: dict[int, Logits] = {}
        self._news: list[News] = []
        self._forming: list[Work] = []
        self._steered = SteeredAnswers(name, self._batcher, self._keys, self._inbox.put, clock)
        self._door = Door(f"engine {name}", limit=self.slots + waiting, tenant_limit=self.slots + tenant_waiting)
        self._thread = Thread(target=self._run, name=f"aos-engine-{name}", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Requests being computed now."""
        return min(self._door.inside, self.slots)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return max(0, self._door.inside - self.slots)

    @property
    def usage(self) -> float:
        """Share of the KV cache that requests hold, 0 to 1; what is kept for later requests is free for any."""
        return self._held / (self.slots * self.model.context) if self._door.inside else 0.0

    async def generate(
        self,
        order: Order,
        *,
        accepted: Sequence[int] = (),
        sent_bytes: int | None = None,
        terms: Terms | None = None,
        steering: Steering | None = None,
    ) -> AsyncGenerator[Piece | End]:
        """Stream the answer: pieces, then one End. Leaving early frees the sequence within one step.

        ``accepted`` are tokens drawn elsewhere: the answer goes on behind them, and they are not given again, but computed one by
        one, as the receipt speaks of their steps, too. ``sent_bytes`` says how much of its text the reader has; None: all that was
        certain with those tokens. Orders for embeddings are for ``embedding``. ``steering`` runs the controller of an order that
        has one: its pieces are ``RunStep``s, from the beginning on, whatever was accepted.

        Raises, before any work, InvalidField, ModelUnsuitable, ContextOverflow, QueueFull or ShuttingDown; and, at any time,
        EngineFailed, ShuttingDown or, when the time that ``terms`` give is over, Deadline.
        """
        terms = terms or Terms()
        due = math.inf if terms.seconds is None else self._clock() + terms.seconds
        self._check(order, terms)
        with self._door.entered(terms.tenant):
            key, stream = next(self._keys), TokenStream()
            if order.HasField("control"):
                steps = Steps(self._witness)
                steered = await steer(
                    self.name, self.model, order, steering=steering, steps=steps, terms=terms, due=due, clock=self._clock
                )
                try:
                    self._send(lambda: self._steer(key, steered, stream))
                except ShuttingDown:
                    steered.session.close()
                    raise
            else:
                answer = await self._read(order, list(accepted), sent_bytes, terms, due)
                if answer.lacking:
                    yield Piece(answer.lacking, [])
                self._send(lambda: self._add(key, answer, stream))
            end: End | None = None
            try:
                while end is None:
                    piece, end = await stream.read()
                    if piece is not None:
                        yield piece
                yield end
            finally:  # failed, cancelled or abandoned: one way out, and the slot is free, as it is when an answer has ended
                if end is None:
                    self._inbox.put(lambda: self._drop(key))

    def _check(self, order: Order, terms: Terms) -> None:
        check_order(order)
        if abs(terms.priority) > PRIORITY_LIMIT:
            raise InvalidField("priority", f"must be from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}", value=terms.priority)
        if len(terms.tenant) > TENANT_CHARS:
            raise InvalidField("tenant", f"must have at most {TENANT_CHARS} characters", limit=TENANT_CHARS)
        if order.determinism == Determinism.DETERMINISM_EXACT and not self.model.exact:
            raise ModelUnsuitable(self.name, NEEDS_EXACT)
        if order.WhichOneof("input") == "chat" and not self.model.chat:
            raise ModelUnsuitable(self.name, "chat template")

    async def aclose(self) -> None:
        """End every live request with ShuttingDown, then the thread. Idempotent."""
        with self._door.shutting() as first:
            if first:
                self._inbox.put(self._stop)
        self.model.interrupt()
        await asyncio.to_thread(self._thread.join)
        if self.embedding is not None:
            await self.embedding.aclose()
        self._grammars.close()
        await asyncio.to_thread(self._witness.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _read(self, order: Order, accepted: list[int], sent_bytes: int | None, terms: Terms, due: float) -> Answer:
        constraint, field = effective_constraint(order, self.model.calls), CALLS_FIELD if may_call(order) else ""
        matcher = None if constraint is None else await self._grammars.compiled(constraint, field=field)

        def read() -> Answer:
            return Answer.of(
                order,
                self.model,
                accepted=accepted,
                sent_bytes=sent_bytes,
                terms=terms,
                due=due,
                now=self._clock(),
                form=None if matcher is None else Form(matcher, self._grammars, accepted, 0),
                steps=Steps(self._witness),
            )

        # two changes of thread take longer than to read a short order
        short = matcher is None and order.ByteSize() + len(accepted) <= SHORT_BYTES
        return read() if short else await asyncio.to_thread(read)

    def _send(self, work: Callable[[], None]) -> None:
        with self._door.open():  # so that nothing is put behind the stop, where nobody would answer it
            self._inbox.put(work)

    # What follows runs on the engine thread, and nothing else touches what it touches.

    def _run(self) -> None:
        try:
            while True:
                while not self._batcher.pending or not self._inbox.empty():
                    if self._inbox.empty():
                        self._settled()
                    self._take()()  # sleeps only when there is nothing to compute
                    self._make_room()
                self._settled()
                self._step()
                self._make_room()
        except _Stop:
            self._fail([*self._live, *self._steered], ShuttingDown)
            self._hand_over()
        except BaseException:  # a bug: nobody may wait for a dead thread
            log.exception("the engine of %s died", self.name)
            with self._door.shutting():
                pass
            while not self._inbox.empty():
                with suppress(Exception, _Stop):
                    self._inbox.get()()
            self._tell([*self._live, *self._steered], lambda: EngineFailed(self.name))
            self._hand_over()

    def _take(self) -> Callable[[], None]:
        """Return what is to be done next. Who waits for the slot of one whose controller is late waits no longer than that."""
        self._hand_over()
        try:
            return self._inbox.get(timeout=LATE_SECONDS if self._batcher.crowded else None)
        except Empty:
            return lambda: None

    def _make_room(self) -> None:
        if self._batcher.crowded:
            self._steered.make_room(self._clock())

    def _stop(self) -> None:
        raise _Stop

    def _add(self, key: int, answer: Answer, stream: TokenStream) -> None:
        self._live[key] = answer, stream
        self._batcher.add(key, answer.prompt, answer.terms)
        if answer.due < math.inf:
            heapq.heappush(self._due, (answer.due, key))

    def _steer(self, key: int, steered: Steered, stream: TokenStream) -> None:
        self._steered.add(key, steered, stream)
        if steered.due < math.inf:
            heapq.heappush(self._due, (steered.due, key))

    def _settled(self) -> None:
        """Tell what came of what was done for controlled answers, and ask their controllers what is next."""
        if news := self._steered.news():
            self._news += news
            self._expire(self._clock())  # a controller that does nothing gives the model nothing to compute
        self._steered.ask()

    def _drop(self, key: int) -> None:
        self._steered.drop(key)
        self._batcher.drop(key)
        self._live.pop(key, None)
        self._late.pop(key, None)

    def _step(self) -> None:
        began = self._clock()
        if self._due and self._due[0][0] <= began:
            self._expire(began)
        plan = self._batcher.plan(self._pace.prompt_tokens)
        rows = plan.rows
        if not rows:  # the last one ran out of time
            return
        computed, start = 0.0, began
        try:
            for one in plan.reuses:
                self.model.reuse(one.slot, one.source, one.count)
            for part in self._parts(rows, plan.prompt_tokens):
                for row in part:
                    if row.key in self._live:
                        self._live[row.key][0].timings.computed(began)
                    else:
                        self._steered.computed(row.key, began)
                self._hand_over()
                outputs = self.model.decode(part)
                self._now = self._clock()
                computed += self._now - start
                self._draw_all(part, outputs)
                start = self._clock()
        except Exception as error:
            log.exception("a step of %s failed", self.name)
            problem = str(error) or type(error).__name__
            owners = [row.key if row.key in self._live else self._steered.owner(row.key) for row in rows]
            gone = [owner for owner in dict.fromkeys(owners) if owner is not None]
            self._fail(gone, lambda: EngineFailed(self.name, problem))
            # what the failed step left in the model's memory is anyone's guess
            self.model.clear()
            self._batcher.rewind()
            self._late.clear()
            return
        self._held = self._batcher.held
        self._pace.took(computed, drawing=plan.drawing, prompt=plan.prompt_tokens)
        self._work_out()

    def _parts(self, rows: list[Row], prompt_tokens: int) -> Iterator[list[Row]]:
        """Yield the rows as they are to be decoded: together, unless that takes longer."""
        sizes = [len(rows)] if prompt_tokens else groups(len(rows), self.model.step_seconds)
        return (list(islice(ahead, size)) for ahead in [iter(rows)] for size in sizes)

    def _draw_all(self, rows: list[Row], outputs: Sequence[Logits]) -> None:
        drawing = [row.key for row in rows if row.draws]
        for key, logits in zip(drawing, outputs, strict=True):
            if key in self._live:
                self._draw(key, logits)
            else:
                self._steered.take(key, logits)
        self._steered.settle()
        self._news += self._steered.news()

    def _hand_over(self) -> None:
        """Let others have what the last step brought, just before this thread lets go of Python's lock, which they then want."""
        self._witness.hand_over()
        if self._news:
            news, self._news = self._news, []
            deliver(news)

    def _expire(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            if key in self._live or key in self._steered:
                terms = self._steered.terms(key) if key in self._steered else self._live[key][0].terms
                seconds = terms.seconds or 0.0
                self._fail([key], lambda seconds=seconds: Deadline(f"a request to {self.name}", seconds))

    def _catch_up(self, key: int) -> None:
        """Draw the token of one that was late; it goes on with the next step."""
        logits = self._late.pop(key, None)
        if logits is not None:
            self._draw(key, logits)
        self._work_out()

    def _work_out(self) -> None:
        """Begin to work out what may follow the tokens just drawn: last of all, as that takes Python's lock from this thread."""
        if self._forming:
            self._grammars.ahead(self._forming)
            self._forming = []

    def _draw(self, key: int, logits: Logits) -> None:
        answer, stream = self._live[key]
        if answer.form is not None and not answer.form.ready():
            self._late[key] = logits.copy()
            answer.form.when_ready(lambda: self._inbox.put(lambda: self._catch_up(key)))
            return
        try:
            self._advance(key, answer, stream, logits)
        except AosError as error:  # of its form
            self._drop(key)
            self._news.append(News(stream, "", [], error))
        except Exception as error:
            log.exception("drawing a token of %s failed", self.name)
            self._drop(key)
            self._news.append(News(stream, "", [], EngineFailed(self.name, str(error) or type(error).__name__)))

    def _advance(self, key: int, answer: Answer, stream: TokenStream, logits: Logits) -> None:
        answer.cached = min(self._batcher.cached(key), len(answer.prompt))
        drawn = answer.draw(logits, self.model, self._now)
        if drawn.forming is not None:
            self._forming.append(drawn.forming)
        end = None if drawn.reason is None else answer.end(drawn.reason)
        if end is None:
            self._batcher.drew(key, drawn.token)
        else:
            self._drop(key)
        if drawn.tokens or end is not None:
            self._news.append(News(stream, drawn.text, drawn.tokens, end, drawn.logprobs))

    def _fail(self, keys: list[int], error: Callable[[], AosError]) -> None:
        self._tell(keys, error)
        for key in keys:
            self._drop(key)

    def _tell(self, keys: list[int], error: Callable[[], AosError]) -> None:
        streams = [self._live[key][1] if key in self._live else self._steered.stream(key) for key in keys]
        self._news += [News(stream, "", [], error()) for stream in streams]
