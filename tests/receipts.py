"""A receipt for tests: every field set, and unlike every other."""

from __future__ import annotations

import hashlib

from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FINISH_REASON_STOP, Usage, VectorClock

JOB = hashlib.sha256(b"job").digest()


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
        usage=Usage(prompt_tokens=3, completion_tokens=4),
        finish_reason=FINISH_REASON_STOP,
        price=price,
        clock=VectorClock(counts={"1": 2, "0xab": 5}),
        issued_at=1_767_225_600,
    )
