"""What a model server streams, read as it comes: server-sent events, and what their JSON says. Pure.

Whatever cannot be raises Unreadable at once: a stream is judged while it runs, not when it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from aos.nesting import too_deep
from aos.toolcalls import HERMES, HERMES_END
from aos.v1.types_pb2 import FinishReason

EVENT_BYTES: Final = 1 << 20
"""Largest event: the biggest delta is a whole answer at once."""
DEPTH: Final = 32
"""Most objects and lists inside each other in an event."""
DONE: Final = "[DONE]"
MESSAGE_CHARS: Final = 500
"""Most characters of a server's own words that are repeated."""
CALLS: Final = 128
"""Most calls of tools in one answer."""
COUNT: Final = (1 << 32) - 1
REASONS: Final = {
    "stop": FinishReason.FINISH_REASON_STOP,
    "eos": FinishReason.FINISH_REASON_STOP,
    "tool_calls": FinishReason.FINISH_REASON_STOP,
    "function_call": FinishReason.FINISH_REASON_STOP,
    "length": FinishReason.FINISH_REASON_LENGTH,
}
"""Why answers end, in the words of servers."""


class Unreadable(Exception):
    """What came is not what was agreed; the message says what it is."""


class Events:
    """Cuts bytes into events as they come: the ``data`` of each, in order. Comments and other fields are passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[str] = []
        self._size = 0
        self._cr = False

    def feed(self, more: bytes) -> list[str]:
        """Return the data of the events that became whole. Raises Unreadable."""
        if self._cr and more[:1] == b"\n":  # the other half of a line's end
            more = more[1:]
        self._cr = more.endswith(b"\r")
        self._rest += more
        events = list[str]()
        if b"\n" in more or b"\r" in more:  # else nothing is copied: a line may come byte by byte
            *lines, rest = bytes(self._rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            self._rest = bytearray(rest)
            events = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > EVENT_BYTES:
            raise Unreadable(f"an event has more than {EVENT_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> str | None:
        if not line:
            if not self._data:
                return None
            whole, self._data, self._size = "\n".join(self._data), [], 0
            return whole
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value)
            try:
                self._data.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError:
                raise Unreadable("an event is no UTF-8") from None
        return None


def read_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that the text is. Raises Unreadable."""
    try:
        shown = text if isinstance(text, str) else text.decode()
        found = None if too_deep(shown, DEPTH) else json.loads(shown)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unreadable("what came is no JSON object")
    return cast("dict[str, Any]", found)


def complaint(said: dict[str, Any]) -> str | None:
    """Return what a server says went wrong, in OpenAI's shape or the model interface's; None if it says nothing of the kind."""
    error = said.get("error")
    if error:
        message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    elif isinstance(said.get("code"), int) and said["code"] and not isinstance(said["code"], bool):
        message = said.get("message")
    elif "choices" not in said and isinstance(said.get("detail"), str):
        message = said["detail"]
    else:
        return None
    return _shown(message) if isinstance(message, str) and message else "it gave no reason"


def parameter(said: dict[str, Any]) -> str:
    """Return the field that a complaint is about; empty if it names none."""
    error = said.get("error")
    param = cast("dict[str, Any]", error).get("param") if isinstance(error, dict) else None
    return _shown(param)[:64] if isinstance(param, str) else ""


def kinds(said: dict[str, Any]) -> set[str]:
    """Return what a server calls the error that it complains of."""
    error = said.get("error")
    told = cast("dict[str, object]", error) if isinstance(error, dict) else {}
    return {one for one in (told.get("code"), told.get("type")) if isinstance(one, str)}


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:MESSAGE_CHARS])


