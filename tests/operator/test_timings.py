"""When requests are computed, and how much of the cache they hold, as the engine tells its metrics."""

from __future__ import annotations

import asyncio

from aos.operator.engine import Engine
from aos.testing.scripted import ScriptedModel
from tests.operator.orders import answer, asking
from tests.operator.test_engine_terms import Seconds, waited


class TestTimings:
    async def test_waiting_and_computing(self):
        """A request that waits for a slot is computed from when it has one; tokens come when their step has ended."""
        script, clock = ScriptedModel("yes", slots=1), Seconds()
        async with Engine("m", script, slots=1, clock=clock) as engine:
            hold = script.hold()
            first = asyncio.create_task(answer(engine, asking("first")))
            await hold.reached()
            clock.now = 2.0
            second = asyncio.create_task(answer(engine, asking("second")))
            await waited(engine, 1)
            clock.now = 5.0
            hold.release()
            one, other = [(await task).end.timings for task in (first, second)]

        assert one is not None
        assert (one.came, one.began, one.first, one.last) == (0.0, 0.0, 5.0, 5.0)
        assert other is not None
        assert (other.came, other.began, other.first, other.last) == (2.0, 5.0, 5.0, 5.0)

    async def test_nothing_drawn_here(self, engine):
        """An answer whose tokens were all drawn elsewhere is computed, for the steps of its receipt, and no token comes of it."""
        whole = await answer(engine, asking(max_tokens=2))
        again = await answer(engine, asking(max_tokens=2), accepted=whole.end.tokens)

        assert again.end.timings is not None
        assert again.end.timings.began is not None
        assert again.end.timings.first is None


class TestUsage:
    async def test_tokens_in_memory(self):
        """What running requests hold counts, by tokens; what is kept for later ones does not."""
        script = ScriptedModel("It is mathematics.", slots=4)
        async with Engine("m", script) as engine:
            before, hold = engine.usage, script.hold(after="It")
            task = asyncio.create_task(answer(engine, asking("Say it.")))
            await hold.reached()
            during = engine.usage * engine.slots * script.context
            hold.release()
            end = (await task).end
            after = engine.usage

        assert before == after == 0
        # the prompt, and the tokens that were drawn before the step that waits
        assert len(end.prompt) <= during <= len(end.prompt) + len("It")
