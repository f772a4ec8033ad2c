"""What runs an operator's controllers, brought up and taken down: modules from its dispatcher, and the programs made of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import grpc

from aos.operator.modules import Modules
from aos.operator.steering import Steering, opening
from aos.operator.wasm_programs import Controllers


@asynccontextmanager
async def running_controllers(
    dispatcher: grpc.aio.Channel, folder: Path | None, *, token: Callable[[], str]
) -> AsyncGenerator[Steering]:
    """Give what runs controllers, until the block ends; runs that go on then fail.

    ``folder`` keeps modules, and what they compile to, for the next start; None: nothing is kept. ``token`` gives what lets the
    operator read modules from ``dispatcher``, as of now.
    """
    with ExitStack() as stack:
        kept = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aos-")))
        modules = Modules(dispatcher, kept / "modules", token=token)
        controllers = Controllers(kept / "compiled")
        try:
            yield Steering(opening(modules.get, controllers))
        finally:
            await asyncio.to_thread(controllers.close)
