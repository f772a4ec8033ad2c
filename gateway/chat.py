"""Chats in the model interface's dialect: what a request may ask, and the shapes of its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.errors import InvalidField
from aos.order import MAX_TOKENS
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.operator_pb2 import Chunk, TokenLogprob
from aos.v1.types_pb2 import Chat, ChatMessage, FinishReason, Order, Sampling, Usage
from gateway.drawing import Drawing, TopLogprobs
from gateway.http import dump
from gateway.logprobs import choice_logprobs

DONE: Final = b"data: [DONE]\n\n"
PING: Final = b": ping\n\n"
"""A comment: readers skip it, and what lies between keeps the connection open."""
FINISH: Final = {FinishReason.FINISH_REASON_STOP: "stop", FinishReason.FINISH_REASON_LENGTH: "length"}


def _text(value: object) -> str:
    """Return the text of a message's content: a string, or a list of text parts, each on a line of its own."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("must be a string or a list of parts")  # noqa: TRY004  # pydantic's protocol
    texts: list[str] = []
    for index, part in enumerate(value):  # pyright: ignore[reportUnknownVariableType]
        match part:
            case {"type": "text", "text": str(text), **more} if not more:
                texts.append(text)
            case {"type": str(kind)} if kind != "text":
                raise ValueError(f"part {index} is of type {kind[:32]!r}; only text is understood here")
            case _:
                raise ValueError(f"part {index} must have the form {{'type': 'text', 'text': '…'}}")
    return "\n".join(texts)


def _strings(value: object) -> object:
    return [value] if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Message(_Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text)]


class StreamOptions(_Strict):
    """What a stream has besides the text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TextFormat(_Strict):
    """The only format of an answer."""

    type: Literal["text"]


class Request(Drawing):
    """What every body that asks for text may have. Fields that are absent or null have the values given here."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Annotated[list[str], BeforeValidator(_strings), Field(default_factory=list)]
    user: str = ""

    # Accepted with the one value that asks for nothing, as clients send them unasked.
    n: Annotated[int, Field(ge=1, le=1)] = 1


class ChatRequest(Request):
    """The body of a chat."""

    messages: list[Message]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0

    # Accepted with the one value that asks for nothing, as clients send them unasked.
    store: Literal[False] = False
    response_format: TextFormat | None = None
    service_tier: Literal["auto", "default"] = "auto"
    # Accepted and of no effect: labels of the caller's own, and the wallet fields of the model interface, whose signature is
    # no proof of anything: a job is paid for by the project whose token the call carries.
    metadata: dict[str, str] | None = None
    wallet: str = ""
    signature: str = ""
    hash: str = ""


def without_nulls(value: Any) -> Any:
    """Return the body without members that are null, at any depth: clients send them for what they leave open."""
    match value:
        case dict():
            return {key: without_nulls(member) for key, member in value.items() if member is not None}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [without_nulls(member) for member in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def order_of(asked: ChatRequest) -> Order:
    """Return the native order. Raises InvalidField for fields that contradict each other."""
    limits = {asked.max_tokens, asked.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise InvalidField("max_tokens", "contradicts max_completion_tokens; send one of them", value=asked.max_tokens)
    turns = [
        ChatMessage(role="system" if message.role == "developer" else message.role, content=message.content)
        for message in asked.messages
    ]
    sampling = sampling_of(asked, max_tokens=limits.pop() if limits else None)
    sampling.logprobs, sampling.top_logprobs = asked.logprobs, asked.top_logprobs
    return Order(model=asked.model, chat=Chat(messages=turns), sampling=sampling)


def sampling_of(asked: Request, *, max_tokens: int | None) -> Sampling:
    """Return how the tokens are to be drawn. Raises InvalidField for fields that contradict each other."""
    if asked.stream_options is not None and not asked.stream:
        raise InvalidField("stream_options", "is only for streams; set stream to true")
    drawing = asked.model_dump(include=set(Drawing.model_fields))
    drawing["max_tokens"] = max_tokens
    return Sampling(**drawing, stop=asked.stop)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the network says of an answer besides the answer."""

    job: str
    receipt_digest: str
    operator: str
    logprobs: Sequence[TokenLogprob] = ()
    """Of an answer that is given as a whole."""


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return what an answer took, as OpenAI has it."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def network_of(facts: Facts) -> dict[str, str]:
    """Return the field `aos`."""
    return {"job": facts.job, "receipt_digest": facts.receipt_digest, "operator": facts.operator}


def completion(job: Job, outcome: Outcome, facts: Facts) -> str:
    """Return the whole answer: the model interface's fields and OpenAI's."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": outcome.text},
        "logprobs": choice_logprobs(facts.logprobs) if job.order.sampling.logprobs else None,
        "finish_reason": FINISH.get(outcome.finish_reason, "stop"),
        "stop_reason": outcome.stop or None,
    }
    return dump(
        {
            "code": 0,
            "message": "success",
            "id": answer_id(job),
            "object": "chat.completion",
            "created": job.created.seconds,
            "model": job.order.model,
            "choices": [choice],
            "usage": usage_of(outcome.usage),
            "system_fingerprint": f"fp_{outcome.receipt.model_digest.hex()[:16]}",
            "aos": network_of(facts),
        }
    )


def answer_id(job: Job) -> str:
    """Return the id under which the dialect knows the answer of a job."""
    return f"cmpl-{job.name.removeprefix('jobs/')}"


class Chunks:
    """The events of one streamed answer, each ready to be sent."""

    def __init__(self, job: Job, *, include_usage: bool) -> None:
        self._same = {
            "id": answer_id(job),
            "object": "chat.completion.chunk",
            "created": job.created.seconds,
            "model": job.order.model,
        }
        self._open = {"usage": None} if include_usage else {}
        self._include_usage = include_usage
        # what differs between two tokens is only their text, so the rest is written once
        empty = self._event(self._choice({"content": ""}), self._open).decode()
        self._head, self._tail = empty.split('""', 1)

    def opening(self) -> bytes:
        """The first event: who speaks."""
        return self._event(self._choice({"role": "assistant"}), self._open)

    def text(self, chunk: Chunk) -> bytes:
        """An event with more of the answer."""
        if chunk.logprobs:
            choice = self._choice({"content": chunk.text}) | {"logprobs": choice_logprobs(chunk.logprobs)}
            return self._event(choice, self._open)
        return f"{self._head}{dump(chunk.text)}{self._tail}".encode()

    def end(self, outcome: Outcome, facts: Facts) -> bytes:
        """The last events: why it ended, what it took, and the mark."""
        usage = usage_of(outcome.usage)
        choice = self._choice({"content": ""}, FINISH.get(outcome.finish_reason, "stop")) | {"stop_reason": outcome.stop or None}
        last = self._event(choice, {"usage": usage, "aos": network_of(facts)})
        if self._include_usage:
            last += sse(dump(self._same | {"choices": [], "usage": usage}))
        return last + DONE

    def _choice(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}

    def _event(self, choice: dict[str, Any], rest: dict[str, Any]) -> bytes:
        return sse(dump(self._same | {"choices": [choice]} | rest))


def sse(text: str) -> bytes:
    """Return a server-sent event."""
    return f"data: {text}\n\n".encode()


def broken_off(error: bytes) -> bytes:
    """Return the last events of a stream that fails after its beginning: the error, and the mark."""
    return b"data: " + error + b"\n\n" + DONE
