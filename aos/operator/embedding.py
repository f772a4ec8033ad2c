"""Texts in, vectors out: orders for embeddings take turns on one thread, a few texts each.

A text's vector is made of the model's last hidden states, one a token, put together as the model says (``pooled``), with length 1.
The sum runs over the tokens in order and in 64 bits, so a vector is the same however the text was cut and whatever was beside it,
as far as the hidden states are.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aos.errors import AosError, ContextOverflow, Deadline, EngineFailed, InvalidField, ModelUnsuitable, ShuttingDown
from aos.operator.door import Door
from aos.operator.modes import NEEDS_EXACT
from aos.operator.stream import End, Piece, Vector
from aos.operator.waiting import Terms
from aos.order import EMBEDDING_VALUES, check_order
from aos.v1.types_pb2 import Determinism, Embedding, FinishReason, Order
from aos.vectors import packed, unpacked

TURN_TEXTS: Final = 16
"""Most texts of one order that are computed before the next order has its turn; they make one piece."""
TURN_TOKENS: Final = 2048
"""Most tokens of them, unless one text has more."""
WAITING: Final = 64
"""Most orders at once, unless the engine is told otherwise."""
TENANT_WAITING: Final = 32
"""Most of them that are one tenant's."""

T = TypeVar("T")
Vectors = list[Vector]


class Pooling(Enum):
    """How the hidden states of a text's tokens become one."""

    MEAN = "mean"
    """Their mean; for generative models, too, which name no pooling."""
    CLS = "cls"
    """That of the first token."""
    LAST = "last"
    """That of the last token."""


class Embedder(Protocol):
    """What the engine asks of a model that embeds. ``embed`` is called on one thread, the rest on any."""

    @property
    def profile(self) -> str:
        """What its receipts say ran it."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a text always has the same vector, whatever is beside it."""
        ...

    @property
    def context(self) -> int:
        """Most tokens of a text."""
        ...

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    def read(self, text: str) -> list[int]:
        """Return the text's tokens, those included that the model wants around it. Slow for long texts."""
        ...

    def embed(self, texts: Sequence[Sequence[int]], *, go_on: Callable[[], bool]) -> Vectors:
        """Return the texts' vectors. Stops between two steps, with Abandoned, once ``go_on`` says no."""
        ...


class Abandoned(Exception):
    """Nobody waits for these vectors any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring tokens of one text in one step."""

    text: int
    slot: int
    start: int
    count: int


def steps(lengths: Sequence[int], *, slots: int, budget: int) -> Iterator[list[Part]]:
    """Yield what to compute in each step, in order of slots: at most ``slots`` texts and ``budget`` tokens at once.

    Texts get the slots in order; a text keeps its slot until it is done.
    """
    waiting = iter(range(len(lengths)))
    seated: dict[int, tuple[int, int]] = {}
    while True:
        for slot in range(slots):
            if slot not in seated and (text := next(waiting, None)) is not None:
                seated[slot] = (text, 0)
        if not seated:
            return
        parts, left = list[Part](), budget
        for slot, (text, start) in sorted(seated.items()):
            count = min(lengths[text] - start, left)
            if not count:
                break
            parts.append(Part(text, slot, start, count))
            left -= count
            seated[slot] = text, start + count
            if start + count == lengths[text]:
                del seated[slot]
        yield parts


class TextVector:
    """Puts one text's hidden states together, as they come."""

    def __init__(self, pooling: Pooling, dimensions: int) -> None:
        self._pooling, self._count = pooling, 0
        self._sum = np.zeros(dimensions, np.float64)

    def add(self, states: NDArray[np.float32]) -> None:
        """Take the states of the next tokens, one a row."""
        for row in states:  # one by one: a sum by blocks would depend on how the text was cut
            if self._pooling is Pooling.MEAN:
                self._sum += row
            elif self._pooling is Pooling.LAST or not self._count:
                self._sum = row.astype(np.float64)
            self._count += 1

    def vector(self) -> Vector:
        """Return the text's vector. Raises ValueError if it has no direction, or the states are broken."""
        # the correctly rounded sum, because numpy's and BLAS's depend on the machine
        length = math.sqrt(math.fsum((self._sum * self._sum).tolist()))
        if not math.isfinite(length) or not length:
            raise ValueError("the model's hidden states are not finite, or nothing")
        return (self._sum / length).astype(np.float32)


