"""Clocks as they travel, and how much of a stranger's clock is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.verification.clock import COUNT_LIMIT, NODES, Order, believed, compare, fallen, from_wire, merge, tick, to_wire

nodes = st.sampled_from(["1", "2", "0xab"])
clocks = st.dictionaries(nodes, st.integers(0, 5))
wide = st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.integers(0, COUNT_LIMIT - 1))


class TestNeverBack:
    @given(clocks, clocks)
    def test_only_a_clock_that_went_back_has_fallen(self, earlier, later):
        """Nothing has fallen exactly where the later clock is after the earlier, or equal."""
        assert (not fallen(earlier, later)) == (compare(earlier, later) in {Order.BEFORE, Order.EQUAL})

    @given(nodes, st.lists(clocks))
    def test_a_node_that_merges_what_it_hears_never_goes_back(self, node, heard):
        """From event to event, each clock is after the one before, whatever comes in and in whatever order."""
        clock: dict[str, int] = {}
        for message in heard:
            after = tick(node, clock, message)
            assert fallen(clock, after) == []
            assert compare(clock, after) is Order.BEFORE
            clock = after

    def test_the_nodes_are_named(self):
        """What fell is said by name, in order."""
        assert fallen({"b": 2, "a": 1, "c": 1}, {"a": 1, "b": 1}) == ["b", "c"]


class TestBelieved:
    @given(clocks, clocks)
    def test_nobody_counts_for_another(self, known, claimed):
        """A sender's word on the receiver's own count changes nothing; everything else of a sane clock is taken."""
        taken = believed(claimed, known=known, itself="1", sender="2")

        assert "1" not in taken
        assert merge(known, taken) == merge(known, {node: count for node, count in claimed.items() if node != "1"})

    @pytest.mark.parametrize("count", [COUNT_LIMIT, 2**64 - 1, 2**64, -1])
    def test_impossible_counts(self, count):
        """Counts that a store could not keep are left out, the others of the same clock are taken."""
        assert believed({"2": count, "3": 7}, known={}, itself="1", sender="2") == {"3": 7}

    def test_very_many_nodes(self):
        """A clock without end adds its sender and nobody else that is new."""
        claimed = {str(node): 5 for node in range(NODES + 1)} | {"sender": 1}
        assert believed(claimed, known={"7": 1}, itself="me", sender="sender") == {"7": 5, "sender": 1}


class TestWire:
    @given(wide)
    def test_round_trip(self, clock):
        """What is written reads back the same."""
        assert from_wire(to_wire(clock)) == clock

    def test_strings_sorted(self):
        """Counts are decimal strings, nodes are in order."""
        assert list(to_wire({"b": 2**60, "a": 0}).items()) == [("a", "0"), ("b", "1152921504606846976")]

    @pytest.mark.parametrize(
        "count", [1, None, "", "-1", "+1", "01", "1.0", "1e3", " 1", "1 ", "1\n", "٣", str(COUNT_LIMIT), "9" * 5000, ["1"]]
    )
    def test_other_counts(self, count):
        """A count has one spelling, and a limit; the refusal says where."""
        with pytest.raises(InvalidField, match=r"clock\.1: "):
            from_wire({"1": count})

    @pytest.mark.parametrize("node", ["", "a=b", "a b", "ü", "x" * 129, "1\n"])
    def test_other_nodes(self, node):
        """A node's id is printable ASCII that cannot be mistaken where clocks are digested."""
        with pytest.raises(InvalidField, match="a node's id"):
            from_wire({node: "1"})

    def test_too_many(self):
        """A clock has at most 1024 nodes."""
        with pytest.raises(InvalidField, match="1024"):
            from_wire({str(node): "1" for node in range(NODES + 1)})
