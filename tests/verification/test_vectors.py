"""Vectors as bytes, and what a receipt says of them."""

from __future__ import annotations

import hashlib
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.v1.types_pb2 import Embedding
from aos.vectors import length, packed, unpacked
from aos.verification.receipts import embeddings_digest

FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=300)


class TestBytes:
    @given(values=FLOATS)
    def test_both_ways(self, values):
        """The bytes are the numbers, 32 bits each, little-endian, and the message has them again."""
        data = struct.pack(f"<{len(values)}f", *values)

        assert packed(Embedding(values=values)) == data
        assert unpacked(data) == Embedding(values=values)

    def test_what_else_a_message_has(self):
        """Fields that nobody knows are no part of the vector, wherever they stand on the wire; nor is how it was packed."""
        unknown, one_by_one = b"\x9a\x06\x02hi", b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.0, 2.0))

        assert packed(Embedding.FromString(unknown + one_by_one + unknown)) == struct.pack("<2f", 1, 2)

    @pytest.mark.parametrize(("values", "expected"), [([3, 4], 5), ([], 0), ([math.inf, 1], math.inf)])
    def test_length(self, values, expected):
        """The length is Euclid's."""
        assert length(Embedding(values=values)) == expected

    def test_length_of_nan(self):
        """A vector with NaN has no length that is near any number."""
        assert math.isnan(length(Embedding(values=[math.nan, 1])))


class TestDigest:
    def test_byte_form(self):
        """Count of vectors, then of each its count of numbers and the numbers, all little-endian."""
        said = struct.pack("<I I2f I1f", 2, 2, 0.5, -1, 1, 2)

        assert embeddings_digest([Embedding(values=[0.5, -1]), Embedding(values=[2])]) == hashlib.sha256(said).digest()

    @given(vectors=st.lists(FLOATS, max_size=4), other=st.lists(FLOATS, max_size=4))
    def test_no_two_have_one_form(self, vectors, other):
        """Other vectors, also the same numbers cut elsewhere, have another digest."""

        def form(lists: list[list[float]]) -> list[bytes]:
            return [struct.pack(f"<{len(one)}f", *one) for one in lists]

        digests = [embeddings_digest([Embedding(values=one) for one in lists]) for lists in (vectors, other)]
        assert (digests[0] == digests[1]) == (form(vectors) == form(other))
