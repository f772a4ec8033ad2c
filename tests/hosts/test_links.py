"""Hosts reach each other exactly as their links let them."""

from __future__ import annotations

import asyncio
import sys
import time

from tests.hosts.hosts import Host, hosts

ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while said := self.request.recv(65536):
            self.request.sendall(said)
with socketserver.ThreadingTCPServer(("0.0.0.0", 7), Echo) as server:
    print(flush=True)
    server.serve_forever()
"""
ASK = """
import socket, sys
one = socket.create_connection((sys.argv[1], 7), timeout=20)
for line in sys.stdin:
    one.sendall(line.encode() * 1000)
    left = len(line) * 1000
    while left:
        left -= len(one.recv(65536))
    print("back", flush=True)
"""
SHORT = 0.6
"""Seconds in which an answer over a whole link has come many times over."""


class Asking:
    """A process that sends a word and waits for its echo."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"word\n")

    async def back(self, seconds: float = 20.0) -> bool:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                return bool(await self._process.stdout.readline())
        except TimeoutError:
            return False


class TestLinks:
    async def test_whole_slow_cut_and_healed(self):
        """Frames come at once, late, or not at all; what was sent over a cut link arrives when it is whole again."""
        pipe = asyncio.subprocess.PIPE
        async with hosts() as net:
            left, right, third = await net.add("left"), await net.add("right"), await net.add("third")

            def asking(host: Host):
                return host.running(sys.executable, "-c", ASK, right.address, stdin=pipe, stdout=pipe)

            async with right.running(sys.executable, "-c", ECHO, stdout=pipe) as echo:
                assert echo.stdout is not None
                await echo.stdout.readline()
                async with asking(left) as first, asking(third) as second:
                    one, other = Asking(first), Asking(second)
                    one.ask()
                    assert await one.back()

                    await net.slow(left, right, 0.2)
                    begun = time.monotonic()
                    one.ask()
                    assert await one.back()
                    assert time.monotonic() - begun > 0.39

                    await net.cut(left, right)
                    one.ask()
                    other.ask()
                    assert await other.back()
                    assert not await one.back(SHORT)

                    await net.heal(left, right)
                    assert await one.back()
