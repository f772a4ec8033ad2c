"""What a model server is asked for an input's tokens, and what its answer says. Pure.

vLLM takes `prompt` or `messages`, llama-server `content`; both answer with `tokens`.
"""

from __future__ import annotations

from typing import Any, Final, cast

from aos.errors import ModelUnsuitable
from aos.operator.upstream_events import Unreadable, read_object
from aos.operator.upstream_request import request_body
from aos.v1.types_pb2 import Order

REPLY_BYTES: Final = 16 << 20
"""Largest answer: an input of 1 MiB has no more tokens than bytes."""
LARGEST: Final = 1 << 32
NOT_THERE: Final = frozenset({404, 405, 501})
"""What servers say that have no such place."""
NEEDS: Final = "tokeniser that its server shows: it answers nothing at /tokenize"


def tokens_asked(order: Order) -> dict[str, Any]:
    """Return what a server is asked. Raises ModelUnsuitable for an input that has no tokens there."""
    body = request_body(order)
    asked = {name: body[name] for name in ("model", "prompt", "messages", "tools") if name in body}
    return asked if order.HasField("chat") else asked | {"content": order.prompt, "add_special": True}


def tokens_told(data: bytes, order: Order) -> list[int]:
    """Return the tokens. Raises Unreadable, and ModelUnsuitable for a server that takes no such input: it tells none. Slow."""
    given = read_object(data).get("tokens")
    if given == [] or given is None:
        raise ModelUnsuitable(order.model, NEEDS if given is None else "tokeniser of such inputs that its server shows")
    if not isinstance(given, list):
        raise Unreadable("its tokens are no list")
    tokens = cast("list[object]", given)
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < LARGEST for one in tokens):
        raise Unreadable("its tokens are no list of ids")
    return cast("list[int]", tokens)
