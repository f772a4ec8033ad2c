"""On what terms a request is computed: turns, priorities, time, and what is shared."""

from __future__ import annotations

import asyncio

import pytest

from aos.errors import Deadline, InvalidField, QueueFull
from aos.operator.engine import Engine
from aos.operator.waiting import PRIORITY_LIMIT, TENANT_CHARS, Terms
from aos.testing.scripted import ScriptedModel
from tests.operator.orders import answer, asking


class Seconds:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def waited(engine: Engine, count: int) -> None:
    """Wait until so many requests are inside, and the thread will find them in its inbox."""
    async with asyncio.timeout(20):
        while engine.waiting < count or engine._inbox.qsize() < count:
            await asyncio.sleep(0.001)


async def in_order(*terms: Terms, **more) -> list[str]:
    """Let requests on these terms wait for one slot; return their prompts in the order in which they were begun."""
    script = ScriptedModel("yes", slots=1)
    async with Engine("m", script, slots=1, **more) as engine:
        hold = script.hold()
        tasks = [asyncio.create_task(answer(engine, asking("first")))]
        await hold.reached()
        for number, each in enumerate(terms):
            tasks.append(asyncio.create_task(answer(engine, asking(f"{number}"), terms=each)))
            await waited(engine, number + 1)
        hold.release()
        await asyncio.gather(*tasks)
    return script.prompts[1:]


class TestTurns:
    async def test_tenants_take_turns(self):
        """A tenant with one request does not wait for all of another's."""
        assert await in_order(*[Terms("a")] * 3, Terms("b")) == ["0", "3", "1", "2"]

    async def test_priority(self):
        """A higher priority goes first."""
        assert await in_order(Terms("a"), Terms("a", -1), Terms("a", 2)) == ["2", "0", "1"]

    async def test_queue_of_one_tenant(self):
        """A tenant's own queue is full before it takes all places from others."""
        script = ScriptedModel("yes", slots=1)
        async with Engine("m", script, waiting=4, tenant_waiting=1) as engine:
            hold = script.hold()
            inside = [asyncio.create_task(answer(engine, asking(), terms=Terms("a")))]
            await hold.reached()
            inside.append(asyncio.create_task(answer(engine, asking(), terms=Terms("a"))))
            await waited(engine, 1)
            with pytest.raises(QueueFull) as caught:
                await answer(engine, asking(), terms=Terms("a"))
            other = asyncio.create_task(answer(engine, asking(), terms=Terms("b")))
            await waited(engine, 2)
            hold.release()
            got = await asyncio.gather(*inside, other)
            again = await answer(engine, asking(), terms=Terms("a"))

        assert caught.value.facts == {"queue": "engine m, one tenant", "limit": "2"}
        assert {one.text for one in [*got, again]} == {"yes"}

    @pytest.mark.parametrize(
        ("terms", "field"),
        [
            (Terms(priority=PRIORITY_LIMIT + 1), "priority"),
            (Terms(priority=-PRIORITY_LIMIT - 1), "priority"),
            (Terms("x" * (TENANT_CHARS + 1)), "tenant"),
        ],
    )
    async def test_refused(self, engine, terms, field):
        """Terms that are out of range are refused by name."""
        with pytest.raises(InvalidField, match=field):
            await answer(engine, asking(), terms=terms)


class TestDeadline:
    async def test_running_and_waiting(self):
        """Who is out of time is told so, in mid-answer and in the queue; who has time goes on."""
        script, clock = ScriptedModel("It is mathematics.", slots=2), Seconds()
        async with Engine("m", script, clock=clock) as engine:
            hold = script.hold(after="It")
            patient = asyncio.create_task(answer(engine, asking(), terms=Terms(seconds=100)))
            running = asyncio.create_task(answer(engine, asking(), terms=Terms(seconds=5)))
            await hold.reached()
            waiting = asyncio.create_task(answer(engine, asking("waits"), terms=Terms(seconds=6)))
            await waited(engine, 1)
            clock.now = 7.0
            hold.release()
            got = await asyncio.gather(patient, running, waiting, return_exceptions=True)
            after = await answer(engine, asking())

        assert got[0].text == after.text == "It is mathematics."
        assert [type(one) for one in got[1:]] == [Deadline, Deadline]
        assert [one.facts["limit"] for one in got[1:]] == ["5", "6"]
        assert "waits" not in script.prompts

    async def test_nothing_left(self, caplog):
        """When the only request runs out of time, the engine rests, and what was computed stays."""
        clock, script = Seconds(), ScriptedModel("yes")
        async with Engine("m", script, clock=clock) as engine:
            await answer(engine, asking("prompt"))
            with pytest.raises(Deadline):
                await answer(engine, asking("prompt"), terms=Terms(seconds=0))
            got = await answer(engine, asking("prompt"))

        assert got.end.cached == len("prompt")
        assert not caplog.records

    async def test_done_in_time(self):
        """A deadline that comes after the end is forgotten."""
        clock = Seconds()
        async with Engine("m", ScriptedModel("yes"), clock=clock) as engine:
            first = await answer(engine, asking(), terms=Terms(seconds=5))
            clock.now = 9.0
            second = await answer(engine, asking())

        assert first.text == second.text == "yes"


class TestSharing:
    async def test_within_a_tenant(self, engine):
        """A tenant's second request has the first one's tokens; the answer is the same, and says how many."""
        first, second, other = [
            await answer(engine, asking("a prompt"), terms=Terms(tenant)) for tenant in ("one", "one", "another")
        ]

        assert first.end == second.end == other.end
        assert [one.end.cached for one in (first, second, other)] == [0, len("a prompt"), 0]
