"""A conversation put into the model's own template, so that no message can pass for the template's control tokens. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any, Final, Never

from jinja2 import TemplateError

from aos.errors import InvalidField, ModelUnsuitable
from aos.operator.bounded import Bounded
from aos.operator.tools import Style, described, in_words, style_of
from aos.v1.types_pb2 import Chat, ChatMessage, Tool, ToolCall, ToolChoice

FIELD: Final = "order.chat.messages"
TODAY: Final = date(2024, 7, 26)
"""What templates are told that want to know the day: the day an order is run must not change its prompt, nor its receipt."""
STEPS: Final = 200_000
"""Rounds of loops, calls and filters that a template may take for any conversation: a fraction of a second."""
BYTE_STEPS: Final = 32
"""So many more for each byte of it."""
TURN_STEPS: Final = 2_000
"""So many more for each of its turns and tools."""
CALL_ID_DIGITS: Final = 9
"""What Mistral's templates want of a call's id; the others only print it."""
_FAILURES: Final = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


class _Refused(Exception):
    """The template called raise_exception."""


class ChatTemplate:
    """A Jinja template as GGUF files carry it. Raises jinja2.TemplateError if it is none."""

    def __init__(self, model: str, source: str, *, bos: str, eos: str, controls: Iterable[str]) -> None:
        """``controls``: the texts of the tokens that messages must not be able to make."""
        # as the templates' authors have it (transformers' apply_chat_template): blocks leave no lines behind
        environment = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.filters["tojson"] = _tojson
        known: dict[str, Callable[[str], str]] = {"raise_exception": _refuse}
        if "strftime_now is defined" not in source:  # else it has a day of its own for where there is none
            known["strftime_now"] = TODAY.strftime
        self._model, self._environment, self._template = model, environment, environment.from_string(source, globals=known)
        self._tokens = {"bos_token": bos, "eos_token": eos}
        # longest first: of two that begin alike the tokeniser takes the longer
        marked = sorted(filter(None, controls), key=lambda text: (-len(text), text))
        self._controls = re.compile("|".join(map(re.escape, marked))) if marked else None
        style = style_of(source)
        self._knows_tools = style is not None and self._shows(_WITH_TOOLS, "aos_probe", "aos_argument", "aos_result")
        self._system = self._shows(_WITH_SYSTEM, "aos_system")
        self.style = style if style is not None and self._knows_tools else Style.HERMES
        """How it has calls written."""

    def render(self, chat: Chat) -> list[tuple[str, bool]]:
        """Return the conversation, up to where the answer begins, in parts: the text, and whether control tokens in it count.

        They count everywhere but where the caller's text contains the text of one; that text is a part of its own. Raises
        InvalidField for a conversation that the template refuses, ModelUnsuitable for a template that fails.
        """
        opening, closing = _marks(chat)
        try:
            text = self._render(chat, lambda text: self._mark(text, opening, closing))
        except _Refused as error:
            raise InvalidField(FIELD, f"the model's chat template refuses them: {error}") from error
        except _FAILURES as error:
            raise ModelUnsuitable(self._model, "chat template that works for these messages") from error
        return list(_parts(text, opening, closing))

    def _render(self, chat: Chat, mark: Callable[[str], str], *, known: bool | None = None) -> str:
        names = {call.id: call.name for message in chat.messages for call in message.tool_calls}
        turns = [_turn(message, names, mark) for message in chat.messages]
        offered = () if chat.tool_choice == ToolChoice.TOOL_CHOICE_NONE else chat.tools
        tools = [_each(described(tool), mark) for tool in offered]
        if not (self._knows_tools if known is None else known) and (tools or names):
            turns, tools = in_words(turns, tools, system=self._system), []
        steps = STEPS + BYTE_STEPS * chat.ByteSize() + TURN_STEPS * (len(chat.messages) + len(chat.tools))
        with self._environment.budget(steps):
            return self._template.render(
                messages=turns, tools=tools or None, documents=None, add_generation_prompt=True, **self._tokens
            )

    def _shows(self, chat: Chat, *said: str) -> bool:
        try:
            text = self._render(chat, str, known=True)
        except (_Refused, *_FAILURES):
            return False
        return all(one in text for one in said)

    def _mark(self, content: str, opening: str, closing: str) -> str:
        if self._controls is None:
            return content
        return self._controls.sub(lambda match: f"{opening}{match[0]}{closing}", content)


_WITH_TOOLS: Final = Chat(
    messages=[
        ChatMessage(role="user", content="x"),
        ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", name="aos_probe", arguments='{"a": "aos_argument"}')]),
        ChatMessage(role="tool", content="aos_result", tool_call_id="1"),
    ],
    tools=[Tool(name="aos_probe", description="x", parameters='{"type": "object", "properties": {"a": {"type": "string"}}}')],
)
_WITH_SYSTEM: Final = Chat(messages=[ChatMessage(role="system", content="aos_system"), ChatMessage(role="user", content="x")])


def _turn(message: ChatMessage, names: dict[str, str], mark: Callable[[str], str]) -> dict[str, Any]:
    """Return a turn as transformers' apply_chat_template has it."""
    turn: dict[str, Any] = {"role": message.role, "content": mark(message.content)}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": _short(call.id),
                "type": "function",
                "function": {"name": mark(call.name), "arguments": _each(json.loads(call.arguments), mark)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn |= {"tool_call_id": _short(message.tool_call_id), "name": mark(names.get(message.tool_call_id, ""))}
    return turn


def _short(call: str) -> str:
    return hashlib.sha256(call.encode()).hexdigest()[:CALL_ID_DIGITS]


def _each(value: Any, mark: Callable[[str], str]) -> Any:
    """Return the value with all its strings marked, keys too."""
    match value:
        case str():
            return mark(value)
        case dict():
            return {mark(key): _each(member, mark) for key, member in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case list():
            return [_each(member, mark) for member in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def _tojson(
    value: object,
    *,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
    **_: bool,
) -> str:
    """Return JSON as transformers' filter gives it: Jinja's own makes HTML of it, and the marks must stay what they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> Never:
    raise _Refused(message)


def _marks(chat: Chat) -> tuple[str, str]:
    """Return two strings that nothing of the caller's contains."""
    strings: list[str] = []

    def note(text: str) -> str:
        strings.append(text)
        return text

    for message in chat.messages:
        _turn(message, {}, note)
    for tool in chat.tools:
        _each(described(tool), note)
    said, number = "\0".join(strings), 0
    while f"\ue000{number}\ue001" in said or f"\ue002{number}\ue001" in said:
        number += 1
    return f"\ue000{number}\ue001", f"\ue002{number}\ue001"


def _parts(text: str, opening: str, closing: str) -> Iterator[tuple[str, bool]]:
    counts = True
    for part in re.split(f"({opening}|{closing})", text):
        if part in (opening, closing):
            counts = part == closing
        elif part:
            yield part, counts
