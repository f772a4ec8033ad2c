"""What a JSON body may be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from aos.errors import InvalidField
from gateway.body import DEPTH, Malformed, TooLarge, UnknownField, check, members, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestParse:
    @given(st.dictionaries(st.text(), VALUES, max_size=4), st.sampled_from([None, 1]), st.booleans())
    def test_every_json_object_is_read_as_it_is(self, value, indent, ascii_only):
        """Whatever a writer of JSON may write is read back equal, in the same order of keys."""
        read = parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()).fields
        assert json.dumps(read) == json.dumps(value)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "is empty"),
            (b"  \n", "is empty"),
            (b"{", "is not JSON"),
            (b"{'a':1}", "is not JSON"),
            (b'{"a":1,}', "is not JSON"),
            (b'{"a":1} x', "is not JSON"),
            (b'{"a":1 // why\n}', "is not JSON"),
            (b'{"a":"\n"}', "is not JSON"),
            (b"\xef\xbb\xbf{}", "is not JSON"),
            (b"\xff{}", "is not UTF-8: byte 0 is 0xff"),
            (b"[]", "must be a JSON object, not a list"),
            (b"5", "must be a JSON object, not a number"),
            (b"true", "must be a JSON object, not a boolean"),
            (b"null", "must be a JSON object, not null"),
            (b'"a"', "must be a JSON object, not a string"),
            (b'{"a":1,"a":2}', 'the key "a" twice'),
            (b'{"x":{"a":1,"a":1}}', 'the key "a" twice'),
            (b'{"a":NaN}', "has NaN"),
            (b'{"a":-Infinity}', "has -Infinity"),
            (b'{"a":1e400}', "1e400, which no double can hold"),
            (b'{"a":' + b"9" * 5000 + b"}", "too many digits"),
            (b'{"a":"\\ud800"}', "half of a surrogate pair"),
            (b'{"\\udc00":1}', "half of a surrogate pair"),
        ],
    )
    def test_what_is_not_plainly_an_object_is_refused(self, data, says):
        """The refusal says what is wrong and where."""
        with pytest.raises(Malformed) as caught:
            parse(data)
        assert says in caught.value.message
        assert caught.value.message.startswith("body: ")

    def test_a_whole_surrogate_pair_is_a_character(self):
        """Escapes that make a character are read as that character."""
        assert parse(b'{"a":"\\ud83d\\ude00"}').fields == {"a": "😀"}

    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
    def test_depth_is_limited(self, opening, closing):
        """Up to DEPTH levels are read; one more, or a million, are refused by name and limit."""

        def nested(levels: int) -> bytes:
            return f'{{"a":{opening * (levels - 1)}1{closing * (levels - 1)}}}'.encode()

        assert parse(nested(DEPTH)).fields
        for levels in (DEPTH + 1, 100_000):
            with pytest.raises(Malformed) as caught:
                parse(nested(levels))
            assert caught.value.facts["limit"] == str(DEPTH)

    def test_brackets_in_strings_are_no_depth(self):
        """Only brackets that nest are counted."""
        assert parse(json.dumps({"a": '[{"' * 100, 'b"': "]\\"}).encode()).fields["a"] == '[{"' * 100

    def test_size_is_limited(self):
        """A body of more bytes than the limit is refused before it is read."""
        assert parse(b'{"a":1}', limit=7).fields == {"a": 1}
        with pytest.raises(TooLarge) as caught:
            parse(b'{"a":1} ', limit=7)
        assert caught.value.message == "body: has 8 bytes; at most 7 are accepted"


class TestMembers:
    @given(st.dictionaries(st.text(), VALUES, max_size=5), st.sampled_from([None, 2]))
    def test_each_value_is_found_in_the_text(self, value, indent):
        """The text between a member's bounds is exactly its value."""
        text = json.dumps(value, indent=indent)
        found = {key: json.loads(text[begin:end]) for key, begin, end in members(text)}
        assert json.dumps(found) == json.dumps(value)

    def test_an_inner_object_can_be_walked(self):
        """Walking may begin at a value."""
        text = '{"a": 1, "job" : {"prompt":"hi" , "n": 1.50}}'
        ((begin, end),) = [(begin, end) for key, begin, end in members(text) if key == "job"]
        assert [(key, text[first:last]) for key, first, last in members(text, begin)] == [("prompt", '"hi"'), ("n", "1.50")]
        assert text[begin:end].startswith("{")


class Inner(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str


class Outer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    count: int
    rate: float = 0
    on: bool = False
    inner: Inner | None = None
    many: list[Inner] = []


class TestCheck:
    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({}, "count", "count: is missing"),
            ({"count": "7"}, "count", 'count: must be an integer, not "7"'),
            ({"count": 1.5}, "count", "count: must be an integer, not 1.5"),
            ({"count": True}, "count", "count: must be an integer, not true"),
            ({"count": None}, "count", "count: must be an integer, not null"),
            ({"count": 1, "rate": "1"}, "rate", 'rate: must be a number, not "1"'),
            ({"count": 1, "on": 1}, "on", "on: must be true or false, not 1"),
            ({"count": 1, "inner": "x"}, "inner", 'inner: must be an object, not "x"'),
            ({"count": 1, "inner": {"name": 5}}, "inner.name", "inner.name: must be a string, not 5"),
            ({"count": 1, "many": {"name": 5}}, "many", "many: must be a list, not an object"),
            ({"count": 1, "many": [{"name": "a"}, {}]}, "many[1].name", "many[1].name: is missing"),
        ],
    )
    def test_the_refusal_names_the_field_and_the_value(self, fields, field, says):
        """A caller reads which field is wrong, what it should be, and what it is."""
        with pytest.raises(InvalidField) as caught:
            check(Outer, fields)
        assert caught.value.message == says
        assert caught.value.violations[0].field == field

    def test_unknown_fields_are_told_apart(self):
        """A field that means nothing is refused by a class of its own."""
        with pytest.raises(UnknownField) as caught:
            check(Outer, {"count": 1, "inner": {"name": "a", "nmae": "b"}})
        assert caught.value.violations[0].field == "inner.nmae"

    def test_a_long_value_is_cut_short(self):
        """The message does not repeat a value without end."""
        with pytest.raises(InvalidField) as caught:
            check(Outer, {"count": "x" * 10_000})
        assert len(caught.value.message) < 200
