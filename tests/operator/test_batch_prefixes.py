"""What is kept of finished requests, and who may go on with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.batch import Batcher
from aos.operator.prefixes import BLOCK, COPY_TOKENS, Prefixes, Reuse, common_prefix
from aos.operator.waiting import Terms

A, B = Terms("a"), Terms("b")
SYSTEM = list(range(COPY_TOKENS + 10))


def run(batcher: Batcher, key: int, tokens: list[int], terms: Terms = A) -> int:
    """Compute a prompt to its end; return how much of it was there."""
    batcher.add(key, tokens, terms)
    while not any(row.key == key and row.draws for row in batcher.plan().rows):
        pass
    cached = batcher.cached(key)
    batcher.drop(key)
    return cached


class TestReuse:
    def test_next_turn(self):
        """The next turn of a conversation finds all of the last one, the answer included."""
        batcher = Batcher(slots=2, budget=8)
        batcher.add(1, [1, 2, 3], A)
        batcher.plan()
        batcher.drew(1, 4)
        batcher.plan()
        batcher.drop(1)

        assert run(batcher, 2, [1, 2, 3, 4, 5, 6]) == 4

    def test_same_again(self):
        """The last token is always computed: its logits are wanted."""
        batcher = Batcher(slots=2, budget=8)

        assert [run(batcher, key, [1, 2, 3]) for key in range(3)] == [0, 2, 2]

    def test_drawn_and_not_computed(self):
        """A token that was drawn and never decoded is not there."""
        batcher = Batcher(slots=1, budget=8)
        batcher.add(1, [1, 2], A)
        batcher.plan()
        batcher.drew(1, 3)
        batcher.drop(1)

        assert run(batcher, 2, [1, 2, 3, 4]) == 2

    def test_other_tenant(self):
        """What was computed for one tenant is never there for another, in whichever slot."""
        batcher = Batcher(slots=1, budget=200)
        run(batcher, 1, SYSTEM)

        assert [run(batcher, key, [*SYSTEM, key], terms) for key, terms in ((2, B), (3, A), (4, A))] == [0, 0, len(SYSTEM)]

    def test_conversation_survives(self):
        """A prompt that shares little with a conversation leaves it whole, as long as there is another place."""
        batcher = Batcher(slots=2, budget=200)
        talk = [1, 2, *range(50, 80)]
        run(batcher, 1, talk)
        assert run(batcher, 2, [1, 2, 9]) == 0

        assert run(batcher, 3, [*talk, 3]) == len(talk)

    def test_shared_prompt_is_copied(self):
        """A long beginning that a conversation has is copied, and the conversation goes on where it was."""
        batcher = Batcher(slots=3, budget=500)
        talk = [*SYSTEM, *range(200, 400)]
        run(batcher, 1, talk)

        assert run(batcher, 2, [*SYSTEM, 5]) == len(SYSTEM)
        assert run(batcher, 3, [*talk, 3]) == len(talk)

    def test_running_sequence_is_copied(self):
        """A sequence that is running gives its beginning to others."""
        batcher = Batcher(slots=2, budget=500)
        batcher.add(1, [*SYSTEM, 1], A)
        batcher.plan()
        batcher.add(2, [*SYSTEM, 2, 3], A)
        plan = batcher.plan()

        assert Reuse(1, 0, len(SYSTEM)) in plan.reuses
        assert [row.tokens for row in plan.rows if row.key == 2] == [[2, 3]]

    def test_computed_once(self):
        """Requests that come together with the same long beginning compute it once: the others wait for the first."""
        batcher = Batcher(slots=8, budget=100)
        for key in range(8):
            batcher.add(key, [*SYSTEM, key, key], A)
        computed, ready = 0, set()
        for _ in range(10):
            for row in batcher.plan().rows:
                computed += len(row.tokens)
                if row.draws:
                    ready.add(row.key)
                    batcher.drop(row.key)

        assert ready == set(range(8))
        assert computed == len(SYSTEM) + 8 * 2

    def test_leader_leaves(self):
        """If the first one leaves half-way, the next goes on with what there is."""
        batcher = Batcher(slots=3, budget=100)
        long = list(range(300))
        for key in range(3):
            batcher.add(key, [*long, 1000 + key], A)
        batcher.plan()
        batcher.drop(0)
        computed = 0
        for _ in range(10):
            for row in batcher.plan().rows:
                computed += len(row.tokens)
                if row.draws:
                    batcher.drop(row.key)

        assert batcher.running == 0
        assert computed == 200 + 2

    def test_long_unused_goes_first(self):
        """The conversation that nobody asked about for longest is the one that is given up."""
        batcher = Batcher(slots=3, budget=100)
        talks = [[key] * 20 for key in range(1, 4)]
        for key, talk in enumerate(talks):
            run(batcher, key, talk)
        run(batcher, 10, [*talks[0], 9])
        run(batcher, 11, [77] * 20)

        assert run(batcher, 12, [*talks[0], 9, 9]) == 21
        assert run(batcher, 13, [*talks[2], 9]) in {0, 20}

    def test_rewound(self):
        """After a failure that emptied the model's memory nothing is there."""
        batcher = Batcher(slots=2, budget=100)
        run(batcher, 1, SYSTEM)
        batcher.rewind()

        assert run(batcher, 2, SYSTEM) == 0

    def test_not_reusable(self):
        """Where a model cannot go on behind a prefix, every request begins from nothing."""
        batcher = Batcher(slots=2, budget=100, reuse=False)

        assert [run(batcher, key, SYSTEM) for key in range(3)] == [0, 0, 0]


