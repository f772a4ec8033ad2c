"""An operator as a process of its own, from its settings."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aos.operate import running_node
from aos.serving.settings import OperatorProcess

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving_one_operator(settings: OperatorProcess) -> AsyncGenerator[tuple[str, ...]]:
    """Attach the operator and serve it until the block ends; gives its addresses. Raises StartError."""
    node = running_node(
        settings.network(),
        connect=settings.networks,
        listen=settings.listen,
        key=settings.key,
        token=settings.token,
        questions=settings.questions,
    )
    async with node as running:
        log.info("operator %s", running.address)
        yield (settings.listen,)
