from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aos.verification.clock import Order, compare, merge, tick

nodes = st.sampled_from(["1", "2", "0xab"])
clocks = st.dictionaries(nodes, st.integers(0, 5))


class TestMerge:
    @given(clocks, clocks)
    def test_order_does_not_matter(self, a, b):
        """Merging is commutative."""
        assert merge(a, b) == merge(b, a)

    @given(clocks, clocks, clocks)
    def test_grouping_does_not_matter(self, a, b, c):
        """Merging is associative, one by one or all at once."""
        assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(a, b, c)

    @given(clocks)
    def test_again_changes_nothing(self, a):
        """Merging is idempotent."""
        assert merge(a, a) == merge(a)
        assert compare(merge(a), a) is Order.EQUAL

    @given(clocks, clocks)
    def test_it_is_the_least_that_has_seen_both(self, a, b):
        """The merged clock is before neither, and has no count that neither had."""
        merged = merge(a, b)
        for clock in (a, b):
            assert compare(clock, merged) in {Order.BEFORE, Order.EQUAL}
        assert all(count == max(a.get(node, 0), b.get(node, 0)) for node, count in merged.items())

    def test_of_nothing_is_nothing(self):
        """No clocks merge to the clock of no events."""
        assert merge() == {}


class TestTick:
    @given(nodes, st.lists(clocks, max_size=3))
    def test_an_event_is_after_all_it_has_seen(self, node, seen):
        """One more event comes after every clock that led to it."""
        assert all(compare(tick(node, *seen), clock) is Order.AFTER for clock in seen)

    @given(nodes, clocks)
    def test_it_counts_one(self, node, clock):
        """Exactly one event is added, at its own node."""
        after = tick(node, clock)
        assert after[node] == clock.get(node, 0) + 1
        assert {other: after.get(other, 0) for other in clock if other != node} == {
            other: count for other, count in clock.items() if other != node
        }

    @given(clocks)
    def test_events_apart_are_concurrent(self, clock):
        """Two nodes that go on from the same clock, without hearing of each other, are neither before nor after."""
        assert compare(tick("1", clock), tick("2", clock)) is Order.CONCURRENT


class TestCompare:
    @given(clocks, clocks)
    def test_both_sides_agree(self, a, b):
        """What is before from here is after from there."""
        opposite = {Order.BEFORE: Order.AFTER, Order.AFTER: Order.BEFORE}
        there = compare(b, a)
        assert compare(a, b) is opposite.get(there, there)

    @given(clocks, clocks, clocks)
    def test_before_carries_over(self, a, b, c):
        """Before is transitive."""
        if compare(a, b) is Order.BEFORE and compare(b, c) is Order.BEFORE:
            assert compare(a, c) is Order.BEFORE

    @given(clocks)
    def test_an_absent_node_counts_0(self, a):
        """Leaving a node out and counting 0 for it are the same."""
        assert compare(a, {node: count for node, count in a.items() if count}) is Order.EQUAL
