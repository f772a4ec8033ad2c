"""When an operator's model is believed to work, and which answer to a canary is the known one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher import health
from aos.dispatcher.health import OPEN_AFTER, SHORT_PROMPT, SPREAD, Answers, Board, Intervals, Key, State, step
from tests.dispatcher.jobs import NOW

EVERY = Intervals(failing=30.0, idle=300.0)
KEY = Key("0xa", "m", "aa")
MOVES = st.lists(
    st.tuples(st.sampled_from(["worked", "probed", "failed", "wrong", "attached", "later"]), st.integers(0, 4), st.integers(0, 400))
)


def seconds(count: float):
    return timedelta(seconds=count)


def failing(times: int, every: Intervals = EVERY) -> Board:
    board = Board(every)
    board.attached(KEY, NOW)
    for number in range(times):
        board.failed(KEY, NOW, job=f"j{number}", why="no")
    return board


def moved(moves, every: Intervals = EVERY):
    """The board after each move, and when that was."""
    board, now = Board(every), NOW
    for move, job, later in moves:
        now += seconds(later)
        match move:
            case "worked" | "probed":
                board.worked(KEY, now, probed=move == "probed")
            case "failed":
                board.failed(KEY, now, job=f"j{job}", why="no")
            case "wrong":
                board.wrong(KEY, now, why="other tokens")
            case "attached":
                board.attached(KEY, now)
            case _:
                board.later(KEY, now)
        yield move, board.get(KEY), now


class TestBreaker:
    def test_it_is_believed_first(self):
        """An operator of which nothing is known gets jobs."""
        assert failing(0).get(KEY).state is State.HEALTHY

    @pytest.mark.parametrize(
        ("failures", "state"), [(1, State.SUSPECT), (OPEN_AFTER - 1, State.SUSPECT), (OPEN_AFTER, State.OPEN), (99, State.OPEN)]
    )
    def test_failures_in_a_row(self, failures, state):
        """The first makes it suspect, the third of different jobs keeps jobs from it, and the reason is there."""
        known = failing(failures).get(KEY)

        assert (known.state, known.reason, len(known.failures)) == (state, "no", min(failures, OPEN_AFTER))

    def test_one_job_opens_nobody(self):
        """A job that fails wherever it goes is one failure."""
        board = failing(1)
        for _ in range(99):
            board.failed(KEY, NOW, job="j0", why="no")

        assert board.get(KEY).state is State.SUSPECT

    def test_a_job_makes_a_suspect_healthy(self):
        """What came last counts."""
        board = failing(OPEN_AFTER - 1)
        board.worked(KEY, NOW + seconds(5))
        known = board.get(KEY)

        assert (known.state, known.reason, known.failures, known.since) == (State.HEALTHY, "", frozenset(), NOW + seconds(5))

    def test_only_a_probe_closes_it(self):
        """A job that it still had and did brings the probe forward; the probe brings it back."""
        board = failing(OPEN_AFTER)
        board.worked(KEY, NOW + seconds(1))
        assert (board.get(KEY).state, board.get(KEY).next_probe) == (State.OPEN, NOW + seconds(1))
        board.worked(KEY, NOW + seconds(2), probed=True)
        assert board.get(KEY).state is State.HEALTHY

    def test_attaching_anew_brings_the_probe_forward(self):
        """One that was OPEN and comes back is looked at at once."""
        board = failing(OPEN_AFTER)
        board.attached(KEY, NOW + seconds(1))

        assert (board.get(KEY).state, board.get(KEY).next_probe) == (State.OPEN, NOW + seconds(1))

    def test_without_probes_failures_open_nothing(self):
        """Nobody is kept from jobs whom nothing would bring back."""
        known = failing(99, Intervals(failing=0, idle=0)).get(KEY)

        assert (known.state, known.next_probe) == (State.SUSPECT, None)

    @given(MOVES)
    def test_who_gets_no_jobs_is_looked_at(self, moves):
        """Whatever happens: a probe is due within the interval of the state, the reason is there if and only if it is needed."""
        for _, known, now in moved(moves):
            healthy = known.state is State.HEALTHY
            assert bool(known.reason) != healthy
            assert known.next_probe <= now + seconds(EVERY.idle if healthy else EVERY.failing)
            assert known.since <= now

    @given(MOVES)
    def test_what_closes_and_what_opens(self, moves):
        """It leaves OPEN by a good probe only, and enters it by a failure or a wrong answer only."""
        before = State.HEALTHY
        for move, known, _ in moved(moves):
            if before is State.OPEN and known.state is not State.OPEN:
                assert move == "probed"
            if before is not State.OPEN and known.state is State.OPEN:
                assert move in ("failed", "wrong")
            before = known.state

    @given(st.text(max_size=8), st.text(max_size=8))
    def test_intervals_are_spread(self, operator, model):
        """Probes of different operators come at different times, none later than its interval."""
        assert 1 - SPREAD <= Key(operator, model, "aa").spread <= 1


class TestPace:
    def test_an_average(self):
        """The latest counts a quarter; a short prompt counts as one of 64 tokens."""
        board = Board(EVERY)
        board.timed(KEY, NOW, seconds=1.0, prompt_tokens=100)
        board.timed(KEY, NOW, seconds=2.0, prompt_tokens=100)
        assert board.get(KEY).pace == pytest.approx(0.0125)
        other = Key("0xb", "m", "aa")
        board.timed(other, NOW, seconds=0.64, prompt_tokens=3)
        assert board.get(other).pace == pytest.approx(0.64 / SHORT_PROMPT)

    def test_what_differs_little_is_equal(self):
        """Only a factor of two and more tells operators apart for sure; one that is not measured goes first."""
        assert step(None) < step(0.001) == step(0.0011) < step(0.0045)

    def test_the_board_is_bounded(self, monkeypatch):
        """Those of which nothing was heard for longest are forgotten."""
        monkeypatch.setattr(health, "REMEMBERED", 2)
        board = Board(EVERY)
        for name in ("0xa", "0xb", "0xa", "0xc"):
            board.attached(Key(name, "m", "aa"), NOW)

        assert [key.operator for key, _ in board] == ["0xa", "0xc"]


class TestAnswers:
    def test_most_operators_know_it(self):
        """Who says something else than more operators did is wrong, and is told how many."""
        answers = Answers()

        assert [answers.judge("aa", "p", name, b"x") for name in ("0xa", "0xb")] == ["", ""]
        assert answers.judge("aa", "p", "0xc", b"y") == (
            "it answered the canary otherwise than 2 operators with the same weights and profile (p)"
        )
        assert answers.judge("aa", "p", "0xc", b"x") == ""

    def test_one_against_one(self):
        """Nobody knows who of two is right."""
        answers = Answers()

        assert [answers.judge("aa", "p", name, answer) for name, answer in (("0xa", b"x"), ("0xb", b"y"))] == ["", ""]

    def test_who_changes_its_answer(self):
        """What it said before still counts: of two that agreed, the one that says something else now is wrong."""
        answers = Answers()
        for name in ("0xa", "0xb"):
            answers.judge("aa", "p", name, b"x")

        assert answers.judge("aa", "p", "0xb", b"y")

    def test_other_profiles_and_weights(self):
        """Builds and weights that may differ are not compared."""
        answers = Answers()
        for name in ("0xa", "0xb"):
            answers.judge("aa", "p", name, b"x")

        assert [answers.judge(*of, "0xc", b"y") for of in (("aa", "q"), ("bb", "p"))] == ["", ""]

    def test_it_is_bounded(self, monkeypatch):
        """However many answers are made up, those that many gave are kept, and only so many models."""
        monkeypatch.setattr(health, "VARIANTS", 2)
        monkeypatch.setattr(health, "KNOWN", 2)
        answers = Answers()
        for name in ("0xa", "0xb"):
            answers.judge("aa", "p", name, b"x")
        for number in range(9):
            assert answers.judge("aa", "p", "0xc", b"%d" % number)
        for digest in ("bb", "cc"):
            answers.judge(digest, "p", "0xa", b"x")

        assert answers.judge("aa", "p", "0xc", b"y") == "", "it is forgotten"

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))))
    def test_the_answer_of_most_is_never_wrong(self, said):
        """Whatever is said in whatever order: who is told to be wrong said something that fewer have said."""
        answers, voices = Answers(), {}
        for operator, answer in said:
            voices.setdefault(answer, set()).add(operator)
            found = answers.judge("aa", "p", str(operator), b"%d" % answer)
            assert bool(found) == (len(voices[answer]) < max(map(len, voices.values())))
