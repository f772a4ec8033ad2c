"""Signatures over answers: made as an answer ends, kept for a time, given to whoever asks by its key."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aos.clock import Clock
from aos.verification.keys import OperatorKey
from aos.verification.requests import exchange_statement, exchange_text
from gateway.answers import DONE
from gateway.http import Reply, dump

KEPT_SECONDS: Final = 20 * 60
"""How long a signature can be had."""
KEPT: Final = 10_000
"""Most signatures that are kept, some 400 bytes each; the oldest go first."""
ALGORITHM: Final = "ecdsa"


@dataclass(frozen=True, slots=True)
class _Kept:
    body: dict[str, Any]
    time: datetime


class Signatures:
    """Signs with one key, and remembers what it signed."""

    def __init__(self, key: OperatorKey, clock: Clock) -> None:
        self._key, self._clock = key, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def find(self, chat: str) -> Reply | None:
        """Return what was signed over an answer, by its key or its id; None if nothing was, or too long ago."""
        kept = self._kept.get(chat)
        if kept is None or (self._clock.now() - kept.time).total_seconds() > KEPT_SECONDS:
            return None
        return Reply(dump(kept.body).encode())

    async def sign(self, exchange: Exchange, *names: str) -> None:
        """Sign what was received and sent, and keep it under these names."""
        text = exchange.text
        # in a thread: a signature takes milliseconds
        signature = await asyncio.to_thread(self._key.sign, exchange_statement(text))
        body = {
            "text": text,
            "signature": f"0x{signature.hex()}",
            "signing_address": self._key.address,
            "signing_algo": ALGORITHM,
        }
        for name in names:
            self._kept[name] = _Kept(body, self._clock.now())
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


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
