"""Whose turn it is to send to the chain, among the brokers of one database."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aos.broker.chain_store import ChainStore
from aos.errors import ServiceUnavailable

TURN_SECONDS: Final = 30.0
"""So long after a broker was last heard of, another may have its turn."""
RENEWED: Final = 3
"""How often a broker is heard of in that time, while it has its turn."""

log = logging.getLogger(__name__)


class ChainTurns:
    """One broker's turns."""

    def __init__(self, store: ChainStore) -> None:
        self._store, self._name = store, secrets.token_hex(8)

    async def take(self, work: Callable[[], Awaitable[None]], *, lasts: float = TURN_SECONDS) -> bool:
        """Do the work, unless it is another broker's turn: then False. Raises as the work does, and ServiceUnavailable.

        The work is given up if the turn is lost meanwhile. Two brokers at once would pay nothing twice, since a batch's nonce is
        good once, but spend fees for what is refused.
        """
        if not await self._store.turn(self._name, lasts):
            return False
        going = asyncio.ensure_future(work())
        try:
            while not (await asyncio.wait([going], timeout=lasts / RENEWED))[0]:
                if not await self._store.turn(self._name, lasts):
                    log.warning("another broker settles by now")
                    return False
            await going
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            with suppress(ServiceUnavailable):  # then it passes on by itself
                await self._store.leave(self._name)
        return True
