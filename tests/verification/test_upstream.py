"""Receipts of answers that a model server gave: what they can say, and what they cannot get around."""

from __future__ import annotations

import pytest

from aos.order import canonical_sampling, digest_order, with_defaults
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FINISH_REASON_STOP, Order, Price, Usage
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_bundle, sign, text_digest
from aos.verification.upstream import NO_TOKENS, is_upstream, name_digest, profile_of

JOB = bytes(range(32))
ORDER = with_defaults(Order(model="m", prompt="2 + 2 ="), job=JOB)


def bundle(*, output: str = "4", tokens=(), trace: Trace | None = None, **changes) -> ReceiptBundle:
    fields = {
        "job": JOB,
        "request_digest": digest_order(ORDER),
        "model_digest": name_digest("m"),
        "profile": profile_of(counted=False),
        "parameters": canonical_sampling(ORDER.sampling),
        "seed": ORDER.sampling.seed,
        "prompt_digest": NO_TOKENS,
        "output_digest": text_digest("4"),
        "output_tokens_digest": NO_TOKENS,
        "usage": Usage(prompt_tokens=3, completion_tokens=5),
        "finish_reason": FINISH_REASON_STOP,
        "price": "13",
        "state_root": bytes(32),
    }
    receipt = sign(Receipt(**(fields | changes)), OperatorKey.create())
    price = Price(prompt_token="1", completion_token="2")
    return ReceiptBundle(receipt=receipt, order=ORDER, output=output, output_tokens=tokens, price=price, trace=trace)


def bad(given: ReceiptBundle) -> list[str]:
    return [one.what for one in check_bundle(given) if one.good is False]


class TestBundle:
    def test_holds(self):
        """It holds; what nobody can check is said to be unchecked, and that there is no state_root is said."""
        findings = list(check_bundle(bundle()))

        assert bad(bundle()) == []
        assert [one.why for one in findings if one.good is None] == [
            "a model server told the text and the counts, and no tokens: its operator answers for it, and nobody can run it again"
        ]
        assert "there is no state_root: a model server tells no steps" in [one.what for one in findings]

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"model_digest": bytes(32)}, "the model is one that only its name stands for"),
            ({"profile": "llama.cpp/1 determinism=exact"}, "the profile is that of a model server"),
            ({"state_root": b"\1" * 32}, "state_root is that of the prompt's, the answer's and the steps' trees"),
            ({"trace": Trace(prompt_tokens=[1])}, "state_root is that of the prompt's, the answer's and the steps' trees"),
            ({"tokens": [1]}, "there are no tokens"),
            ({"output": "5"}, "the answer's text is the one that was signed for"),
            ({"price": "14"}, "the price is 3 + 5 tokens at the operator's rate"),
        ],
    )
    def test_does_not_hold(self, changes, what):
        """What contradicts it is found: above all, a model with weights that is passed off as one without."""
        assert what in bad(bundle(**changes))


def test_profiles():
    """Only the profile of a model server counts as one; one that merely begins like it does not."""
    profiles = [
        profile_of(counted=True),
        profile_of(counted=False),
        "upstream/1",
        "upstream/10",
        "upstream/1x",
        "llama.cpp upstream/1",
    ]

    assert [is_upstream(Receipt(profile=one)) for one in profiles] == [True, True, True, False, False, False]


def test_names():
    """Different names have different digests."""
    assert name_digest("a") != name_digest("b")
