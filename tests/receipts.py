"""A receipt for tests: every field set, and unlike every other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from aos.v1.operator_pb2 import Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FINISH_REASON_STOP, Usage, VectorClock
from aos.verification.trace import Step

JOB = hashlib.sha256(b"job").digest()
PROMPT = [1, 2, 3]
"""The tokens of the prompt of ``a_trace``."""


def a_trace(tokens: Sequence[int], logits: int = 0) -> Trace:
    """Return a trace of an answer of such tokens, drawn from logits that nobody has looked at; other ``logits`` have other bits."""
    hashes = [hashlib.sha256(bytes([(at + logits) % 256])).digest() for at in range(len(tokens))]
    steps = [Step(at, token, hashes[at], ((token, 1 << 16),)) for at, token in enumerate(tokens)]
    return Trace(prompt_tokens=PROMPT, steps=b"".join(step.packed() for step in steps))


def a_receipt(*, job: bytes = JOB, price: str = "11") -> Receipt:
    """Return a receipt that nobody has signed."""

    def digest(of: str) -> bytes:
        return hashlib.sha256(of.encode()).digest()

    return Receipt(
        job=job,
        request_digest=digest("request"),
        model_digest=digest("model"),
        profile="llama.cpp/0.3.36 avx2 kv=q8_0",
        parameters='{"max_tokens":16,"temperature":0}',
        seed=7,
        prompt_digest=digest("prompt"),
        output_digest=digest("output"),
        output_tokens_digest=digest("tokens"),
        state_root=digest("state"),
        controller_digest=digest("controller"),
        argument_digest=digest("argument"),
        usage=Usage(prompt_tokens=3, completion_tokens=4),
        finish_reason=FINISH_REASON_STOP,
        price=price,
        clock=VectorClock(counts={"1": 2, "0xab": 5}),
        issued_at=1_767_225_600,
    )
