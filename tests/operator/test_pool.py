"""Models that come and go behind an operator's requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from threading import Event

import pytest

from aos.clock import SystemClock
from aos.errors import Deadline, EngineFailed, InvalidField, ModelNotFound, ModelUnsuitable, QueueFull, ShuttingDown
from aos.metrics import CollectorRegistry
from aos.operator.model import Model
from aos.operator.modes import Mode
from aos.operator.pool import Pool
from aos.operator.pool_metrics import PoolMetrics
from aos.operator.runner import Runner
from aos.operator.servicer import OperatorServicer
from aos.operator.source import Source
from aos.operator.waiting import Terms
from aos.testing.scripted import ScriptedModel
from aos.v1.operator_pb2 import Chunk, DescribeOperatorRequest, DetokenizeRequest, TokenizeRequest
from aos.v1.types_pb2 import Determinism, Price
from tests.operator.orders import answer, asking

SECONDS = 20


class Shelved(Source):
    """A scripted model of so many bytes, whose loading a test can stop or let fail."""

    def __init__(self, says: str, *, size: int = 1, exact: bool = True) -> None:
        self.says, self.size, self.exact = says, size, exact
        self.opened: list[Mode] = []
        self.closed = 0
        self.problem: Exception | None = None
        self.may_open = Event()
        self.may_open.set()

    def measure(self) -> None:
        pass

    def parts(self, mode: Mode) -> Mapping[str, int]:
        return {f"{self.says} {mode.value}": self.size}

    def open(self, mode: Mode) -> Model:
        assert self.may_open.wait(SECONDS)
        if self.problem is not None:
            raise self.problem
        self.opened.append(mode)
        model = ScriptedModel(self.says)
        model.exact = self.exact
        return model

    def close(self, model: Model) -> None:
        self.closed += 1


async def ask(pool: Pool, name: str, mode: Mode = Mode.EXACT, *, seconds: float | None = None) -> str:
    async with pool.using(name, mode, seconds=seconds) as engine:
        return (await answer(engine, asking())).text


async def waits(pool: Pool, name: str, count: int = 1) -> None:
    """Return once so many wait for the model."""
    async with asyncio.timeout(SECONDS):
        while pool.waiting(name) != count:
            await asyncio.sleep(0)


class TestLoading:
    async def test_models_take_turns_in_memory_for_one(self):
        """With room for one model, requests for two are answered in turn, each by its own."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            said = [await ask(pool, name) for name in ("one", "two", "one", "two")]
            together = await asyncio.gather(*(ask(pool, name) for name in ("one", "two") * 8))

        assert said == ["one", "two", "one", "two"]
        assert together == ["one", "two"] * 8
        assert one.closed == len(one.opened)
        assert two.closed == len(two.opened) <= 5, "those that wait together share a load"

    async def test_the_first_model_is_warm(self):
        """At the start each model is opened once; those that fit stay, from the first on."""
        models = {name: Shelved(name) for name in ("one", "two", "three")}
        async with Pool(models, budget=2) as pool:
            assert [bool(pool.engines(name)) for name in models] == [True, True, False]
            assert list(pool.facts) == ["three", "two", "one"]

    async def test_a_load_is_shared(self):
        """All who ask while a model is being loaded wait for the same load."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            two.may_open.clear()
            asking_two = [asyncio.create_task(ask(pool, "two")) for _ in range(5)]
            await waits(pool, "two", 5)
            two.may_open.set()

            assert await asyncio.gather(*asking_two) == ["two"] * 5
            assert len(two.opened) == 2

    async def test_a_model_in_use_stays(self):
        """Another model waits until the answers of the one that is in memory are complete."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            async with pool.using("one", Mode.EXACT) as engine:
                other = asyncio.create_task(ask(pool, "two"))
                await waits(pool, "two")
                before = one.closed
                assert (await answer(engine, asking())).text == "one"
            assert (await other, before, one.closed) == ("two", 0, 1)

    async def test_a_way_is_loaded_when_it_is_asked_for(self):
        """Best effort has an engine of its own, made by the first order that asks for it."""
        one = Shelved("one")
        async with Pool({"one": one}) as pool:
            fast = asking(model="one")
            fast.determinism = Determinism.DETERMINISM_BEST_EFFORT
            assert one.opened == [Mode.EXACT]
            assert await ask(pool, "one", pool.mode(fast)) == "one"
            assert one.opened == [Mode.EXACT, Mode.BEST_EFFORT]
            assert pool.mode(asking(model="one")) == Mode.EXACT

    async def test_a_model_that_cannot_be_exact(self):
        """It has one engine, for orders of either kind; those that must be exact are refused."""
        async with Pool({"one": Shelved("one", exact=False)}) as pool:
            order = asking(model="one")
            ways = set()
            for order.determinism in (Determinism.DETERMINISM_UNSPECIFIED, Determinism.DETERMINISM_BEST_EFFORT):
                ways.add(pool.mode(order))
            order.determinism = Determinism.DETERMINISM_EXACT
            with pytest.raises(ModelUnsuitable, match="same bits"):
                pool.mode(order)

            assert len(ways) == 1
            assert not pool.facts["one"].exact


