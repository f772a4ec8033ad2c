"""The most that an answer can cost: what a request has to allow, and its sub-account to have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from aos.errors import InvalidField
from aos.order import DEFAULT_MAX_TOKENS, cost
from aos.v1.registry_pb2 import Model

TEMPLATE_TOKENS: Final = 256
"""As the network reckons: what a chat template may add to a conversation."""
MESSAGE_TOKENS: Final = 16
"""What it may add to each message."""


def highest_fee(body: Mapping[str, Any], model: Model) -> int:
    """Return the most neurons that the answer to a chat's body can cost, at the dearest price of the model.

    Of chats with tools, or with contents that are not text, the prompt counts as a full context. Raises InvalidField.
    """
    given = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
    if not isinstance(given, int) or given < 1:
        raise InvalidField("max_tokens", "must be an integer above 0", value=given, limit=1)
    prompt = _prompt(body, model.context_length)
    return cost(model.price, prompt_tokens=prompt, completion_tokens=min(given, model.context_length))


def _prompt(body: Mapping[str, Any], context: int) -> int:
    messages = body.get("messages")
    if body.get("tools") or not isinstance(messages, list):
        return context
    bound = TEMPLATE_TOKENS
    for message in cast("list[object]", messages):
        match message:
            case {"role": "system" | "user" | "assistant", "content": str(content), **more} if not more:
                bound += len(content.encode()) + MESSAGE_TOKENS
            case _:
                return context
    return min(bound, context)