class EmbeddingEngine:
    """Runs orders for embeddings on one model. Its thread starts with the first."""

    def __init__(self, name: str, model: Embedder, *, waiting: int = WAITING, clock: Callable[[], float] = time.monotonic) -> None:
        """``waiting``: most orders at once; ``clock`` gives seconds from anywhere, for deadlines."""
        self.name, self.model = name, model
        self._door = Door(f"embeddings of {name}", limit=waiting, tenant_limit=min(waiting, TENANT_WAITING))
        self._clock = clock
        self._thread: ThreadPoolExecutor | None = None

    @property
    def inside(self) -> int:
        """Orders that are computed or wait for their turn."""
        return self._door.inside

    async def embed(
        self, order: Order, *, accepted: Sequence[Vector] = (), terms: Terms | None = None
    ) -> AsyncGenerator[Piece | End]:
        """Yield the vectors of the texts in order, a few at a time, then the end. Leaving early frees the thread within one step.

        ``accepted`` are vectors of the first texts, computed elsewhere: they are not computed again, nor given again. The end's
        prompt is the tokens of all texts, one behind the other.

        Raises, before any work, InvalidField, ModelUnsuitable, ContextOverflow, QueueFull or ShuttingDown; and, at any time,
        EngineFailed, ShuttingDown or, when the time that ``terms`` give is over, Deadline.
        """
        check_order(order)
        terms = terms or Terms()
        due = math.inf if terms.seconds is None else self._clock() + terms.seconds
        if order.determinism == Determinism.DETERMINISM_EXACT and not self.model.exact:
            raise ModelUnsuitable(self.name, NEEDS_EXACT)
        texts, size = order.embedding.texts, self.model.dimensions
        if order.embedding.dimensions not in {0, size}:
            problem = f"must be {size}, as {self.name} has it, or left out"
            raise InvalidField("order.embedding.dimensions", problem, value=order.embedding.dimensions, limit=size)
        if len(texts) * size > EMBEDDING_VALUES:
            most = EMBEDDING_VALUES // size
            problem = f"{self.name} has vectors of {size} numbers; at most {most} texts are accepted"
            raise InvalidField("order.embedding.texts", problem, value=len(texts), limit=most)
        if len(accepted) > len(texts) or any(len(one) != size for one in accepted):
            raise InvalidField("accepted_embeddings", "these are no vectors of this order's texts", value=len(accepted))
        with self._door.entered(terms.tenant):
            tokens = await self._within(due, terms, asyncio.to_thread(self._read, texts))
            vectors = list(accepted)
            for turn in turns(tokens, len(accepted)):
                fresh = await self._turn(turn, due, terms)
                vectors += fresh
                yield Piece("", [], vectors=fresh)
            prompt = [token for one in tokens for token in one]
            yield End(FinishReason.FINISH_REASON_STOP, "", prompt, [], "", vectors=vectors)

    def read(self, order: Order) -> list[int]:
        """Return the tokens of all texts, one behind the other. Slow for long ones."""
        return [token for text in order.embedding.texts for token in self.model.read(text)]

    async def aclose(self) -> None:
        """End every order with ShuttingDown, then the thread. Idempotent."""
        with self._door.shutting():
            pass
        if self._thread is not None:
            await asyncio.to_thread(self._thread.shutdown)

    def _read(self, texts: Iterable[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for index, text in enumerate(texts):
            field, tokens = f"order.embedding.texts[{index}]", self.model.read(text)
            if not tokens:
                raise InvalidField(field, "has no tokens")
            if len(tokens) > self.model.context:
                raise ContextOverflow(self.name, len(tokens), self.model.context, field=field)
            found.append(tokens)
        return found

    async def _turn(self, texts: list[list[int]], due: float, terms: Terms) -> Vectors:
        if self._door.is_shut:
            raise ShuttingDown
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"aos-embedding-{self.name}")
        wanted = True
        # the thread's own queue is first come, first served: orders take turns, a few texts each
        computing = asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self.model.embed(texts, go_on=lambda: wanted and not self._door.is_shut)
        )
        try:
            return await self._within(due, terms, computing)
        except Abandoned:
            raise ShuttingDown from None
        except AosError:
            raise
        except Exception as error:
            raise EngineFailed(self.name, str(error) or type(error).__name__) from error
        finally:
            wanted = False

    async def _within(self, due: float, terms: Terms, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(None if due == math.inf else due - self._clock()):
                return await work
        except TimeoutError:
            raise Deadline(f"a request to {self.name}", terms.seconds or 0.0) from None


def arrays(embeddings: Iterable[Embedding]) -> Vectors:
    """Return the vectors that messages carry."""
    return [np.frombuffer(packed(one), "<f4").astype(np.float32) for one in embeddings]


def messages(vectors: Iterable[Vector]) -> list[Embedding]:
    """Return the vectors as messages carry them."""
    return [unpacked(one.astype("<f4").tobytes()) for one in vectors]


def turns(texts: Sequence[list[int]], start: int) -> Iterator[list[list[int]]]:
    """Yield the texts from ``start`` on, as many at a time as one turn has."""
    turn: list[list[int]] = []
    for text in texts[start:]:
        if turn and (len(turn) == TURN_TEXTS or sum(map(len, turn)) + len(text) > TURN_TOKENS):
            yield turn
            turn = []
        turn.append(text)
    if turn:
        yield turn
