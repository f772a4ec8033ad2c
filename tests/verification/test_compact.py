"""Compact JSON as serde_json writes it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.verification.compact import DEPTH, Spelt, dump, load

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
)


class TestDump:
    @settings(max_examples=50, deadline=None)
    @given(values)
    def test_it_reads_back_the_same(self, value):
        """What is written is JSON, and says what was meant."""
        assert json.loads(dump(value)) == value

    @settings(max_examples=50, deadline=None)
    @given(values)
    def test_what_was_read_is_written_as_it_was_spelt(self, value):
        """Reading and writing again changes no byte."""
        assert dump(load(dump(value))) == dump(value)

    @pytest.mark.parametrize("text", ["1.50", "1E5", "1e+16", "-0", "123456789012345678901234567890", "0.1000"])
    def test_numbers_keep_their_spelling(self, text):
        """Numbers that this side would spell otherwise stay as their writer spelt them."""
        assert dump(load(f'{{"n":{text}}}')) == f'{{"n":{text}}}'

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1.0, "1.0"), (0.5, "0.5"), (-2.5, "-2.5"), (0.0, "0.0"), (-0.0, "-0.0"), (1e15, "1000000000000000.0"), (1e16, "1e16"),
            (1e-5, "0.00001"), (1e-6, "1e-6"), (1.5e-7, "1.5e-7"), (0.00012, "0.00012"), (1.25e300, "1.25e300"), (5e-324, "5e-324"),
            (1024, "1024"), (True, "true"), (None, "null"), ('é\n\x01"\\/', '"é\\n\\u0001\\"\\\\/"'), ([], "[]"), ({}, "{}"),
            ((1, {"b": 2, "a": [3]}), '[1,{"b":2,"a":[3]}]'),
        ],
    )  # fmt: skip
    def test_spelling(self, value, text):
        """No spaces, no escapes but the needed ones, keys in their order, and floats as Rust's ryu lays them out."""
        assert dump(value) == text

    @pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1: 2}, object(), "\ud800", {"a": [Spelt, math.inf]}])
    def test_what_json_cannot_carry(self, value):
        """It is refused rather than guessed at."""
        with pytest.raises(InvalidField):
            dump(value)

    def test_depth(self):
        """64 levels are written, more are not."""
        value: object = 1
        for _ in range(DEPTH):
            value = [value]
        assert dump(value) == "[" * DEPTH + "1" + "]" * DEPTH
        with pytest.raises(InvalidField, match="64 levels"):
            dump([value])


class TestLoad:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[1,]",
            "NaN",
            "-Infinity",
            "01",
            '{"a":1,"a":1}',
            '[{"a":1,"b":2,"a":1}]',
            "'x'",
            "1 2",
            "[" * 100_000,
            '{"":' * 100_000,
        ],
    )
    def test_what_is_no_json(self, text):
        """Malformed text is refused, and so are a key that comes twice and nesting without end."""
        with pytest.raises(InvalidField):
            load(text)

    def test_depth(self):
        """What is nested too deeply is refused before it is parsed; brackets in strings are text."""
        assert load("[" * DEPTH + "]" * DEPTH)
        assert load(json.dumps(["[" * 1000, '"' + "[" * 1000, "\\" + "{" * 1000]))
        for text in ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), '["\\"",' * 100_000, '{"[":' * 100_000):
            with pytest.raises(InvalidField, match="64 levels"):
                load(text)

    def test_a_string_that_never_ends(self):
        """Megabytes of quotes are refused as fast as they are read."""
        with pytest.raises(InvalidField):
            load('"' + '\\"' * 2_000_000)
