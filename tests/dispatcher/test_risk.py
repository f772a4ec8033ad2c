"""How closely a user's jobs are looked at."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher.risk import WHOLE, Past, Position, RiskSettings, Standing, Tag, place, review

SETTINGS = RiskSettings()
TAGGED = Tag.SUSPICION, Tag.MALICIOUS
tags = st.sampled_from(Tag)
positions = st.sampled_from(Position)
pasts = st.lists(tags, max_size=25).map(lambda reviewed: [Past(f"j{index}", tag) for index, tag in enumerate(reviewed)])
limits = st.builds(
    RiskSettings, before_jobs=st.integers(0, 5), after_jobs=st.integers(0, 5), clean_reviews=st.integers(1, 5)
)  # fmt: skip
happenings = st.lists(st.tuples(st.just("job"), tags) | st.tuples(st.sampled_from(["clean", "not clean"]), positions), max_size=60)


def happen(standing: Standing, what: str, which: Tag | Position, settings: RiskSettings) -> Standing:
    if isinstance(which, Tag):
        return place(standing, which, [], settings).standing
    return review(standing, which, clean=what == "clean", settings=settings)


class TestTaggedJob:
    @pytest.mark.parametrize("tag", TAGGED)
    def test_ten_before_are_run_again(self, tag):
        """The user's ten jobs before it are run again, oldest first; the job itself is the first of `after`."""
        placed = place(Standing(), tag, [Past(f"j{index}") for index in range(25)], SETTINGS)

        assert [one.id for one in placed.again] == [f"j{index}" for index in reversed(range(10))]
        assert {one.width for one in placed.again} == {SETTINGS.width(tag, Position.BEFORE)}
        assert (placed.tag, placed.position, placed.width) == (tag, Position.AFTER, SETTINGS.width(tag, Position.AFTER))

    @pytest.mark.parametrize("tag", TAGGED)
    def test_ten_after_have_its_tag(self, tag):
        """The user's next ten jobs, submitted without a tag, run under it, and nothing is run again for them."""
        standing = place(Standing(), tag, [], SETTINGS).standing
        for _ in range(10):
            placed = place(standing, Tag.NONE, [Past("earlier")], SETTINGS)
            assert (placed.tag, placed.position, placed.again) == (tag, Position.AFTER, ())
            standing = placed.standing
        assert standing.left == 0

    def test_no_job_is_run_again_twice_for_the_same(self):
        """Of the window, jobs that ran under as high a tag before are left alone; a higher tag takes them up again."""
        past = [Past("a", Tag.SUSPICION), Past("b", Tag.MALICIOUS), Past("c")]

        assert [one.id for one in place(Standing(), Tag.SUSPICION, past, SETTINGS).again] == ["c"]
        assert [one.id for one in place(Standing(), Tag.MALICIOUS, past, SETTINGS).again] == ["c", "a"]

    def test_others_are_not_looked_at_closer(self):
        """A user without a tag has plain jobs, whatever happened before."""
        placed = place(Standing(), Tag.NONE, [Past("a")], SETTINGS)
        assert (placed.tag, placed.position, placed.width, placed.again) == (Tag.NONE, Position.NONE, SETTINGS.plain, ())

    @given(st.builds(Standing, tags, st.integers(0, 10), st.integers(0, 10)), tags, pasts, limits)
    def test_the_window_is_a_window(self, standing, own, past, settings):
        """Never more jobs than the window has are run again, none twice, none that is not the user's, none but for a tag."""
        again = [one.id for one in place(standing, own, past, settings).again]

        assert len(again) <= settings.before_jobs
        assert again == [one.id for one in reversed(past[: settings.before_jobs]) if one.id in again]
        assert not again or own is not Tag.NONE

    def test_the_past_is_not_read_beyond_the_window(self):
        """A user of a million jobs costs no more than one of ten."""
        past = (Past(str(index)) for index in itertools.count())
        place(Standing(), Tag.SUSPICION, past, SETTINGS)
        assert next(past).id in {"10", "11"}


class TestNeverLowered:
    @given(happenings, limits)
    def test_a_tag_goes_up_or_is_cleared(self, what, settings):
        """Whatever happens: a tag rises, or is cleared by a clean review after the window; it is never lowered."""
        standing = Standing()
        for one, which in what:
            after = happen(standing, one, which, settings)
            if after.tag < standing.tag:
                assert after == Standing()
                assert (one, which) == ("clean", Position.AFTER)
                assert standing.left == 0
                assert standing.clean + 1 >= settings.clean_reviews
            standing = after

    @given(st.builds(Standing, tags, st.integers(0, 10), st.integers(0, 10)), tags, pasts)
    def test_a_job_runs_under_the_higher_of_its_tags(self, standing, own, past):
        """The job's own or the user's: a later, milder tag takes nothing back."""
        placed = place(standing, own, past, SETTINGS)

        assert placed.tag is max(standing.tag, own)
        assert placed.standing.tag is max(standing.tag, own)


