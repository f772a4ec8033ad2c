"""Canonical JSON is spelt as RFC 8785 says, whichever encoder writes it."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from aos.canonical import canonical

NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=True, allow_infinity=True))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)


def said(encode, value) -> bytes | type[Exception]:
    """What an encoder writes, or the kind of its refusal."""
    try:
        return encode(value)
    except Exception as error:
        return type(error)


class TestCanonical:
    @given(VALUES)
    @example({"b": 1.0, "a": -0.0, "c": 1e-5, "d": 1e21, "e": 0.1, "f": 2**53, "g": [True, None, "\u2028\x7f\x00/"]})
    @example({"\U0001f600": 1, "\ufb33": 2, "a": 0.7})
    @example("\ud800")
    def test_is_that_of_the_library(self, value):
        """Whatever the value, the bytes are those of the library that checks its spelling, and so are refusals."""
        assert said(canonical, value) == said(rfc8785.dumps, value)

    @pytest.mark.parametrize("number", [0.0001, 0.30000000000000004, 123456.789, 9007199254740990.5, 4503599627370495.5])
    def test_numbers_at_the_border(self, number):
        """Numbers near where the two ways to spell them part are spelt the standard's way."""
        assert canonical({"n": number}) == rfc8785.dumps({"n": number})
