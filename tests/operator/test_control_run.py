"""A controlled run as data: what decisions do to branches, what that costs, how each ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.control_run import LEADING, Branch, Limits, Run, Turn
from aos.operator.controllers import FORKS, NOOP, TIMEOUT, TOO_MANY_FORKS, Applied, Choice, Decision, Setup, Splice, packed
from aos.operator.variables import Write
from aos.v1.types_pb2 import BranchEnd, FinishReason

WORDS = 300
PROMPT = (1, 2, 3)
LIMITS = Limits(context=100, max_tokens=50, fuel=1000, vocabulary=WORDS)
STOP = Decision((), "", (), 0)
END = BranchEnd


def piece(token: int) -> bytes:
    """Tokens up to 255 are bytes, the others have no text."""
    return bytes([token]) if token < 256 else b""


def decision(*choices: Choice, logs: str = "", writes: Iterable[Write] = (), error: str = "", late: int = 0) -> Decision:
    return Decision(choices, logs, tuple(writes), 7, error, late)


def put(*tokens: int, back: int = 0) -> Choice:
    return Choice(None, (Splice(back, tokens),))


def masked(*splices: Splice, temperature: float | None = None) -> Choice:
    return Choice(packed([65], WORDS), splices, temperature)


def draws(token: int = 65) -> Callable[[Branch, Choice], int]:
    return lambda _branch, _choice: token


def begun(*leading: Decision, limits: Limits = LIMITS, prompt: tuple[int, ...] = PROMPT) -> Run:
    """Return a run whose first pass has begun, having led with these decisions."""
    run = Run(Setup(prompt, "", ()), limits, piece)
    for at, one in enumerate(leading):
        assert run.lead(one) == (at < len(leading) - 1)
    run.begin()
    return run


def first(turn: Turn):
    return turn.step.branches[0]


class TestUsage:
    def test_as_documented(self):
        """A splice before the first pass, two tokens and a stop count as the page of the original counts them."""
        prompt = (1,)
        run = begun(decision(put(*range(100, 114))), decision(masked()), prompt=prompt)
        turns = [run.decide({}, draws(52)), run.decide({0: decision(masked())}, draws(50)), run.decide({0: STOP}, draws())]

        assert [(turn.step.sampled_tokens, turn.step.ff_tokens) for turn in turns] == [(1, 15), (2, 16), (3, 17)]
        assert [first(turn).end for turn in turns] == [0, 0, END.BRANCH_END_STOP]

    def test_noop_counts_a_pass(self):
        """A noop counts a forward pass in which nothing is computed."""
        run = begun(decision(NOOP))
        turns = [run.decide({}, draws()), run.decide({0: decision(NOOP)}, draws()), run.decide({0: STOP}, draws())]

        assert [(turn.step.sampled_tokens, turn.step.ff_tokens) for turn in turns] == [(1, 3), (2, 3), (3, 3)]

    def test_nothing_computed(self):
        """What ends before its first pass costs nothing."""
        run = Run(Setup(PROMPT, "", ()), LIMITS, piece)
        assert not run.lead(STOP)
        turn = run.decide({}, draws())

        assert (turn.step.sampled_tokens, turn.step.ff_tokens, run.finish_reason) == (0, 0, FinishReason.FINISH_REASON_STOP)

    def test_lateness_costs_nothing(self):
        """A late decision is told of in a step of its own and changes no count."""
        run = begun(decision(masked()))
        run.decide({}, draws())
        late = decision(masked(), late=3)
        told = run.late([(0, late)])
        turn = run.decide({0: late}, draws())

        assert told is not None
        assert first(Turn(told, [], [])).logs.splitlines()[-1] == "⏲ timeout [deadline: 50ms; step 3/10]"
        assert (turn.step.sampled_tokens, turn.step.ff_tokens) == (told.sampled_tokens, told.ff_tokens) == (2, 4)


class TestTold:
    def test_what_was_applied(self):
        """A controller is told what was done: tokens drawn, spliced in, and taken back."""
        run = begun(decision(masked()))
        run.decide({}, draws(65))
        told = [run.asks()[0]]
        run.decide({0: decision(put(5, 6, back=2))}, draws())
        told.append(run.asks()[0])
        run.decide({0: decision(NOOP)}, draws())
        told.append(run.asks()[0])

        assert told == [(0, Applied(0, (65,), 65), (0,)), (0, Applied(2, (5, 6)), (0,)), (0, Applied(), (0,))]

    @pytest.mark.parametrize(
        ("splice", "applied", "tokens"),
        [
            (Splice(0, (7, 8), (65,)), Applied(0, (65, 7, 8), 65), [1, 2, 3, 65, 7, 8]),
            (Splice(1, (7,), (64, 65)), Applied(0, (7,), 65), [1, 2, 3, 7]),
            (Splice(3, (7,), (65,)), Applied(2, (7,), 65), [1, 7]),
            (Splice(1, (7,), (66,)), Applied(0, (65,), 65), [1, 2, 3, 65]),
            (Splice(1, (7,)), Applied(0, (65,), 65), [1, 2, 3, 65]),
        ],
    )
    def test_conditional_splice(self, splice: Splice, applied: Applied, tokens: list[int]):
        """A splice behind a draw counts the token drawn among those it takes back, and needs that token to be named."""
        run = begun(decision(masked(splice)))
        run.decide({}, draws(65))

        assert run.asks() == [(0, applied, (0,))]
        assert run.branches[0].tokens == tokens

    def test_fork_group(self):
        """All branches of a fork are told which they are, once; the others that they are alone."""
        run = begun(decision(masked(), put(9), NOOP))
        turn = run.decide({}, draws())
        group = [one for _, _, one in run.asks()]
        run.decide(dict.fromkeys(range(3), decision(NOOP)), draws())

        assert group == [(0, 1, 2)] * 3
        assert [one for _, _, one in run.asks()] == [(0,), (1,), (2,)]
        assert turn.forks == [(0, (1, 2))]


class TestText:
    def test_backtracking(self):
        """What was said and is taken back leaves a mark, and the text goes on behind it."""
        run = begun(decision(put(*b"good")), decision(put(*b" day", back=0)), decision(NOOP))
        texts = [first(run.decide({}, draws())).text]
        texts.append(first(run.decide({0: decision(put(*b"night", back=3))}, draws())).text)

        assert (texts, run.answer()[0]) == (["good day", " ↩ night"], "good night")

    def test_half_a_character(self):
        """A character that is not complete is held back, and cut off at the end."""
        run = begun(decision(put(0xE2, 0x82)), decision(NOOP))
        texts = [first(run.decide({}, draws())).text, first(run.decide({0: decision(put(0xAC, 0xC3))}, draws())).text]
        texts.append(first(run.decide({0: STOP}, draws())).text)

        assert texts == ["", "€", "�"]
        assert run.answer() == ("€�", [0xE2, 0x82, 0xAC, 0xC3])

    def test_new_branch(self):
        """A new branch begins with all that was said since the prompt."""
        run = begun(decision(put(*b"ab")), decision(NOOP))
        run.decide({}, draws())
        turn = run.decide({0: decision(put(*b"c"), put(*b"d", back=1))}, draws())

        assert [(one.index, one.text) for one in turn.step.branches] == [(0, "c"), (1, "ad")]
        assert turn.step.branches[1].forked_from == 0

    def test_new_branch_of_the_first_round(self):
        """What was put there before the first pass is new to the branches of that round, too."""
        run = begun(decision(put(*b"ab")), decision(put(*b"c"), put(*b"d", back=1)))
        child = run.decide({}, draws()).step.branches[1]

        assert (child.text, child.backtrack, list(child.tokens)) == ("ad", 0, list(b"ad"))

    def test_into_the_prompt(self):
        """An answer that takes back tokens of the prompt begins where the prompt was cut."""
        run = begun(decision(put(*b"x", back=2)), decision(NOOP))
        turn = run.decide({}, draws())

        assert (run.answer(), first(turn).backtrack, list(first(turn).tokens)) == (("x", [120]), 2, [120])


class TestEnds:
    def test_max_tokens(self):
        """A branch ends with max_tokens, those spliced in included, and gets no more."""
        run = Run(Setup(PROMPT, "", ()), Limits(100, 5, 1000, WORDS), piece)
        assert not run.lead(decision(put(*b"abcdefgh")))
        turn = run.decide({}, draws())

        assert (run.answer()[0], first(turn).end) == ("abcde", END.BRANCH_END_LENGTH)

    def test_context(self):
        """A branch ends where the context does."""
        run = begun(decision(masked()), limits=Limits(4, 50, 1000, WORDS))
        turn = run.decide({}, draws())

        assert (len(run.branches[0].tokens), first(turn).end) == (4, END.BRANCH_END_LENGTH)

    @pytest.mark.parametrize(
        ("choice", "why"),
        [
            (put(1, back=4), "past the beginning"),
            (put(back=3), "very beginning"),
            (put(*[1] * 98), "over the context"),
            (put(WORDS), "does not have"),
            (masked(temperature=float("nan")), "temperature"),
            (masked(temperature=-1.0), "temperature"),
        ],
    )
    def test_lies(self, choice: Choice, why: str):
        """A decision that cannot be carried out ends its branch, and no other, and says why."""
        run = begun(decision(NOOP, NOOP))
        run.decide({}, draws())
        turn = run.decide({0: decision(choice), 1: decision(masked())}, draws())

        assert (turn.ended, first(turn).end, why in first(turn).error) == ([0], END.BRANCH_END_FAIL, True)
        assert [one.index for one in run.live] == [1]
        assert run.finish_reason == FinishReason.FINISH_REASON_LENGTH

    def test_too_many_forks(self):
        """Who wants one branch too many fails; as many as there may be are there."""
        run = begun(decision(*[NOOP] * FORKS))
        run.decide({}, draws())
        turn = run.decide(dict.fromkeys(range(1, FORKS), decision(NOOP)) | {0: decision(NOOP, NOOP)}, draws())

        assert (len(run.branches), turn.ended, first(turn).error) == (FORKS, [0], TOO_MANY_FORKS)

    def test_fuel(self):
        """A branch whose next pass would need more fuel than there is ends before it; no count is ever above the limit."""
        run = begun(decision(NOOP), limits=Limits(100, 50, 10, WORDS))
        turn = run.decide({}, draws())
        while run.live:
            turn = run.decide({0: decision(NOOP)}, draws())

        assert (2 * turn.step.sampled_tokens + turn.step.ff_tokens, first(turn).end) == (9, END.BRANCH_END_OUT_OF_FUEL)

    def test_timeout(self):
        """A controller that took too long fails, which is marked: another machine may be faster."""
        run = begun(decision(NOOP))
        run.decide({}, draws())
        turn = run.decide({0: decision(error=TIMEOUT)}, draws())

        assert (first(turn).end, first(turn).timed_out) == (END.BRANCH_END_FAIL, True)

    def test_setup(self):
        """A controller that cannot be set up is a run of one step."""
        run = Run(Setup(PROMPT, "log", (), "Error (setup): no"), LIMITS, piece)
        turn = run.decide({}, draws())

        assert (first(turn).end, first(turn).error, first(turn).logs) == (
            END.BRANCH_END_FAIL,
            "Error (setup): no",
            "log\nError (setup): no\n",
        )
        assert run.record.steps[0].branches[0].logs == ""

    def test_leading_splices_are_bounded(self):
        """Splices before the first pass are bounded; behind that, each takes a pass."""
        run = Run(Setup(PROMPT, "", ()), Limits(1000, 900, 9000, WORDS), piece)
        leading = [run.lead(decision(put(1))) for _ in range(LEADING + 1)]

        assert leading == [True] * LEADING + [False]
        assert run.live

    def test_logs_before_the_first_pass(self):
        """What controllers wrote before the first pass stands in the first step."""
        write = Write("n", b"v", append=True, when_version_is=3)
        run = begun(decision(put(5), logs="a", writes=[write]), decision(NOOP, logs="b"))
        step = first(run.decide({}, draws()))

        assert (step.logs, step.micros, step.writes[0].name, step.writes[0].when_version_is) == ("ab", 14, "n", 3)


TOKEN = st.sampled_from([64, 65, 66, 200, 299, 7, 8, 9])
SPLICE = st.builds(
    Splice, st.sampled_from([0, 0, 1, 2, 5]), st.lists(TOKEN, max_size=4).map(tuple), st.lists(TOKEN, max_size=3).map(tuple)
)
CHOICE = st.one_of(
    st.builds(lambda splice: Choice(None, (splice,)), SPLICE),
    st.builds(lambda splices: Choice(packed([65], WORDS), tuple(splices)), st.lists(SPLICE, max_size=2)),
)
DECISION = st.one_of(
    st.builds(lambda choices: decision(*choices), st.lists(CHOICE, min_size=1, max_size=4)),
    st.sampled_from([STOP, decision(error="no")]),
)


class TestAnyRun:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), context=st.integers(4, 60), most=st.integers(1, 60), fuel=st.integers(1, 300))
    def test_nothing_is_lost_or_doubled(self, data: st.DataObject, context: int, most: int, fuel: int):
        """Whatever is decided: each branch is what its steps say, told to its controller once, within every limit."""
        run = Run(Setup(PROMPT, "", ()), Limits(context, most, fuel, WORDS), piece)
        known = {0: list(PROMPT)}
        while run.leading and run.live:
            ask = run.asks()[0][1]
            known[0] = [*known[0][: len(known[0]) - ask.backtrack], *ask.tokens]
            assert known[0] == run.branches[0].tokens
            if not run.lead(data.draw(DECISION)) and run.live:
                run.begin()
        shown = {0: list(PROMPT)}
        while True:
            counts = run.sampled_tokens, run.ff_tokens
            live = [one.index for one in run.live]
            turn = run.decide({one: data.draw(DECISION) for one in live}, draws(data.draw(TOKEN)))
            assert (turn.step.sampled_tokens, turn.step.ff_tokens) == counts
            assert 2 * run.sampled_tokens + run.ff_tokens <= fuel
            before = {index: list(tokens) for index, tokens in shown.items()}
            for one in turn.step.branches:
                old = before[one.forked_from if one.HasField("forked_from") else one.index]
                shown[one.index] = [*old[: len(old) - one.backtrack], *one.tokens]
            assert shown == {one.index: one.tokens for one in run.branches}
            assert all(len(one.tokens) <= context and len(one.tokens) - len(PROMPT) <= most for one in run.branches)
            for parent, children in turn.forks:
                known |= {child: list(known[parent]) for child in children}
            if not run.live:
                break
            for index, told, _ in run.asks():
                known[index] = [*known[index][: len(known[index]) - told.backtrack], *told.tokens]
            assert all(known[one.index] == one.tokens for one in run.live)
        assert [one.index for one in run.branches] == list(range(len(run.branches)))
        assert len(run.record.steps) >= 1
