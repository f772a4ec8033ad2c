"""One thread, one model, many requests a step."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Self

from aos.errors import AosError, ContextOverflow, Deadline, EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.batch import Batcher
from aos.operator.constraints import Form, Grammars, Matcher, Work
from aos.operator.embedding import EmbeddingEngine
from aos.operator.logprobs import reported
from aos.operator.model import Model
from aos.operator.modes import NEEDS_EXACT
from aos.operator.pace import Pace
from aos.operator.penalties import History
from aos.operator.sampling import Draw, Logits, draw, follow
from aos.operator.stream import End, News, Piece, TokenStream, deliver
from aos.operator.text import AnswerText
from aos.operator.timings import Timings
from aos.operator.tools import CALLS_FIELD, effective_constraint
from aos.operator.waiting import PRIORITY_LIMIT, TENANT_CHARS, Terms
from aos.order import DEFAULT_MAX_TOKENS, check_order
from aos.toolcalls import may_call
from aos.v1.types_pb2 import Determinism, FinishReason, Order

WAITING: Final = 64
"""Most requests that wait for a slot, unless the engine is told otherwise."""
TENANT_WAITING: Final = 32
"""Most of them that are one tenant's: the others find room, too."""
SHORT_BYTES: Final = 2048
"""Orders up to this size, accepted tokens counted in, are read at once; longer ones on a thread of their own."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    """One request on its way. Made beside the loop, then the engine thread's alone."""

    prompt: list[int]
    tokens: list[int]
    text: AnswerText
    how: Draw
    history: History
    limit: int
    lacking: str
    """Text that an earlier operator's reader lacks."""
    terms: Terms
    due: float
    """When it must be done, by the engine's clock."""
    timings: Timings
    cached: int = 0
    followed: int = 0
    """How many of ``tokens`` need no computing of their own: with mirostat, those drawn elsewhere are computed as if drawn here."""
    form: Form | None = None
    """What it must look like, if anything."""

    @property
    def known(self) -> list[int]:
        """What the sequence begins with."""
        return self.prompt + self.tokens[: self.followed]

    @property
    def ended(self) -> FinishReason | None:
        """Why nothing more is to be drawn, if so."""
        if self.text.stop:
            return FinishReason.FINISH_REASON_STOP
        return FinishReason.FINISH_REASON_LENGTH if len(self.tokens) >= self.limit else None

    def end(self, reason: FinishReason) -> End:
        return End(reason, self.text.stop, self.prompt, self.tokens, self.text.text, self.cached, timings=self.timings)


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
        self._batcher = Batcher(slots=self.slots, budget=model.step_tokens, reuse=model.reusable)
        self._pace, self._clock = Pace(model.step_tokens), clock
        self._now, self._held = clock(), 0
        self.embedding = None if model.embedder is None else EmbeddingEngine(name, model.embedder, clock=clock)
        """Runs orders for embeddings; None: the model cannot."""
        self._due: list[tuple[float, int]] = []
        self._live: dict[int, tuple[_Answer, TokenStream]] = {}
        self._grammars = Grammars(name, model)
        # of those whose form was not worked out when the model was done: what to draw from
        self._late: dict[int, Logits] = {}
        self._forming: list[Work] = []
        self._waiting_limit, self._tenant_limit = waiting, tenant_waiting
        # the door: how many requests are inside, and whether it is shut
        self._door, self._inside, self._closed = Lock(), 0, False
        self._tenants: Counter[str] = Counter()
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

    @property
    def usage(self) -> float:
        """Share of the KV cache that requests hold, 0 to 1; what is kept for later requests is free for any."""
        return self._held / (self.slots * self.model.context) if self._inside else 0.0

    async def generate(
        self, order: Order, *, accepted: Sequence[int] = (), sent_bytes: int | None = None, terms: Terms | None = None
    ) -> AsyncGenerator[Piece | End]:
        """Stream the answer: pieces, then one End. Leaving early frees the sequence within one step.

        ``accepted`` are tokens drawn elsewhere: the answer goes on behind them, and they are not given again. ``sent_bytes``
        says how much of its text the reader has; None: all that was certain with those tokens. Orders for embeddings are for
        ``embedding``.

        Raises, before any work, InvalidField, ModelUnsuitable, ContextOverflow, QueueFull or ShuttingDown; and, at any time,
        EngineFailed, ShuttingDown or, when the time that ``terms`` give is over, Deadline.
        """
        check_order(order)
        terms = terms or Terms()
        due = math.inf if terms.seconds is None else self._clock() + terms.seconds
        if abs(terms.priority) > PRIORITY_LIMIT:
            raise InvalidField("priority", f"must be from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}", value=terms.priority)
        if len(terms.tenant) > TENANT_CHARS:
            raise InvalidField("tenant", f"must have at most {TENANT_CHARS} characters", limit=TENANT_CHARS)
        if order.determinism == Determinism.DETERMINISM_EXACT and not self.model.exact:
            raise ModelUnsuitable(self.name, NEEDS_EXACT)
        if order.WhichOneof("input") == "chat" and not self.model.chat:
            raise ModelUnsuitable(self.name, "chat template")
        with self._admitted(terms.tenant):
            answer = await self._read(order, list(accepted), sent_bytes, terms, due)
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
        if self.embedding is not None:
            await self.embedding.aclose()
        self._grammars.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @contextmanager
    def _admitted(self, tenant: str) -> Generator[None]:
        limit, tenant_limit = self.slots + self._waiting_limit, self.slots + self._tenant_limit
        with self._door:
            if self._closed:
                raise ShuttingDown
            if self._inside >= limit:
                raise QueueFull(f"engine {self.name}", limit)
            if self._tenants[tenant] >= tenant_limit:
                raise QueueFull(f"engine {self.name}, one tenant", tenant_limit)
            self._inside += 1
            self._tenants[tenant] += 1
        try:
            yield
        finally:
            with self._door:
                self._inside -= 1
                self._tenants[tenant] -= 1
                if not self._tenants[tenant]:
                    del self._tenants[tenant]

    async def _read(self, order: Order, accepted: list[int], sent_bytes: int | None, terms: Terms, due: float) -> _Answer:
        constraint, field = effective_constraint(order, self.model.calls), CALLS_FIELD if may_call(order) else ""
        matcher = None if constraint is None else await self._grammars.compiled(constraint, field=field)
        # two changes of thread take longer than to read a short order
        short = matcher is None and order.ByteSize() + len(accepted) <= SHORT_BYTES
        arguments = order, accepted, sent_bytes, terms, due, matcher
        return self._prepare(*arguments) if short else await asyncio.to_thread(self._prepare, *arguments)

    def _prepare(
        self, order: Order, accepted: list[int], sent_bytes: int | None, terms: Terms, due: float, matcher: Matcher | None
    ) -> _Answer:
        """Read the order, which takes long if the input is long. Called on any thread."""
        model, sampling = self.model, order.sampling
        prompt = model.tokenise(order)
        if not prompt or order.HasField("embedding"):
            raise InvalidField("order.prompt", "has no tokens")
        if len(prompt) >= model.context or len(prompt) + len(accepted) > model.context:
            raise ContextOverflow(self.name, len(prompt) + len(accepted), model.context)
        if any(token >= model.vocabulary or token in model.ends for token in accepted):
            raise InvalidField("accepted_tokens", "these are no tokens that this model's answers can have")
        text = AnswerText(sampling.stop)
        lacking = text.resume((model.piece(token) for token in accepted), sent_bytes)
        limit = min(sampling.max_tokens or DEFAULT_MAX_TOKENS, model.context - len(prompt))
        how = Draw.of(sampling, model.vocabulary)
        followed = 0 if how.mirostat else len(accepted)
        history = History(prompt, accepted[:followed])
        form = None if matcher is None else Form(matcher, self._grammars, accepted, followed)
        timings = Timings(self._clock())
        return _Answer(prompt, accepted, text, how, history, limit, lacking, terms, due, timings, followed=followed, form=form)

    def _send(self, work: Callable[[], None]) -> None:
        with self._door:  # so that nothing is put behind the stop, where nobody would answer it
            if self._closed:
                raise ShuttingDown
            self._inbox.put(work)

    # What follows runs on the engine thread, and nothing else touches what it touches.

    def _run(self) -> None:
        try:
            while True:
                while len(self._live) == len(self._late) or not self._inbox.empty():
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
        self._batcher.add(key, answer.known, answer.terms)
        if answer.due < math.inf:
            heapq.heappush(self._due, (answer.due, key))

    def _drop(self, key: int) -> None:
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
        try:
            for one in plan.reuses:
                self.model.reuse(one.slot, one.source, one.count)
            for row in rows:
                self._live[row.key][0].timings.computed(began)
            drawn = self.model.decode(rows)
        except Exception as error:
            log.exception("a step of %s failed", self.name)
            problem = str(error) or type(error).__name__
            self._fail([row.key for row in rows], lambda: EngineFailed(self.name, problem))
            # what the failed step left in the model's memory is anyone's guess
            self.model.clear()
            self._batcher.rewind()
            self._late.clear()
            return
        self._now, self._held = self._clock(), self._batcher.held
        self._pace.took(self._now - began, drawing=plan.drawing, prompt=plan.prompt_tokens)
        drawing = [row for row in rows if row.draws]
        news = [self._draw(row.key, logits) for row, logits in zip(drawing, drawn, strict=True)]
        deliver([one for one in news if one is not None])
        self._work_out()

    def _expire(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            if key in self._live:
                seconds = self._live[key][0].terms.seconds or 0.0
                self._fail([key], lambda seconds=seconds: Deadline(f"a request to {self.name}", seconds))

    def _catch_up(self, key: int) -> None:
        """Draw the token of one that was late; it goes on with the next step."""
        logits = self._late.pop(key, None)
        if logits is not None and (news := self._draw(key, logits)):
            deliver([news])
        self._work_out()

    def _work_out(self) -> None:
        """Begin to work out what may follow the tokens just drawn: last of all, as that takes Python's lock from this thread."""
        if self._forming:
            self._grammars.ahead(self._forming)
            self._forming = []

    def _draw(self, key: int, logits: Logits) -> News | None:
        answer, stream = self._live[key]
        if answer.form is not None and not answer.form.ready():
            self._late[key] = logits.copy()
            answer.form.when_ready(lambda: self._inbox.put(lambda: self._catch_up(key)))
            return None
        try:
            return self._advance(key, answer, stream, logits)
        except AosError as error:  # of its form
            self._drop(key)
            return News(stream, "", [], error)
        except Exception as error:
            log.exception("drawing a token of %s failed", self.name)
            self._drop(key)
            return News(stream, "", [], EngineFailed(self.name, str(error) or type(error).__name__))

    def _advance(self, key: int, answer: _Answer, stream: TokenStream, logits: Logits) -> News | None:
        answer.cached = min(self._batcher.cached(key), len(answer.prompt))
        left = logits if answer.form is None else answer.form.permitted(logits)
        if answer.followed < len(answer.tokens):
            token = answer.tokens[answer.followed]
            follow(left, answer.how, answer.history, token)
            answer.history.add(token)
            answer.followed += 1
            self._goes_on(key, answer, token)
            return None
        token = draw(left, answer.how, len(answer.tokens), answer.history)
        answer.timings.drew(self._now)
        if token in self.model.ends:
            self._drop(key)
            return News(stream, answer.text.finish(), [], answer.end(FinishReason.FINISH_REASON_STOP))
        text = answer.text.feed(self.model.piece(token))
        logprobs = reported(logits, token, answer.how)
        answer.tokens.append(token)
        answer.followed += 1
        answer.history.add(token)
        reason = answer.ended
        if reason is None:
            self._goes_on(key, answer, token)
            return News(stream, text, [token], None, logprobs)
        self._drop(key)
        return News(stream, text + answer.text.finish(), [token], answer.end(reason), logprobs)

    def _goes_on(self, key: int, answer: _Answer, token: int) -> None:
        if answer.form is not None:
            self._forming.append(answer.form.drew(token))
        self._batcher.drew(key, token)

    def _fail(self, keys: list[int], error: Callable[[], AosError]) -> None:
        self._tell(keys, error)
        for key in keys:
            self._drop(key)

    def _tell(self, keys: list[int], error: Callable[[], AosError]) -> None:
        deliver([News(self._live[key][1], "", [], error()) for key in keys])
