"""Signatures over answers: what a gateway does that the broker does not answer."""

from __future__ import annotations

import hashlib
import json

import pytest

from aos.errors import ServiceUnavailable
from aos.rpc.channel import channel
from aos.testing.clock import ManualClock
from aos.v1.requests_pb2_grpc import RequestsStub
from aos.verification.keys import OperatorKey
from gateway.zerog_signatures import KEPT_SECONDS, Exchange, Signatures


class TestWithoutTheBroker:
    async def test_an_answers_signature_is_there(self, tmp_path):
        """The gateway that signed shows it by each of its keys, for as long as it says; of others it says that it cannot know."""
        clock = ManualClock()
        async with channel(f"unix:{tmp_path}/nobody") as nobody:
            signatures, exchange = Signatures(OperatorKey.create(), clock, RequestsStub(nobody)), Exchange(b"asked")
            exchange.sent(b"said")
            await signatures.sign(exchange, "key", "cmpl-1")
            replies = [await signatures.find(name) for name in ("key", "cmpl-1")]
            for name in ("key", "other"):
                clock.advance(seconds=KEPT_SECONDS + 1 if name == "key" else 0)
                with pytest.raises(ServiceUnavailable):
                    await signatures.find(name)

        first, second = (json.loads(reply.data) for reply in replies if reply)
        assert first == second
        assert first["text"] == ":".join(hashlib.sha256(part).hexdigest() for part in (b"asked", b"said"))
