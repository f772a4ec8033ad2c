"""Who is next: priorities, turns between tenants, and an end to every wait."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.waiting import PATIENCE, PRIORITY_LIMIT, Terms, WaitingList

PRIORITY = st.integers(-PRIORITY_LIMIT, PRIORITY_LIMIT)


def waiting(*terms: Terms) -> WaitingList:
    one = WaitingList()
    for key, each in enumerate(terms):
        one.add(key, each)
    return one


def order(one: WaitingList) -> list[int]:
    return [one.take() for _ in range(len(one))]


class TestTurns:
    def test_one_tenant(self):
        """Requests of one tenant go in the order of coming."""
        assert order(waiting(*[Terms("a")] * 4)) == [0, 1, 2, 3]

    def test_tenants_take_turns(self):
        """Who asks for much holds up who asks for little by one request."""
        assert order(waiting(*[Terms("a")] * 4, Terms("b"), Terms("c"), Terms("b"))) == [0, 4, 5, 1, 6, 2, 3]

    def test_being_away_earns_nothing(self):
        """A tenant that comes back does not go ahead of all the turns that it missed."""
        one = waiting(*[Terms("a")] * 6)
        for _ in range(4):
            one.take()
        for key in (10, 11, 12):
            one.add(key, Terms("b"))

        assert order(one) == [10, 4, 11, 5, 12]

    def test_priority(self):
        """Higher priorities go first among a tenant's own; among equals, who came first."""
        assert order(waiting(Terms("a"), Terms("a", -1), Terms("a", 3), Terms("a", 3))) == [2, 3, 0, 1]

    def test_priority_passes_no_other_tenant(self):
        """However high a tenant's priorities are, the others have their turns as if there were none."""
        assert order(waiting(*[Terms("a", 9)] * 3, Terms("b", -9), Terms("b", -9), Terms("b"))) == [0, 5, 1, 3, 2, 4]

    def test_removed(self):
        """Who leaves is not taken."""
        one = waiting(*[Terms("a")] * 3)

        assert (one.remove(1), one.remove(1), 1 in one) == (True, False, False)
        assert order(one) == [0, 2]


class TestPatience:
    @settings(deadline=None, max_examples=50)
    @given(PRIORITY, st.integers(0, 20))
    def test_no_starvation_by_priority(self, priority, before):
        """However many of its tenant's come behind with the highest priority, a request is taken."""
        one = waiting(*[Terms("a", PRIORITY_LIMIT)] * before)
        one.add(-1, Terms("a", priority))
        taken = -2
        for turn in range((before + 1) * PATIENCE):
            one.add(1000 + turn, Terms("a", PRIORITY_LIMIT))
            if (taken := one.take()) == -1:
                break
        assert taken == -1

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 20))
    def test_no_starvation_by_newcomers(self, before):
        """However many tenants come that have had no turn yet, those that had one go on."""
        one = waiting(*[Terms("a")] * before)
        one.add(-1, Terms("a"))
        taken = -2
        for turn in range((before + 1) * PATIENCE):
            one.add(1000 + turn, Terms(f"new {turn}", PRIORITY_LIMIT))
            if (taken := one.take()) == -1:
                break
        assert taken == -1

    @given(st.lists(st.tuples(st.sampled_from("abc"), PRIORITY), max_size=30))
    def test_each_once(self, terms):
        """All who wait are taken, each once."""
        one = waiting(*(Terms(tenant, priority) for tenant, priority in terms))

        assert sorted(order(one)) == list(range(len(terms)))
        assert len(one) == 0
