"""How the REST dialects ask for the form of an answer."""

from __future__ import annotations

import json

import pytest

from aos.errors import InvalidField
from aos.v1.types_pb2 import Choices, Constraint
from gateway.body import UnknownField, check
from gateway.chat import ChatRequest, without_nulls
from gateway.chat import order_of as chat_order
from gateway.completions import CompletionRequest
from gateway.completions import orders_of as completion_orders

SCHEMA = {"type": "object", "properties": {"b": {"const": None}, "a": {"enum": [None, "é"]}}}
TEXT = '{"type":"object","properties":{"b":{"const":null},"a":{"enum":[null,"é"]}}}'


def chat_constraint(**fields) -> Constraint | None:
    """Return what a chat with these fields asks for."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    order = chat_order(check(ChatRequest, without_nulls(body)))
    return order.constraint if order.HasField("constraint") else None


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, None),
            ({"response_format": {"type": "text"}, "structured_outputs": None, "grammar": None}, None),
            ({"response_format": {"type": "json_object"}}, Constraint(json_object=True)),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": None}}},
                Constraint(json_schema=TEXT),
            ),
            ({"json_schema": SCHEMA}, Constraint(json_schema=TEXT)),
            ({"grammar": 'root ::= "a"'}, Constraint(gbnf='root ::= "a"')),
            ({"structured_outputs": {"json": SCHEMA}}, Constraint(json_schema=TEXT)),
            ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, Constraint(json_schema=TEXT)),
            ({"structured_outputs": {"regex": "a+", "choice": None}}, Constraint(regex="a+")),
            ({"structured_outputs": {"choice": ["a", "b"]}}, Constraint(choices=Choices(texts=["a", "b"]))),
            ({"structured_outputs": {"grammar": 'start: "::="'}}, Constraint(lark='start: "::="')),
            ({"structured_outputs": {"grammar": '# list\nroot ::= "a"'}}, Constraint(gbnf='# list\nroot ::= "a"')),
            ({"structured_outputs": {"json_object": True}}, Constraint(json_object=True)),
        ],
    )
    def test_what_they_ask_for(self, fields, expected):
        """OpenAI's, vLLM's and llama-server's fields make the same constraints; nulls within schemas stay, in the order given."""
        assert chat_constraint(**fields) == expected

    def test_completions_have_them_too(self):
        """Every answer of a completion has the form."""
        asked = check(CompletionRequest, {"model": "m", "prompt": ["a", "b"], "structured_outputs": {"regex": "a+"}})
        assert [order.constraint.regex for order in completion_orders(asked)] == ["a+", "a+"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}, "grammar"),
            ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
            ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
            ({"json_schema": True, "grammar": 'root ::= "a"'}, "json_schema"),
            ({"structured_outputs": {}}, "structured_outputs"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"response_format": {"type": "text", "json_schema": {"name": "x", "schema": {}}}}, "response_format.json_schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
                "response_format.json_schema.name",
            ),
            ({"response_format": {"type": "xml"}}, "response_format.type"),
            ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
            ({"json_schema": [1]}, "json_schema"),
        ],
    )
    def test_what_contradicts_itself_or_is_none(self, fields, field):
        """The field that is at fault is named."""
        with pytest.raises(InvalidField) as refusal:
            chat_constraint(**fields)
        assert refusal.value.violations[0].field == field

    def test_older_names_are_unknown(self):
        """vLLM's older `guided_json` and its like are refused by name."""
        with pytest.raises(UnknownField, match=r"^guided_json"):
            chat_constraint(guided_json=SCHEMA)