class TestRefusals:
    async def test_a_load_that_fails(self):
        """It ends the requests that wait for it with its reason; the next one tries again, and other models go on."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            two.problem = InvalidField("model", "two.gguf cannot be read: gone")
            for outcome in await asyncio.gather(*(ask(pool, "two") for _ in range(3)), return_exceptions=True):
                assert isinstance(outcome, EngineFailed)
                assert "two.gguf cannot be read: gone" in outcome.message
            two.problem = MemoryError()
            with pytest.raises(EngineFailed, match="MemoryError"):
                await ask(pool, "two")
            two.problem = None

            assert [await ask(pool, name) for name in ("one", "two")] == ["one", "two"]

    async def test_too_large_at_the_start(self):
        """An operator does not begin to offer a model that its memory never holds."""
        small, large = Shelved("small"), Shelved("large", size=3 << 20)
        with pytest.raises(InvalidField, match=r"large needs 3 MiB.* may take 2 MiB"):
            async with Pool({"small": small, "large": large}, budget=2 << 20):
                pass

        assert small.closed == len(small.opened)

    async def test_too_large_later(self):
        """A way of running a model that never fits is refused at once."""
        one = Shelved("one")
        async with Pool({"one": one}, budget=1) as pool:
            one.size = 2
            with pytest.raises(EngineFailed, match="needs 1 MiB"):
                await ask(pool, "one", Mode.BEST_EFFORT)

    async def test_an_unknown_model(self):
        """The refusal names those that there are."""
        async with Pool({"one": Shelved("one")}) as pool:
            with pytest.raises(ModelNotFound, match="there are: one"):
                await ask(pool, "other")

    async def test_the_time_is_over(self):
        """A request waits for a load no longer than it has; the load goes on for the others."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            two.may_open.clear()
            with pytest.raises(Deadline):
                await ask(pool, "two", seconds=0.01)
            two.may_open.set()

            assert await ask(pool, "two") == "two"

    async def test_too_many_wait(self):
        """So many wait for a load; the next is refused at once."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1, slots=1, waiting=2) as pool:
            two.may_open.clear()
            waiting = [asyncio.create_task(ask(pool, "two")) for _ in range(3)]
            await waits(pool, "two", 3)
            with pytest.raises(QueueFull, match="loading two"):
                await ask(pool, "two")
            two.may_open.set()

            assert await asyncio.gather(*waiting) == ["two"] * 3

    async def test_a_reader_that_leaves(self):
        """Whoever stops waiting leaves nothing behind: the model's turn goes to the others."""
        models = {name: Shelved(name) for name in ("one", "two")}
        async with Pool(models, budget=1) as pool:
            async with pool.using("one", Mode.EXACT):
                leaving = asyncio.create_task(ask(pool, "two"))
                await waits(pool, "two")
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                assert pool.waiting("two") == 0
                assert await ask(pool, "one") == "one"
            assert len(models["one"].opened) == 1


