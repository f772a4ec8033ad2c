"""Signatures over answers: made as an answer ends, kept for a time with the broker, given to all who have their key."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import grpc

from aos.client import CALL_SECONDS
from aos.clock import Clock
from aos.errors import AosError, JobNotFound
from aos.rpc.status import answered
from aos.v1.requests_pb2 import GetAnswerRequest, SignedAnswer
from aos.verification.keys import OperatorKey
from aos.verification.requests import exchange_statement, exchange_text
from gateway.answers import DONE
from gateway.http import Reply, dump

if TYPE_CHECKING:  # the generated code has no such name at run time
    from aos.v1.requests_pb2_grpc import RequestsAsyncStub

KEPT_SECONDS: Final = 20 * 60
"""How long a signature can be had of the gateway that made it, if the broker does not have it."""
KEPT: Final = 10_000
"""Most signatures that are kept here, some 400 bytes each; the oldest go first."""
KEEPING_SECONDS: Final = 2.0
"""How long an answer's last byte waits for the broker to keep its signature."""
ALGORITHM: Final = "ecdsa"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: SignedAnswer
    time: datetime


class Signatures:
    """Signs with one key; the broker keeps what was signed, for other gateways and beyond the end of this one.

    So does the gateway: an answer does not fail because the broker is away.
    """

    def __init__(self, key: OperatorKey, clock: Clock, requests: RequestsAsyncStub) -> None:
        self._key, self._clock, self._requests = key, clock, requests
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def find(self, chat: str) -> Reply | None:
        """Return what was signed over an answer, by its key or its id; None if nothing was, or too long ago.

        Raises ServiceUnavailable, if it is not known here.
        """
        kept = self._kept.get(chat)
        if kept is not None and (self._clock.now() - kept.time).total_seconds() <= KEPT_SECONDS:
            return _shown(kept.answer)
        try:
            return _shown(await answered(self._requests.GetAnswer(GetAnswerRequest(key=chat), timeout=CALL_SECONDS)))
        except JobNotFound:
            return None

    async def sign(self, exchange: Exchange, *names: str) -> None:
        """Sign what was received and sent, and keep it under these names, 1 or 2."""
        text = exchange.text
        # in a thread: a signature takes milliseconds
        signature = await asyncio.to_thread(self._key.sign, exchange_statement(text))
        answer = SignedAnswer(keys=names, text=text, signature=signature, signing_address=self._key.address)
        for name in names:
            self._kept[name] = _Kept(answer, self._clock.now())
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        try:
            await answered(self._requests.KeepAnswer(answer, timeout=KEEPING_SECONDS))
        except (AosError, grpc.aio.AioRpcError) as error:
            log.warning("the signature over %s is kept by this gateway alone: %s", names[-1], error)


def _shown(answer: SignedAnswer) -> Reply:
    body = {
        "text": answer.text,
        "signature": f"0x{answer.signature.hex()}",
        "signing_address": answer.signing_address,
        "signing_algo": ALGORITHM,
    }
    return Reply(dump(body).encode())


class Exchange:
    """The bytes of one call, as they were received and are being sent."""

    def __init__(self, request: bytes) -> None:
        self._request, self._response = hashlib.sha256(request).digest(), hashlib.sha256()
        self._tail = b""

    def sent(self, part: bytes) -> None:
        """Count a part of the response."""
        self._response.update(part)
        self._tail = (self._tail + part)[-len(DONE) :]

    @property
    def streamed_whole(self) -> bool:
        """Whether what was sent ends as a stream of events does."""
        return self._tail == DONE

    @property
    def text(self) -> str:
        """What is signed."""
        return exchange_text(self._request, self._response.digest())
