"""A chain for development and tests: anvil on a free port, with ten funded keys that everybody knows."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Final

from aos.testing.anvil_binary import NoAnvil, find

CHAIN_ID: Final = 31337
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
STATE_SECONDS: Final = 5
"""How often the chain's state goes to its file; it goes there at the end, too."""
ETHER_EACH: Final = 10_000
LINES_KEPT: Final = 40
_LISTENING: Final = re.compile(r"Listening on \S+:(\d+)")
KEYS: Final = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
    "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
    "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
)
"""Of the mnemonic that every development chain has. Worth nothing anywhere else."""


@dataclass(frozen=True, slots=True)
class Anvil:
    """A running chain."""

    url: str
    chain_id: int


@asynccontextmanager
async def running_anvil(*, state: Path | None = None, port: int = 0, block_seconds: int = 0) -> AsyncGenerator[Anvil]:
    """Run a chain until the block ends. Raises NoAnvil if there is none on this machine, or it does not start.

    ``state`` is a folder in which the chain is kept from one run to the next. Port 0 takes a free one. Without ``block_seconds``
    each transaction has its block at once.
    """
    command = [str(find()), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID), "--order", "fifo"]
    command += ["--accounts", str(len(KEYS)), "--balance", str(ETHER_EACH)]
    if block_seconds:
        command += ["--block-time", str(block_seconds)]
    if state is not None:
        await asyncio.to_thread(state.mkdir, parents=True, exist_ok=True)
        command += ["--state", str(state / "anvil.json"), "--state-interval", str(STATE_SECONDS), "--preserve-historical-states"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said: deque[str] = deque(maxlen=LINES_KEPT)
    reading: asyncio.Task[None] | None = None
    try:
        try:
            async with asyncio.timeout(START_SECONDS):
                found = await _listening(process.stdout, said)
        except TimeoutError:
            found = 0
        if not found:
            raise NoAnvil(f"anvil did not start within {START_SECONDS:.0f} s: {' '.join(said)[-500:]}")
        # what it says must be read: a full pipe would stop it
        reading = asyncio.create_task(_read(process.stdout))
        yield Anvil(f"http://127.0.0.1:{found}", CHAIN_ID)
    finally:
        await _stop(process)
        if reading is not None:
            await reading


@contextmanager
def anvil_beside() -> Generator[Anvil]:
    """Run a chain beside a program that has no event loop of its own. Raises NoAnvil."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="anvil", daemon=True)
    thread.start()
    chain = running_anvil()
    limit = START_SECONDS + STOP_SECONDS
    try:
        anvil = asyncio.run_coroutine_threadsafe(chain.__aenter__(), loop).result(limit)
        try:
            yield anvil
        finally:
            asyncio.run_coroutine_threadsafe(chain.__aexit__(None, None, None), loop).result(limit)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(limit)
        loop.close()


async def _listening(out: asyncio.StreamReader, said: deque[str]) -> int:
    while line := await out.readline():
        said.append(line.decode(errors="replace").strip())
        if match := _LISTENING.search(said[-1]):
            return int(match[1])
    return 0


async def _read(out: asyncio.StreamReader) -> None:
    while await out.read(1 << 16):
        pass


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()  # it writes its state
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
