"""Questions on their way: taken, answered by the engine, called back. What was accepted goes on after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from aos.clock import Clock, within
from aos.errors import AosError, Deadline, EngineFailed, QueueFull, ShuttingDown
from aos.operator.callbacks import Callbacks
from aos.operator.questions import (
    CallbackState,
    Question,
    State,
    admit,
    begun,
    delivered,
    done,
    failed,
    given_back,
    job_of,
    new_question,
    order_of,
    undelivered,
)
from aos.operator.runner import Runner
from aos.operator.settings import QuestionSettings
from aos.operator.store import QuestionStore
from aos.order import with_defaults
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Chunk, Finish

BUSY_SECONDS: Final = 1.0
"""Pause before a question is offered again to an engine whose queue is full of other work."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class QuestionQueue:
    """Answers questions, a few at once, in the order in which they came. Made by ``answering``."""

    def __init__(
        self,
        runner: Runner,
        store: QuestionStore,
        callbacks: Callbacks,
        *,
        clock: Clock,
        random: Callable[[], float],
        settings: QuestionSettings,
    ) -> None:
        self.runner, self.settings = runner, settings
        self._store, self._callbacks, self._clock, self._random = store, callbacks, clock, random
        # admission bounds what is in them
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._unanswered: set[str] = set()
        self._calling = asyncio.Semaphore(settings.callbacks_at_once)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def unanswered(self) -> int:
        """Questions that are accepted and not answered."""
        return len(self._unanswered)

    async def ask(self, name: str, *, model: str, prompt: str, url: str) -> Question:
        """Return the question, once it is on disk; the one that was asked before under this id, if it is the same.

        Raises InvalidField, ModelNotFound, RequestIdReused or QueueFull.
        """
        networks = self.settings.networks
        asked = new_question(name, model=model, prompt=prompt, url=url, now=self._clock.now(), networks=networks)
        self._offers_chat(model)
        # shielded: a caller that leaves now must not leave a question behind that is on disk and that nobody works on
        return await asyncio.shield(self._begin(self._take(asked)))

    async def get(self, name: str) -> Question:
        """Return the question as it stands. Raises JobNotFound."""
        return await self._store.get(name)

    async def start(self) -> None:
        """Go on with what an earlier run left, and begin to work."""
        await self._forget()
        for question in await self._store.open():
            if question.state is State.PENDING:
                self._enqueue(question.id)
            else:
                self._begin(self._deliver(question))
        for _ in range(self.settings.at_once):
            self._begin(self._work())

    async def stop(self) -> None:
        """Leave everything as it is on disk, for the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _take(self, asked: Question) -> Question:
        question = await self._store.take(asked.id, lambda held, load: admit(asked, held, load, self.settings))
        if question.state is State.PENDING:
            self._enqueue(question.id)
        return question

    def _enqueue(self, name: str) -> None:
        if name not in self._unanswered:
            self._unanswered.add(name)
            self._waiting.put_nowait(name)

    async def _work(self) -> None:
        while True:
            name = await self._waiting.get()
            try:
                await self._answer(name)
            except Exception:  # of the store: the question stays on disk as it was, for the next start
                log.exception("the question %s cannot be kept", name)
            finally:
                self._unanswered.discard(name)

    async def _answer(self, name: str) -> None:
        def begin(held: Question | None, load: object) -> Question:
            del load
            assert held is not None, "questions are forgotten only once they have ended"
            return begun(held, now=self._clock.now(), settings=self.settings)

        before = await self._store.get(name)
        question = await self._store.take(name, begin)
        if before.state is not State.PENDING:  # it was asked again just as it ended
            return
        if question.state is State.PENDING:
            try:
                question = await self._outcome(question)
            except asyncio.CancelledError:
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(self._store.put(given_back(question)))
                raise
            await self._store.put(question)
            await self._forget()
        if question.callback.state is CallbackState.DUE:
            self._begin(self._deliver(question))

    async def _outcome(self, question: Question) -> Question:
        seconds = self.settings.answer_seconds
        try:
            bundle = await within(self._clock, seconds, self._run(question))
        except TimeoutError:
            return failed(question, Deadline(f"questions/{question.id}", seconds), self._clock.now())
        except AosError as error:
            return failed(question, error, self._clock.now())
        except Exception:  # a bug; it ends this question alone
            log.exception("the question %s failed", question.id)
            return failed(question, EngineFailed(question.model), self._clock.now())
        return done(question, bundle, self._clock.now())

    async def _run(self, question: Question) -> ReceiptBundle:
        while True:
            try:
                return await self._ask_engine(question)
            except (QueueFull, ShuttingDown):  # not now
                await self._clock.sleep(BUSY_SECONDS)

    def _offers_chat(self, model: str) -> bool:
        """Say whether the model, its own or a registered server's, has conversations. Raises ModelNotFound."""
        if (group := self.runner.hosted(model)) is not None:
            return not group.pictures
        self.runner.pool.source(model)
        return self.runner.pool.facts[model].chat

    async def _ask_engine(self, question: Question) -> ReceiptBundle:
        runner, job = self.runner, job_of(question)
        order = with_defaults(order_of(question, chat=self._offers_chat(question.model)), job=job)
        text, tokens, finish = list[str](), list[int](), Finish()
        runner.tick()
        async with aclosing(runner.run(order, job=job)) as events:
            async for event in events:
                if isinstance(event, Chunk):
                    text.append(event.text)
                    tokens += event.tokens
                else:
                    finish = event
        return ReceiptBundle(
            receipt=finish.receipt,
            order=order,
            output="".join(text),
            output_tokens=tokens,
            price=runner.price,
            trace=finish.trace if finish.HasField("trace") else None,
        )

    async def _deliver(self, question: Question) -> None:
        """Call back until it is taken or given up."""
        try:
            while question.callback.state is CallbackState.DUE:
                now = self._clock.now()
                await self._clock.sleep(((question.callback.due or now) - now).total_seconds())
                async with self._calling:
                    failure = await self._callbacks.attempt(question)
                if failure is None:
                    question = delivered(question)
                else:
                    again = partial(undelivered, question, failure.problem, final=failure.final)
                    question = again(now=self._clock.now(), jitter=self._random(), settings=self.settings)
                await self._store.put(question)
        except Exception:  # of the store: the callback stays due on disk, for the next start
            log.exception("the callback of %s cannot be kept", question.id)
        if question.callback.state is CallbackState.GIVEN_UP:
            log.warning("the callback of %s is given up: %s", question.id, question.callback.problem)

    async def _forget(self) -> None:
        before = self._clock.now() - timedelta(seconds=self.settings.keep_seconds)
        await self._store.forget(before, self.settings.keep)


@asynccontextmanager
async def answering(queue: QuestionQueue) -> AsyncGenerator[QuestionQueue]:
    """Answer questions until the block ends."""
    await queue.start()
    try:
        yield queue
    finally:
        await queue.stop()
