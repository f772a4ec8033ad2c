"""Planning steps: nothing lost, nothing doubled, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.batch import Batcher, Plan
from aos.operator.prefixes import COPY_TOKENS
from aos.operator.waiting import PRIORITY_LIMIT, Terms


class Decoder:
    """Takes plans as a model would, and refuses what no model could take."""

    def __init__(self) -> None:
        self.memory: dict[int, list[int]] = {}

    def decode(self, plan: Plan) -> None:
        for one in plan.reuses:
            held = self.memory.get(one.source, [])
            assert one.count <= len(held)
            self.memory[one.slot] = held[: one.count]
        assert [row.slot for row in plan.rows] == sorted({row.slot for row in plan.rows}), "slots in order, each once"
        for row in plan.rows:
            sequence = self.memory.setdefault(row.slot, [])
            assert row.tokens
            assert row.position == len(sequence)
            sequence.extend(row.tokens)


# prompts of three letters share prefixes often; some are long enough to be worth a copy
PROMPT = st.one_of(
    st.lists(st.integers(0, 2), min_size=1, max_size=20),
    st.integers(0, 30).map(lambda more: [7] * (COPY_TOKENS + more)),
    st.integers(0, 30).map(lambda more: [7] * COPY_TOKENS + [8] * (more + 1)),
)
REQUEST = st.tuples(PROMPT, st.integers(1, 6), st.sampled_from("ab"), st.integers(-PRIORITY_LIMIT, PRIORITY_LIMIT))
WORK = st.lists(REQUEST, min_size=1, max_size=12)


class TestBatcher:
    @settings(deadline=None, max_examples=100)
    @given(WORK, st.integers(1, 5), st.integers(0, 20), st.booleans(), st.data())
    def test_every_sequence_ends(self, work, slots, spare, reuse, data):
        """Whatever comes, goes and fails, each sequence is decoded whole, in order, within the budget, until it ends.

        What it finds there is always its own beginning.
        """
        budget = slots + spare
        batcher, decoder = Batcher(slots=slots, budget=budget, reuse=reuse), Decoder()
        coming = list(enumerate(work))
        left, told = {}, {}
        for _ in range(sum(len(prompt) + draws + 3 for prompt, draws, _, _ in work) * 3):
            for key, (tokens, draws, tenant, priority) in coming[: data.draw(st.integers(0, 2)) or (not left)]:
                batcher.add(key, tokens, Terms(tenant, priority))
                left[key], told[key] = draws, list(tokens)
                coming = [one for one in coming if one[0] != key]
            if left and data.draw(st.integers(0, 15)) == 15:
                gone = data.draw(st.sampled_from(sorted(left)))
                batcher.drop(gone)
                del left[gone]
            if data.draw(st.integers(0, 15)) == 15:
                decoder.memory.clear()
                batcher.rewind()
            most = data.draw(st.none() | st.integers(1, 10))
            plan = batcher.plan(most and (lambda *_, most=most: most))
            decoder.decode(plan)
            rows = plan.rows
            assert bool(rows) == bool(left)
            assert plan.drawing + plan.prompt_tokens == sum(len(row.tokens) for row in rows) <= budget
            assert most is None or not plan.drawing or plan.prompt_tokens <= most
            assert reuse or not any(one.count for one in plan.reuses)
            for row in rows:
                assert row.key in left
                assert decoder.memory[row.slot] == told[row.key][: len(decoder.memory[row.slot])]
                assert row.draws == (len(decoder.memory[row.slot]) == len(told[row.key]))
                if not row.draws:
                    continue
                left[row.key] -= 1
                if left[row.key]:
                    told[row.key].append(-len(told[row.key]))
                    batcher.drew(row.key, told[row.key][-1])
                else:
                    batcher.drop(row.key)
                    del left[row.key]
            if not left and not coming:
                break
        assert not left
        assert not coming
        assert batcher.running == batcher.waiting == 0

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(2, 60), min_size=1, max_size=4), st.integers(0, 8))
    def test_prompts_never_hold_up_answers(self, prompts, spare):
        """Who is drawing gets a token in every step, however many and long the prompts that come in."""
        batcher = Batcher(slots=5, budget=5 + spare)
        batcher.add(0, [1])
        for key, length in enumerate(prompts, 1):
            batcher.add(key, [key] * length)
        for step in range(20):
            rows = batcher.plan().rows
            assert any(row.key == 0 and row.draws for row in rows), step
            batcher.drew(0, step)
            for row in rows:
                if row.key and row.draws:
                    batcher.drop(row.key)

    def test_prompts_share_what_is_left(self):
        """A step takes the whole of a short prompt and the beginning of the next, up to the budget."""
        batcher = Batcher(slots=4, budget=10)
        batcher.add(1, [1] * 6)
        batcher.add(2, [2] * 9)

        first, second = batcher.plan().rows, None
        batcher.drew(1, 7)
        second = batcher.plan().rows

        assert [(row.key, row.position, len(row.tokens), row.draws) for row in first] == [(1, 0, 6, True), (2, 0, 4, False)]
        assert [(row.key, row.position, len(row.tokens), row.draws) for row in second] == [(1, 6, 1, True), (2, 4, 5, True)]

    def test_nobody_waits_for_a_token_that_is_not_there_yet(self):
        """A sequence whose next token is still to be drawn is left out, keeps its place, and goes on when it comes."""
        batcher = Batcher(slots=2, budget=9)
        batcher.add(0, [1, 2])
        batcher.add(1, [3, 4])
        batcher.plan()

        batcher.drew(1, 5)
        assert [(row.key, row.position) for row in batcher.plan().rows] == [(1, 2)]
        assert batcher.plan().rows == []
        batcher.drew(0, 6)
        assert [(row.key, row.position, row.tokens, row.draws) for row in batcher.plan().rows] == [(0, 2, [6], True)]

    def test_lowest_slot_first(self):
        """A slot that becomes free is given out again before higher ones."""
        batcher = Batcher(slots=3, budget=9)
        for key in range(3):
            batcher.add(key, [key])
        batcher.plan()
        batcher.drop(0)
        batcher.add(7, [7])

        assert [(row.key, row.slot) for row in batcher.plan().rows if row.key == 7] == [(7, 0)]

    def test_waiting(self):
        """Who finds no slot waits, and gets the next one in the order of coming."""
        batcher = Batcher(slots=1, budget=4)
        for key in range(3):
            batcher.add(key, [key])
        batcher.plan()
        assert (batcher.running, batcher.waiting) == (1, 2)
        batcher.drop(1)
        batcher.drop(0)

        assert [row.key for row in batcher.plan().rows] == [2]

    def test_dropped_twice(self):
        """Letting go of what is gone already does nothing."""
        batcher = Batcher(slots=1, budget=4)
        batcher.add(1, [1])
        batcher.plan()

        batcher.drop(1)
        batcher.drop(1)

        assert (batcher.running, batcher.waiting) == (0, 0)

    def test_pause_is_bounded(self):
        """While somebody draws, prompts get no more than they are given; while nobody does, the whole step."""
        batcher = Batcher(slots=2, budget=100)
        batcher.add(1, [1])
        batcher.plan()
        batcher.drew(1, 5)
        batcher.add(2, [2] * 300)
        mixed = batcher.plan(lambda *_: 7)
        batcher.drop(1)
        alone = batcher.plan(lambda *_: 7)

        assert (mixed.drawing, mixed.prompt_tokens) == (1, 7)
        assert (alone.drawing, alone.prompt_tokens) == (0, 100)

    def test_short_prompts_pass_long_ones(self):
        """A short prompt is done while a long one that came before goes on, too."""
        batcher = Batcher(slots=3, budget=20)
        batcher.add(1, [1] * 500)
        batcher.add(2, [2] * 200)
        batcher.add(3, [3] * 8)

        assert [(row.key, len(row.tokens), row.draws) for row in batcher.plan().rows] == [
            (1, 10, False),
            (2, 2, False),
            (3, 8, True),
        ]

    @pytest.mark.parametrize(("slots", "budget"), [(0, 4), (5, 4)])
    def test_budget_below_the_slots(self, slots, budget):
        """A budget that could not give every slot its token is refused."""
        with pytest.raises(ValueError, match="cannot serve"):
            Batcher(slots=slots, budget=budget)

    def test_same_sequence_twice(self):
        """A key that is in use is refused."""
        batcher = Batcher(slots=1, budget=4)
        batcher.add(1, [1])

        with pytest.raises(ValueError, match="here already"):
            batcher.add(1, [2])
