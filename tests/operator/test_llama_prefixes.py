"""What is reused on the real llama.cpp gives the very bits that computing gives."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from aos.operator.batch import Row
from aos.operator.engine import Engine
from aos.operator.llama import loaded
from aos.operator.prefixes import COPY_TOKENS
from aos.operator.waiting import Terms
from aos.settings import bundled_model
from tests.operator.orders import answer, asking, chatting
from tests.operator.weights import write_model

A = Terms("a")


@pytest.fixture(scope="session", params=[1, 2], ids=["q8_0", "f16"])
def weights(request, tmp_path_factory):
    """Heads that a q8_0 cache can hold, and heads that it cannot."""
    return write_model(tmp_path_factory.mktemp("prefixes") / "m.gguf", heads=request.param)


class TestSameBits:
    async def test_every_way_of_reuse(self, weights):
        """Cut off, copied from another slot, copied while that one goes on: the logits are equal, bit by bit."""
        tokens = [int(token) for token in np.random.default_rng(2).integers(3, 259, 150)]
        async with loaded(weights, slots=4) as model:
            whole = 2 * model.block

            def go_on(slot: int, count: int):
                if count < whole:
                    model.decode([Row(slot, slot, count, tokens[count:whole], draws=False)])
                start = max(count, whole)
                return model.decode([Row(slot, slot, start, tokens[start:], draws=True)])[0].copy()

            fresh = go_on(0, 0)
            model.reuse(0, 0, model.block)
            cut = go_on(0, model.block)
            model.reuse(3, 0, whole)
            copied = go_on(3, whole)
            model.reuse(1, 3, 135)
            # the source goes on in the very step that first uses the copy
            model.reuse(3, 3, 140)
            rows = [Row(1, 1, 135, tokens[135:], draws=True), Row(3, 3, 140, tokens[140:], draws=True)]
            both = [row.copy() for row in model.decode(rows)]
            model.reuse(2, 2, 0)
            again = go_on(2, 0)

        assert all(np.array_equal(fresh, one) for one in (cut, copied, *both, again))

    @pytest.mark.parametrize("temperature", [0.0, 1.1])
    async def test_cold_and_warm(self, real, temperature):
        """The same request, and the next turn of a chat, have the same answers with the cache and without."""
        sampling = {"temperature": temperature, "seed": 7, "max_tokens": 30}
        first = chatting("What is a receipt?", **sampling)
        cold = await answer(real, first, terms=Terms("cold"))
        second = chatting("What is a receipt?", cold.text, "Who are you?", **sampling)
        alone = await answer(real, second, terms=Terms("alone"))
        warm = [await answer(real, order, terms=A) for order in (first, first, second)]

        assert [one.end for one in warm] == [cold.end, cold.end, alone.end]
        assert (cold.end.cached, alone.end.cached, warm[0].end.cached) == (0, 0, 0)
        assert warm[1].end.cached == len(cold.end.prompt) - 1
        assert warm[2].end.cached >= len(cold.end.prompt)

    async def test_shared_system_prompt(self, real):
        """Requests that come at once with one long beginning share it, and each has the answer that it has alone."""
        system = "Verification is arithmetic that anyone can repeat. " * 12
        orders = [chatting(f"{system}{number}", temperature=0.9, seed=number, max_tokens=20) for number in range(12)]
        alone = [await answer(real, order, terms=Terms(f"alone {at}")) for at, order in enumerate(orders)]

        together = await asyncio.gather(*(answer(real, order, terms=Terms("all")) for order in orders))

        assert [one.end for one in together] == [one.end for one in alone]
        assert sorted(one.end.cached for one in together)[1] >= COPY_TOKENS
        assert not any(one.end.cached for one in alone)

    async def test_churn(self):
        """Many conversations over few slots, cut, copied and given up, all answer as on an empty engine."""
        async with loaded(bundled_model(), slots=3) as model, Engine("m", model) as engine:
            heads = ["", "x " * 90, "Tell me about tokens. " * 20]
            orders = [asking(heads[n % 3] + f"What is AI? {n % 5}", temperature=1.0, seed=n % 5, max_tokens=12) for n in range(30)]
            alone = {}
            for order in orders:
                key = order.SerializeToString(deterministic=True)
                alone[key] = alone.get(key) or await answer(engine, order, terms=Terms(f"alone {len(alone)}"))
            got = await asyncio.gather(*(answer(engine, order, terms=Terms("ab"[n % 3 == 0])) for n, order in enumerate(orders)))

        assert [one.end for one in got] == [alone[order.SerializeToString(deterministic=True)].end for order in orders]
        assert sum(one.end.cached for one in got) > 0
