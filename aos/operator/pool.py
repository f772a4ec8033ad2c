"""Engines for the models that an operator offers, loaded when they are asked for and unloaded when others need their memory.

The pool lives on one event loop; models are opened and closed beside it, one at a time opened. What is decided, residency.py
decides.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from aos.errors import AosError, Deadline, EngineFailed, InvalidField, ModelNotFound, QueueFull, ShuttingDown
from aos.operator.engine import WAITING, Engine
from aos.operator.model import Model
from aos.operator.modes import Mode
from aos.operator.rendering import PROMPT_TOKENS, RenderEngine, Renderer
from aos.operator.residency import Grant, Load, Residency, Unload
from aos.operator.source import Facts, Source, Standing
from aos.v1.types_pb2 import Order

MEBIBYTE: Final = 1 << 20
UNLIMITED: Final = 1 << 62
"""A budget that no model exceeds."""

log = logging.getLogger(__name__)

Key = tuple[str, Mode]
AnyEngine = Engine | RenderEngine
"""Of text and vectors, or of pictures."""


class Watcher:
    """Hears of models that come and go (PoolMetrics counts them). This one does nothing."""

    def loaded(self, model: str, seconds: float) -> None:
        """It took so long to load."""

    def failed(self, model: str) -> None:
        """It could not be loaded."""

    def unloaded(self, model: str) -> None:
        """Its memory is free."""


class Pool:
    """The operator's models, by the names under which they are offered."""

    def __init__(
        self,
        models: Mapping[str, Model | Renderer | Source],
        *,
        budget: int = UNLIMITED,
        slots: int | None = None,
        waiting: int = WAITING,
        clock: Callable[[], float] = time.monotonic,
        watcher: Watcher | None = None,
    ) -> None:
        """``models``: those that stay somebody else's, or sources, which are opened here. ``budget``: bytes that all together may
        take. ``slots`` and ``waiting`` are each engine's. ``clock`` gives seconds, for deadlines and to know what a load takes.
        """
        self._sources = {name: one if isinstance(one, Source) else Standing(one) for name, one in models.items()}
        self._slots, self._waiting, self.clock, self._watcher = slots, waiting, clock, watcher or Watcher()
        self._residency = Residency(budget)
        self._engines: dict[Key, tuple[AnyEngine, Model | Renderer]] = {}
        self._facts: dict[str, Facts] = {}
        self._waiters: dict[int, asyncio.Future[AnyEngine]] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def facts(self) -> Mapping[str, Facts]:
        """What is told of each model, by name."""
        return self._facts

    def engines(self, name: str) -> list[AnyEngine]:
        """Return the engines of a model that are in memory now: none, or one a mode."""
        return [engine for (model, _), (engine, _) in self._engines.items() if model == name]

    def waiting(self, name: str) -> int:
        """Return how many requests wait for the model to be loaded."""
        return sum(self._residency.waiting((name, mode)) for mode in Mode)

    def source(self, name: str) -> Source:
        """Return the model's source. Raises ModelNotFound."""
        source = self._sources.get(name)
        if source is None:
            raise ModelNotFound(name, ", ".join(sorted(self._sources)))
        return source

    def mode(self, order: Order) -> Mode:
        """Return the mode that the order is run in. Raises ModelNotFound, or ModelUnsuitable if its model has none for it."""
        source = self.source(order.model)
        return source.mode(order, self._facts[order.model])

    async def __aenter__(self) -> Self:
        """Open each model once, the first one last: what is told of them is true, and those that fit, from the first on, are warm.

        Raises InvalidField for a model that never fits into the budget, and what its source raises if it cannot be opened.
        """
        try:
            for name, source in reversed(self._sources.items()):
                await asyncio.to_thread(source.measure)
                self._check_fits(name, source.parts(Mode.EXACT))
                async with self.using(name, Mode.EXACT) as engine:
                    self._facts[name] = _facts(source, engine)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every request with ShuttingDown, and close all models. Idempotent."""
        self._closed = True
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(ShuttingDown())
        while self._tasks:  # a load cannot be broken off
            await asyncio.wait(self._tasks)
        for key in list(self._engines):
            await self._unload(key)

    @asynccontextmanager
    async def using(self, name: str, mode: Mode, *, seconds: float | None = None) -> AsyncGenerator[AnyEngine]:
        """Give the model's engine, loaded if need be; it stays in memory until the block ends.

        Waiting for it takes at most ``seconds``, then Deadline is raised. Raises at once ModelNotFound, ShuttingDown, QueueFull if
        too many wait for it, and EngineFailed if it never fits into the memory there is; later EngineFailed if it cannot be loaded.
        """
        source, key = self.source(name), (name, mode)
        parts = source.parts(mode)
        if self._closed:
            raise ShuttingDown
        if not self._residency.fits(parts):
            raise EngineFailed(name, self._too_large(name, parts))
        limit = self._waiting + (self._slots or 1)
        if self._residency.waiting(key) >= limit:
            raise QueueFull(f"loading {name}", limit)
        number = next(self._numbers)
        self._waiters[number] = waiter = asyncio.get_running_loop().create_future()
        self._residency.want(number, key, parts)
        try:
            self._act()
            yield waiter.result() if waiter.done() else await _within(name, seconds, waiter)
        finally:
            del self._waiters[number]
            self._residency.leave(number, key)
            self._act()

    def _check_fits(self, name: str, parts: Mapping[str, int]) -> None:
        if not self._residency.fits(parts):
            raise InvalidField("memory", self._too_large(name, parts), value=name, limit=self._residency.budget)

    def _too_large(self, name: str, parts: Mapping[str, int]) -> str:
        needed, budget = -(-sum(parts.values()) // MEBIBYTE), self._residency.budget // MEBIBYTE
        return f"{name} needs {needed} MiB, and the models of this operator may take {budget} MiB"

    def _act(self) -> None:
        """Do what residency says; called whenever something has changed."""
        if self._closed:
            return
        for step in self._residency.plan():
            match step:
                case Grant(key, number):
                    waiter = self._waiters[number]
                    if not waiter.done():
                        waiter.set_result(self._engines[_key(key)][0])
                case Load(key):
                    self._begin(self._load(_key(key)))
                case Unload(key):
                    self._begin(self._unload(_key(key)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, key: Key) -> None:
        name, mode = key
        began = self.clock()
        try:
            model = await asyncio.to_thread(self._sources[name].open, mode)
        except Exception as error:
            log.exception("%s cannot be loaded", name)
            self._watcher.failed(name)
            problem = error.message if isinstance(error, AosError) else str(error) or type(error).__name__
            for number in self._residency.failed(key):
                waiter = self._waiters[number]
                if not waiter.done():
                    waiter.set_exception(EngineFailed(name, f"it cannot be loaded: {problem}"))
        else:
            self._engines[key] = self._engine(name, model), model
            self._residency.loaded(key)
            self._watcher.loaded(name, self.clock() - began)
        self._act()

    def _engine(self, name: str, model: Model | Renderer) -> AnyEngine:
        if isinstance(model, Renderer):
            return RenderEngine(name, model, waiting=self._waiting, clock=self.clock)
        return Engine(name, model, slots=self._slots, waiting=self._waiting, clock=self.clock)

    async def _unload(self, key: Key) -> None:
        engine, model = self._engines.pop(key)
        name, _ = key
        await engine.aclose()
        try:
            await asyncio.to_thread(self._sources[name].close, model)
        except Exception:  # a bug; its memory is lost, the pool goes on
            log.exception("%s cannot be unloaded", name)
        self._watcher.unloaded(name)
        self._residency.unloaded(key)
        self._act()


async def _within(name: str, seconds: float | None, waiter: asyncio.Future[AnyEngine]) -> AnyEngine:
    try:
        async with asyncio.timeout(seconds):
            return await waiter
    except TimeoutError:
        raise Deadline(f"a request to {name}", seconds or 0.0) from None


def _key(key: object) -> Key:
    assert isinstance(key, tuple)
    return key


def _facts(source: Source, engine: AnyEngine) -> Facts:
    if isinstance(engine, RenderEngine):
        return Facts(
            digest=engine.model.digest.hex(),
            adapter_digest="",
            context=PROMPT_TOKENS,
            slots=engine.slots,
            chat=False,
            exact=True,
            embeddings=False,
            profile=engine.profile,
            images=True,
        )
    model = engine.model
    return Facts(
        digest=model.digest,
        adapter_digest=source.adapter_digest,
        context=model.context,
        slots=engine.slots,
        chat=model.chat,
        exact=model.exact,
        embeddings=model.embedder is not None,
        profile=model.profile,
    )
