"""Jobs for tests of the pure parts and of the stores."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from aos.dispatcher.admission import Record
from aos.dispatcher.jobs import Job, Submission
from aos.v1.types_pb2 import Order, Price, Sampling

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = Price(prompt_token="1", completion_token="2")


def a_job(number: int = 1, **changes) -> Job:
    fields = {
        "id": hashlib.sha256(str(number).encode()).hexdigest(),
        "project": "projects/p",
        "model": "m",
        "model_digest": "aa" * 32,
        "request_digest": bytes(32),
        "parameters": "{}",
        "seed": 7,
        "prompt_bound": 10,
        "completion_bound": 100,
        "amount": 10**30,
        "created": NOW,
        "deadline": NOW + timedelta(seconds=600),
    } | changes
    return Job(**fields)


def a_record(number: int = 1, *, request_id: str = "", prompt: str = "hi", **changes) -> Record:
    order = Order(model="m", prompt=prompt, sampling=Sampling(max_tokens=5))
    return Record(a_job(number, **changes), Submission(request_id, order, "ann", "{}", b"contents"))