class TestClosing:
    async def test_all_is_closed(self):
        """Closing ends who waits and who reads with SHUTTING_DOWN, and closes what was loaded, also what is being loaded."""
        one, two = Shelved("one"), Shelved("two")
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(Pool({"one": one, "two": two}, budget=1))
            two.may_open.clear()
            waiting = asyncio.create_task(ask(pool, "two"))
            await waits(pool, "two")
            closing = asyncio.create_task(pool.aclose())
            with pytest.raises(ShuttingDown):
                await waiting
            two.may_open.set()
            await closing
            with pytest.raises(ShuttingDown):
                await ask(pool, "one")

        assert (one.closed, two.closed) == (len(one.opened), len(two.opened))


class TestRunning:
    async def test_deadlines_count_from_the_request(self, key):
        """What a request waited for its model is taken off the time that it has."""
        time = iter([0.0, 5.0])
        async with Pool({"one": ScriptedModel("one")}) as pool:
            pool.clock = lambda: next(time)
            runner = Runner(key, pool, price=Price(prompt_token="1", completion_token="1"), clock=SystemClock())
            with pytest.raises(Deadline):
                await anext(runner.run(asking(model="one"), job=bytes(32), terms=Terms(seconds=5.0)))

    async def test_a_refused_order_loads_nothing(self, key):
        """An order that cannot be run anyway unloads nobody's model."""
        one, two = Shelved("one"), Shelved("two")
        async with Pool({"one": one, "two": two}, budget=1) as pool:
            runner = Runner(key, pool, price=Price(prompt_token="1", completion_token="1"), clock=SystemClock())
            with pytest.raises(InvalidField, match="top_p"):
                await anext(runner.run(asking(model="two", top_p=7.0), job=bytes(32)))
            events = [event async for event in runner.run(asking(model="one"), job=bytes(32))]

        assert "".join(event.text for event in events if isinstance(event, Chunk)) == "one"
        assert len(one.opened) == 1


class TestDescribing:
    async def test_what_is_in_memory(self, key):
        """The operator tells all its models and which are loaded; asking for tokens of another loads it."""
        models = {"one": Shelved("one"), "two": Shelved("two", exact=False)}
        async with Pool(models, budget=1) as pool:
            servicer = OperatorServicer(Runner(key, pool, price=Price(prompt_token="1", completion_token="1"), clock=SystemClock()))

            async def described() -> dict[str, tuple[bool, bool]]:
                said = await servicer.DescribeOperator(DescribeOperatorRequest(), None)
                return {model.name: (model.loaded, model.exact) for model in said.models}

            assert await described() == {"one": (True, True), "two": (False, False)}
            said = await servicer.Tokenize(TokenizeRequest(order=asking("Hi", model="two")), None)
            assert list(said.tokens[:2]) == [*b"Hi"]
            assert await described() == {"one": (False, True), "two": (True, False)}
            text = await servicer.Detokenize(DetokenizeRequest(model="one", tokens=[*b"Hi"]), None)
            assert text.text == "Hi"


class TestMetrics:
    async def test_loads_are_counted(self):
        """Loads with their seconds, failures, and models that made room, by model."""
        registry, now = CollectorRegistry(), [0.0]

        class Slow(Shelved):
            def open(self, mode: Mode) -> Model:
                now[0] += 2.0
                return super().open(mode)

        models = {"one": Slow("one"), "two": Slow("two")}

        def value(name: str, model: str) -> float | None:
            return registry.get_sample_value(name, {"model_name": model, "operator": "0xab"})

        watcher = PoolMetrics(registry, models, operator="0xab")
        async with Pool(models, budget=1, clock=lambda: now[0], watcher=watcher) as pool:
            await ask(pool, "one")
            models["two"].problem = OSError("gone")
            with pytest.raises(EngineFailed):
                await ask(pool, "two")

            assert value("aos_model_load_seconds_count", "one") == 1
            assert value("aos_model_load_seconds_sum", "one") == 2.0
            assert value("aos_model_load_failures_total", "two") == 1
            assert value("aos_model_unloads_total", "two") == 1
            assert value("aos_model_unloads_total", "one") == 1
