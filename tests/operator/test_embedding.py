"""Embeddings on the engine: the same vector whatever else is computed, none lost or doubled, and every order ends."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import (
    ContextOverflow,
    Deadline,
    EngineFailed,
    InvalidField,
    ModelUnsuitable,
    QueueFull,
    ShuttingDown,
)
from aos.operator.embedding import (
    TURN_TEXTS,
    TURN_TOKENS,
    Abandoned,
    EmbeddingEngine,
    Pooling,
    TextVector,
    arrays,
    messages,
    steps,
    turns,
)
from aos.operator.stream import End
from aos.operator.waiting import Terms
from aos.v1.types_pb2 import Constraint, Determinism, EmbeddingInput, Order, Sampling

TEXTS = ["What is AI?", "The network settles exactly from receipts. " * 20, "x", "Inference is running a trained model."]


def wanting(*texts: str, dimensions: int = 0, **fields) -> Order:
    return Order(model="m", embedding=EmbeddingInput(texts=texts, dimensions=dimensions), **fields)


async def embedded(
    engine: EmbeddingEngine | None, order: Order, accepted: Sequence = (), terms: Terms | None = None
) -> tuple[list, End]:
    """Read an answer to its end."""
    assert engine is not None
    found: list = []
    async with aclosing(engine.embed(order, accepted=accepted, terms=terms)) as pieces:
        async for one in pieces:
            if isinstance(one, End):
                return found, one
            found += one.vectors
    raise AssertionError("an answer ended without saying so")


def same(some: Sequence, others: Sequence) -> bool:
    return [one.tobytes() for one in some] == [one.tobytes() for one in others]


class Letters:
    """An Embedder that counts letters; it can be held, and told to fail."""

    profile, exact, context, dimensions = "letters", True, 100, 26

    def __init__(self) -> None:
        self.turns: list[int] = []
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def read(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text if "a" <= letter <= "z"]

    def embed(self, texts, *, go_on):
        self.turns.append(len(texts))
        self.begun.set()
        while not self.go.wait(0.01):
            if not go_on():
                raise Abandoned
        if self.error is not None:
            raise self.error
        return [np.bincount(text, minlength=26).astype(np.float32) / math.sqrt(sum(np.bincount(text) ** 2)) for text in texts]


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
async def engine(letters):
    engine = EmbeddingEngine("m", letters, waiting=3)
    yield engine
    letters.go.set()
    await engine.aclose()


class TestSteps:
    @settings(deadline=None, max_examples=100)
    @given(lengths=st.lists(st.integers(1, 40), max_size=20), slots=st.integers(1, 5), budget=st.integers(5, 30))
    def test_every_token_once(self, lengths, slots, budget):
        """Every token of every text is computed once, in order, in one slot, within the budget; slots are in order."""
        done, where = [0] * len(lengths), {}
        for parts in steps(lengths, slots=slots, budget=budget):
            assert 0 < sum(part.count for part in parts) <= budget
            assert [part.slot for part in parts] == sorted({part.slot for part in parts})
            for part in parts:
                assert part.start == done[part.text]
                assert where.setdefault(part.text, part.slot) == part.slot < slots
                done[part.text] += part.count
        assert done == lengths

    @settings(deadline=None, max_examples=50)
    @given(lengths=st.lists(st.integers(1, 3000), max_size=60), data=st.data())
    def test_turns(self, lengths, data):
        """Turns have all texts from the start on, in order, and none is too much for one unless a text is."""
        texts = [[0] * length for length in lengths]
        start = data.draw(st.integers(0, len(texts)))
        found = list(turns(texts, start))
        assert [text for turn in found for text in turn] == texts[start:]
        assert all(len(turn) <= TURN_TEXTS for turn in found)
        assert all(len(turn) == 1 or sum(map(len, turn)) <= TURN_TOKENS for turn in found)


class TestTextVector:
    @pytest.mark.parametrize(("pooling", "expected"), [("mean", [0.6, 0.8]), ("cls", [1, 0]), ("last", [0, 1])])
    def test_poolings(self, pooling, expected):
        """The mean, the first or the last state, with length 1."""
        vector = TextVector(Pooling(pooling), 2)
        vector.add(np.array([[3, 0]], np.float32))
        vector.add(np.array([[0, 1], [0, 3]], np.float32))

        assert vector.vector().tolist() == pytest.approx(expected)

    @pytest.mark.parametrize("state", [[0, 0], [math.nan, 1], [math.inf, 1]])
    def test_broken(self, state):
        """States without a direction are an error, not a vector of NaN."""
        vector = TextVector(Pooling.MEAN, 2)
        vector.add(np.array([state], np.float32))

        with pytest.raises(ValueError, match="not finite"):
            vector.vector()

    def test_messages(self):
        """Messages carry vectors of any size to the bit."""
        vectors = [np.random.default_rng(size).normal(size=size).astype(np.float32) for size in (1, 31, 32, 4096, 5000)]

        assert same(arrays(messages(vectors)), vectors)


class TestModel:
    async def test_alone_or_among_others(self, real):
        """A text's vector is the same to the bit alone, among others, in another order, and while text is made beside it."""
        together, end = await embedded(real.embedding, wanting(*TEXTS))
        alone = [(await embedded(real.embedding, wanting(text)))[0][0] for text in TEXTS]
        crowds = await asyncio.gather(*(embedded(real.embedding, wanting(*(TEXTS[::-1] * 9))) for _ in range(3)))

        assert same(together, alone)
        assert same(end.vectors, together)
        assert all(same(vectors, together[::-1] * 9) for vectors, _ in crowds)

    async def test_vectors(self, real, demo):
        """A vector has the model's dimensions and length 1, and the end has the tokens of all texts."""
        vectors, end = await embedded(real.embedding, wanting(*TEXTS, dimensions=demo.embedder.dimensions))

        assert {len(one) for one in vectors} == {demo.embedder.dimensions}
        assert [math.hypot(*one) for one in vectors] == pytest.approx([1] * 4, abs=1e-6)
        assert end.prompt == [token for text in TEXTS for token in demo.embedder.read(text)]
        assert (end.tokens, end.text) == ([], "")

    async def test_taken_up_elsewhere(self, real):
        """With the vectors that another operator computed, only the rest is computed and given."""
        whole, end = await embedded(real.embedding, wanting(*TEXTS))
        for count in range(5):
            rest, again = await embedded(real.embedding, wanting(*TEXTS), accepted=whole[:count])

            assert same(rest, whole[count:])
            assert same(again.vectors, whole)
            assert again.prompt == end.prompt

    async def test_exact(self, real, demo):
        """An order that must be exact is run where the model is."""
        assert demo.exact
        vectors, _ = await embedded(real.embedding, wanting("a", determinism=Determinism.DETERMINISM_EXACT))

        assert len(vectors) == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("order", "field"),
        [
            (wanting(), "order.embedding.texts"),
            (wanting("a", ""), "order.embedding.texts[1]"),
            (wanting(*"a" * 257), "order.embedding.texts"),
            (wanting("a" * (1 << 20), "b"), "order.embedding.texts"),
            (wanting("a", "."), "order.embedding.texts[1]"),
            (wanting("a", dimensions=25), "order.embedding.dimensions"),
            (wanting("a", sampling=Sampling(temperature=1)), "order.sampling"),
            (wanting("a", constraint=Constraint(regex="a")), "order.constraint"),
        ],
        ids=["none", "empty", "many", "long", "no tokens", "dimensions", "sampling", "constraint"],
    )
    async def test_field(self, engine, letters, order, field):
        """What cannot be is refused by name, before anything is computed."""
        with pytest.raises(InvalidField) as refused:
            await embedded(engine, order)

        assert refused.value.facts["field"] == field
        assert letters.turns == []

    async def test_long_text(self, engine, letters):
        """A text over the context is refused, saying which, and its order's other texts are not computed."""
        with pytest.raises(ContextOverflow, match=r"order\.embedding\.texts\[1\] has 101 tokens; 'm' holds 100") as refused:
            await embedded(engine, wanting("a", "b" * 101))

        assert refused.value.facts["field"] == "order.embedding.texts[1]"
        assert letters.turns == []

    async def test_too_many_numbers(self, engine, letters):
        """Vectors that no message could hold are refused, naming how many texts there may be."""
        letters.dimensions = 1 << 18
        with pytest.raises(InvalidField, match="at most 4 texts"):
            await embedded(engine, wanting(*"abcde"))

    async def test_vectors_of_another_order(self, engine):
        """Vectors from elsewhere that are too many, or of another size, are refused."""
        for accepted in ([np.zeros(26, np.float32)] * 2, [np.zeros(25, np.float32)]):
            with pytest.raises(InvalidField, match="accepted_embeddings"):
                await embedded(engine, wanting("a"), accepted=accepted)

    async def test_not_exact(self, engine, letters):
        """An order that must be exact is refused where the model is not."""
        letters.exact = False
        with pytest.raises(ModelUnsuitable):
            await embedded(engine, wanting("a", determinism=Determinism.DETERMINISM_EXACT))


