"""Trees over tokens and steps, and the job header."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.verification.trace import (
    EMPTY,
    MOST_STEPS,
    STEP,
    TOKEN_DEPTH,
    Header,
    Step,
    leaf,
    model_id,
    node,
    read_steps,
    root,
    steps_root,
    token_leaves,
    tokens_root,
)

LEAVES = st.lists(st.binary(max_size=40), max_size=20)
DEPTH = 5


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def full(leaves: list[bytes], depth: int) -> bytes:
    """The root as the fact sheet has it: every leaf of the tree hashed, those that are not there as empty ones."""
    level = [sha(b"\0" + data) for data in [*leaves, *[b""] * ((1 << depth) - len(leaves))]]
    while len(level) > 1:
        level = [sha(b"\1" + level[at] + level[at + 1]) for at in range(0, len(level), 2)]
    return level[0]


class TestTree:
    def test_empty(self):
        """Trees with nothing in them have known roots: those of RFC 6962's hashing of an empty leaf, level by level."""
        assert EMPTY[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        assert EMPTY[1] == sha(b"\1" + EMPTY[0] + EMPTY[0])
        assert root([], DEPTH) == EMPTY[DEPTH]

    def test_known(self):
        """Two leaves give the root that is computed by hand."""
        assert root([b"a", b"b"], 1) == node(leaf(b"a"), leaf(b"b")) == sha(b"\1" + sha(b"\0a") + sha(b"\0b"))

    @pytest.mark.parametrize(
        ("depth", "expected"),
        [
            (0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (2, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
            (3, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ],
    )
    def test_published(self, depth, expected):
        """Full trees have the roots that Certificate Transparency (RFC 6962) publishes for its eight leaves."""
        leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]

        assert root([bytes.fromhex(data) for data in leaves[: 1 << depth]], depth).hex() == expected

    @given(LEAVES)
    def test_all_hashed(self, leaves):
        """The root is the one over all places of the tree, whatever is left out in computing it."""
        assert root(leaves, DEPTH) == full(leaves, DEPTH)

    def test_too_many(self):
        """More leaves than fit are refused."""
        with pytest.raises(InvalidField) as refused:
            root([b""] * 3, 1)

        assert (refused.value.facts["value"], refused.value.facts["limit"]) == ("3", "2")


class TestTokens:
    def test_layout(self):
        """Token ids are 4 bytes, big-endian, 256 of them a leaf; the last is shorter."""
        assert token_leaves([1, 2**32 - 1]) == [bytes.fromhex("00000001ffffffff")]
        assert [len(one) for one in token_leaves(range(600))] == [1024, 1024, 352]
        assert tokens_root([]) == EMPTY[TOKEN_DEPTH]

    @given(st.lists(st.integers(0, 2**32 - 1), max_size=300), st.lists(st.integers(0, 2**32 - 1), max_size=300))
    def test_one_root_one_answer(self, one, other):
        """Equal roots are of equal tokens."""
        assert (tokens_root(one) == tokens_root(other)) == (one == other)


STEPS = st.builds(
    Step,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1)), min_size=1, max_size=8).map(tuple),
)


class TestStep:
    def test_layout(self):
        """A step's leaf is the fact sheet's, field by field."""
        step = Step(5, 7, bytes(range(32)), tuple((100 + at, -at << 16) for at in range(8)))

        expected = b"OPMLSTP1" + struct.pack(">II", 5, 7) + bytes(range(32)) + bytes([8, 0, 0, 0])
        expected += b"".join(struct.pack(">Ii", 100 + at, -at << 16) for at in range(8))
        assert step.packed() == expected
        assert len(expected) == STEP.size == 116

    @given(STEPS)
    def test_round_trip(self, step):
        """What was written is read, and nothing is lost."""
        assert Step.of(step.packed()) == step

    @given(STEPS, st.data())
    def test_one_spelling(self, step, data):
        """A step has one spelling: bytes that differ are no step, or another."""
        packed = bytearray(step.packed())
        at = data.draw(st.integers(0, len(packed) - 1))
        packed[at] ^= data.draw(st.integers(1, 255))
        try:
            found = Step.of(bytes(packed))
        except InvalidField:
            return

        assert found != step
        assert found.packed() == packed

    @pytest.mark.parametrize("size", [0, 115, 117])
    def test_length(self, size):
        """What has another length is no step."""
        with pytest.raises(InvalidField):
            Step.of(bytes(size))

    def test_places(self):
        """Steps are in their places, and there are not too many."""
        one = Step(1, 7, bytes(32), ((7, 0),)).packed()

        with pytest.raises(InvalidField, match="in place 0"):
            read_steps(one)
        with pytest.raises(InvalidField, match=str(MOST_STEPS)):
            read_steps(bytes(STEP.size * (MOST_STEPS + 1)))


class TestHeader:
    HEADER = Header(
        reason=2,
        model_id=b"m" * 32,
        request=b"r" * 32,
        prompt_root=b"p" * 32,
        output_root=b"o" * 32,
        parameters=b"s" * 32,
        seed=9,
        prompt_tokens=3,
        output_tokens=4,
        trace_root=b"t" * 32,
        replay_class=b"c" * 32,
        operator=b"a" * 20,
    )

    def test_layout(self):
        """The header's fields are where the fact sheet has them; `state_root` is its hash."""
        packed = self.HEADER.packed()

        fields = {
            0: b"\0",
            1: b"OPMLJOB1",
            9: b"\2",
            10: b"\1\2",
            12: b"m" * 32,
            44: b"r" * 32,
            76: b"p" * 32,
            108: b"o" * 32,
            140: b"s" * 32,
            172: bytes(31) + b"\x09",
            204: bytes.fromhex("0000000300000004"),
            212: b"t" * 32,
            244: b"c" * 32,
            276: b"a" * 20,
        }
        assert packed == b"".join(fields.values())
        assert all(packed[at:].startswith(value) for at, value in fields.items())
        assert len(packed) == 296
        assert self.HEADER.state_root == sha(packed) == leaf(packed[1:])

    def test_it_never_changes(self):
        """A root stated today can be recomputed by every later version: this one is pinned."""
        assert self.HEADER.state_root.hex() == "4b7cd48f5cddc2da94ae3873a74fbd855de82fad8f0433cb6c41b156b9af085b"

    def test_model(self):
        """A model's id has a tag of its own, profile and depths, and the digest of its weights."""
        assert model_id(b"d" * 32) == sha(b"OPMLMDL1" + bytes([2, 13, 15]) + b"d" * 32)

    def test_steps_root(self):
        """Each step is one leaf of a tree of depth 15."""
        steps = [Step(at, at, bytes(32), ((at, 0),)).packed() for at in range(3)]

        assert steps_root(b"".join(steps)) == root(steps, 15)
