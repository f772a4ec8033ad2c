"""Chats in the model interface's dialect: what a request may ask, and the shapes of its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.errors import InvalidField
from aos.order import MAX_TOKENS
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.operator_pb2 import Chunk, TokenLogprob
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from gateway.answers import CHOICES, FINISH, Members, copies
from gateway.drawing import DETERMINISM, Drawing, TopLogprobs
from gateway.formats import Formed
from gateway.logprobs import choice_logprobs
from gateway.tools import SCHEMA_MEMBERS, Call, CallReader, Toolbox, native_calls, put_tools, shown_calls


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

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_text)] | None = None
    tool_calls: list[Call] = []
    tool_call_id: str = ""


class StreamOptions(_Strict):
    """What a stream has besides the text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Request(Drawing, Formed):
    """What every body that asks for text may have. Fields that are absent or null have the values given here."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Annotated[list[str], BeforeValidator(_strings), Field(default_factory=list)]
    user: str = ""
    n: Annotated[int, Field(ge=1, le=CHOICES)] = 1


class ChatRequest(Request, Toolbox):
    """The body of a chat."""

    messages: list[Message]
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs = 0

    # Accepted with the one value that asks for nothing, as clients send them unasked.
    store: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"
    # Accepted and of no effect: labels of the caller's own, and the wallet fields of the model interface, whose signature is
    # no proof of anything: a job is paid for by the project whose token the call carries.
    metadata: dict[str, str] | None = None
    wallet: str = ""
    signature: str = ""
    hash: str = ""


def without_nulls(value: Any) -> Any:
    """Return the body without members that are null, at any depth but in schemas: clients send them for what they leave open."""
    match value:
        case dict():
            kept = ((key, member) for key, member in value.items() if member is not None)  # pyright: ignore[reportUnknownVariableType]
            return {key: member if key in SCHEMA_MEMBERS else without_nulls(member) for key, member in kept}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [without_nulls(member) for member in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def order_of(asked: ChatRequest) -> Order:
    """Return the native order. Raises InvalidField for fields that contradict each other."""
    limits = {asked.max_tokens, asked.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise InvalidField("max_tokens", "contradicts max_completion_tokens; send one of them", value=asked.max_tokens)
    chat = Chat(messages=[_turn(message, index) for index, message in enumerate(asked.messages)])
    put_tools(chat, asked)
    sampling = sampling_of(asked, max_tokens=limits.pop() if limits else None)
    sampling.logprobs, sampling.top_logprobs = asked.logprobs, asked.top_logprobs
    how = DETERMINISM[asked.determinism]
    return Order(model=asked.model, chat=chat, sampling=sampling, constraint=asked.constraint, determinism=how)


def _turn(message: Message, index: int) -> ChatMessage:
    if message.content is None and not message.tool_calls:
        raise InvalidField(f"messages[{index}].content", "is missing")
    return ChatMessage(
        role="system" if message.role == "developer" else message.role,
        content=message.content or "",
        tool_calls=native_calls(message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def orders_of(asked: ChatRequest) -> list[Order]:
    """Return the native orders, one a choice. Raises InvalidField as ``order_of`` does."""
    return copies(order_of(asked), asked.n)


def sampling_of(asked: Request, *, max_tokens: int | None) -> Sampling:
    """Return how the tokens are to be drawn. Raises InvalidField for fields that contradict each other."""
    if asked.stream_options is not None and not asked.stream:
        raise InvalidField("stream_options", "is only for streams; set stream to true")
    drawing = asked.parameters()
    drawing["max_tokens"] = max_tokens
    return Sampling(**drawing, stop=asked.stop)


class ChatChoice:
    """One answer of a chat."""

    def __init__(self, job: Job) -> None:
        self._job, self._calls = job, CallReader(job)

    def opening(self) -> Members:
        """Who speaks."""
        return _delta({"role": "assistant"})

    def plain(self, text: str) -> Members:
        """A piece of content and nothing else."""
        return _delta({"content": text})

    def said(self, chunk: Chunk) -> list[str | Members]:
        """Content, or parts of calls; the log-probabilities of their tokens go with the first of them."""
        parts = self._calls.read(chunk.text)
        if not chunk.logprobs:
            return [part if isinstance(part, str) else _delta(part) for part in parts]
        first, *others = parts or [""]
        said = _delta({"content": first} if isinstance(first, str) else first) | {"logprobs": choice_logprobs(chunk.logprobs)}
        return [said, *(part if isinstance(part, str) else _delta(part) for part in others)]

    def rest(self) -> list[str | Members]:
        """What might have become a call."""
        return [part if isinstance(part, str) else _delta(part) for part in self._calls.finish()]

    def ending(self, outcome: Outcome) -> Members:
        """Why it ended."""
        called = self._calls.called
        return _delta({} if called else {"content": ""}) | {"finish_reason": _finish(outcome, called=called)}

    def whole(self, outcome: Outcome, logprobs: Sequence[TokenLogprob]) -> Members:
        """The message, with its calls."""
        calls = list(outcome.tool_calls)
        message: Members = {"role": "assistant", "content": (outcome.content or None) if calls else outcome.text}
        if calls:
            message["tool_calls"] = shown_calls(calls)
        return {
            "message": message,
            "logprobs": choice_logprobs(logprobs) if self._job.order.sampling.logprobs else None,
            "finish_reason": _finish(outcome, called=bool(calls)),
        }


def _delta(delta: Members) -> Members:
    return {"delta": delta, "logprobs": None}


def _finish(outcome: Outcome, *, called: bool) -> str:
    reason = FINISH.get(outcome.finish_reason, "stop")
    return "tool_calls" if called and reason == "stop" else reason
