"""Running a receipt's order again."""

from __future__ import annotations

import pytest

from aos.clock import SystemClock
from aos.operator.llama import Mode, loaded
from aos.operator.modes import F16, FASTEST, MIXED, Q8_0
from aos.operator.pool import Pool
from aos.operator.replay import replay, replay_on
from aos.operator.runner import Runner
from aos.order import digest_tokens, with_defaults
from aos.settings import bundled_model
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import Constraint, Order, Price
from aos.verification.keys import OperatorKey
from aos.verification.receipts import text_digest
from tests.operator.orders import asking, chatting
from tests.operator.weights import write_model

JOB = bytes(range(32))
PRICE = Price(prompt_token="1", completion_token="2")


async def bundle(model, order: Order) -> ReceiptBundle:
    """Return what an operator with this model makes of an order."""
    made = ReceiptBundle(order=with_defaults(order, job=JOB), price=PRICE)
    async with Pool({order.model: model}) as pool:
        runner = Runner(OperatorKey.create(), pool, price=PRICE, clock=SystemClock())
        async for event in runner.run(order, job=JOB):
            if isinstance(event, Finish):
                made.receipt.CopyFrom(event.receipt)
                made.trace.CopyFrom(event.trace)
            else:
                made.output += event.text
                made.output_tokens.extend(event.tokens)
    return made


def formed(order: Order, **constraint) -> Order:
    """Return the order with a form for its answer."""
    order.constraint.CopyFrom(Constraint(**constraint))
    return order


class TestReplay:
    @pytest.mark.parametrize(
        "order",
        [
            chatting("What is AI?", max_tokens=200),
            chatting("What is AI?", max_tokens=7),
            chatting("What is AI?", temperature=1.3, top_k=40, top_p=0.9, max_tokens=30),
            chatting("What is AI?", stop=["intelligence"]),
            asking("The network", temperature=0.7, max_tokens=20),
            asking("The network", temperature=1.1, max_tokens=30, mirostat={"tau": 4.0}, repetition_penalty=1.2),
            formed(asking("The network", temperature=1.1, max_tokens=30), regex="[a-z ]{5,60}"),
        ],
        ids=["ends", "cut", "drawn", "stopped", "prompt", "mirostat", "constrained"],
    )
    async def test_same(self, demo, order):
        """An answer that the model gave is given again, bit by bit, from the file alone."""
        finding = await replay(await bundle(demo, order), bundled_model())

        assert finding.good, finding.why
        assert "are the same" in finding.what

    @pytest.mark.parametrize("layout", [F16, Q8_0, MIXED, FASTEST], ids=lambda layout: layout.profile)
    async def test_layouts(self, layout):
        """An answer is run again as the receipt says that it was, whatever this machine would choose."""
        async with loaded(bundled_model(), slots=1, layout=layout) as model:
            made = await bundle(model, chatting("What is AI?", temperature=1.3, max_tokens=30))

        finding = await replay(made, bundled_model())

        assert made.receipt.profile.endswith(layout.profile)
        assert finding.good, finding.why

    async def test_best_effort(self):
        """Of an answer that was not to be exact, another draw from much the same logits proves nothing."""
        async with loaded(bundled_model(), slots=1, mode=Mode.BEST_EFFORT) as model:
            made = await bundle(model, chatting("What is AI?", max_tokens=20))
        made.output_tokens[-1] += 1

        finding = await replay(made, bundled_model())

        assert finding.good is None
        assert "with best_effort" in finding.why

    async def test_context_was_smaller(self, script):
        """An answer that was cut where the operator's context ended is the same in a larger one."""
        small = type(script)("x" * 100, context=20)

        finding = await replay_on(await bundle(small, asking("12345")), type(script)("x" * 100))

        assert finding.good, finding.why

    async def test_another_token(self, demo):
        """An answer with another token than the model gives is found out, even if its digests agree."""
        made = await bundle(demo, chatting("What is AI?", max_tokens=20))
        made.output_tokens[4] += 1
        made.receipt.output_tokens_digest = digest_tokens(list(made.output_tokens))

        finding = await replay_on(made, demo)

        assert finding.good is False
        assert finding.why == "token 5 of the answer is another"

    async def test_cut_short(self, demo):
        """An answer that claims to have ended before the model ends is found out."""
        made = await bundle(demo, chatting("What is AI?", max_tokens=200))
        del made.output_tokens[10:]
        made.receipt.usage.completion_tokens = 10

        finding = await replay_on(made, demo)

        assert finding.good is False
        assert finding.why == "token 11 of the answer is another"

    async def test_another_text(self, demo):
        """The right tokens with another text are found out."""
        made = await bundle(demo, chatting("What is AI?", max_tokens=20))
        made.output += "!"
        made.receipt.output_digest = text_digest(made.output)

        assert (await replay_on(made, demo)).why == "the same tokens make another text"

    async def test_another_prompt(self, demo):
        """A prompt with other tokens than the order makes is found out."""
        made = await bundle(demo, chatting("What is AI?", max_tokens=20))
        made.receipt.prompt_digest = bytes(32)

        assert (await replay_on(made, demo)).why == "the prompt has other tokens"

    async def test_other_weights(self, demo, tmp_path):
        """Other weights prove nothing, either way."""
        finding = await replay(await bundle(demo, chatting("Hi", max_tokens=5)), write_model(tmp_path / "other.gguf"))

        assert finding.good is None
        assert demo.digest in finding.why

    async def test_other_build(self, demo):
        """A difference proves nothing if the receipt names a build whose numbers may differ; equality is equality."""
        made = await bundle(demo, chatting("What is AI?", max_tokens=20))
        made.receipt.profile = "llama.cpp/0.1 abacus"
        same = await replay_on(made, demo)
        made.output_tokens[-1] += 1
        other = await replay_on(made, demo)

        assert same.good
        assert other.good is None
        assert "abacus" in other.why

    async def test_impossible_order(self, demo):
        """An order that the model cannot run has no answer."""
        made = await bundle(demo, asking("x", max_tokens=2))
        made.order.prompt = "word " * 5000

        finding = await replay_on(made, demo)

        assert finding.good is False
        assert "cannot be run" in finding.why