class TestReviews:
    def tagged(self, tag: Tag = Tag.MALICIOUS) -> Standing:
        return place(Standing(), tag, [], SETTINGS).standing

    def through(self, standing: Standing) -> Standing:
        for _ in range(SETTINGS.after_jobs):
            standing = place(standing, Tag.NONE, [], SETTINGS).standing
        return standing

    def reviewed(self, standing: Standing, count: int, *, clean: bool = True, position: Position = Position.AFTER) -> Standing:
        for _ in range(count):
            standing = review(standing, position, clean=clean, settings=SETTINGS)
        return standing

    def test_cleared_after_ten_clean_ones(self):
        """Nine clean reviews are not enough, ten are; then the user is as any other."""
        nine = self.reviewed(self.through(self.tagged()), 9)

        assert nine.tag is Tag.MALICIOUS
        assert self.reviewed(nine, 1) == Standing()

    def test_not_before_the_window_is_through(self):
        """Reviews that come in while the ten jobs are still to come clear nothing; the next one after them does."""
        early = self.reviewed(self.tagged(), 50)

        assert early.tag is Tag.MALICIOUS
        assert self.reviewed(self.through(early), 1) == Standing()

    @pytest.mark.parametrize("position", Position)
    def test_one_that_is_not_clean_starts_again(self, position):
        """After a bad one, ten more jobs and ten more clean reviews are needed."""
        bad = self.reviewed(self.reviewed(self.through(self.tagged()), 9), 1, clean=False, position=position)

        assert bad == Standing(Tag.MALICIOUS, left=10, clean=0)
        assert self.reviewed(self.through(bad), 9).tag is Tag.MALICIOUS

    @pytest.mark.parametrize("position", [Position.BEFORE, Position.NONE])
    def test_earlier_jobs_clear_nothing(self, position):
        """That what came before the tagged job was clean says nothing of what comes after it."""
        standing = self.through(self.tagged())
        assert self.reviewed(standing, 50, position=position) == standing

    def test_being_tagged_again_starts_again(self):
        """A new tag, even a milder one, restarts the window and the count."""
        again = place(self.reviewed(self.through(self.tagged()), 9), Tag.SUSPICION, [], SETTINGS).standing
        assert again == Standing(Tag.MALICIOUS, left=10, clean=0)

    @given(positions, st.booleans())
    def test_reviews_of_a_user_without_a_tag(self, position, clean):
        """They change nothing: a late verdict gives nobody a tag."""
        assert review(Standing(), position, clean=clean, settings=SETTINGS) == Standing()


class TestWidths:
    @pytest.mark.parametrize(
        ("tag", "position", "width"),
        [
            (Tag.NONE, Position.NONE, 1_000),
            (Tag.SUSPICION, Position.BEFORE, 1_600),
            (Tag.SUSPICION, Position.AFTER, 1_600),
            (Tag.MALICIOUS, Position.BEFORE, 3_000),
            (Tag.MALICIOUS, Position.AFTER, 1_600),
        ],
    )
    def test_those_of_the_older_network(self, tag, position, width):
        """10 %, 16 % and 30 % of all operators."""
        assert SETTINGS.width(tag, position) == width

    @given(tags, positions)
    def test_every_tag_and_position_has_one(self, tag, position):
        """No job is dropped for a combination that nobody thought of."""
        assert SETTINGS.plain <= SETTINGS.width(tag, position) <= WHOLE

    def test_each_can_be_set(self):
        """Every width is a setting of its own."""
        widths = [one.name for one in fields(RiskSettings) if one.name not in {"before_jobs", "after_jobs", "clean_reviews"}]
        for name in widths:
            changed = replace(SETTINGS, **{name: 9_999})
            assert 9_999 in {changed.width(tag, position) for tag in Tag for position in Position}

    @pytest.mark.parametrize(
        "change", [{"plain": -1}, {"malicious_before": WHOLE + 1}, {"before_jobs": -1}, {"after_jobs": -1}, {"clean_reviews": 0}]
    )
    def test_what_cannot_work_is_refused(self, change):
        """A setting out of range is named when it is made."""
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(SETTINGS, **change)
