"""The draw that comes with a lease, for operators whose VRF key counts in it."""

from __future__ import annotations

import asyncio
from typing import Final

from aos.dispatcher.checks import draw_for, in_force
from aos.dispatcher.sessions import Session
from aos.dispatcher.settings import DispatcherSettings
from aos.dispatcher.store import Leased
from aos.v1.dispatcher_pb2 import Draw

SHORT_BYTES: Final = 16 << 10
"""Orders up to this size are hashed at once."""


async def draw_of(leased: Leased, session: Session, settings: DispatcherSettings) -> Draw | None:
    """Return the job's draw; None if the operator has no VRF key that counts in it."""
    job, seconds = leased.change.job, settings.epoch_seconds
    if not session.vrf_key:
        return None
    order, width, suite = leased.submission.order, leased.risk.width, settings.vrf_suite

    def drawn() -> Draw:
        return draw_for(job.id, order, job.created, width=width, epoch_seconds=seconds, suite=suite)

    # a thread takes longer than to hash a short prompt; a long one may have 1 MiB
    draw = drawn() if order.ByteSize() <= SHORT_BYTES else await asyncio.to_thread(drawn)
    return draw if in_force(session.vrf_key_since, draw.epoch, seconds) else None
