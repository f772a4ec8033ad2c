"""CBOR from strangers: plain items are read, and nothing else is even begun."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.verification.attestation.cbor import DEPTH, decode

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 64), (1 << 64) - 1), st.binary(max_size=300), st.text(max_size=300)
)
ITEMS = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.integers(0, 99) | st.text(max_size=5), below, max_size=4),
    max_leaves=6,
)


def nested(levels: int) -> bytes:
    return b"\x81" * levels + b"\x00"


class TestDecode:
    @settings(max_examples=100, deadline=None)
    @given(item=ITEMS)
    def test_reads_plain_items(self, item):
        """Integers of 64 bits, bytes, text, lists, maps, true, false and null come out as they went in."""
        assert decode(cbor2.dumps(item)) == item

    @settings(max_examples=300, deadline=None)
    @given(data=st.binary(max_size=60))
    def test_refuses_or_reads_whole(self, data):
        """Whatever the bytes, there is one item and nothing else, as another reader finds it, or a ValueError."""
        try:
            item = decode(data)
        except ValueError:
            return
        assert item == cbor2.loads(data)

    @pytest.mark.parametrize("length", ["stated", "open"])
    def test_containers_may_state_their_length_or_not(self, length):
        """Both spellings of a list and of a map are read."""
        data = b"\xa1\x01\x82\x02\x03" if length == "stated" else b"\xbf\x01\x9f\x02\x03\xff\xff"
        assert decode(data) == {1: [2, 3]}

    @pytest.mark.parametrize("tag", [0, 1, 2, 4, 5, 18, 28, 29, 30, 35, 36, 37, 256, 258, 55799])
    def test_refuses_every_tag(self, tag):
        """Dates, big numbers, patterns and references are no plain items, wherever they stand."""
        tagged = cbor2.dumps(cbor2.CBORTag(tag, 1))
        for data in (tagged, b"\x81" + tagged, b"\xa1" + tagged + b"\x01", b"\x9f" + tagged + b"\xff"):
            with pytest.raises(ValueError, match="plain"):
                decode(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff",
            b"\x00\x00",
            b"\x81",
            b"\x81\xff",
            b"\x5f\x41\x00\xff",
            b"\xf9\x00\x00",
            b"\xf7",
            b"\x1c",
            b"\x1f",
            b"\x42\x00",
        ],
        ids=[
            "nothing",
            "break",
            "two",
            "short list",
            "early break",
            "parts",
            "float",
            "undefined",
            "reserved",
            "endless",
            "short bytes",
        ],
    )
    def test_refuses_what_is_no_plain_item(self, data):
        """Unfinished items, breaks out of place, strings in parts, floats and reserved codes."""
        with pytest.raises(ValueError, match="plain"):
            decode(data)

    def test_depth_is_limited(self):
        """The deepest level that is allowed is read, and the next one is refused."""
        assert decode(nested(DEPTH - 1)) is not None
        with pytest.raises(ValueError, match="plain"):
            decode(nested(DEPTH))
