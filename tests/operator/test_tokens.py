"""Text into tokens and back, as one operator does it."""

from __future__ import annotations

import pytest
import pytest_asyncio

from aos.operator.servicer import DETOKENIZE_BYTES, DETOKENIZE_TOKENS
from aos.order import PROMPT_BYTES
from aos.testing.harness import running_aos
from aos.v1.operator_pb2 import DetokenizeRequest, GenerateRequest, TokenizeRequest
from aos.v1.types_pb2 import Order
from tests.operator.orders import asking, chatting
from tests.refusals import refused

MODEL = "demo"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(demo):
    """An operator with the bundled model."""
    async with running_aos(demo, name=MODEL) as network:
        yield network.operator


class TestTokenize:
    @pytest.mark.parametrize("order", [asking("Café ☕ costs 3 €.", model=MODEL), chatting("What is AI?", model=MODEL)])
    async def test_it_is_what_generate_computes(self, operator, demo, order):
        """A prompt or a chat, template and special tokens included."""
        tokens = (await operator.Tokenize(TokenizeRequest(order=order))).tokens
        order.sampling.max_tokens = 1
        *_, last = [event async for event in operator.Generate(GenerateRequest(order=order))]
        assert list(tokens) == demo.tokenise(order)
        assert last.finish.receipt.usage.prompt_tokens == len(tokens)

    @pytest.mark.parametrize(
        ("order", "reason", "facts"),
        [
            (asking(model="other"), "MODEL_NOT_FOUND", {"offered": MODEL}),
            (Order(model=MODEL), "INVALID_FIELD", {"field": "order.prompt"}),
            (asking("x" * (PROMPT_BYTES + 1), model=MODEL), "INVALID_FIELD", {"limit": str(PROMPT_BYTES)}),
        ],
    )
    async def test_refused(self, operator, order, reason, facts):
        """With the reason, and the limit that was passed."""
        with refused(reason, **facts):
            await operator.Tokenize(TokenizeRequest(order=order))


class TestDetokenize:
    @pytest.mark.parametrize("text", ["What is AI?", "Café ☕ costs 3 €.\n\ttwo  spaces", "日本語"])
    async def test_the_text_comes_back(self, operator, text):
        """What was cut into tokens is put together again."""
        tokens = (await operator.Tokenize(TokenizeRequest(order=asking(text, model=MODEL)))).tokens
        back = await operator.Detokenize(DetokenizeRequest(model=MODEL, tokens=tokens))
        assert back.text.strip() == text
        assert back.data.decode() == back.text

    async def test_nothing_stands_for_nothing(self, operator):
        """No tokens, no text."""
        assert (await operator.Detokenize(DetokenizeRequest(model=MODEL))).text == ""

    async def test_refused(self, operator, demo):
        """A token that the model does not have, too many of them, too much text."""
        with refused("MODEL_NOT_FOUND"):
            await operator.Detokenize(DetokenizeRequest(model="other"))
        with refused("INVALID_FIELD", field="tokens[1]", limit=str(demo.vocabulary)):
            await operator.Detokenize(DetokenizeRequest(model=MODEL, tokens=[1, demo.vocabulary]))
        with refused("INVALID_FIELD", field="tokens", limit=str(DETOKENIZE_TOKENS)):
            await operator.Detokenize(DetokenizeRequest(model=MODEL, tokens=[1] * (DETOKENIZE_TOKENS + 1)))
        longest = max(range(demo.vocabulary), key=lambda token: len(demo.piece(token)))
        many = DETOKENIZE_BYTES // len(demo.piece(longest)) + 1
        with refused("INVALID_FIELD", field="tokens", limit=str(DETOKENIZE_BYTES)):
            await operator.Detokenize(DetokenizeRequest(model=MODEL, tokens=[longest] * many))
