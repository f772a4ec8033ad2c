"""Sequences that change behind their end, and slots that go from one to another."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.batch import Batcher, Plan
from aos.operator.prefixes import COPY_TOKENS
from aos.operator.waiting import Terms

LONG = list(range(COPY_TOKENS + 20))


class Memory:
    """What a model would hold that does as it is told, and checks that it can."""

    def __init__(self, *, reusable: bool = True, block: int = 0) -> None:
        self.held: dict[int, list[int]] = {}
        self._whole: dict[int, list[bool]] = {}
        self.whole: dict[int, list[bool]] = {}
        """Of each key, which of its tokens were computed in whole blocks, as of its last row."""
        self._reusable, self._block = reusable, block

    def take(self, plan: Plan) -> dict[int, list[int]]:
        """Compute a step; return whole sequences by the keys of the rows that draw."""
        for one in plan.reuses:
            assert one.count <= len(self.held.get(one.source, []))
            assert self._reusable or not one.count
            self.held[one.slot] = self.held.get(one.source, [])[: one.count]
            self._whole[one.slot] = self._whole.get(one.source, [])[: one.count]
        for row in plan.rows:
            assert len(self.held.setdefault(row.slot, [])) == row.position
            self.held[row.slot] += row.tokens
            whole = bool(self._block) and len(row.tokens) >= self._block
            assert not whole or row.position % self._block == len(row.tokens) % self._block == 0
            self.whole[row.key] = self._whole.setdefault(row.slot, [])
            self.whole[row.key] += [whole] * len(row.tokens)
        return {row.key: list(self.held[row.slot]) for row in plan.rows if row.draws}


class TestChange:
    def test_replaced(self):
        """What comes in the place of a sequence's end is computed behind what is left."""
        batcher, memory = Batcher(slots=2, budget=64), Memory()
        batcher.add(1, [1, 2, 3, 4])
        memory.take(batcher.plan())
        batcher.change(1, 2, [7, 8])
        plan = batcher.plan()

        assert (plan.rows[0].position, plan.rows[0].tokens) == (2, [7, 8])
        assert memory.take(plan) == {1: [1, 2, 7, 8]}

    def test_only_shortened(self):
        """Of a sequence that is only shortened, the last token is computed again, for its logits."""
        batcher, memory = Batcher(slots=2, budget=64), Memory()
        batcher.add(1, [1, 2, 3, 4])
        memory.take(batcher.plan())
        batcher.change(1, 2, [])
        plan = batcher.plan()

        assert (plan.rows[0].position, plan.rows[0].tokens) == (1, [2])
        assert memory.take(plan) == {1: [1, 2]}

    def test_shortened_to_whole_blocks(self):
        """What ends where a block of the prompt does is not waited for: that block is computed again."""
        batcher, memory = Batcher(slots=1, budget=8, block=2), Memory(block=2)
        batcher.add(1, [1, 2, 3, 4, 5, 6, 7])
        while batcher.pending:
            memory.take(batcher.plan())
        batcher.change(1, 3, [])
        plan = batcher.plan()

        assert [(row.position, row.tokens) for row in plan.rows] == [(2, [3, 4])]
        assert memory.take(plan) == {1: [1, 2, 3, 4]}

    def test_while_it_waits(self):
        """A sequence that waits for a slot changes, too."""
        batcher, memory = Batcher(slots=1, budget=64), Memory()
        batcher.add(1, [1])
        batcher.add(2, [1, 2, 3])
        memory.take(batcher.plan())
        batcher.change(2, 1, [9])
        batcher.drop(1)

        assert memory.take(batcher.plan()) == {2: [1, 2, 9]}

    def test_nobody_waits_for_what_is_taken_back(self):
        """Who waits for another to compute the same beginning goes on by itself if that is taken back."""
        batcher, memory = Batcher(slots=2, budget=16), Memory()
        batcher.add(1, [*LONG, 1])
        batcher.add(2, [*LONG, 2])
        memory.take(batcher.plan())
        batcher.change(1, len(LONG) - 4, [5])
        seen: dict[int, list[int]] = {}
        while batcher.pending:
            seen |= memory.take(batcher.plan())

        assert seen == {1: [*LONG[:5], 5], 2: [*LONG, 2]}


