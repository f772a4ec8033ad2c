"""Requests that cannot be run, on the real engine: each ends with its reason, and the next one is answered."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aos.errors import AosError, ContextOverflow, EngineFailed, InvalidField
from aos.operator.engine import Engine
from aos.operator.llama import load
from aos.order import PROMPT_BYTES
from aos.v1.types_pb2 import Chat, ChatMessage, Mirostat, Order, Sampling
from tests.operator.orders import answer, asking, chatting
from tests.operator.weights import write_model

NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1e-320, 1.0, 2.0, 1e308]))
WHOLE = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1]))
DOUBLES = ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


async def lives(engine: Engine) -> None:
    """The next request is answered, and nothing is left of the one before."""
    async with asyncio.timeout(30):
        assert (await answer(engine, asking("What is AI?", max_tokens=4))).end.tokens
    assert engine.running == engine.waiting == 0


class TestParameters:
    @pytest.mark.parametrize("name", DOUBLES)
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, -1e308])
    async def test_absurd_numbers(self, real, name, value):
        """A number that is none, or out of every range, is refused by the parameter's name."""
        with pytest.raises(InvalidField, match=name):
            await answer(real, asking(**{name: value}))
        await lives(real)

    @pytest.mark.parametrize(
        ("sampling", "field"),
        [
            (Sampling(max_tokens=2**32 - 1), "max_tokens"),
            (Sampling(max_tokens=0), "max_tokens"),
            (Sampling(seed=2**64 - 1), "seed"),
            (Sampling(logit_bias={7: float("nan")}), "logit_bias"),
            (Sampling(logit_bias=dict.fromkeys(range(100_000), 1.0)), "logit_bias"),
            (Sampling(logprobs=True, top_logprobs=2**32 - 1), "top_logprobs"),
            (Sampling(temperature=1, mirostat=Mirostat(tau=float("nan"))), "mirostat"),
            (Sampling(temperature=1, mirostat=Mirostat(eta=float("inf"))), "mirostat"),
            (Sampling(stop=[f"stop {number}" for number in range(100_000)]), "stop"),
            (Sampling(stop=["x" * 1_000_000]), "stop"),
        ],
    )
    async def test_limits(self, real, sampling, field):
        """What is beyond a limit is refused by name, before any work."""
        with pytest.raises(InvalidField, match=field):
            await answer(real, Order(model="m", prompt="Say it.", sampling=sampling))
        await lives(real)

    async def test_the_largest_that_are_allowed(self, real):
        """Every limit itself can be used."""
        most = asking(
            max_tokens=8,
            seed=2**63 - 1,
            top_k=2**32 - 1,
            temperature=2.0,
            repetition_penalty=10.0,
            presence_penalty=-2.0,
            logit_bias=dict.fromkeys(range(300), 100.0),
            stop=["\N{SNOWMAN}" * 85] * 16,
        )
        assert len((await answer(real, most)).end.tokens) <= 8
        await lives(real)

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(st.sampled_from(DOUBLES), NUMBERS, max_size=4), st.integers(0, 2**64 - 1), WHOLE)
    async def test_any_parameters(self, real, doubles, seed, top_k):
        """Whatever the parameters, a request is answered or refused by name, and nothing else."""
        try:
            got = await answer(real, asking(max_tokens=2, seed=seed, top_k=top_k, **doubles))
        except InvalidField as error:
            got = error
        if isinstance(got, InvalidField):
            assert got.violations[0].field.startswith("order.sampling.")
        else:
            assert len(got.end.tokens) <= 2


class TestInputs:
    async def test_over_the_context(self, real):
        """A prompt that does not fit is refused with its length and the limit."""
        with pytest.raises(ContextOverflow) as caught:
            await answer(real, asking("word " * 20_000))
        assert int(caught.value.facts["promptTokens"]) > int(caught.value.facts["limit"]) == real.model.context
        await lives(real)

    async def test_over_the_limit(self, real):
        """A text that is too long is not even cut into tokens."""
        with pytest.raises(InvalidField, match=f"at most {PROMPT_BYTES}"):
            await answer(real, asking("x" * (PROMPT_BYTES + 1)))
        await lives(real)

    @pytest.mark.parametrize(
        "text", ["\0", "\0" * 200, "\ufffd\uffff\U0010ffff", "<|im_end|>" * 50, "\u202e\u0301" * 100, " " * 900]
    )
    async def test_strange_texts(self, real, text):
        """Any text that is UTF-8 can be asked, as a prompt and in a conversation."""
        assert (await answer(real, asking(text, max_tokens=2))).end.prompt
        assert (await answer(real, chatting(text, max_tokens=2))).end.prompt
        await lives(real)

    async def test_many_empty_turns(self, real):
        """A conversation of very many turns of nothing is answered, or refused because its template makes too much of it."""
        chat = Chat(messages=[ChatMessage(role=("user", "assistant")[turn % 2]) for turn in range(1023)])
        with pytest.raises(AosError) as caught:
            await answer(real, Order(model="m", chat=chat, sampling=Sampling(max_tokens=2)))
        assert caught.value.reason in ("CONTEXT_OVERFLOW", "INVALID_FIELD")
        await lives(real)

    def test_text_that_is_no_text(self):
        """Bytes that are no UTF-8 are no message at all."""
        with pytest.raises(DecodeError):
            Order.FromString(Order(prompt="ab").SerializeToString().replace(b"ab", b"\xff\xfe"))


class TestDepth:
    async def test_what_nests_too_deeply_is_an_error(self):
        """No part of the network raises Python's limit of recursion, beyond which a process dies instead of telling."""
        code = "import sys; usual = sys.getrecursionlimit(); import aos.operate, aos.up; print(sys.getrecursionlimit() - usual)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()

        assert said.decode().strip() == "0"


class TestWeights:
    async def test_no_numbers(self, tmp_path):
        """A model that computes no numbers fails each request, with that reason, and only those that reach it."""
        path = write_model(tmp_path / "nan.gguf")
        data = path.read_bytes()
        # the last tensor is the output's norm: ones, which all logits are multiplied by
        ones, broken = np.ones(32, np.float32).tobytes(), np.full(32, np.nan, np.float32).tobytes()
        at = data.rindex(ones)
        path.write_bytes(data[:at] + broken + data[at + len(ones) :])
        model = await asyncio.to_thread(load, path, slots=2)
        try:
            async with Engine("m", model) as engine:
                for temperature in (0.0, 1.0):
                    with pytest.raises(EngineFailed, match="not finite"):
                        await answer(engine, asking(temperature=temperature))
                with pytest.raises(ContextOverflow):
                    await answer(engine, asking("x" * 2000))
                assert engine.running == engine.waiting == 0
        finally:
            await asyncio.to_thread(model.close)
