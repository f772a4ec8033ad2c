"""How likely the model took a token to be, and that this goes from the logits to whoever asked for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.clock import SystemClock
from aos.errors import InvalidField
from aos.operator.logprobs import likelihood
from aos.operator.pool import Pool
from aos.operator.runner import Runner
from aos.order import LEAST_LOGPROB
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order, Price
from tests.operator.orders import chatting

LOGITS = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=24).map(lambda n: np.array(n, np.float32))


@pytest_asyncio.fixture
async def runner(demo, key) -> AsyncGenerator[Runner]:
    """An operator with the bundled model on the real llama.cpp."""
    async with Pool({"m": demo}) as pool:
        yield Runner(key, pool, price=Price(prompt_token="1", completion_token="1"), clock=SystemClock())


class TestLikelihood:
    @settings(deadline=None)
    @given(LOGITS, st.integers(0, 20), st.data())
    def test_as_the_plain_way_does(self, logits, top, data):
        """The logarithm of the softmax, and the first of all tokens sorted by it."""
        token = data.draw(st.integers(0, len(logits) - 1))
        shares = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
        ranked = sorted(range(len(logits)), key=lambda one: (-logits[one], one))[:top]

        found = likelihood(logits, token, top)

        assert (found.token, found.logprob) == (token, pytest.approx(np.log(shares[token]), abs=1e-5))
        assert [one for one, _ in found.top] == ranked
        assert [logprob for _, logprob in found.top] == pytest.approx(np.log(shares[ranked]).tolist(), abs=1e-5)

    def test_impossible_tokens(self):
        """What cannot come has a finite logarithm: JSON knows no other."""
        logits = np.array([0.0, -np.inf, -1e30], np.float32)

        assert likelihood(logits, 0, 3).top == ((0, 0.0), (2, LEAST_LOGPROB), (1, LEAST_LOGPROB))


async def chunks(runner: Runner, order: Order, **from_where) -> list[Chunk]:
    """Return an answer's chunks, as a dispatcher gets them."""
    return [event async for event in runner.run(order, job=bytes(32), **from_where) if isinstance(event, Chunk)]


class TestAnswers:
    async def test_one_for_each_token(self, runner):
        """Every token of the answer has its log-probability, its bytes and as many others as were asked for."""
        said = await chunks(runner, chatting("What is AI?", max_tokens=12, logprobs=True, top_logprobs=3, temperature=0.7, seed=4))

        tokens = [token for chunk in said for token in chunk.tokens]
        logprobs = [one for chunk in said for one in chunk.logprobs]
        assert all([one.token for one in chunk.logprobs] == chunk.tokens for chunk in said)
        assert len(tokens) > 4
        assert b"".join(one.piece for one in logprobs).decode() == "".join(chunk.text for chunk in said)
        for one in logprobs:
            assert one.logprob <= 0
            assert [other.logprob for other in one.top] == sorted((other.logprob for other in one.top), reverse=True)
            assert len(one.top) == 3
            assert all(other.logprob == one.logprob for other in one.top if other.token == one.token)

    async def test_the_models_own(self, runner):
        """Temperature, filters, bias and penalties change what is drawn, not how likely the model took it to be."""
        plain = await chunks(runner, chatting("What is AI?", max_tokens=1, logprobs=True, top_logprobs=5))
        (said,) = plain[0].logprobs
        other = next(one for one in said.top[1:] if one.piece)

        forced = await chunks(
            runner,
            chatting(
                "What is AI?", max_tokens=1, logprobs=True, top_logprobs=5, temperature=2, top_k=5, min_p=0.5,
                repetition_penalty=1.1, logit_bias={other.token: 100},
            ),
        )  # fmt: skip

        assert (said.token, said.logprob) == (said.top[0].token, said.top[0].logprob)
        assert list(forced[0].tokens) == [other.token]
        assert forced[0].logprobs[0].logprob == other.logprob
        assert list(forced[0].logprobs[0].top) == list(said.top)

    async def test_only_when_asked(self, runner):
        """An order that does not ask gets none."""
        assert not any(chunk.logprobs for chunk in await chunks(runner, chatting("What is AI?", max_tokens=4)))

    async def test_goes_on_behind_accepted_tokens(self, runner):
        """An answer taken up elsewhere brings those of its own tokens only, the same as ever."""
        order = chatting("What is AI?", max_tokens=9, logprobs=True, top_logprobs=1, repetition_penalty=1.5, frequency_penalty=1)
        whole = [one for chunk in await chunks(runner, order) for one in chunk.logprobs]

        rest = await chunks(runner, order, accepted=[one.token for one in whole[:4]])

        assert [one.token for chunk in rest for one in chunk.logprobs] == [one.token for one in whole[4:]]
        assert [one.logprob for chunk in rest for one in chunk.logprobs] == [one.logprob for one in whole[4:]]

    async def test_a_bias_beyond_the_vocabulary(self, runner):
        """A bias for a token that the model does not have is refused before any work."""
        with pytest.raises(InvalidField, match=r"order\.sampling\.logit_bias\[999999\]"):
            await chunks(runner, chatting("What is AI?", logit_bias={999_999: 1}))
