"""Work beside the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aos.operator.beside import TOGETHER, Beside

SECONDS = 10


class Gate:
    """Work that takes until it is let go."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.begun.set()
        assert self.open.wait(SECONDS)
        return threading.get_ident()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, SECONDS)


class TestBeside:
    async def test_off_the_loop(self):
        """Work is done on another thread than the loop's, and its result comes back."""
        assert await Beside().do(threading.get_ident) != threading.get_ident()

    async def test_in_order(self):
        """What gathers is done in the order in which it came, all of it, however much it is."""
        beside, order = Beside(), []
        work = [beside.do(lambda number=number: order.append(number) or number) for number in range(3 * TOGETHER + 1)]

        assert await asyncio.gather(*work) == order == list(range(3 * TOGETHER + 1))

    async def test_one_failure(self):
        """Work that fails fails for who asked for it, and for nobody else."""
        beside = Beside()
        found = await asyncio.gather(
            beside.do(lambda: 1), beside.do(lambda: int("x")), beside.do(lambda: 3), return_exceptions=True
        )

        assert (found[0], found[2]) == (1, 3)
        assert isinstance(found[1], ValueError)
        with pytest.raises(ValueError, match="invalid literal"):
            await beside.do(lambda: int("x"))

    async def test_cancelled(self):
        """Who goes is waited for by nobody: what had not begun is not done, and the others are served."""
        beside, gate, done = Beside(), Gate(), []
        first = asyncio.create_task(beside.do(gate))
        await gate.reached()
        gone = asyncio.create_task(beside.do(lambda: done.append("gone")))
        stays = asyncio.create_task(beside.do(lambda: done.append("stays")))
        await asyncio.sleep(0)
        first.cancel()
        gone.cancel()
        gate.open.set()
        async with asyncio.timeout(SECONDS):
            await stays

        assert done == ["stays"]
        assert first.cancelled()
        assert gone.cancelled()
