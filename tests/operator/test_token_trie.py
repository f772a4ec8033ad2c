"""The tokens of a model as controllers read them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import ModelUnsuitable
from aos.operator.llama import LlamaModel
from aos.operator.token_trie import LEN_BITS, OLD_LEN_BITS, TOKEN_BYTES, token_trie


@dataclass
class Guest:
    """A reader as a controller has one: it goes through the nodes by their sizes and counts levels by their numbers."""

    found: dict[bytes, int]
    pieces: list[bytes]
    end: int

    @classmethod
    def read(cls, blob: bytes, len_bits: int) -> Guest:
        magic, header, trie, offsets, data, vocabulary, end = struct.unpack_from("<7I", blob)
        assert (magic, header) == (0x558B6FD3, 28)
        assert offsets == 4 * vocabulary
        assert header + trie + offsets + data == len(blob)
        nodes = list(struct.iter_unpack("<II", blob[header : header + trie]))
        places = struct.unpack_from(f"<{vocabulary}I", blob, header + trie)
        texts = blob[header + trie + offsets :]
        pieces = [texts[place >> len_bits :][: place & (1 << len_bits) - 1] for place in places]
        assert nodes[0] == (0xFFFFFFFF, len(nodes) << 8)
        found: dict[bytes, int] = {}
        stack: list[int] = []
        for number, (first, second) in enumerate(nodes[1:], 1):
            stack.append(first & 0xFF)
            if first >> 8 != 0xFFFFFF:
                assert bytes(stack) not in found
                found[bytes(stack)] = first >> 8
            if second >> 8 == 1:  # a leaf: that many levels end here
                levels = second & 0xFF
                del stack[len(stack) - levels :]
            cls._check_children(nodes, number)
        assert not stack
        return cls(found, pieces, end)

    @staticmethod
    def _check_children(nodes: list[tuple[int, int]], number: int) -> None:
        """Children fill the subtree, sorted by their byte; the last one ends the levels that its parent ends, and its own."""
        end, child, before = number + (nodes[number][1] >> 8), number + 1, -1
        while child < end:
            assert before < nodes[child][0] & 0xFF
            before, following = nodes[child][0] & 0xFF, child + (nodes[child][1] >> 8)
            ended = nodes[child][1] & 0xFF
            assert ended == ((nodes[number][1] & 0xFF) + 1 if following == end else 1)
            child = following
        assert child == end


texts = st.lists(st.binary(max_size=6) | st.text(alphabet="ab", max_size=12).map(str.encode), min_size=1, max_size=60)


class TestTrie:
    @given(texts, st.sampled_from([LEN_BITS, OLD_LEN_BITS]), st.integers(0, 9))
    def test_every_token_is_found(self, pieces, len_bits, end):
        """Each text is in the trie with the last token that has it, and each token's bytes are there by its number."""
        guest = Guest.read(token_trie("m", pieces, end, len_bits=len_bits), len_bits)
        assert guest.pieces == pieces
        assert guest.end == end
        assert guest.found == {piece: token for token, piece in enumerate(pieces) if piece}

    def test_control_tokens_are_not_in_it(self):
        """A token without bytes has none in the table, and no node."""
        guest = Guest.read(token_trie("m", [b"", b"a", b""], 0), LEN_BITS)
        assert guest.found == {b"a": 1}
        assert Guest.read(token_trie("m", [b""], 0), LEN_BITS).found == {}

    def test_long_tokens_are_told_as_far_as_the_format_goes(self):
        """The longest that is told ends 254 levels at once; of longer ones no bytes are told."""
        longest, longer = b"x" * TOKEN_BYTES, b"y" * (TOKEN_BYTES + 1)
        for len_bits in (LEN_BITS, OLD_LEN_BITS):
            guest = Guest.read(token_trie("m", [longest, longer, b"z"], 0, len_bits=len_bits), len_bits)
            assert guest.found == {longest: 0, b"z": 2}
            assert guest.pieces == [longest, b"", b"z"]

    def test_a_vocabulary_may_be_too_large(self):
        """What does not fit into the format's bits is refused, and the model is named."""
        with pytest.raises(ModelUnsuitable, match="'big'"):
            token_trie("big", [b"x" * 200] * ((1 << 22) // 200 + 1), 0)

    def test_that_of_a_real_model(self, demo: LlamaModel):
        """All tokens of the bundled model that have bytes are found."""
        pieces = [demo.piece(token) for token in range(demo.vocabulary)]
        guest = Guest.read(token_trie("m", pieces, min(demo.ends)), LEN_BITS)
        assert guest.found == {piece: token for token, piece in enumerate(pieces) if piece}