class TestTurns:
    async def test_orders_take_turns(self, engine, letters):
        """A long order does not keep a short one waiting for its end."""
        letters.go.clear()
        long = asyncio.create_task(embedded(engine, wanting(*"a" * 64)))
        await asyncio.to_thread(letters.begun.wait, 10)
        short = asyncio.create_task(embedded(engine, wanting("b")))
        while engine.inside < 2:
            await asyncio.sleep(0)
        # until its texts are read, which is beside the loop
        await asyncio.to_thread(lambda: None)
        letters.go.set()
        await short

        assert 1 in letters.turns[:3]
        vectors, _ = await long
        assert len(vectors) == 64

    async def test_full(self, engine, letters):
        """More orders than may wait are refused at once."""
        letters.go.clear()
        running = [asyncio.create_task(embedded(engine, wanting("a"))) for _ in range(3)]
        while engine.inside < 3:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await embedded(engine, wanting("a"))
        letters.go.set()

        assert len(await asyncio.gather(*running)) == 3

    async def test_deadline(self, engine, letters):
        """An order whose time is over ends with that reason, and what it had computed is dropped within a step."""
        letters.go.clear()
        with pytest.raises(Deadline):
            await embedded(engine, wanting("a"), terms=Terms(seconds=0.05))
        letters.go.set()

        assert len((await embedded(engine, wanting("b")))[0]) == 1

    async def test_failure(self, engine, letters):
        """A failure of the model ends the order with its reason; the next is computed."""
        letters.error = RuntimeError("told to fail")
        with pytest.raises(EngineFailed, match="told to fail"):
            await embedded(engine, wanting("a"))
        letters.error = None

        assert len((await embedded(engine, wanting("b")))[0]) == 1

    async def test_closing(self, engine, letters):
        """Closing ends the orders that are there within a step, and takes no others."""
        letters.go.clear()
        running = asyncio.create_task(embedded(engine, wanting("a")))
        await asyncio.to_thread(letters.begun.wait, 10)
        await engine.aclose()

        for order in (running, embedded(engine, wanting("b"))):
            with pytest.raises(ShuttingDown):
                await order

    async def test_leaving(self, engine, letters):
        """A reader who leaves frees the thread for others."""
        letters.go.clear()
        async with aclosing(engine.embed(wanting(*"a" * 40))) as pieces:
            reading = asyncio.create_task(anext(pieces))
            await asyncio.to_thread(letters.begun.wait, 10)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        letters.go.set()
        vectors, _ = await embedded(engine, wanting("b"))

        assert len(vectors) == 1
        assert engine.inside == 0
