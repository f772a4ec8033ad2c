"""A queue of questions on real parts: engine, file, HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aos.addresses import LOOPBACK
from aos.clock import Clock, SystemClock
from aos.fetch import fetcher
from aos.operator.callbacks import Callbacks
from aos.operator.pool import Pool
from aos.operator.question_queue import QuestionQueue, answering
from aos.operator.questions import CallbackState, Question, State
from aos.operator.runner import Runner
from aos.operator.settings import QuestionSettings
from aos.store.questions import MIGRATIONS, SqlQuestionStore
from aos.store.sqlite import sqlite_file
from aos.testing.harness import PRICE
from aos.verification.keys import OperatorKey

MODEL = "m"
SECONDS = 20


@asynccontextmanager
async def questioned(
    key: OperatorKey, *models, path=":memory:", clock: Clock | None = None, networks=LOOPBACK, **limits
) -> AsyncGenerator[QuestionQueue]:
    """A queue over these models, called m, m2, …; ``path`` may be a file, to be opened again by a later queue."""
    clock, settings = clock or SystemClock(), QuestionSettings(networks=networks, **limits)
    named = {f"{MODEL}{number or ''}": model for number, model in enumerate(models)}
    async with (
        Pool(named) as pool,
        sqlite_file(path, MIGRATIONS) as file,
        fetcher(networks, at="callback") as outward,
        answering(
            QuestionQueue(
                Runner(key, pool, price=PRICE, clock=clock),
                SqlQuestionStore(file),
                Callbacks(outward, key, settings),
                clock=clock,
                random=lambda: 0.0,
                settings=settings,
            )
        ) as queue,
    ):
        yield queue


async def ask(queue: QuestionQueue, name: str = "q", *, prompt: str = "What is AI?", url: str = "") -> Question:
    return await queue.ask(name, model=MODEL, prompt=prompt, url=url)


async def ended(queue: QuestionQueue, name: str = "q") -> Question:
    """The question, once it has."""
    async with asyncio.timeout(SECONDS):
        while (question := await queue.get(name)).state is State.PENDING:
            pass
    return question


async def called(queue: QuestionQueue, state: CallbackState, name: str = "q", attempts: int = 0) -> Question:
    """The question, once its callback is in this state, after at least so many attempts."""
    async with asyncio.timeout(SECONDS):
        while True:
            question = await queue.get(name)
            if question.callback.state is state and question.callback.attempts >= attempts:
                return question
