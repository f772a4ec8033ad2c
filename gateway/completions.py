"""Completions in OpenAI's older dialect: a text to go on with, and the shapes of the answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from aos.errors import InvalidField
from aos.order import TOP_LOGPROBS, check_order
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.operator_pb2 import Chunk, TokenLogprob
from aos.v1.types_pb2 import Order
from gateway.answers import ANSWERS, FINISH, Members, copies
from gateway.chat import Request, sampling_of
from gateway.drawing import DETERMINISM
from gateway.logprobs import TextLogprobs

DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's, which this dialect's clients count on."""


def _prompts(value: object) -> list[str]:
    """Return the texts that a prompt is."""
    match value:
        case str():
            return [value]
        case [int(), *_] | [[int(), *_], *_]:
            raise ValueError("token ids are not understood here, as each operator may cut text in its own way; send the text")
        case [str(), *others] if all(isinstance(text, str) for text in others):
            return list(value)
        case _:
            raise ValueError("must be a string, or a list of at least one string")


class CompletionRequest(Request):
    """The body of a completion."""

    prompt: Annotated[list[str], BeforeValidator(_prompts)]
    logprobs: Annotated[int, Field(ge=0, le=TOP_LOGPROBS)] | None = None

    # Accepted with the one value that asks for nothing, as clients send them unasked.
    best_of: Annotated[int, Field(ge=1, le=1)] = 1
    echo: Literal[False] = False
    suffix: Literal[""] = ""


def orders_of(asked: CompletionRequest) -> list[Order]:
    """Return the native orders, one a choice: all of the first prompt, then those of the next.

    Raises InvalidField for fields that contradict each other, and for more than ``ANSWERS`` of them.
    """
    count = len(asked.prompt) * asked.n
    if count > ANSWERS:
        raise InvalidField("prompt", f"with n makes {count} answers; at most {ANSWERS} are given", value=count, limit=ANSWERS)
    orders = [_order(asked, prompt) for prompt in asked.prompt]
    for order in orders if len(orders) > 1 else ():  # before the others are begun for nothing
        check_order(order)
    return [one for order in orders for one in copies(order, asked.n)]


def _order(asked: CompletionRequest, prompt: str) -> Order:
    sampling = sampling_of(asked, max_tokens=asked.max_tokens or DEFAULT_MAX_TOKENS)
    sampling.logprobs, sampling.top_logprobs = asked.logprobs is not None, asked.logprobs or 0
    how = DETERMINISM[asked.determinism]
    return Order(model=asked.model, prompt=prompt, sampling=sampling, constraint=asked.constraint, determinism=how)


class CompletionChoice:
    """One answer to one prompt."""

    def __init__(self, job: Job) -> None:
        self._logprobs = TextLogprobs(job.order.sampling) if job.order.sampling.logprobs else None

    def opening(self) -> None:
        """Nothing: a completion begins with its text."""

    def plain(self, text: str) -> Members:
        """A piece of its text and nothing else."""
        return {"text": text, "logprobs": None}

    def said(self, chunk: Chunk) -> list[str | Members]:
        """More of its text, with the log-probabilities of its tokens."""
        if self._logprobs is None:
            return [chunk.text]
        return [{"text": chunk.text, "logprobs": self._logprobs.more(chunk.logprobs)}]

    def rest(self) -> list[str | Members]:
        """Nothing is held back."""
        return []

    def ending(self, outcome: Outcome) -> Members:
        """Why it ended."""
        return self.plain("") | {"finish_reason": FINISH.get(outcome.finish_reason, "stop")}

    def whole(self, outcome: Outcome, logprobs: Sequence[TokenLogprob]) -> Members:
        """The text."""
        said = None if self._logprobs is None else self._logprobs.more(logprobs)
        return {"text": outcome.text, "logprobs": said, "finish_reason": FINISH.get(outcome.finish_reason, "stop")}
