"""Tool calls in an answer's text: who may call, which parts of the text are calls, and what their ids are. Pure.

Models write calls in one of a few ways, each with a marker before it:

- `<tool_call>{"name": …, "arguments": {…}}</tool_call>` (Hermes, Qwen),
- `<|python_tag|>{"name": …, "parameters": {…}}`, or that object alone at the very beginning of the answer (Llama 3),
- `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` (Mistral).

All are understood wherever they come: a name must be one of the order's tools, so other text is hardly taken for a call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from aos.v1.dispatcher_pb2 import Outcome
from aos.v1.types_pb2 import Order, ToolCall, ToolChoice

HERMES, PYTHON, MISTRAL = "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]"
HERMES_END, MISTRAL_ARGUMENTS = "</tool_call>", "[ARGS]"
MARKERS: Final = (HERMES, PYTHON, MISTRAL)
WRITTEN: Final = frozenset({*MARKERS, HERMES_END, MISTRAL_ARGUMENTS})
"""What appears in an answer's text even where it is a control token of the model, which otherwise has no text: without it nobody
who reads the text could tell a call from it."""
HEAD_CHARS: Final = 1024
"""Most characters of what is between a marker and a call's arguments."""
ID_DIGITS: Final = 24
_BLANKS: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a call. The first of each has the name and no arguments."""

    index: int
    name: str
    arguments: str


class _State(Enum):
    TEXT = auto()
    HEAD = auto()
    ARGUMENTS = auto()
    TAIL = auto()


_Syntax = Sequence[tuple[str, ...]]
"""One element behind the other, each one of several texts; blanks may stand before each."""


def may_call(order: Order) -> bool:
    """Say whether an answer to the order can have calls."""
    return bool(order.chat.tools) and order.chat.tool_choice != ToolChoice.TOOL_CHOICE_NONE


def call_id(job: str, index: int) -> str:
    """Return the id of a job's call, the same however and how often the answer is read."""
    return f"call_{hashlib.sha256(f'{job}/{index}'.encode()).hexdigest()[:ID_DIGITS]}"


def add_calls(outcome: Outcome, order: Order, job: str) -> None:
    """Set the outcome's ``tool_calls`` and ``content`` if its text has calls. ``job`` is the job's name."""
    if not may_call(order):
        return
    content, calls = whole(outcome.text, (tool.name for tool in order.chat.tools))
    if calls:
        outcome.content = content
        outcome.tool_calls.extend(
            ToolCall(id=call_id(job, index), name=name, arguments=arguments) for index, (name, arguments) in enumerate(calls)
        )


