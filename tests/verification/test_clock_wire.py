"""Clocks as they travel, and that they never go back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aos.verification.clock import Order, compare, tick, to_wire

nodes = st.sampled_from(["1", "2", "0xab"])
clocks = st.dictionaries(nodes, st.integers(0, 5))


class TestNeverBack:
    @given(nodes, st.lists(clocks))
    def test_a_node_that_merges_what_it_hears_never_goes_back(self, node, heard):
        """From event to event, each clock is after the one before, whatever comes in and in whatever order."""
        clock: dict[str, int] = {}
        for message in heard:
            after = tick(node, clock, message)
            assert compare(clock, after) is Order.BEFORE
            clock = after


class TestWire:
    def test_strings_sorted(self):
        """Counts are decimal strings, nodes are in order."""
        assert list(to_wire({"b": 2**60, "a": 0}).items()) == [("a", "0"), ("b", "1152921504606846976")]
