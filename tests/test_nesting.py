"""Deep JSON: it is refused by name, before anything reads it, wherever a stranger can give some."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.conversation import SCHEMA_DEPTH
from aos.dispatcher.admission import check_request
from aos.errors import InvalidField
from aos.nesting import DEPTH, too_deep
from aos.order import check_order
from aos.v1.dispatcher_pb2 import CreateJobRequest
from aos.v1.types_pb2 import Chat, ChatMessage, Constraint, Order, Tool, ToolCall
from aos.verification.compact import load
from gateway.body import Malformed, check, parse
from gateway.formats import JsonSchemaFormat, StructuredOutputs

LEVELS = 60_000
DEEP = "[" * (LEVELS // 2) + "]" * (LEVELS // 2)
ASKED = ChatMessage(role="user", content="hi")


def a_chat(**parts) -> Order:
    return Order(model="m", chat=Chat(messages=[ASKED, *parts.pop("messages", [])], **parts))


def calling(arguments: str) -> Order:
    turn = ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", name="f", arguments=arguments)])
    return a_chat(messages=[turn, ChatMessage(role="tool", tool_call_id="1", content="x")])


def with_annotation(text: str) -> None:
    check_request(CreateJobRequest(order=Order(model="m", prompt="hi"), annotation=text))


DOORS: dict[str, tuple[Callable[[str], object], str, int]] = {
    "annotation": (with_annotation, "annotation", DEPTH),
    "tool": (
        lambda text: check_order(a_chat(tools=[Tool(name="f", parameters=text)])),
        "order.chat.tools[0].parameters",
        SCHEMA_DEPTH,
    ),
    "call": (lambda text: check_order(calling(text)), "order.chat.messages[1].tool_calls[0].arguments", SCHEMA_DEPTH),
    "schema": (
        lambda text: check_order(Order(model="m", prompt="hi", constraint=Constraint(json_schema=text))),
        "order.constraint.json_schema",
        SCHEMA_DEPTH,
    ),
    "body": (lambda text: parse(text.encode()), "body", DEPTH),
    "envelope": (load, "json", 64),
}
"""Each door that JSON of a stranger comes in by, the name of the field there, and how deep it may be."""


class TestNesting:
    @pytest.mark.parametrize("door", DOORS)
    @pytest.mark.parametrize("text", [DEEP, "[" * LEVELS, '{"a":' * (LEVELS // 6) + "1"], ids=["closed", "open", "objects"])
    def test_sixty_thousand_brackets_are_refused_by_name(self, door, text):
        """The refusal names the field and how deep it may be, and nothing has recursed."""
        enter, field, limit = DOORS[door]
        with pytest.raises(InvalidField) as refused:
            enter(text)
        assert refused.value.facts["field"] == field
        assert f"more than {limit} levels" in refused.value.message

    def test_a_schema_that_comes_as_text_is_no_way_around(self):
        """Text inside a body is looked at as its own document."""
        with pytest.raises(InvalidField, match="nested more than 32 levels"):
            check(StructuredOutputs, {"json": "[" * LEVELS})
        assert check(JsonSchemaFormat, {"name": "x", "schema": {"type": "object"}}).schema_ == {"type": "object"}

    @given(
        st.recursive(st.text(max_size=6), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2))
    )
    def test_depth_is_that_of_the_value(self, value):
        """Brackets in strings are text; a document is as deep as what it says."""

        def depth(one: object) -> int:
            inner = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else None
            return 0 if inner is None else 1 + max(map(depth, inner), default=0)

        text = json.dumps(value)
        assert not too_deep(text, depth(value))
        assert depth(value) == 0 or too_deep(text, depth(value) - 1)

    @pytest.mark.timeout(20)
    def test_a_text_of_two_mebibytes_is_read_once(self):
        """A string that never ends, all of it escaped quotes, is looked at once: looked at from each quote, it takes days."""
        text = '"' + '\\"' * (1 << 20)
        assert not too_deep(text)
        with pytest.raises(Malformed, match="is not JSON"):
            parse(text.encode()[: 2 << 20])
