"""Controlled answers in the engine: among others, whatever the slots, and alone in what goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos.errors import ContextOverflow, Deadline, EngineFailed, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.controllers import Choice, Decision, Splice
from aos.operator.engine import Engine
from aos.operator.steering import Steering
from aos.operator.stream import Piece
from aos.operator.waiting import Terms
from aos.testing.controlled import NOOP, STOP, Answer, Instance, ScriptedControl, WanderingModel, draw, fail, splice
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, BranchEnd
from tests.operator.orders import answer, asking
from tests.operator.steered import Ran, controlled, run

SECONDS = 20.0
DIGITS = b"0123456789"


def digits(it: Instance) -> Answer:
    """Text, two digits, the end."""
    return [splice(b"It is "), draw(DIGITS), draw(DIGITS), STOP][it.asked - 1]


def family(it: Instance) -> Answer:
    """Fork twice, take back, wait; each branch in its own way."""
    at = it.asked
    if at in (2, 4):
        return [draw(), splice(b"fork", 1), NOOP]
    if at == 9 + it.index:
        return STOP
    return (draw(b"abc"), splice(b"xyz", 2), NOOP, draw(splices=[Splice(1, tuple(b"!!"), tuple(range(0, 256, 2)))]))[
        (at + it.index) % 4
    ]


@pytest.fixture(scope="module")
def alone() -> Ran:
    """What ``family`` gives with a slot for every branch."""

    async def ran() -> Ran:
        async with Engine("m", WanderingModel(slots=16)) as engine:
            return await run(engine, controlled(temperature=1.0, seed=5), ScriptedControl(family))

    return asyncio.run(ran())


def said(ran: Ran) -> tuple[object, ...]:
    """Return all that is committed to."""
    record = ran.end.record
    assert record is not None
    assert ran.end.steps is not None
    return record, ran.end.steps.packed(), ran.end.text, ran.end.tokens, ran.end.reason, ran.end.prompt


class TestAnswer:
    async def test_whole(self):
        """A run is told step by step, and its end has the whole of it."""
        async with Engine("m", ScriptedModel("42")) as engine:
            got = await run(engine, controlled("Why?"), ScriptedControl(digits))

        assert got.texts() == ["It is 0", "0", ""]
        assert got.usage == [(1, 11), (2, 12), (3, 13)]
        assert (got.end.text, bytes(got.end.tokens), got.end.reason) == ("It is 00", b"It is 00", FINISH_REASON_STOP)

    async def test_masks_decide_among_what_the_model_wants(self):
        """Of the tokens that the mask allows, the likeliest is drawn."""
        async with Engine("m", ScriptedModel("42 is it")) as engine:
            session = ScriptedControl(lambda it: draw() if it.asked < 5 else STOP)
            got = await run(engine, controlled(), session)

        assert got.end.text == "42 i"

    async def test_prompt_of_its_own(self):
        """The prompt that the controller gives is the one that is computed and stated."""
        session = ScriptedControl(digits, prompt=lambda given: [*given, 65])
        async with Engine("m", ScriptedModel("42")) as engine:
            got = await run(engine, controlled("Why?"), session)

        assert got.end.prompt == [*b"Why?", 257, 65]

    async def test_empty_prompt(self):
        """Where there is no prompt, the model begins behind a blank."""
        session = ScriptedControl(digits, prompt=lambda _: [])
        async with Engine("m", ScriptedModel("42")) as engine:
            got = await run(engine, controlled(""), session)

        assert got.end.prompt == list(b" ")

    async def test_setup_fails(self):
        """A controller that cannot be set up gives one step that says so."""
        async with Engine("m", ScriptedModel()) as engine:
            got = await run(engine, controlled(), ScriptedControl(digits, error="Error (setup): no"))

        assert (got.usage, got.last().end, got.last().error) == ([(0, 0)], BranchEnd.BRANCH_END_FAIL, "Error (setup): no")
        assert got.end.reason == FINISH_REASON_LENGTH

    async def test_temperature_stays(self):
        """The temperature that a controller sets is in force from then on, in that branch and those that come of it."""

        def hot(it: Instance) -> Answer:
            return draw(temperature=0.0) if it.asked == 1 else draw() if it.asked < 6 else STOP

        async with Engine("m", WanderingModel()) as engine:
            warm = await run(engine, controlled(temperature=2.0, seed=1), ScriptedControl(hot))
            greedy = await run(engine, controlled(temperature=0.0), ScriptedControl(lambda it: draw() if it.asked < 6 else STOP))

        assert warm.end.tokens == greedy.end.tokens

    async def test_branches_draw_apart(self):
        """Two branches that may draw the same do not draw by the same random numbers."""
        async with Engine("m", WanderingModel()) as engine:
            twins = ScriptedControl(lambda it: [draw(), draw()] if it.asked == 1 else draw() if it.asked < 8 else STOP)
            got = await run(engine, controlled(temperature=2.0, seed=3), twins)

        assert got.texts(0) != got.texts(1)

    async def test_one_fails_the_other_goes_on(self):
        """A branch that fails ends alone."""

        def odd(it: Instance) -> Answer:
            if it.asked == 1:
                return [NOOP, NOOP]
            return fail("Error (mid): odd") if it.index else draw(b"a") if it.asked < 5 else STOP

        async with Engine("m", ScriptedModel("b")) as engine:
            got = await run(engine, controlled(), ScriptedControl(odd))

        assert (got.last(1).error, got.last(1).end) == ("Error (mid): odd", BranchEnd.BRANCH_END_FAIL)
        assert (got.end.text, got.end.reason) == ("aaa", FINISH_REASON_STOP)


class TestSlots:
    @pytest.mark.parametrize(("slots", "step_tokens", "reusable"), [(1, 16, True), (2, 1024, True), (3, 3, True), (2, 64, False)])
    async def test_same_whatever_the_slots(self, alone: Ran, slots: int, step_tokens: int, reusable: bool):
        """With fewer slots than branches, these take turns, and the answer is the same, bit by bit."""
        model = WanderingModel(slots=slots, step_tokens=step_tokens)
        model.reusable = reusable
        async with Engine("m", model) as engine, asyncio.timeout(SECONDS):
            got = await run(engine, controlled(temperature=1.0, seed=5), ScriptedControl(family))

        assert said(got) == said(alone)

    async def test_among_others(self, alone: Ran):
        """Runs and plain answers share a few slots, and all get what they would get alone."""
        async with Engine("m", WanderingModel(slots=3)) as engine, asyncio.timeout(SECONDS):
            runs = [run(engine, controlled(temperature=1.0, seed=5), ScriptedControl(family), Terms(f"t{at}")) for at in range(3)]
            plain = [answer(engine, asking("Hello", max_tokens=30), terms=Terms(f"p{at % 2}")) for at in range(4)]
            got = await asyncio.gather(*runs, *plain)

        assert [said(one) for one in got[:3] if isinstance(one, Ran)] == [said(alone)] * 3
        assert len({tuple(one.end.tokens) for one in got[3:]}) == 1

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(slots=st.integers(1, 5), cancelled=st.integers(0, 40), seed=st.integers(0, 3), late=st.integers(0, 30))
    async def test_whatever_happens_beside_it(self, slots: int, cancelled: int, seed: int, late: int):
        """Others that come, are cancelled and decide late change nothing in a run."""
        held = threading.Event()

        def slow(it: Instance) -> Answer:
            if it.asked == late // 4 + 1 and it.index == late % 3:
                held.wait(SECONDS)
            return family(it)

        async def leave(engine: Engine) -> None:
            stream = engine.generate(controlled(temperature=1.0, seed=seed + 1), steering=Steering(ScriptedControl(family).opened))
            async with aclosing(stream) as pieces:
                async for at in _counted(pieces):
                    if at == cancelled:
                        break

        async with Engine("m", WanderingModel(slots=16)) as engine:
            wanted = said(await run(engine, controlled(temperature=1.0, seed=seed), ScriptedControl(family)))
        async with Engine("m", WanderingModel(slots=slots)) as engine, asyncio.timeout(SECONDS):
            one = asyncio.create_task(run(engine, controlled(temperature=1.0, seed=seed), ScriptedControl(slow)))
            await leave(engine)
            held.set()
            assert said(await one) == wanted


async def _counted(pieces):
    numbers = itertools.count()
    async for _ in pieces:
        yield next(numbers)


class TestOthers:
    async def test_plain_answers_do_not_wait(self):
        """An answer without a controller is finished while a controller thinks."""
        held = threading.Event()

        def slow(it: Instance) -> Answer:
            held.wait(SECONDS)
            return STOP

        async with Engine("m", ScriptedModel("Quick.")) as engine, asyncio.timeout(SECONDS):
            waiting = asyncio.create_task(run(engine, controlled(), ScriptedControl(slow)))
            got = await answer(engine, asking())
            held.set()
            await waiting

        assert got.text == "Quick."

    async def test_a_late_controller_makes_room(self):
        """A run whose controller is late leaves its only slot to others who wait."""
        held = threading.Event()

        def slow(it: Instance) -> Answer:
            if it.asked == 3:
                held.wait(SECONDS)
            return draw(b"a") if it.asked < 6 else STOP

        async with Engine("m", ScriptedModel("Quick.", slots=1)) as engine, asyncio.timeout(SECONDS):
            session = ScriptedControl(slow)
            waiting = asyncio.create_task(run(engine, controlled(), session))
            await asyncio.to_thread(session.reached, 3, SECONDS)
            got = await answer(engine, asking())
            held.set()
            whole = await waiting

        assert (got.text, whole.end.text) == ("Quick.", "aaaaa")

    async def test_forks_make_room(self):
        """A run that has all slots leaves all but one of them to others who wait."""
        go = threading.Event()

        def wide(it: Instance) -> Answer:
            if it.asked == 1:
                return [NOOP] * 4
            if it.asked == 20:
                go.wait(SECONDS)
            return draw(b"a") if it.asked < 40 else STOP

        async with Engine("m", ScriptedModel("Quick.", slots=4)) as engine, asyncio.timeout(SECONDS):
            waiting = asyncio.create_task(run(engine, controlled(), ScriptedControl(wide)))
            got = await asyncio.gather(*(answer(engine, asking(), terms=Terms(str(at))) for at in range(3)))
            go.set()
            whole = await waiting

        assert [one.text for one in got] == ["Quick."] * 3
        assert whole.end.text == "a" * 38

    async def test_leaving(self):
        """A reader who leaves ends the run and frees its slots and its session."""
        session = ScriptedControl(lambda _: draw(b"a"))
        async with Engine("m", ScriptedModel(slots=1), waiting=0) as engine, asyncio.timeout(SECONDS):
            async with aclosing(engine.generate(controlled(), steering=Steering(session.opened))) as pieces:
                async for one in pieces:
                    assert isinstance(one, Piece)
                    break
            got = await answer(engine, asking())

        assert (got.text, session.closed) == ("Scripted.", True)

    async def test_a_run_is_one_request(self):
        """Forks count against slots, not against the line of requests."""
        held = threading.Event()

        def wide(it: Instance) -> Answer:
            if it.asked == 2:
                held.wait(SECONDS)
            return [NOOP] * 5 if it.asked == 1 else STOP

        async with Engine("m", ScriptedModel(slots=2), waiting=0) as engine, asyncio.timeout(SECONDS):
            first = asyncio.create_task(run(engine, controlled(), ScriptedControl(wide)))
            second = asyncio.create_task(run(engine, controlled(), ScriptedControl(wide)))
            await asyncio.sleep(0)
            with pytest.raises(QueueFull):
                await answer(engine, asking())
            held.set()
            await asyncio.gather(first, second)


class TestFailures:
    async def test_engine_fails(self, alone: Ran):
        """A failing step ends the runs that it computes, and those that come later are whole."""
        model = WanderingModel(slots=2)
        async with Engine("m", model) as engine, asyncio.timeout(SECONDS):
            model.fail()
            session = ScriptedControl(family)
            with pytest.raises(EngineFailed):
                await run(engine, controlled(), session)
            got = await run(engine, controlled(temperature=1.0, seed=5), ScriptedControl(family))

        assert session.closed
        assert said(got) == said(alone)

    async def test_another_fails(self, alone: Ran):
        """A run whose branches are not in a step that fails goes on, though the model forgot them."""
        model, held, reached = WanderingModel(slots=4), threading.Event(), threading.Event()

        def slow(it: Instance) -> Answer:
            if it.asked == 6 and not it.index:
                reached.set()
                held.wait(SECONDS)
            return family(it)

        session = ScriptedControl(slow)
        async with Engine("m", model) as engine, asyncio.timeout(SECONDS):
            waiting = asyncio.create_task(run(engine, controlled(temperature=1.0, seed=5), session))
            await asyncio.to_thread(reached.wait, SECONDS)
            await answer(engine, asking(max_tokens=3))  # behind what the run has to compute
            model.fail()
            with pytest.raises(EngineFailed):
                await answer(engine, asking())
            held.set()
            got = await waiting

        assert said(got) == said(alone)

    async def test_a_broken_session(self):
        """A decision that makes no sense ends its run with an error, and the engine goes on."""
        broken = ScriptedControl(lambda _: Decision((Choice(1, ()),), "", (), 0))  # pyright: ignore[reportArgumentType]
        async with Engine("m", ScriptedModel()) as engine, asyncio.timeout(SECONDS):
            with pytest.raises(EngineFailed):
                await run(engine, controlled(), broken)
            got = await answer(engine, asking())

        assert (got.text, broken.closed) == ("Scripted.", True)

    async def test_closing(self):
        """An engine that closes ends runs whose controllers think."""
        held = threading.Event()

        def slow(it: Instance) -> Answer:
            held.wait(SECONDS)
            return STOP

        session = ScriptedControl(slow)
        async with Engine("m", ScriptedModel()) as engine, asyncio.timeout(SECONDS):
            waiting = asyncio.create_task(run(engine, controlled(), session))
            await asyncio.to_thread(session.reached, 1, SECONDS)
        held.set()
        with pytest.raises(ShuttingDown):
            await waiting
        assert session.closed

    async def test_deadline(self):
        """A run ends when its time is over, even if it computes nothing."""
        now = 0.0
        session = ScriptedControl(lambda it: NOOP if it.asked < 1000 else STOP)
        async with Engine("m", ScriptedModel(), clock=lambda: now) as engine, asyncio.timeout(SECONDS):
            waiting = asyncio.create_task(run(engine, controlled(), session, Terms(seconds=5.0)))
            await asyncio.to_thread(session.reached, 1, SECONDS)
            now = 6.0
            with pytest.raises(Deadline):
                await waiting

    async def test_too_long(self):
        """A prompt that the context does not hold is refused, and no session is begun."""
        async with Engine("m", ScriptedModel(context=8)) as engine:
            with pytest.raises(ContextOverflow):
                await run(engine, controlled("Hello, hello"), ScriptedControl(digits))

    async def test_without_controllers(self):
        """An engine that is given nothing to run controllers with refuses the order."""
        async with Engine("m", ScriptedModel()) as engine:
            with pytest.raises(ModelUnsuitable):
                await answer(engine, controlled())