@dataclass(slots=True)
class Told:
    """An answer as far as a server has told it. Fed with its events' JSON, in order."""

    tools: Sequence[str] = ()
    """Names of the tools that may be called."""
    pieces: int = 0
    """How many deltas had something in them."""
    reason: FinishReason | None = None
    stop: str = ""
    """The stop string that came, if the server says so."""
    usage: tuple[int, int] | None = None
    """Tokens of the input and of the answer, as the server counts them."""
    _call: int = -1
    _empty: bool = False
    """Whether the open call has no arguments yet."""
    _seen: set[int] = field(default_factory=set[int])

    def take(self, said: dict[str, Any]) -> str:
        """Return the text that an event adds. Raises Unreadable for one that cannot be, and for an error that it tells."""
        if (problem := complaint(said)) is not None:
            raise Unreadable(f"it broke off: {problem}")
        self._count(said.get("usage"))
        choices = said.get("choices", [] if said.get("usage") else None)
        if not isinstance(choices, list) or not all(isinstance(one, dict) for one in cast("list[object]", choices)):
            raise Unreadable("an event has no list of choices")
        text = "".join(self._choice(one) for one in cast("list[dict[str, Any]]", choices))
        self.pieces += bool(text)
        # halves of characters, which JSON can hold and UTF-8 cannot
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text

    def _choice(self, choice: dict[str, Any]) -> str:
        if choice.get("index") not in (None, 0):
            raise Unreadable("it gives more than the one answer that was asked for")
        delta = choice.get("delta")
        if delta is not None and not isinstance(delta, dict):
            raise Unreadable("a choice's delta is no object")
        content, calls = choice.get("text"), list[object]()
        if delta is not None:
            told = cast("dict[str, Any]", delta)
            content, calls = told.get("content"), told.get("tool_calls") or calls
        if content is not None and not isinstance(content, str):
            raise Unreadable("a choice's text is no string")
        if not isinstance(calls, list) or (calls and not self.tools):
            raise Unreadable("it calls tools that nobody offered")
        said = "".join(self._tool_call(one) for one in cast("list[object]", calls))
        if content:
            if self.reason is not None:
                raise Unreadable("text comes behind the answer's end")
            said = f"{self._close()}{content}{said}"
        return said + self._finish(choice)

    def _tool_call(self, call: object) -> str:
        """Return a piece of a call as the network writes calls (aos/toolcalls.py)."""
        told = cast("dict[str, Any]", call) if isinstance(call, dict) else {}
        function, index = told.get("function") or {}, told.get("index", self._call)
        if not isinstance(function, dict) or not isinstance(index, int) or not 0 <= index < CALLS:
            raise Unreadable("a call of a tool is malformed")
        function, before = cast("dict[str, Any]", function), ""
        name, arguments = function.get("name"), function.get("arguments")
        if index != self._call:
            if index in self._seen or name not in self.tools:
                raise Unreadable("it calls a tool that was not offered, or two at once")
            before = f'{self._close()}{HERMES}{{"name": {json.dumps(name)}, "arguments": '
            self._call, self._empty = index, True
            self._seen.add(index)
        if isinstance(arguments, dict):  # some servers give an object
            arguments = json.dumps(arguments)
        if arguments is not None and not isinstance(arguments, str):
            raise Unreadable("a call's arguments are no text")
        self._empty &= not arguments
        return before + (arguments or "")

    def _close(self) -> str:
        if self._call < 0:
            return ""
        self._call, rest = -1, "{}" if self._empty else ""
        return f"{rest}}}{HERMES_END}"

    def _finish(self, choice: dict[str, Any]) -> str:
        why = choice.get("finish_reason")
        if why is None or why == "":
            return ""
        if why not in REASONS:
            raise Unreadable(f"the answer ends for a reason that is none: {_shown(str(why))!r}")
        self.reason = REASONS[why]
        stop = choice.get("stop_reason")
        self.stop = stop if isinstance(stop, str) else ""
        return self._close()

    def _count(self, usage: object) -> None:
        if usage is None:
            return
        told = cast("dict[str, object]", usage) if isinstance(usage, dict) else {}
        counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
        if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= COUNT for one in counts):
            raise Unreadable("its usage is no two counts of tokens")
        self.usage = cast("tuple[int, int]", tuple(counts))


def usage_of(told: Told, *, prompt_bound: int, completion_bound: int) -> tuple[tuple[int, int], bool]:
    """Return the counts of tokens to be charged, within bounds, and whether they were counted here for want of the server's.

    A text has at least one token; a server that counts more than was asked for, or than the input can have, is not paid for it.
    """
    stated = told.usage is not None and (told.usage[1] > 0 or not told.pieces)
    prompt, completion = told.usage if told.usage is not None and stated else (0, told.pieces)
    return (min(prompt, prompt_bound), min(completion, completion_bound)), not stated


def models_listed(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of a list of models."""
    entries = said.get("data")
    for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            yield cast("dict[str, Any]", entry)