class TestSlots:
    def test_neighbours(self):
        """Of the places that may be taken, one next to a running sequence is."""
        prefixes = Prefixes(6)
        for slot in range(6):
            assert prefixes.seat("t", [slot]).slot == slot
        for slot in (2, 4, 1, 5, 0):
            prefixes.release(slot)

        assert prefixes.seat("t", [9]).slot in {2, 4}

    @settings(deadline=None, max_examples=50)
    @given(st.data())
    def test_never_the_wrong_prefix(self, data):
        """What is reused is in the source, in this order, for this tenant, and never the whole of a request."""
        prefixes = Prefixes(data.draw(st.integers(1, 5)))
        memory: dict[int, tuple[str, list[int]]] = {}
        busy: list[int] = []
        for _ in range(40):
            if busy and (data.draw(st.booleans()) or len(busy) == len(prefixes.held)):
                prefixes.release(busy.pop(data.draw(st.integers(0, len(busy) - 1))))
                continue
            tenant = data.draw(st.sampled_from("ab"))
            head = data.draw(st.sampled_from([[], SYSTEM, SYSTEM[:70], [*SYSTEM[:65], 999, *SYSTEM]]))
            tokens = [*head, *data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))]
            reuse = prefixes.seat(tenant, tokens)
            assert reuse.slot not in busy
            if reuse.count:
                owner, there = memory[reuse.source]
                assert owner == tenant
                assert there[: reuse.count] == tokens[: reuse.count]
                assert reuse.count < len(tokens)
            memory[reuse.slot] = tenant, tokens
            prefixes.held[reuse.slot].count = len(tokens)
            busy.append(reuse.slot)


class TestCommonPrefix:
    @given(st.integers(0, 3 * BLOCK), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3 * BLOCK))
    def test_naive(self, same, more, others, limit):
        """It is what comparing one by one gives."""
        one, other = [*range(same), *[-1] * more], [*range(same), *[-2] * others]

        assert common_prefix(one, other, limit) == min(same, limit)

    @pytest.mark.parametrize(("one", "other"), [([], []), ([1], []), ([], [1])])
    def test_empty(self, one, other):
        """Nothing shares nothing."""
        assert common_prefix(one, other, 5) == 0
