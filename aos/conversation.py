"""What a chat may be: its turns, its tools, and the calls in it; their canonical JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from aos.errors import InvalidField
from aos.nesting import too_deep
from aos.v1.types_pb2 import Chat, ChatMessage, Constraint, Tool, ToolChoice

MESSAGES: Final = 1024
"""Most messages in one conversation."""
ROLES: Final = ("system", "user", "assistant", "tool")
TOOLS: Final = 128
"""Most tools in one conversation."""
CALL_ID: Final = 128
"""Most characters of a call's id."""
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
SCHEMA_DEPTH: Final = 64
"""Most objects and lists inside each other, in a tool's schema and in a call's arguments."""
CHOICES: Final = {
    ToolChoice.TOOL_CHOICE_AUTO: "auto",
    ToolChoice.TOOL_CHOICE_NONE: "none",
    ToolChoice.TOOL_CHOICE_REQUIRED: "required",
}


def check_chat(chat: Chat, at: str) -> None:
    """Raise InvalidField for the first part that cannot be accepted; ``at`` is where the chat is in the caller's request."""
    if not 1 <= len(chat.messages) <= MESSAGES:
        problem = f"must have 1 to {MESSAGES} messages"
        raise InvalidField(f"{at}.messages", problem, value=len(chat.messages), limit=MESSAGES)
    calls = set[str]()
    for index, message in enumerate(chat.messages):
        where = f"{at}.messages[{index}]"
        if message.role not in ROLES:
            raise InvalidField(f"{where}.role", f"must be one of {', '.join(ROLES)}", value=message.role, limit=ROLES)
        _check_calls(message, calls, where)
    _check_tools(chat, at)


def check_beside(chat: Chat, constraint: Constraint, at: str) -> None:
    """Raise InvalidField for a constraint, at ``at``, that cannot be had together with the chat's tools."""
    if not chat.tools or chat.tool_choice == ToolChoice.TOOL_CHOICE_NONE:
        return
    kind = constraint.WhichOneof("kind")
    if kind in ("lark", "gbnf"):
        raise InvalidField(f"{at}.{kind}", "a grammar is not for an answer that may be a call of a tool; put the calls into it")


def text_bytes(chat: Chat) -> int:
    """Return the bytes of all its text, tools included."""
    return sum(len(text.encode()) for text in texts(chat))


def texts(chat: Chat) -> Iterator[str]:
    """Yield everything in it that a caller may choose freely and a model may read."""
    for message in chat.messages:
        yield message.content
        for call in message.tool_calls:
            yield call.name
            yield call.arguments
    for tool in chat.tools:
        yield tool.name
        yield tool.description
        yield tool.parameters


def _check_calls(message: ChatMessage, calls: set[str], at: str) -> None:
    if message.tool_calls and message.role != "assistant":
        raise InvalidField(f"{at}.tool_calls", "only an assistant turn has calls", value=message.role, limit="assistant")
    for index, call in enumerate(message.tool_calls):
        where = f"{at}.tool_calls[{index}]"
        if not 1 <= len(call.id) <= CALL_ID:
            raise InvalidField(f"{where}.id", f"must have 1 to {CALL_ID} characters", value=call.id, limit=CALL_ID)
        if call.id in calls:
            raise InvalidField(f"{where}.id", "is that of an earlier call", value=call.id)
        calls.add(call.id)
        _check_name(call.name, f"{where}.name")
        json_object(call.arguments, f"{where}.arguments")
    if message.tool_call_id and message.role != "tool":
        raise InvalidField(f"{at}.tool_call_id", "only a tool turn answers a call", value=message.role, limit="tool")
    if message.role == "tool" and message.tool_call_id not in calls:
        problem = "must be the id of a call in an earlier turn"
        raise InvalidField(f"{at}.tool_call_id", problem, value=message.tool_call_id)


def _check_tools(chat: Chat, at: str) -> None:
    if len(chat.tools) > TOOLS:
        raise InvalidField(f"{at}.tools", f"must be at most {TOOLS}", value=len(chat.tools), limit=TOOLS)
    names = set[str]()
    for index, tool in enumerate(chat.tools):
        where = f"{at}.tools[{index}]"
        _check_name(tool.name, f"{where}.name")
        if tool.name in names:
            raise InvalidField(f"{where}.name", "is that of an earlier tool", value=tool.name)
        names.add(tool.name)
        if tool.parameters:
            json_object(tool.parameters, f"{where}.parameters")
    if chat.tool_choice not in (ToolChoice.TOOL_CHOICE_UNSPECIFIED, *CHOICES):
        raise InvalidField(f"{at}.tool_choice", "is none that there is", value=chat.tool_choice)
    required = chat.tool_choice == ToolChoice.TOOL_CHOICE_REQUIRED
    if required and not names:
        raise InvalidField(f"{at}.tool_choice", "needs tools to choose from", value="required")
    if chat.tool_name and not required:
        raise InvalidField(f"{at}.tool_name", "is only for a call that is required", value=chat.tool_name)
    if chat.tool_name and chat.tool_name not in names:
        raise InvalidField(f"{at}.tool_name", "is none of the tools", value=chat.tool_name)
    if chat.single_tool_call and not names:
        raise InvalidField(f"{at}.single_tool_call", "needs tools")


def _check_name(name: str, at: str) -> None:
    if not TOOL_NAME.fullmatch(name):
        raise InvalidField(at, "must have 1 to 64 letters, digits, _ and -", value=name, limit=64)


def json_object(text: str, at: str) -> dict[str, Any]:
    """Return the JSON object in the text. Raises InvalidField, naming ``at``, for anything else, and for one nested too deep."""
    problem = "must be a JSON object, as text"
    if too_deep(text, SCHEMA_DEPTH):
        raise InvalidField(at, f"is nested more than {SCHEMA_DEPTH} levels deep", limit=SCHEMA_DEPTH)
    try:
        value: Any = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise InvalidField(at, problem, value=text) from error
    if not isinstance(value, dict):
        raise InvalidField(at, problem, value=text)
    return value  # pyright: ignore[reportUnknownVariableType]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def canonical_chat(chat: Chat) -> dict[str, Any]:
    """Return the members of an order's canonical JSON that say what its chat is. Only what is set appears."""
    what: dict[str, Any] = {"messages": [_message(message) for message in chat.messages]}
    if chat.tools:
        what["tools"] = [_tool(tool) for tool in chat.tools]
    if chat.tool_choice:
        what["tool_choice"] = CHOICES.get(chat.tool_choice, "")
    if chat.tool_name:
        what["tool_name"] = chat.tool_name
    if chat.single_tool_call:
        what["single_tool_call"] = True
    return what


def _message(message: ChatMessage) -> dict[str, Any]:
    what: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        what["tool_calls"] = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    if message.tool_call_id:
        what["tool_call_id"] = message.tool_call_id
    return what


def _tool(tool: Tool) -> dict[str, Any]:
    given = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {name: value for name, value in given.items() if value}
