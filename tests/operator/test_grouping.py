"""How sequences are shared out over decodes."""

from __future__ import annotations

from itertools import combinations_with_replacement

from hypothesis import given
from hypothesis import strategies as st

from aos.operator.grouping import GAIN, groups

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
