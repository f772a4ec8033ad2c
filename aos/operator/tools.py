"""How a model is told of tools, how it writes calls, and the grammar that keeps its calls in form. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from aos.toolcalls import HERMES, HERMES_END, MISTRAL, MISTRAL_ARGUMENTS, PYTHON, may_call
from aos.v1.types_pb2 import Chat, Constraint, Order, Tool, ToolChoice


class Style(Enum):
    """A way to write calls; aos/toolcalls.py shows each."""

    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"
    MISTRAL_NAMED = "mistral, named"


@dataclass(frozen=True, slots=True)
class Calls:
    """How a model writes calls."""

    style: Style = Style.HERMES
    controls: Mapping[str, int] | None = None
    """The ids of the markers that are control tokens of the model: a grammar must name those, no text makes them."""


NOTHING: Final = {"type": "object", "properties": {}, "additionalProperties": False}
"""The arguments of a tool that takes none."""
SPACING: Final = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
CALLS_FIELD: Final = "order.chat.tools"
"""Where it comes from if calls cannot be kept in form."""
TEXT: Final = "TEXT: /(.|\\n)*/"
_HINT: Final = (
    "You may call tools. Each of these lines is a tool:\n<tools>\n{tools}\n</tools>\nTo call one, answer with its name and its "
    'arguments, like this:\n<tool_call>\n{{"name": "…", "arguments": {{…}}}}\n</tool_call>'
)


def style_of(template: str) -> Style | None:
    """Return how a chat template has calls written; None if it has no tools, or has them written in a way unknown here."""
    if MISTRAL in template:
        return Style.MISTRAL_NAMED if MISTRAL_ARGUMENTS in template else Style.MISTRAL
    if HERMES in template:
        return Style.HERMES
    return Style.LLAMA if PYTHON in template or '"parameters": ' in template else None


def described(tool: Tool) -> dict[str, Any]:
    """Return a tool as templates expect it."""
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters or "null") or NOTHING}
    return {"type": "function", "function": function}


def in_words(turns: Iterable[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, system: bool) -> list[dict[str, Any]]:
    """Return the turns with tools, calls and results as text, in Hermes's way, for a template that knows nothing of them.

    Without ``system`` turns the tools are told in the first turn that there is.
    """
    told: list[dict[str, Any]] = []
    for turn in turns:
        role, content = turn["role"], turn["content"]
        for call in turn.get("tool_calls", ()):
            content += f"\n{HERMES}\n{_json(call['function'])}\n{HERMES_END}"
        if role == "tool":
            content = f"<tool_response>\n{content}\n</tool_response>"
            if told and told[-1]["role"] == "tool":  # templates that want turns to alternate would refuse two of the user's
                told[-1]["content"] += f"\n{content}"
                continue
        told.append({"role": role, "content": content.lstrip("\n") if "tool_calls" in turn else content})
    for turn in told:
        turn["role"] = "user" if turn["role"] == "tool" else turn["role"]
    if tools:
        hint = _HINT.format(tools="\n".join(map(_json, tools)))
        if told[0]["role"] == "system" or not system:
            told[0]["content"] = f"{told[0]['content']}\n\n{hint}" if system else f"{hint}\n\n{told[0]['content']}"
        else:
            told.insert(0, {"role": "system", "content": hint})
    return told


def effective_constraint(order: Order, calls: Calls) -> Constraint | None:
    """Return what the answer's text must have the form of, calls included; None: anything goes.

    Where a call is required, the answer is calls. Where it is not, the answer is text, or what the order's own constraint demands,
    until a call begins; from there on the call is kept in form.
    """
    own = order.constraint if order.HasField("constraint") else None
    return Constraint(lark=_grammar(order.chat, calls, own)) if may_call(order) else own


def _grammar(chat: Chat, calls: Calls, own: Constraint | None) -> str:
    tools = [tool for tool in chat.tools if chat.tool_name in ("", tool.name)]
    required = chat.tool_choice == ToolChoice.TOOL_CHOICE_REQUIRED
    rules = _llama if calls.style is Style.LLAMA else _marked
    lines = ["%llguidance {}", TEXT, *rules(chat, calls, own, required=required)]
    lines.append(f"body: {' | '.join(f'tool_{index}' for index in range(len(tools)))}")
    lines += [f"tool_{index}: {_body(tool, calls)}" for index, tool in enumerate(tools)]
    return "\n".join(lines)


def _marked(chat: Chat, calls: Calls, own: Constraint | None, *, required: bool) -> list[str]:
    """Return the rules for calls that have a marker before each, or before all of them."""
    marker = HERMES if calls.style is Style.HERMES else MISTRAL
    control = _control(calls, marker)
    end = ""
    body = "body"
    if calls.style is Style.HERMES:
        body, end = '"\\n" body "\\n"', _literal(HERMES_END, calls)
    if calls.style is Style.MISTRAL:
        body = '"[" body "]"' if chat.single_tool_call else '"[" body (", " body)* "]"'
    call = f"call: {_literal(marker, calls)} {body} {end}"
    many = calls.style is not Style.MISTRAL and not chat.single_tool_call
    if required:
        between = ' ("\\n"? call)*' if calls.style is Style.HERMES else " call*"
        return [f"start: call{between if many else ''}", call]
    if own is not None:
        return [f"start: answer | call{' call*' if many else ''}", call, _answer(own)]
    begin = f"begin: TEXT {control}" if control else f'begin[lazy]: TEXT "{marker}"'
    return [f"start: {'said* TEXT' if many else 'TEXT | said'}", f"said: begin {body} {end}", begin]


def _llama(chat: Chat, calls: Calls, own: Constraint | None, *, required: bool) -> list[str]:
    """Return the rules for calls that are the answer from its first character on, or from a control token on."""
    control = _control(calls, PYTHON)
    rules = ["call: body" if chat.single_tool_call else 'call: body ("; " body)*']
    if required:
        return ["start: call", *rules]
    begins = f"call | {control} call" if control else "call"
    if own is not None:
        return [f"start: answer | {begins}", *rules, _answer(own)]
    return [f"start: {begins} | OTHER?", *rules, "OTHER: /[^{](.|\\n)*/"]


def _answer(own: Constraint) -> str:
    match own.WhichOneof("kind"):
        case "json_schema":
            return f"answer: {_spaced(own.json_schema)}"
        case "regex":
            return f"answer: /{own.regex.replace('/', chr(92) + '/')}/"
        case "choices":
            return f"answer: {' | '.join(_quoted(text) for text in own.choices.texts)}"
        case _:
            return "answer: " + _spaced('{"type": "object"}')


def _body(tool: Tool, calls: Calls) -> str:
    schema = {**(json.loads(tool.parameters or "null") or NOTHING)}
    schema.setdefault("type", "object")
    if "properties" in schema:  # a tool can do nothing with arguments that it does not declare
        schema.setdefault("additionalProperties", False)
    arguments = _spaced(json.dumps(schema))
    if calls.style is Style.MISTRAL_NAMED:
        return f"{_quoted(tool.name)} {_literal(MISTRAL_ARGUMENTS, calls)} {arguments}"
    member = "parameters" if calls.style is Style.LLAMA else "arguments"
    head = f'{{"name": {json.dumps(tool.name)}, "{member}": '
    return f'{_quoted(head)} {arguments} "}}"'


def _spaced(schema: str) -> str:
    """Return the rule for JSON on one line: with blanks where it likes, a small model would go on with them for ever."""
    try:
        value = json.loads(schema)
    except (ValueError, RecursionError):  # llguidance says what is wrong with it
        value = None
    return f"%json {json.dumps(value | SPACING)}" if isinstance(value, dict) else f"%json {schema}"


def _literal(marker: str, calls: Calls) -> str:
    return _control(calls, marker) or _quoted(marker)


def _control(calls: Calls, marker: str) -> str:
    token = (calls.controls or {}).get(marker)
    return "" if token is None else f"<[{token}]>"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
