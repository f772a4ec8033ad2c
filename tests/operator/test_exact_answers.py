"""An exact answer is the same, to the last bit of its logits, whatever happens around it; in each of the exact ways."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import suppress

import numpy as np
import pytest

from aos.errors import EngineFailed
from aos.operator.batch import Row
from aos.operator.engine import Engine
from aos.operator.foretold import Foretold
from aos.operator.llama import LlamaModel, Weights
from aos.operator.modes import F16, MIXED, Q8_0
from aos.settings import bundled_model
from aos.v1.types_pb2 import DETERMINISM_EXACT, Order
from tests.operator.orders import Answer, answer, asking, chatting

LONG = "What is AI? What is a receipt? " * 20
OTHERS = 15


@pytest.fixture(scope="module", params=[F16, Q8_0, MIXED], ids=lambda layout: layout.profile.split()[0])
def model(request) -> Generator[LlamaModel]:
    weights = Weights(bundled_model())
    model = weights.open(slots=OTHERS + 1, context=1024, layout=request.param)
    weights.close()
    yield model
    model.close()


def exact(question: str = "What is AI?", *, seed: int = 7, **sampling) -> Order:
    """Return an order whose answer shows the logits behind it."""
    more = {"temperature": 0.9, "max_tokens": 24, "logprobs": True, "top_logprobs": 5} | sampling
    order = chatting(question, seed=seed, **more)
    order.determinism = DETERMINISM_EXACT
    return order


def everything(answer: Answer) -> tuple:
    """Return all that there is of an answer, each token with what the logits say of it."""
    return answer.end, [one for piece in answer.pieces for one in piece.logprobs]


async def alone(model: LlamaModel, order: Order) -> tuple:
    """Return what a fresh engine answers to this order and no other."""
    async with Engine("m", model) as engine:
        return everything(await answer(engine, order))


class Interrupted:
    """A model whose decoding fails once, at a step that the test chooses."""

    def __init__(self, model: LlamaModel, step: int) -> None:
        self._model, self._left = model, step

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def decode(self, rows: Sequence[Row]):
        self._left -= 1
        if not self._left:
            raise RuntimeError("told to fail")
        return self._model.decode(rows)


class TestCompany:
    @pytest.mark.parametrize("question", ["What is AI?", LONG], ids=["short", "long"])
    async def test_among_others(self, model, question):
        """Alone or among fifteen others, with prompts long and short."""
        order = exact(question)
        expected = await alone(model, order)
        others = [exact(f"{n} " * (n * 9) + "What is a token?", seed=n, max_tokens=8 + 2 * n) for n in range(OTHERS)]

        async with Engine("m", model) as engine:
            got, *_ = await asyncio.gather(*(answer(engine, one) for one in [order, *others]))

        assert everything(got) == expected

    async def test_shuffled(self, model):
        """In whatever slot: the order of arrival does not show."""
        orders = [exact(f"What is {n}?", seed=n, max_tokens=12) for n in range(6)]
        async with Engine("m", model) as engine:
            there = await asyncio.gather(*(answer(engine, one) for one in orders))
        async with Engine("m", model) as engine:
            back = await asyncio.gather(*(answer(engine, one) for one in reversed(orders)))

        assert [everything(one) for one in reversed(back)] == [everything(one) for one in there]


class TestPrefixes:
    async def test_reused(self, model):
        """Behind a prefix that was there, whole or in part, or with everything computed."""
        order = exact(LONG)
        expected = await alone(model, order)
        async with Engine("m", model) as engine:
            await answer(engine, exact(LONG[:300] + "and then?"))
            in_part = await answer(engine, order)
            in_whole = await answer(engine, order)

        assert 0 < in_part.end.cached < in_whole.end.cached
        assert everything(in_part) == everything(in_whole) == expected

    async def test_shared(self, model):
        """While others compute the same beginning."""
        orders = [exact(LONG + str(n), seed=n, max_tokens=6) for n in range(5)]
        expected = [await alone(model, order) for order in orders]
        async with Engine("m", model) as engine:
            got = await asyncio.gather(*(answer(engine, order) for order in orders))

        assert [everything(one) for one in got] == expected


class TestCuts:
    @pytest.mark.parametrize("step_tokens", [37, 64, 100])
    async def test_chunks(self, model, step_tokens):
        """However many tokens a step takes."""
        order = exact(LONG, max_tokens=6)
        expected = await alone(model, order)
        usual, model.step_tokens = model.step_tokens, step_tokens
        try:
            got = await alone(model, order)
        finally:
            model.step_tokens = usual

        assert got == expected

    @pytest.mark.parametrize("count", [1, 11, 23])
    async def test_resumed(self, model, count):
        """Taken up elsewhere behind any of its tokens."""
        order = exact()
        (end, likely), tokens = await alone(model, order), []
        tokens = end.tokens[:count]
        async with Engine("m", model) as engine:
            got, _ = await asyncio.gather(answer(engine, order, accepted=tokens), answer(engine, exact(LONG)))

        assert everything(got) == (end, likely[count:])

    @pytest.mark.parametrize("step", [2, 9])
    async def test_failed_step(self, model, step):
        """Taken up on the same engine after a step that failed and made the model forget all it held."""
        order = exact()
        end, likely = await alone(model, order)
        async with Engine("m", Interrupted(model, step)) as engine:
            got, stream = list[int](), engine.generate(order)
            with suppress(EngineFailed):
                async for piece in stream:
                    got += piece.tokens
            rest = await answer(engine, order, accepted=got)

        assert len(got) == step - 1
        assert everything(rest) == (end, likely[len(got) :])

    def test_at_once(self, model):
        """Computed in one go, as a verifier does, or token by token."""
        tokens = [int(token) for token in np.random.default_rng(3).integers(0, model.vocabulary, 200)]
        model.clear()
        at_once = model.decode_all(2, 0, tokens).copy()
        one_by_one = [model.decode([Row(0, 5, at, [token], draws=True)])[0].copy() for at, token in enumerate(tokens)]
        model.clear()

        assert np.array_equal(at_once, np.array(one_by_one))


class TestForetold:
    @pytest.mark.parametrize("sampling", [{}, {"mirostat": {"tau": 4.0}}, {"repetition_penalty": 1.3, "top_p": 0.9}], ids=str)
    async def test_same(self, model, sampling):
        """Told its answer, a model gives it with the same logits, and computes a few times instead of once a token."""
        order = exact(**sampling)
        expected = await alone(model, order)
        told = Foretold(model, expected[0].tokens)

        assert await alone(told, order) == expected
        assert told.computed <= 3

    @pytest.mark.parametrize("wrong", [0, 10])
    async def test_lie(self, model, wrong):
        """Told another answer, it gives its own all the same."""
        order = exact()
        expected = await alone(model, order)
        lie = list(expected[0].tokens)
        lie[wrong] = (lie[wrong] + 1) % model.vocabulary

        assert await alone(Foretold(model, lie), order) == expected

    @pytest.mark.parametrize("told", [[], [5], list(range(400))], ids=["nothing", "one", "too much"])
    async def test_nonsense(self, model, told):
        """Nor does it matter if what it is told is too short, too long, or nothing."""
        order = asking("What is AI?", max_tokens=9)

        assert await alone(Foretold(model, told), order) == await alone(model, order)
