"""Completions in OpenAI's older dialect: a text to go on with, and the shapes of the answer. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order
from gateway.chat import DONE, FINISH, Facts, Request, answer_id, network_of, sampling_of, sse, usage_of
from gateway.http import dump

DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's, which this dialect's clients count on."""
OBJECT: Final = "text_completion"


def _prompt(value: object) -> str:
    """Return the one text that a prompt is."""
    match value:
        case str() | [str()]:
            return value if isinstance(value, str) else value[0]
        case [int(), *_] | [[int(), *_], *_]:
            raise ValueError("token ids are not understood here; send the text")
        case [str(), str(), *_]:
            raise ValueError(f"has {len(value)} texts; send one a call")
        case _:
            raise ValueError("must be a string, or a list of one string")


class CompletionRequest(Request):
    """The body of a completion."""

    prompt: Annotated[str, BeforeValidator(_prompt)]

    # Accepted with the one value that asks for nothing, as clients send them unasked.
    best_of: Annotated[int, Field(ge=1, le=1)] = 1
    echo: Literal[False] = False
    suffix: Literal[""] = ""


def order_of(asked: CompletionRequest) -> Order:
    """Return the native order. Raises InvalidField for fields that contradict each other."""
    sampling = sampling_of(asked, max_tokens=asked.max_tokens or DEFAULT_MAX_TOKENS)
    return Order(model=asked.model, prompt=asked.prompt, sampling=sampling)


def completion(job: Job, outcome: Outcome, facts: Facts) -> str:
    """Return the whole answer: OpenAI's fields, and those that a chat has beyond them."""
    choice = _choice(outcome.text, FINISH.get(outcome.finish_reason, "stop")) | {"stop_reason": outcome.stop or None}
    return dump(
        {
            "code": 0,
            "message": "success",
            **_same(job),
            "choices": [choice],
            "usage": usage_of(outcome.usage),
            "system_fingerprint": f"fp_{outcome.receipt.model_digest.hex()[:16]}",
            "aos": network_of(facts),
        }
    )


class Chunks:
    """The events of one streamed answer, each ready to be sent."""

    def __init__(self, job: Job, *, include_usage: bool) -> None:
        self._same = _same(job)
        self._open = {"usage": None} if include_usage else {}
        self._include_usage = include_usage
        # what differs between two tokens is only their text, so the rest is written once
        empty = self._event(_choice(""), self._open).decode()
        self._head, self._tail = empty.split('""', 1)

    def opening(self) -> bytes:
        """Nothing: a completion begins with its text."""
        return b""

    def text(self, chunk: Chunk) -> bytes:
        """An event with more of the answer."""
        return f"{self._head}{dump(chunk.text)}{self._tail}".encode()

    def end(self, outcome: Outcome, facts: Facts) -> bytes:
        """The last events: why it ended, what it took, and the mark."""
        usage = usage_of(outcome.usage)
        choice = _choice("", FINISH.get(outcome.finish_reason, "stop")) | {"stop_reason": outcome.stop or None}
        last = self._event(choice, {"usage": usage, "aos": network_of(facts)})
        if self._include_usage:
            last += sse(dump(self._same | {"choices": [], "usage": usage}))
        return last + DONE

    def _event(self, choice: dict[str, Any], rest: dict[str, Any]) -> bytes:
        return sse(dump(self._same | {"choices": [choice]} | rest))


def _same(job: Job) -> dict[str, Any]:
    return {"id": answer_id(job), "object": OBJECT, "created": job.created.seconds, "model": job.order.model}


def _choice(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
