"""Tools in OpenAI's shape: what a chat may call, whether it must, and its calls. Pure."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.errors import InvalidField
from aos.toolcalls import CallParser, Fragment, call_id, may_call
from aos.v1.dispatcher_pb2 import Job
from aos.v1.types_pb2 import Chat, Tool, ToolCall, ToolChoice

SCHEMA_MEMBERS: Final = frozenset({"parameters", "schema", "json", "json_schema"})
"""Members whose value is a JSON Schema, in which a null says something."""
WORDS: Final = {
    "auto": ToolChoice.TOOL_CHOICE_AUTO,
    "none": ToolChoice.TOOL_CHOICE_NONE,
    "required": ToolChoice.TOOL_CHOICE_REQUIRED,
}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Function(_Strict):
    """What a tool is."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    # arguments always fit their schema, so there is nothing to choose
    strict: bool = False


class FunctionTool(_Strict):
    """Something that a chat may call."""

    type: Literal["function"]
    function: Function


class Called(_Strict):
    """Which function was called, and with what."""

    name: str
    arguments: str


class Call(_Strict):
    """A call in an earlier turn."""

    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: Called


def _choice(value: object) -> tuple[str, str]:
    """Return a choice's word, and the name of the one function that must be called."""
    match value:
        case "none" | "auto" | "required":
            return str(value), ""
        case {"type": "function", "function": {"name": str(name), **beside}, **more} if name and not beside and not more:
            return "required", name
        case _:
            raise ValueError("must be 'none', 'auto', 'required' or {'type': 'function', 'function': {'name': '…'}}")


def _gone(_: object) -> None:
    raise ValueError("is no longer accepted; send `tools` and `tool_choice` in its place")


ToolChoiceField = Annotated[tuple[str, str], BeforeValidator(_choice)]
Deprecated = Annotated[None, BeforeValidator(_gone)]
"""A field of OpenAI's first interface for functions."""


class Toolbox(_Strict):
    """The fields of a chat that are about tools."""

    tools: list[FunctionTool] = []
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    functions: Deprecated = None
    function_call: Deprecated = None


def put_tools(chat: Chat, asked: Toolbox) -> None:
    """Set the chat's tools. Raises InvalidField for a choice where there are none."""
    for name in ("tool_choice", "parallel_tool_calls"):
        if getattr(asked, name) is not None and not asked.tools and asked.tool_choice != ("none", ""):
            raise InvalidField(name, "is only for chats with tools")
    for tool in asked.tools:
        function = tool.function
        parameters = "" if function.parameters is None else json.dumps(function.parameters, ensure_ascii=False)
        chat.tools.append(Tool(name=function.name, description=function.description, parameters=parameters))
    if asked.tools and asked.tool_choice is not None:
        word, chat.tool_name = asked.tool_choice
        chat.tool_choice = WORDS[word]
    chat.single_tool_call = bool(asked.tools) and asked.parallel_tool_calls is False


def native_calls(calls: list[Call]) -> list[ToolCall]:
    """Return the calls of an earlier turn."""
    return [ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments) for call in calls]


def shown_calls(calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Return an answer's calls as a message has them."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls
    ]  # fmt: skip


class CallReader:
    """Reads the calls out of an answer's text as it comes, for a stream's deltas."""

    def __init__(self, job: Job) -> None:
        self._job = job.name
        self._parser = CallParser(tool.name for tool in job.order.chat.tools) if may_call(job.order) else None

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._parser is not None and self._parser.calls > 0

    def read(self, text: str) -> list[str | dict[str, Any]]:
        """Return what became certain: content as text, parts of calls as deltas."""
        return [text] if self._parser is None else self._deltas(self._parser.feed(text))

    def finish(self) -> list[str | dict[str, Any]]:
        """Return what was held back."""
        return [] if self._parser is None else self._deltas(self._parser.finish())

    def _deltas(self, parts: list[str | Fragment]) -> list[str | dict[str, Any]]:
        return [part if isinstance(part, str) else {"tool_calls": [self._call(part)]} for part in parts]

    def _call(self, part: Fragment) -> dict[str, Any]:
        if not part.name:
            return {"index": part.index, "function": {"arguments": part.arguments}}
        function = {"name": part.name, "arguments": ""}
        return {"index": part.index, "id": call_id(self._job, part.index), "type": "function", "function": function}
