"""Planning steps: nothing lost, nothing doubled, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.batch import Batcher, Row


class Decoder:
    """Takes rows as a model would, and refuses what no model could take."""

    def __init__(self) -> None:
        self.memory: dict[int, list[int]] = {}

    def decode(self, rows: list[Row]) -> None:
        assert [row.slot for row in rows] == sorted({row.slot for row in rows}), "slots in order, each once"
        for row in rows:
            sequence = self.memory.setdefault(row.slot, [])
            assert row.tokens
            assert row.position == len(sequence)
            sequence.extend(row.tokens)


WORK = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=12)


class TestBatcher:
    @settings(deadline=None, max_examples=50)
    @given(WORK, st.integers(1, 5), st.integers(0, 20), st.data())
    def test_every_sequence_ends(self, work, slots, spare, data):
        """Whatever comes, goes and fails, each sequence is decoded whole, in order, within the budget, until it ends."""
        budget = slots + spare
        batcher, decoder = Batcher(slots=slots, budget=budget), Decoder()
        coming = [(key, [key * 1000 + at for at in range(length)], draws) for key, (length, draws) in enumerate(work)]
        left, told = {}, {}
        for _ in range(sum(length + draws + 2 for length, draws in work) * 3):
            for key, tokens, draws in coming[: data.draw(st.integers(0, 2)) or (not left)]:
                batcher.add(key, tokens)
                left[key], told[key] = draws, list(tokens)
                coming.remove((key, tokens, draws))
            if left and data.draw(st.integers(0, 15)) == 15:
                gone = data.draw(st.sampled_from(sorted(left)))
                slot = batcher.drop(gone)
                decoder.memory.pop(slot, None)
                del left[gone]
            if data.draw(st.integers(0, 15)) == 15:
                decoder.memory.clear()
                batcher.rewind()
            rows = batcher.plan()
            decoder.decode(rows)
            assert bool(rows) == bool(left)
            assert sum(len(row.tokens) for row in rows) <= budget
            for row in rows:
                assert row.key in left
                assert row.draws == (len(decoder.memory[row.slot]) == len(told[row.key]))
                if not row.draws:
                    continue
                assert decoder.memory[row.slot] == told[row.key]
                left[row.key] -= 1
                if left[row.key]:
                    told[row.key].append(-len(told[row.key]))
                    batcher.drew(row.key, told[row.key][-1])
                else:
                    assert batcher.drop(row.key) == row.slot
                    del decoder.memory[row.slot], left[row.key]
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
            rows = batcher.plan()
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

        first, second = batcher.plan(), None
        batcher.drew(1, 7)
        second = batcher.plan()

        assert [(row.key, row.position, len(row.tokens), row.draws) for row in first] == [(1, 0, 6, True), (2, 0, 4, False)]
        assert [(row.key, row.position, len(row.tokens), row.draws) for row in second] == [(1, 6, 1, True), (2, 4, 5, True)]

    def test_lowest_slot_first(self):
        """A slot that becomes free is given out again before higher ones."""
        batcher = Batcher(slots=3, budget=9)
        for key in range(3):
            batcher.add(key, [key])
        batcher.plan()
        assert batcher.drop(0) == 0
        batcher.add(7, [7])

        assert [(row.key, row.slot) for row in batcher.plan() if row.key == 7] == [(7, 0)]

    def test_waiting(self):
        """Who finds no slot waits, and gets the next one in the order of coming."""
        batcher = Batcher(slots=1, budget=4)
        for key in range(3):
            batcher.add(key, [key])
        batcher.plan()
        assert (batcher.running, batcher.waiting) == (1, 2)
        assert batcher.drop(1) is None, "it had no slot yet"
        batcher.drop(0)

        assert [row.key for row in batcher.plan()] == [2]

    def test_dropped_twice(self):
        """Letting go of what is gone already does nothing."""
        batcher = Batcher(slots=1, budget=4)
        batcher.add(1, [1])
        batcher.plan()

        assert [batcher.drop(1), batcher.drop(1)] == [0, None]

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
