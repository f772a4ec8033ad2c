"""How a model server is, and who looks at it when."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

from aos.operator.probing import Prober
from aos.operator.upstream import Fault
from aos.operator.upstream_health import Health, State, failed, looked, opened, served, tried
from aos.operator.upstream_settings import UpstreamSettings
from aos.testing.clock import START, ManualClock
from tests.operator.model_server import model_server, replies, says, stops_after, streams
from tests.operator.test_upstream import upstream

SECONDS = 10
SETTINGS = UpstreamSettings(probe_seconds=5, canary_seconds=60, faults=3, jitter=0.1)


def healthy() -> Health:
    return tried(look(opened(START)), "", START, SETTINGS)


def look(health: Health, problem: str = "", *, busy: bool = False, chance: float = 0.0) -> Health:
    return looked(health, problem, START, SETTINGS, busy=busy, chance=chance)


def fault(health: Health, *, gone: bool = False) -> Health:
    return failed(health, "it broke", SETTINGS, gone=gone)


class TestHealth:
    def test_beginning(self):
        """A server that nobody has looked at is not used; one look is not enough, a trial is."""
        assert (opened(START).state, opened(START).usable, opened(START).next_probe) == (State.STARTING, False, START)
        assert not look(opened(START)).usable
        assert look(opened(START)).wants_canary(START)
        assert (healthy().state, healthy().usable, healthy().reason) == (State.HEALTHY, True, "")

    def test_nobody_there(self):
        """One look that finds nobody takes it out, with the reason; the next look is one interval later."""
        down = look(healthy(), "nobody takes connections")
        assert (down.state, down.reason, down.next_probe) == (State.DOWN, "nobody takes connections", START + timedelta(seconds=5))

    def test_jitter(self):
        """A part of the pause is left to chance, and never makes it longer."""
        assert look(healthy(), chance=0.5).next_probe == START + timedelta(seconds=5 * 0.95)

    def test_back_again(self):
        """A server that is found again is let in by a trial, at once."""
        back = look(look(healthy(), "nobody"))
        assert not back.usable
        assert back.wants_canary(START)
        assert tried(back, "", START, SETTINGS).usable

    def test_trial_that_fails(self):
        """A server that is there and does not answer is taken out, and the reason says that."""
        down = tried(look(healthy()), "it answers 500", START, SETTINGS)
        assert (down.state, down.reason) == (State.DOWN, "its trial failed: it answers 500")

    def test_trials_are_rarer(self):
        """A server that is used is tried out again only after the longer pause."""
        assert not look(healthy()).wants_canary(START + timedelta(seconds=59))
        assert look(healthy()).wants_canary(START + timedelta(seconds=60))

    def test_busy(self):
        """A server that answers requests is not down for being slow to answer a look; one that does not is."""
        assert look(served(healthy()), "slow", busy=True).state is State.DEGRADED
        assert look(healthy(), "slow", busy=True).state is State.DOWN
        # and only for one look after its last answer
        assert look(look(served(healthy()), "slow", busy=True), "slow", busy=True).state is State.DOWN
        assert look(look(served(healthy()), "slow", busy=True)).state is State.HEALTHY

    def test_answers_that_fail(self):
        """One answer that fails degrades it, three in a row take it out, one that is good in between begins the count anew."""
        one = fault(healthy())
        assert (one.state, one.usable, one.reason) == (State.DEGRADED, True, "it broke")
        assert served(one) == served(healthy())
        assert fault(fault(served(fault(fault(healthy()))))).usable
        out = fault(fault(one))
        assert (out.state, out.reason) == (State.DOWN, "3 answers in a row failed: it broke")

    def test_connection_refused(self):
        """One connection that nobody takes is enough."""
        assert fault(healthy(), gone=True).state is State.DOWN

    def test_half_open(self):
        """A server that its answers took out is let in on trial: the next answer that fails takes it out again."""
        half = tried(look(fault(fault(fault(healthy())))), "", START, SETTINGS)
        assert (half.state, half.usable) == (State.DEGRADED, True)
        assert fault(half).state is State.DOWN
        assert fault(served(half)).usable

    def test_late_news(self):
        """Answers that fail after it was taken out change nothing."""
        down = look(healthy(), "nobody")
        assert fault(down) == down


@asynccontextmanager
async def probing(server, **settings):
    """Look at the server until the block ends; gives the prober, its clock, and how often something changed."""
    clock, changes = ManualClock(), list[State]()
    async with upstream(server, **settings) as one:
        prober = Prober(
            one,
            settings=UpstreamSettings(**settings),
            clock=clock,
            random=lambda: 0.0,
            changed=lambda: changes.append(prober.health.state),
        )
        looking = asyncio.create_task(prober.run())
        try:
            yield prober, clock, changes
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def rested(clock: ManualClock) -> None:
    """Wait until the prober has looked, and waits for the next time."""
    async with asyncio.timeout(SECONDS):
        await clock.until_asleep()


async def interval(clock: ManualClock, seconds: float = 5) -> None:
    """Let a probe interval pass, and what happens in it happen."""
    await rested(clock)
    clock.advance(seconds=seconds)
    await asyncio.sleep(0)
    await rested(clock)


class TestProber:
    async def test_lets_it_in(self):
        """A good server is let in by the first look and trial, and both have been asked for."""
        async with model_server() as server, probing(server) as (prober, clock, changes):
            await rested(clock)

        assert changes == [State.HEALTHY]
        assert [(one.method, one.path) for one in server.asked] == [("GET", "/v1/models"), ("POST", "/v1/chat/completions")]
        assert server.asked[1].body["temperature"] == 0
        assert prober.health.next_probe == clock.now() + timedelta(seconds=5)

    async def test_learns_of_it(self):
        """The context length that its list of models tells is taken from it, and whether it counts tokens from the trial."""
        async with model_server() as server, upstream(server) as one:
            before = one.context, one.capabilities
            await one.look()
            await one.try_out()

        assert before == (8192, ["chat", "stream", "completions"])
        assert (one.context, one.capabilities) == (2048, ["chat", "stream", "completions", "usage"])

    async def test_killed_and_started(self):
        """A server that is killed is out within one interval, the reason says so; started again, it is in within one."""
        async with model_server() as server, probing(server) as (prober, clock, changes):
            await rested(clock)
            await server.stop()
            await interval(clock)
            down = prober.health
            await server.start()
            await interval(clock)

        assert changes == [State.HEALTHY, State.DOWN, State.HEALTHY]
        assert "nobody takes connections" in down.reason

    async def test_hangs(self):
        """A server that takes connections and never answers is out, too."""
        async with model_server() as server, probing(server, probe_timeout=0.05) as (prober, clock, _):
            await rested(clock)
            server.models = stops_after()
            await interval(clock)

            assert (prober.health.state, prober.health.reason) == (State.DOWN, "it said nothing for 0.05 s")

    async def test_looks_well_and_answers_badly(self):
        """A server whose list of models is good and whose answers are not is found out by the trial, when it is due."""
        async with model_server() as server, probing(server, canary_seconds=10) as (prober, clock, _):
            await rested(clock)
            server.chat = streams({"choices": []})
            await interval(clock)
            assert prober.health.usable
            await interval(clock)

            assert prober.health.reason == "its trial failed: its stream ends without an answer"

    async def test_looks_now(self):
        """When an answer fails, the server is looked at now, not an interval later."""
        async with model_server() as server, probing(server) as (prober, clock, changes):
            await rested(clock)
            server.models = replies("500 Oops")
            prober.failed(Fault("m", "it broke"))
            async with asyncio.timeout(SECONDS):
                while prober.health.usable:
                    await asyncio.sleep(0.002)

            assert changes == [State.HEALTHY, State.DEGRADED, State.DOWN]
            assert clock.now() == START

    async def test_circuit(self):
        """A server whose answers fail while its looks are good is out until the next interval, and then in on trial."""
        async with model_server() as server, probing(server) as (prober, clock, _):
            await rested(clock)
            for _ in range(3):
                prober.failed(Fault("m", "it broke"))
                await rested(clock)
            out = prober.health.state
            await interval(clock)

            assert (out, prober.health.state) == (State.DOWN, State.DEGRADED)

    async def test_other_lists(self):
        """A server without a list of models is there all the same; one that wants a key, or leads elsewhere, is not used."""
        for models, state in (
            (replies("404 Not Found"), State.HEALTHY),
            (replies("200 OK", "not json"), State.HEALTHY),
            (replies("401 Unauthorized"), State.DOWN),
            (replies("302 Found", more="location: http://169.254.169.254/\r\n"), State.DOWN),
        ):
            async with model_server(models=models) as server, probing(server) as (prober, clock, _):
                await rested(clock)
                assert prober.health.state is state

    async def test_busy_trial(self):
        """A server that is too busy for a trial is certainly there."""
        async with model_server(chat=replies("429 Busy")) as server, probing(server) as (prober, clock, _):
            await rested(clock)
            server.chat = says("x")

            assert prober.health.state is State.HEALTHY
