"""How sequences are shared out over decodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.operator.batch import Row
from aos.operator.engine import Engine
from aos.operator.grouping import GAIN, MEASURED, groups, measure
from aos.operator.llama import loaded
from aos.operator.sampling import Logits
from aos.settings import bundled_model
from aos.testing.scripted import ScriptedModel
from tests.operator.orders import answer, asking

SECONDS = st.lists(st.floats(0.001, 1), min_size=1, max_size=6)


class TestGroups:
    def test_sequences_go_together_where_that_is_as_fast(self) -> None:
        """A decode of four takes as long as a decode of one: one decode."""
        assert groups(4, [1.0, 1.0, 1.0, 1.0]) == [4]

    def test_sequences_go_alone_where_a_batch_costs_more_than_its_parts(self) -> None:
        """The figures of a model of 110 M parameters on AVX-512: two and three go one by one, four at once."""
        seconds = [4.4, 13.0, 15.0, 16.5]
        assert [groups(count, seconds) for count in range(1, 5)] == [[1], [1, 1], [1, 1, 1], [4]]

    def test_a_gain_too_small_to_be_sure_of_changes_nothing(self) -> None:
        """Two alone take 95 % of the time of two together."""
        assert groups(2, [0.95, 2.0]) == [2]

    def test_more_than_were_measured_go_together(self) -> None:
        """Nothing is known of five."""
        assert groups(5, [1.0, 9.0]) == [5]
        assert groups(3, []) == [3]

    def test_nobody_makes_no_group(self) -> None:
        """There may be nothing but prompts in a step."""
        assert groups(0, [1.0]) == []

    @given(SECONDS, st.integers(1, 6))
    def test_everybody_goes_once_and_no_other_way_is_much_faster(self, seconds: list[float], count: int) -> None:
        """The groups add up, and take no longer than any other division less what counts as a gain."""
        chosen = groups(count, seconds)
        assert sum(chosen) == count
        if count > len(seconds):
            return
        divisions = (
            sizes
            for parts in range(1, count + 1)
            for sizes in combinations_with_replacement(range(1, count + 1), parts)
            if sum(sizes) == count
        )
        fastest = min(sum(seconds[size - 1] for size in sizes) for sizes in divisions)
        assert sum(seconds[size - 1] for size in chosen) * GAIN <= fastest + 1e-9


class Idle:
    """Computes nothing, in no time."""

    slots = 2

    def decode(self, rows: Sequence[Row]) -> None:
        assert [row.slot for row in rows] == list(range(len(rows)))

    def clear(self) -> None:
        pass


class TestMeasure:
    async def test_a_real_model_is_measured_when_it_is_loaded(self) -> None:
        """The bundled model knows what a decode of one to four sequences takes, and is empty afterwards."""
        async with loaded(bundled_model(), slots=8, context=64) as model:
            assert len(model.step_seconds) == MEASURED
            assert all(0 < one < 10 for one in model.step_seconds)

    def test_the_least_of_several_times_counts(self) -> None:
        """One decode in between takes a thousand times as long: something else ran."""
        readings = iter([0.0, 1.0, 0.0, 2.0, 0.0, 1000.0, 0.0, 1.5, 0.0, 1.2, 0.0, 2000.0])
        assert measure(Idle(), lambda: next(readings)) == [1.0, 1.5]


class TestEngine:
    @pytest.mark.parametrize(("seconds", "most"), [([1.0, 9.0], 1), ([1.0, 1.1], 2)])
    async def test_small_batches_are_cut_where_that_pays(self, seconds: list[float], most: int) -> None:
        """Two answers are drawn one by one if two together take longer, else together; they are the same either way."""
        script = "a rather long answer, letter by letter"
        model, sizes = ScriptedModel(script, slots=2), set[int]()
        model.step_seconds, decode = seconds, model.decode

        def watched(rows: Sequence[Row]) -> Sequence[Logits]:
            if all(len(row.tokens) == 1 for row in rows):
                sizes.add(len(rows))
            return decode(rows)

        model.decode = watched
        hold = model.hold()
        async with Engine("m", model) as engine:
            asked = [asyncio.create_task(answer(engine, asking(f"question {number}"))) for number in range(2)]
            await hold.reached()
            hold.release()
            answers = await asyncio.gather(*asked)
        assert {one.text for one in answers} == {script}
        assert max(sizes) == most