def whole(text: str, names: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """Return an answer's content, and the name and the arguments of each call in it."""
    parser, content, calls = CallParser(names), list[str](), list[tuple[str, list[str]]]()
    for part in (*parser.feed(text), *parser.finish()):
        if isinstance(part, str):
            content.append(part)
        elif part.name:
            calls.append((part.name, []))
        else:
            calls[-1][1].append(part.arguments)
    return "".join(content), [(name, "".join(arguments)) for name, arguments in calls]


class CallParser:
    """Takes an answer's text in pieces, gives its content and its calls, the same however the text is cut.

    What may be the beginning of a call is held back until it is one, or is content after all; nothing else is. No text is lost but
    the syntax of calls, with the blanks around it. What follows a good beginning up to the end of the object is the
    arguments, which are complete JSON unless the answer was cut off, or the operator did not constrain them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """``names``: of the tools that may be called."""
        plain = tuple(names)
        quoted = tuple(f'"{name}"' for name in plain)
        member: _Syntax = (('"name"',), (":",), quoted, (",",), ('"arguments"', '"parameters"'), (":",))
        kind: _Syntax = (('"type"',), (":",), ('"function"',), (",",))
        self._objects: tuple[_Syntax, ...] = ((("{",), *member), (("{",), *kind, *member))
        self._named: tuple[_Syntax, ...] = ((plain, (MISTRAL_ARGUMENTS,)), (plain,))
        self._names = (quoted, plain)
        self._state, self._marker = _State.TEXT, ""
        self._held, self._blanks = "", ""
        self._begun = self._called = self._bracketed = self._plain = False
        self._depth, self._quoted, self._escaped = 0, False, False
        self.calls = 0
        """How many have begun."""

    def feed(self, text: str) -> list[str | Fragment]:
        """Return what became certain with this piece."""
        self._held += text
        return list(self._run(final=False))

    def finish(self) -> list[str | Fragment]:
        """Return what was held back: nothing follows."""
        rest = list(self._run(final=True))
        if self._blanks and not self._called:
            rest.append(self._blanks)
        self._blanks = ""
        return rest

    def _run(self, *, final: bool) -> Iterator[str | Fragment]:
        while True:
            match self._state:
                case _State.TEXT:
                    parts, more = self._text(final=final)
                case _State.HEAD:
                    parts, more = self._head(final=final)
                case _State.ARGUMENTS:
                    parts, more = self._arguments()
                case _State.TAIL:
                    parts, more = self._tail(final=final)
            yield from parts
            if not more:
                return

    def _text(self, *, final: bool) -> tuple[list[str | Fragment], bool]:
        held = self._held
        if not self._begun and not self.calls and held.lstrip(_BLANKS).startswith("{"):
            self._blanks += held[: held.index("{")]
            return self._mark("", held.index("{"))
        found = [(at, marker) for marker in MARKERS if (at := held.find(marker)) >= 0]
        if found:
            at, marker = min(found)
            parts = self._content(held[:at])
            self._mark(marker, at + len(marker))
            return parts, True
        kept = 0 if final else max(_overlap(held, marker) for marker in MARKERS)
        certain, self._held = held[: len(held) - kept], held[len(held) - kept :]
        return self._content(certain), False

    def _mark(self, marker: str, end: int) -> tuple[list[str | Fragment], bool]:
        self._state, self._marker, self._held = _State.HEAD, marker, self._held[end:]
        return [], True

    def _head(self, *, final: bool) -> tuple[list[str | Fragment], bool]:
        options = [(one, False) for one in self._objects]
        if self._marker == MISTRAL:
            options = [(((("[",), *one)), True) for one in self._objects] + [(one, False) for one in self._named]
        chosen = self._choose([syntax for syntax, _ in options], final=final, arguments=True)
        if chosen is None:
            return [], False
        if chosen < 0:  # no call: the marker is content, and so is what follows
            self._state = _State.TEXT
            shown = self._marker
            if not shown:
                shown, self._held = self._held[:1], self._held[1:]
            return self._content(shown), True
        syntax, self._bracketed = options[chosen]
        return self._begin(syntax), True

    def _begin(self, syntax: _Syntax) -> list[str | Fragment]:
        end, picked = _match(self._held, syntax)
        name = next(text for options, text in zip(syntax, picked, strict=True) if options in self._names).strip('"')
        self._held, self._blanks = self._held[end:].lstrip(_BLANKS), ""
        self._state, self._depth, self._called = _State.ARGUMENTS, 0, True
        self._plain = syntax in self._named
        self.calls += 1
        return [Fragment(self.calls - 1, name, "")]

    def _arguments(self) -> tuple[list[str | Fragment], bool]:
        held, end = self._held, 0
        for end, char in enumerate(held, 1):  # noqa: B007  # where the object ends is what is looked for
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = char == "\\", char != '"'
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if not self._depth:
                    self._state = _State.TAIL
                    break
        said, self._held = held[:end], held[end:]
        return [Fragment(self.calls - 1, "", said)] if said else [], self._state is _State.TAIL

    def _tail(self, *, final: bool) -> tuple[list[str | Fragment], bool]:
        again: list[_Syntax] = []
        ends: list[_Syntax] = []
        if self._plain:
            pass
        elif self._marker == HERMES:
            ends = [(("}",), (HERMES_END,)), (("}",),)]
        elif self._bracketed:
            again = [(("}",), (",",), *one) for one in self._objects]
            ends = [(("}",), ("]",)), (("}",),)]
        else:
            again = [(("}",), (";",), *one) for one in self._objects]
            ends = [(("}",),)]
        chosen = self._choose(again, final=final, arguments=True)
        if chosen is None:
            return [], False
        if chosen >= 0:
            return self._begin(again[chosen]), True
        chosen = self._choose(ends, final=final, arguments=False)
        if chosen is None:
            return [], False
        if chosen >= 0:
            self._held = self._held[_match(self._held, ends[chosen])[0] :]
            if final and self._marker == HERMES and HERMES_END.startswith(self._held.strip(_BLANKS)):
                self._held = ""  # the answer was cut off in the middle of the call's end
        self._state = _State.TEXT
        return [], True

    def _choose(self, options: Sequence[_Syntax], *, final: bool, arguments: bool) -> int | None:
        """Return which the held text begins with, -1 for none, None if what comes next decides."""
        for index, syntax in enumerate(options):
            end, picked = _match(self._held, (*syntax, ("{",)) if arguments else syntax)
            whole = len(picked) == len(syntax) + arguments
            if whole and end <= HEAD_CHARS:
                return index
            if not whole and end == len(self._held) < HEAD_CHARS and not final:
                return None
        return -1

    def _content(self, text: str) -> list[str | Fragment]:
        text = self._blanks + text
        shown = text.rstrip(_BLANKS)
        self._blanks = text[len(shown) :]
        if not shown:
            return []
        self._begun, self._called = True, False
        return [shown]


def _match(text: str, syntax: _Syntax) -> tuple[int, list[str]]:
    """Return how far the text follows the syntax, and its elements; as far as the text's end if it may go on so."""
    at, picked = 0, list[str]()
    for options in syntax:
        while at < len(text) and text[at] in _BLANKS:
            at += 1
        rest = text[at:]
        if any(len(one) > len(rest) and one.startswith(rest) for one in options):
            return len(text), picked
        option = max((one for one in options if rest.startswith(one)), key=len, default="")
        if not option:
            return at, picked
        at += len(option)
        picked.append(option)
    return at, picked


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest end of the text that the marker begins with, short of all of it."""
    return next((size for size in range(min(len(text), len(marker) - 1), 0, -1) if text.endswith(marker[:size])), 0)
