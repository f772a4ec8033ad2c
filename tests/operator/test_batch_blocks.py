"""Prompts in whole blocks, and all that follows in smaller pieces: what is in a block depends on the prompt alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.batch import Batcher, Plan
from aos.operator.waiting import Terms

BLOCK = 4
A = Terms("a")


@dataclass
class Memory:
    """What a model holds: of each slot its tokens, and whether each was computed in a block."""

    slots: dict[int, list[tuple[int, bool]]] = field(default_factory=dict)

    def compute(self, plan: Plan) -> None:
        for one in plan.reuses:
            self.slots[one.slot] = self.slots.get(one.source, [])[: one.count]
        for row in plan.rows:
            held = self.slots.setdefault(row.slot, [])
            assert len(held) == row.position
            whole = len(row.tokens) >= BLOCK
            if whole:
                assert row.position % BLOCK == len(row.tokens) % BLOCK == 0
            held += [(token, whole) for token in row.tokens]


def expected(prompt: list[int], drawn: list[int]) -> list[tuple[int, bool]]:
    whole = len(prompt) - len(prompt) % BLOCK
    return [(token, at < whole) for at, token in enumerate([*prompt, *drawn])]


@st.composite
def requests(draw):
    """Prompts that begin alike, and how many tokens are drawn behind each."""
    length = st.integers(1, 23)
    bodies = draw(st.lists(st.tuples(length, st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=7))
    return [
        ([*range(min(shared * 5, count)), *[100 + key] * max(0, count - shared * 5)], drawn)
        for key, (count, shared, drawn) in enumerate(bodies)
    ]


class TestBlocks:
    @given(requests(), st.integers(1, 3), st.integers(5, 12), st.booleans(), st.data())
    @settings(max_examples=150)
    def test_in_any_company(self, asked, slots, budget, rewinds, data):
        """Whatever is shared, waits, is forgotten or cut: each token is computed as it would be alone."""
        batcher, memory = Batcher(slots=slots, budget=budget, block=BLOCK), Memory()
        left = {key: (prompt, []) for key, (prompt, _) in enumerate(asked)}
        for key, (prompt, _) in left.items():
            batcher.add(key, prompt, A)
        for _ in range(1000):
            if not left:
                break
            plan = batcher.plan(lambda drawing, prompts: 1)
            memory.compute(plan)
            for row in plan.rows:
                prompt, drawn = left[row.key]
                assert memory.slots[row.slot] == expected(prompt, drawn)[: row.position + len(row.tokens)]
                if not row.draws:
                    continue
                if len(drawn) == asked[row.key][1]:
                    batcher.drop(row.key)
                    del left[row.key]
                else:
                    drawn.append(1000 + len(drawn))
                    batcher.drew(row.key, drawn[-1])
            if rewinds and data.draw(st.integers(0, 9)) == 0:
                memory.slots.clear()
                batcher.rewind()
        assert not left

    def test_next_turn(self):
        """The next turn of a conversation finds the whole blocks of the last prompt, and nothing of the answer."""
        batcher, memory = Batcher(slots=1, budget=64, block=BLOCK), Memory()
        batcher.add(1, [1, 2, 3, 4, 5], A)
        for _ in range(2):
            memory.compute(batcher.plan())
        for token in range(6, 12):
            batcher.drew(1, token)
            memory.compute(batcher.plan())
        batcher.drop(1)

        batcher.add(2, list(range(1, 20)), A)
        memory.compute(batcher.plan())

        assert batcher.cached(2) == BLOCK

    def test_same_again(self):
        """The same prompt finds itself, its rest in smaller pieces included, but for the last token."""
        batcher, memory = Batcher(slots=1, budget=64, block=BLOCK), Memory()
        for key in range(2):
            batcher.add(key, list(range(11)), A)
            for _ in range(2):
                memory.compute(batcher.plan())
            cached = batcher.cached(key)
            batcher.drop(key)

        assert cached == 10

    def test_more_than_a_step(self):
        """A block that is larger than what a step may take at most is no way to run."""
        with pytest.raises(ValueError, match="blocks of 9"):
            Batcher(slots=1, budget=8, block=9)
