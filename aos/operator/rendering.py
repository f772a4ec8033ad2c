"""Prompts in, pictures out: orders for pictures take turns on one thread of their own, a picture each, so that text goes on."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from aos.errors import AosError, Deadline, EngineFailed, InvalidField, ShuttingDown
from aos.operator.door import Door
from aos.operator.stream import End, Piece
from aos.operator.waiting import Terms
from aos.order import check_order
from aos.picture_order import FILE_BYTES, seed_of, several, sides
from aos.pictures import ENCODER, Mask, Pixels, picture_of, read_mask, read_picture, write_png
from aos.v1.types_pb2 import FinishReason, Order, Picture

WAITING: Final = 16
"""Most orders that wait for the one that is rendered."""
TENANT_WAITING: Final = 8
"""Most orders at once that are one tenant's."""
PROMPT_TOKENS: Final = 8192
"""What the network is told as the model's context: what the longest prompt counts as."""


@runtime_checkable
class Renderer(Protocol):
    """What the engine asks of a model that makes pictures. ``render`` is called on one thread."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the model's file, 32 bytes."""
        ...

    @property
    def profile(self) -> str:
        """What ran it: all that decides the pixels."""
        ...

    def render(
        self,
        prompt: str,
        *,
        seed: int,
        width: int,
        height: int,
        source: Pixels | None,
        mask: Mask | None,
        cancelled: Callable[[], bool],
    ) -> Pixels:
        """Return the picture; the same arguments give the same one. Slow.

        ``source`` is the picture to be changed, and has the new one's size; ``mask`` says where, None: anywhere. Raises something,
        between two steps, once ``cancelled`` says so; AosError for a prompt that cannot be drawn.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Scene:
    """An order, its files read."""

    order: Order
    width: int
    height: int
    source: Pixels | None
    mask: Mask | None

    @classmethod
    def of(cls, order: Order) -> _Scene:
        """Read the files, which must be there. Slow. Raises InvalidField, and ModelUnsuitable for more than one source."""
        picture, (width, height) = order.picture, sides(order.picture)
        if len(picture.sources) > 1:
            raise several(order)
        source = mask = None
        for one in picture.sources:
            source = read_picture(_file(one, "sources[0]"), "order.picture.sources[0]", size=(width, height))
        if picture.HasField("mask"):
            mask = read_mask(_file(picture.mask, "mask"), "order.picture.mask", size=(width, height))
        return cls(order, width, height, source, mask)


def _file(picture: Picture, name: str) -> bytes:
    if not picture.data:
        raise InvalidField(f"order.picture.{name}", "the file is not kept any more", value=picture.sha256.hex())
    return picture.data


class RenderEngine:
    """Runs orders for pictures on one model. Its thread starts with the first."""

    embedding = None
    """It makes no vectors."""

    def __init__(self, name: str, model: Renderer, *, waiting: int = WAITING, clock: Callable[[], float] = time.monotonic) -> None:
        """``waiting``: most orders that wait; ``clock`` gives seconds from anywhere, for deadlines."""
        self.name, self.model, self.slots = name, model, 1
        limit = min(waiting, WAITING) + self.slots
        self._door = Door(f"pictures of {name}", limit=limit, tenant_limit=min(limit, TENANT_WAITING))
        self._clock = clock
        self._thread: ThreadPoolExecutor | None = None

    @property
    def running(self) -> int:
        """Orders being rendered now."""
        return min(self._door.inside, self.slots)

    @property
    def waiting(self) -> int:
        """Orders that wait for their turn."""
        return max(0, self._door.inside - self.slots)

    @property
    def usage(self) -> float:
        """Share of a KV cache that requests hold: there is none."""
        return 0.0

    @property
    def profile(self) -> str:
        """What its receipts say ran it: the model, and what wrote the files."""
        return f"{self.model.profile} {ENCODER}"

    async def render(
        self, order: Order, *, accepted: Sequence[Picture] = (), terms: Terms | None = None
    ) -> AsyncGenerator[Piece | End]:
        """Yield the pictures one by one, then the end, which has no files. Leaving early ends the one in work between two steps.

        ``accepted`` are the order's first pictures, rendered elsewhere: they are not rendered again, nor given again.

        Raises, before any work, InvalidField, QueueFull or ShuttingDown; and, at any time, EngineFailed, ShuttingDown or, when the
        time that ``terms`` give is over, Deadline.
        """
        check_order(order)
        terms = terms or Terms()
        due = math.inf if terms.seconds is None else self._clock() + terms.seconds
        count = max(1, order.picture.count)
        if len(accepted) > count:
            raise InvalidField("accepted_pictures", "these are more than the order's", value=len(accepted), limit=count)
        with self._door.entered(terms.tenant):
            scene: _Scene | None = None
            made = [Picture(sha256=one.sha256, width=one.width, height=one.height, size=one.size) for one in accepted]
            while len(made) < count:
                scene, picture = await self._turn(order, scene, len(made), due, terms)
                yield Piece("", [], pictures=[picture])
                made.append(Picture(sha256=picture.sha256, width=picture.width, height=picture.height, size=picture.size))
            yield End(FinishReason.FINISH_REASON_STOP, "", [], [], "", pictures=made)

    async def _turn(self, order: Order, scene: _Scene | None, index: int, due: float, terms: Terms) -> tuple[_Scene, Picture]:
        """Render one picture: the thread's own queue is first come, first served, so orders take turns."""
        if self._door.is_shut:
            raise ShuttingDown
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"aos-pictures-{self.name}")
        wanted = True

        def unwanted() -> bool:
            return not wanted or self._door.is_shut

        def work() -> tuple[_Scene, Picture]:
            if unwanted():
                raise ShuttingDown
            there = scene or _Scene.of(order)
            return there, self._paint(there, index, unwanted)

        try:
            async with asyncio.timeout(None if due == math.inf else max(0.0, due - self._clock())):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise Deadline(f"a request to {self.name}", terms.seconds or 0.0) from None
        except AosError:
            raise
        except Exception as error:
            if self._door.is_shut:
                raise ShuttingDown from error
            raise EngineFailed(self.name, str(error) or type(error).__name__) from error
        finally:
            wanted = False

    def _paint(self, scene: _Scene, index: int, cancelled: Callable[[], bool]) -> Picture:
        pixels = self.model.render(
            scene.order.picture.prompt,
            seed=seed_of(scene.order, index),
            width=scene.width,
            height=scene.height,
            source=scene.source,
            mask=scene.mask,
            cancelled=cancelled,
        )
        if pixels.shape != (scene.height, scene.width, 3):
            raise ValueError(f"the model gave {pixels.shape}, and {(scene.height, scene.width, 3)} was asked for")
        return picture_of(write_png(pixels), "picture", most=FILE_BYTES)

    async def aclose(self) -> None:
        """End every order with ShuttingDown, then the thread. Idempotent."""
        with self._door.shutting():
            pass
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)