class TestHand:
    def test_goes_on_with_what_is_there(self):
        """Who is given a slot goes on behind what it shares with whoever had it."""
        batcher, memory = Batcher(slots=1, budget=64), Memory()
        batcher.add(1, [1, 2, 3, 4])
        memory.take(batcher.plan())
        batcher.add(2, [1, 2, 7, 8])
        batcher.hand(1, 2)
        plan = batcher.plan()

        assert (plan.rows[0].position, 1 in batcher, batcher.waiting) == (2, False, 0)
        assert memory.take(plan) == {2: [1, 2, 7, 8]}

    def test_other_tenant(self):
        """A tenant never goes on behind what another computed."""
        batcher, memory = Batcher(slots=1, budget=64), Memory()
        batcher.add(1, [1, 2, 3, 4], Terms("a"))
        memory.take(batcher.plan())
        batcher.add(2, [1, 2, 3, 4], Terms("b"))
        batcher.hand(1, 2)

        assert batcher.plan().rows[0].position == 0

    def test_copied(self):
        """What another slot has of it is copied, if that is worth it."""
        batcher, memory = Batcher(slots=2, budget=512), Memory()
        batcher.add(1, [*LONG, 1])
        batcher.add(2, [9, 9])
        memory.take(batcher.plan())
        batcher.add(3, [*LONG, 3])
        batcher.hand(2, 3)
        plan = batcher.plan()

        assert [row.position for row in plan.rows] == [len(LONG)]
        assert memory.take(plan) == {3: [*LONG, 3]}


class Course:
    """Sequences as they must be, beside a batcher that has them."""

    def __init__(self, batcher: Batcher, memory: Memory, block: int = 0) -> None:
        self.batcher, self.memory, self.block = batcher, memory, block
        self.tokens: dict[int, list[int]] = {}
        self.prompts: dict[int, int] = {}
        self.done = set[int]()

    def add(self, key: int, tokens: list[int], tenant: str) -> None:
        self.tokens[key], self.prompts[key] = list(tokens), len(tokens)
        self.batcher.add(key, tokens, Terms(tenant))

    def change(self, key: int, back: int, more: list[int]) -> None:
        back = min(back, len(self.tokens[key]) - 1)
        self.batcher.change(key, back, more)
        kept = len(self.tokens[key]) - back
        self.tokens[key] = [*self.tokens[key][:kept], *more]
        self.prompts[key] = min(self.prompts[key], kept)
        self.done.discard(key)

    def drop(self, key: int) -> None:
        self.batcher.drop(key)
        self._forget(key)

    def hand(self, key: int) -> None:
        to = next((other for other in self.tokens if self.batcher.waits(other)), None)
        if self.batcher.seated(key) and to is not None:
            self.batcher.hand(key, to)
            self._forget(key)

    def step(self) -> None:
        for key, whole in self.memory.take(self.batcher.plan()).items():
            assert whole == self.tokens[key]
            blocks = self.prompts[key] - self.prompts[key] % self.block if self.block else 0
            assert self.memory.whole[key] == [at < blocks for at in range(len(whole))]
            self.done.add(key)

    def _forget(self, key: int) -> None:
        del self.tokens[key]
        self.done.discard(key)


SHORT = st.lists(st.integers(0, 2), max_size=3)
MOVES = st.lists(
    st.tuples(st.sampled_from(["change", "drop", "hand", "step", "step"]), st.integers(0, 11), st.integers(0, 5), SHORT)
)


class TestAnyCourse:
    @settings(max_examples=100, deadline=None)
    @given(
        starts=st.lists(
            st.tuples(st.sampled_from([0, 3, len(LONG)]), SHORT, st.sampled_from("ab"), MOVES), min_size=1, max_size=12
        ),
        slots=st.integers(1, 4),
        budget=st.integers(4, 80),
        reusable=st.booleans(),
        block=st.sampled_from([0, 2, 4]),
    )
    def test_what_is_computed_is_what_there_is(
        self,
        starts: list[tuple[int, list[int], str, list[tuple[str, int, int, list[int]]]]],
        slots: int,
        budget: int,
        reusable: bool,
        block: int,
    ):
        """Whatever changes, comes, goes and is handed on: each sequence is computed as it is, and nobody waits for ever."""
        batcher = Batcher(slots=slots, budget=budget, reuse=reusable, block=block)
        course = Course(batcher, Memory(reusable=reusable, block=block), block)
        for number, (shared, own, tenant, moves) in enumerate(starts):
            course.add(number, [*LONG[:shared], 1, *own], tenant)
            for move, key, back, more in moves:
                if move == "step":
                    course.step()
                elif key in course.tokens and move == "change":
                    course.change(key, back, more)
                elif key in course.tokens:
                    (course.drop if move == "drop" else course.hand)(key)
        for _ in range(500):
            course.step()
            for key in sorted(course.done):
                course.drop(key)
            if not course.batcher.pending:
                break
        assert course.tokens == {}
