"""What a question to an operator is, when it is taken, and when its callback is tried again. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from aos.addresses import Network, check_url
from aos.errors import AosError, InvalidField, OperatorLost, QueueFull, RequestIdReused
from aos.operator.settings import QuestionSettings
from aos.order import check_order
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.types_pb2 import Chat, ChatMessage, Order

ID_CHARS: Final = 128
"""Longest id of a question."""
PROBLEM_CHARS: Final = 500
"""Most that is kept of what went wrong."""
_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{ID_CHARS}}}")


class State(StrEnum):
    """How far a question is."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class CallbackState(StrEnum):
    """How far a callback is."""

    NONE = "none"
    DUE = "due"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Callback:
    """How far the callback of a question is."""

    state: CallbackState = CallbackState.NONE
    attempts: int = 0
    problem: str = ""
    """What went wrong with the last attempt."""
    due: datetime | None = None
    """When it is tried next, while it is DUE and the question has ended."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as it is kept."""

    id: str
    model: str
    prompt: str
    url: str
    """Of the callback; empty: none."""
    created: datetime
    state: State = State.PENDING
    starts: int = 0
    """How often the engine began with it."""
    bundle: ReceiptBundle | None = None
    """The answer and its receipt, once it is DONE."""
    reason: str = ""
    """Why there is no answer, once it has FAILED: of ErrorReason, without its prefix."""
    problem: str = ""
    """The same in words."""
    ended: datetime | None = None
    callback: Callback = Callback()

    @property
    def asked(self) -> tuple[str, str, str]:
        """What another question of the same id must have in common with it."""
        return self.model, self.prompt, self.url


@dataclass(frozen=True, slots=True)
class Load:
    """How many questions there are of each kind."""

    unanswered: int
    undelivered: int


def new_question(name: str, *, model: str, prompt: str, url: str, now: datetime, networks: Sequence[Network]) -> Question:
    """Return the question, PENDING. Raises InvalidField for what cannot be asked, before anything is kept of it."""
    if not _ID.fullmatch(name):
        raise InvalidField("id", f"must have 1 to {ID_CHARS} letters, digits and ._:-", value=name, limit=ID_CHARS)
    if url:
        check_url(url, "callback", networks)
    check_order(Order(model=model, prompt=prompt), "question")
    state = CallbackState.DUE if url else CallbackState.NONE
    return Question(name, model, prompt, url, now, callback=Callback(state))


def admit(asked: Question, held: Question | None, load: Load, settings: QuestionSettings) -> Question:
    """Return the question that is kept: the one that is held under this id, or the new one.

    Raises RequestIdReused if the one that is held asks something else, and QueueFull.
    """
    if held is not None:
        if held.asked != asked.asked:
            raise RequestIdReused(asked.id, f"questions/{asked.id}")
        return held
    if load.unanswered >= settings.unanswered:
        raise QueueFull("questions", settings.unanswered)
    if asked.url and load.undelivered >= settings.undelivered:
        raise QueueFull("callbacks", settings.undelivered)
    return asked


def order_of(question: Question, *, chat: bool) -> Order:
    """Return the order: the prompt as a user's turn where the model has a chat template, else as it is."""
    if chat:
        return Order(model=question.model, chat=Chat(messages=[ChatMessage(role="user", content=question.prompt)]))
    return Order(model=question.model, prompt=question.prompt)


def job_of(question: Question) -> bytes:
    """Return the id that the receipt has as its job: 32 bytes that follow from the question's id."""
    return hashlib.sha256(f"aos question 1\n{question.id}".encode()).digest()


def begun(held: Question, *, now: datetime, settings: QuestionSettings) -> Question:
    """Return the question that the engine begins with now, or one that has ended: it has been begun too often before."""
    if held.state is not State.PENDING:
        return held
    if held.starts >= settings.starts:
        return failed(held, OperatorLost(f"questions/{held.id}", held.starts), now)
    return replace(held, starts=held.starts + 1)


def given_back(question: Question) -> Question:
    """Return the question as if the engine had not begun with it: it was asked to stop, which is not the question's fault."""
    return replace(question, starts=question.starts - 1)


def done(question: Question, bundle: ReceiptBundle, now: datetime) -> Question:
    """Return the question with its answer."""
    return replace(question, state=State.DONE, bundle=bundle, ended=now, callback=_due(question, now))


def failed(question: Question, error: AosError, now: datetime) -> Question:
    """Return the question with why it has no answer."""
    problem = error.message[:PROBLEM_CHARS]
    ended = replace(question, state=State.FAILED, reason=error.reason, problem=problem, ended=now)
    return replace(ended, callback=_due(question, now))


def _due(question: Question, now: datetime) -> Callback:
    return replace(question.callback, due=now) if question.callback.state is CallbackState.DUE else question.callback


def delivered(question: Question) -> Question:
    """Return the question whose callback was taken."""
    callback = question.callback
    return replace(question, callback=Callback(CallbackState.DELIVERED, callback.attempts + 1))


def undelivered(
    question: Question, problem: str, *, now: datetime, jitter: float, settings: QuestionSettings, final: bool = False
) -> Question:
    """Return the question whose callback was not taken: to be tried again, or given up if its time is over or it is ``final``.

    ``jitter`` is from 0 up to 1: it shortens the pause by up to a half, so that callbacks that failed together come apart.
    """
    attempts = question.callback.attempts + 1
    said = problem[:PROBLEM_CHARS]
    # not 2 ** attempts alone: that has no end
    doubled = settings.first_pause * 2 ** min(attempts - 1, 32)
    due = now + timedelta(seconds=min(doubled, settings.longest_pause) * (1 - jitter / 2))
    last = (question.ended or now) + timedelta(seconds=settings.callback_seconds)
    if final or due > last:
        return replace(question, callback=Callback(CallbackState.GIVEN_UP, attempts, said))
    return replace(question, callback=Callback(CallbackState.DUE, attempts, said, due))
