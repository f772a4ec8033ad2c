"""An operator's stream, as the dispatcher sees it: what it offers, what it was given, what it still has to be told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from aos.dispatcher.health import Board, Key, State
from aos.dispatcher.placement import Candidate
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import InvalidField
from aos.v1.dispatcher_pb2 import CancelLease, DispatcherMessage, DrawAsked, Lease, OperatorMessage, Welcome
from aos.v1.registry_pb2 import Offer, OperatorInfo

UNSENT: Final = 1024
"""Most messages that wait for an operator that does not read; then its stream is ended."""

SEVERAL: Final = 1024
"""Most messages that an operator may send in one."""


class Session:
    """One attached operator. Sending never waits: an operator that does not read loses its stream."""

    def __init__(
        self,
        operator: str,
        offers: Sequence[Offer],
        *,
        most: int,
        now: datetime,
        board: Board,
        late: timedelta,
        vrf_key: bytes = b"",
        vrf_key_since: datetime | None = None,
        tee: bool = False,
        secret: str = "",
    ) -> None:
        """``tee`` is whether its key is attested; ``board`` knows how its models work; it is ``late`` after so much silence.

        Its token ends with the ``secret``, which nobody can guess.
        """
        self.operator = operator
        """`0x` and 40 lower-case hex digits."""
        self.token = f"{operator}.{secret}"
        """With which it reads what its jobs need, while the stream stands."""
        self.offers: Mapping[str, Offer] = {offer.model: offer for offer in offers}
        self.keys = _keys(operator, offers)
        """By which the health of its models is known."""
        self.vrf_key, self.vrf_key_since, self.tee = vrf_key, vrf_key_since, tee
        self.version = 0
        """Counts the operator's streams, over all dispatchers of the database; 0: not known yet."""
        self._board, self._late = board, late
        self.heard = now
        self.count = 0
        """The operator's own event count, as it last said."""
        self.leaving = False
        self.ended = False
        self._most = most
        self._given: dict[str, int] = dict.fromkeys(self.offers, 0)
        self._unsent = deque[DispatcherMessage]()
        self._news = asyncio.Event()
        self._freed = asyncio.Event()

    def change(self, offers: Sequence[Offer]) -> None:
        """Let it offer these from now on. What it has of the others goes on."""
        self.offers = {offer.model: offer for offer in offers}
        # those of what it has still end as something
        self.keys |= _keys(self.operator, offers)
        for model in self.offers:
            self._given.setdefault(model, 0)
        self._freed.set()

    def candidates(self, now: datetime, unlisted: str = "") -> list[Candidate]:
        """Return the offers as placement looks at them; ``unlisted`` is why the registry would send nothing there."""
        late = now - self.heard > self._late
        return [
            Candidate(
                operator=self.operator,
                model=offer.model,
                model_digest=offer.digest.lower(),
                price=offer.price,
                slots=min(offer.slots, self._most),
                running=self._given[offer.model],
                leaving=self.leaving,
                unlisted=unlisted,
                embeddings=offer.embeddings,
                tee=self.tee,
                controllers=offer.controllers,
                exact=offer.exact,
                health=self._board.get(self.keys[offer.model]),
                late=late,
            )
            for offer in self.offers.values()
        ]

    def running(self, model: str) -> int:
        """Return how many leases of the model it has."""
        return self._given[model]

    def works(self, model: str) -> bool:
        """Say whether jobs may go to it, as far as is known."""
        health = self._board.get(self.keys[model])
        return health is None or health.state is not State.OPEN

    def take_slot(self, model: str) -> None:
        self._given[model] += 1

    def free_slot(self, model: str) -> None:
        self._given[model] -= 1
        self._freed.set()

    async def slot(self, model: str) -> bool:
        """Take a place once one is free; False if the stream ended, or the offer, before. Put a timeout around it."""
        while not self.ended and model in self.offers and self._given[model] >= min(self.offers[model].slots, self._most):
            self._freed.clear()
            await self._freed.wait()
        if self.ended or model not in self.offers:
            return False
        self.take_slot(model)
        return True

    def hear(self, counts: Mapping[str, int], now: datetime) -> dict[str, int]:
        """Note that the operator is there, and return what its clock adds: its own count, and nobody else's."""
        self.heard = now
        self.count = max([self.count, *(count for node, count in counts.items() if node.lower() == self.operator)])
        return self.seen

    def went_back(self, message: OperatorMessage) -> tuple[int] | None:
        """Return the operator's own count if it is lower than before, in a message that carries its clock as it is sent.

        Receipts and claims carry it as it was when they were signed.
        """
        kind = message.WhichOneof("message")
        if kind not in ("heartbeat", "started") or not getattr(message, kind).HasField("clock"):
            return None
        counts = getattr(message, kind).clock.counts
        own = max((count for node, count in counts.items() if node.lower() == self.operator), default=0)
        return (own,) if own < self.count else None

    @property
    def seen(self) -> dict[str, int]:
        return {self.operator: self.count} if self.count else {}

    def welcome(self, heartbeat_seconds: float) -> None:
        self._send(DispatcherMessage(welcome=Welcome(heartbeat_seconds=heartbeat_seconds, takes_several=True, token=self.token)))

    def give(self, lease: Lease) -> None:
        self._send(DispatcherMessage(lease=lease))

    def ask(self, asked: DrawAsked) -> None:
        self._send(DispatcherMessage(asked=asked))

    def cancel(self, lease: str) -> None:
        self._send(DispatcherMessage(cancel=CancelLease(lease=lease)))

    def _send(self, message: DispatcherMessage) -> None:
        if len(self._unsent) >= UNSENT:
            self.end()
        elif not self.ended:
            self._unsent.append(message)
        self._news.set()

    def end(self) -> None:
        """Send nothing more. Idempotent."""
        self.ended = True
        self._unsent.clear()
        self._news.set()
        self._freed.set()

    async def messages(self) -> AsyncGenerator[DispatcherMessage]:
        """Yield what is to be sent, until the end."""
        while not self.ended:
            while self._unsent:
                yield self._unsent.popleft()
            self._news.clear()
            if not (self.ended or self._unsent):
                await self._news.wait()


def opened(
    operator: str,
    offers: Sequence[Offer],
    known: OperatorInfo,
    *,
    settings: DispatcherSettings,
    now: datetime,
    board: Board,
    secret: str,
) -> Session:
    """Return the session of an operator that the registry knows so."""
    return Session(
        operator,
        offers,
        most=settings.operator_leases,
        now=now,
        board=board,
        late=timedelta(seconds=settings.heartbeat_seconds),
        vrf_key=known.vrf_key,
        vrf_key_since=known.vrf_key_since.ToDatetime(UTC) if known.HasField("vrf_key_since") else None,
        tee=known.HasField("attested"),
        secret=secret,
    )


def each(message: OperatorMessage) -> Sequence[OperatorMessage]:
    """Return what an operator says in a message, in order. Raises InvalidField for too much."""
    if not message.HasField("several"):
        return (message,)
    found = message.several.messages
    if len(found) > SEVERAL:
        raise InvalidField("several.messages", f"must be at most {SEVERAL}", value=len(found), limit=SEVERAL)
    return found


def _keys(operator: str, offers: Sequence[Offer]) -> dict[str, Key]:
    return {one.model: Key(operator, one.model, one.digest.lower()) for one in offers}
