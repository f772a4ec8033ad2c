"""An order as OpenAI's chat and completions requests, and a server's address as the URLs below it. Pure.

What such a server cannot be told is refused, never left out: whoever asks for grammars or log-probabilities gets them or hears no.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from aos.conversation import text_bytes
from aos.errors import ModelUnsuitable
from aos.v1.types_pb2 import Chat, ChatMessage, Determinism, Order, Tool, ToolChoice

CHAT, COMPLETIONS, MODELS = "/chat/completions", "/completions", "/models"
PICTURES, EDITS = "/images/generations", "/images/edits"
TOKENS: Final = "/tokenize"
"""Not OpenAI's: beside the folder, where vLLM and llama-server have it."""
FOLDER: Final = "/v1"
TEMPLATE_TOKENS: Final = 256
"""What a server's template may add to an input. The dispatcher allows for no less (its admission.py)."""

NAMES: Final = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_tokens": ("max_tokens",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    # not OpenAI's, but understood by those servers that have them at all, under these names
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "typical_p": ("typical_p",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
}
"""Sampling parameters, and what servers call them."""
NOTHING: Final = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0}
"""Values that do nothing, and that some servers refuse: left out."""
TOOL_CHOICES: Final = {ToolChoice.TOOL_CHOICE_NONE: "none", ToolChoice.TOOL_CHOICE_REQUIRED: "required"}


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a server is asked for what. An empty path: it is not known."""

    chat: str
    completions: str = ""
    models: str = ""
    pictures: str = ""
    edits: str = ""
    tokens: str = ""


def paths_of(path: str) -> Paths:
    """Return the paths that go with a registered one: that of chat, completions or pictures, of the folder above, or the root."""
    path, _, query = path.partition("?")
    folder = path.rstrip("/")
    for end in (CHAT, COMPLETIONS, PICTURES, EDITS):
        if folder.endswith(end):
            folder = folder.removesuffix(end)
            break
    else:
        if not folder:
            folder = FOLDER
        elif not folder.endswith(FOLDER):  # somebody's own: asked as it is, and nothing beside it
            own = f"{path}?{query}" if query else path
            return Paths(own, pictures=own, edits=own)
    behind = f"?{query}" if query else ""
    tokens = f"{folder.removesuffix(FOLDER)}{TOKENS}{behind}"
    return Paths(*(f"{folder}{end}{behind}" for end in (CHAT, COMPLETIONS, MODELS, PICTURES, EDITS)), tokens=tokens)


def request_body(order: Order) -> dict[str, Any]:
    """Return what a server is asked for an order that check_order takes. Raises ModelUnsuitable for what it cannot be asked."""
    _check(order)
    body: dict[str, Any] = {"model": order.model, "stream": True, "stream_options": {"include_usage": True}}
    if order.HasField("chat"):
        body |= _chat(order.chat)
    else:
        body["prompt"] = order.prompt
    sampling = order.sampling
    for name, theirs in NAMES.items():
        value = getattr(sampling, name)
        if sampling.HasField(name) and (name not in NOTHING or value != NOTHING[name]):
            body |= dict.fromkeys(theirs, value)
    if sampling.HasField("seed"):
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    match order.constraint.WhichOneof("kind"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":
            schema = {"name": "answer", "strict": True, "schema": json.loads(order.constraint.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        case _:
            pass
    return body


def _check(order: Order) -> None:
    form = order.constraint.WhichOneof("kind")
    for asked, needs in (
        (order.WhichOneof("input") not in ("prompt", "chat"), f"{order.WhichOneof('input')}s"),
        (order.determinism == Determinism.DETERMINISM_EXACT, "weights that give the same bits whatever the load"),
        (order.sampling.logprobs, "log-probabilities"),
        (order.sampling.HasField("mirostat"), "mirostat"),
        (form is not None and form not in ("json_object", "json_schema"), f"way to answer by {form}"),
    ):
        if asked:
            raise ModelUnsuitable(order.model, needs)


def _chat(chat: Chat) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [_message(one) for one in chat.messages]}
    if chat.tools:
        body["tools"] = [_tool(one) for one in chat.tools]
        if chat.tool_name:
            body["tool_choice"] = {"type": "function", "function": {"name": chat.tool_name}}
        else:
            body["tool_choice"] = TOOL_CHOICES.get(chat.tool_choice, "auto")
        if chat.single_tool_call:
            body["parallel_tool_calls"] = False
    return body


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = json.loads(tool.parameters or '{"type": "object", "properties": {}}')
    return {"type": "function", "function": function}


def prompt_bound(order: Order, context: int) -> int:
    """Return the most tokens of input that are charged for, whatever the server counts: never more than the dispatcher's bound.

    Every token stands for at least a byte, or is the template's.
    """
    if not order.HasField("chat"):
        return min(len(order.prompt.encode()) + TEMPLATE_TOKENS, context)
    size = text_bytes(order.chat)
    for tool in order.chat.tools:  # blanks between its parts are not what the dispatcher counts
        shown = json.dumps(json.loads(tool.parameters or "{}"), ensure_ascii=False)
        size += min(0, len(shown.encode()) - len(tool.parameters.encode()))
    return min(size + TEMPLATE_TOKENS, context)
