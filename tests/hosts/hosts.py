"""Network namespaces as hosts: each has an address, processes, and links to the others."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NEEDS: Final = ("unshare", "nsenter", "ip", "ss", "setpriv")
END_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0


class NoHosts(RuntimeError):
    """This machine cannot make network namespaces; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host. Its processes see only its own interface and loopback."""

    name: str
    address: str
    port: str
    """Its interface's other end, at the switch."""
    _pid: int

    def command(self, *command: object) -> list[str]:
        """Return the command that runs this one on the host."""
        return ["nsenter", "--target", str(self._pid), "--net", "--", *map(str, command)]

    @asynccontextmanager
    async def running(self, *command: object, **options: Any) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Run a process on the host until the block ends."""
        async with _running(*self.command(*command), **options) as process:
            yield process


class Hosts:
    """The hosts of one test. Made by ``hosts``."""

    def __init__(self, stack: AsyncExitStack, switch: asyncio.subprocess.Process, inside: int) -> None:
        self._stack, self._switch, self._inside = stack, switch, inside
        self._all: dict[str, Host] = {}

    async def add(self, name: str) -> Host:
        """Make a host with the next address."""
        number = len(self._all) + 1
        here, port, mac = "eth0", f"port{number}", f"02:00:00:00:00:{number:02x}"
        pid = await self._stack.enter_async_context(_namespace())
        host = Host(name, f"10.77.0.{number}", port, pid)
        await _ip("link", "add", here, "address", mac, "netns", pid, "type", "veth", "peer", "name", port, "netns", self._inside)
        await _run(*host.command("ip", "address", "add", f"{host.address}/24", "dev", here))
        await _run(*host.command("ip", "link", "set", "lo", "up"))
        await _run(*host.command("ip", "link", "set", here, "up"))
        await _run(*host.command(sys.executable, "-m", "tests.hosts.plain", here))
        await _run("nsenter", "--target", str(self._inside), "--net", "--", "ip", "link", "set", port, "up", "promisc", "on")
        await self._tell("port", port, mac)
        self._all[name] = host
        return host

    async def cut(self, one: Host, other: Host) -> None:
        """Let nothing through between two hosts. Neither hears of it."""
        await self.slow(one, other, None)

    async def slow(self, one: Host, other: Host, seconds: float | None) -> None:
        """Let everything between two hosts take so long, each way."""
        await self._tell("rule", one.port, other.port, seconds)
        await self._tell("rule", other.port, one.port, seconds)

    async def mute(self, source: Host, target: Host) -> None:
        """Cut one direction only."""
        await self._tell("rule", source.port, target.port, None)

    async def heal(self, one: Host, other: Host) -> None:
        """Make the link between two hosts whole and fast again."""
        await self.slow(one, other, 0.0)

    async def _tell(self, *command: object) -> None:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            if not await self._switch.stdout.readline():
                raise NoHosts(f"the switch ended with {await self._switch.wait()}")


@asynccontextmanager
async def hosts() -> AsyncGenerator[Hosts]:
    """Give a network without hosts; its namespaces go with the block. Raises NoHosts."""
    if missing := [name for name in NEEDS if not shutil.which(name)]:
        raise NoHosts(f"{', '.join(missing)} is missing; on Debian: apt-get install iproute2 util-linux")
    if os.geteuid():
        raise NoHosts("making network namespaces needs root")
    async with AsyncExitStack() as stack:
        inside = await stack.enter_async_context(_namespace())
        command = ("nsenter", "--target", inside, "--net", "--", sys.executable, "-m", "tests.hosts.switch")
        pipe = asyncio.subprocess.PIPE
        switch = await stack.enter_async_context(_running(*command, stdin=pipe, stdout=pipe))
        yield Hosts(stack, switch, inside)


@asynccontextmanager
async def _namespace() -> AsyncGenerator[int]:
    """Give the process that holds a new network namespace open."""
    held = ("unshare", "--net", "--kill-child", sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()")
    pipe = asyncio.subprocess.PIPE
    async with _running(*held, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise NoHosts("unshare --net is refused here")
        assert process.stdin is not None
        try:
            # with --kill-child, unshare forks: the namespace is its child's
            yield _child(process.pid)
        finally:
            process.stdin.close()  # unshare itself ignores that it is to end


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@asynccontextmanager
async def _running(*command: object, **options: Any) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*map(str, command), **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ip(*command: object) -> None:
    await _run("ip", *command)


async def _run(*command: object) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, command), stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode:
        raise NoHosts(f"{' '.join(map(str, command))}: {said.decode().strip()}")
