"""A network switch in user space: ``python -m tests.hosts.switch``, in a network namespace of its own.

Reads commands, a line of JSON each, from its input: ``["port", NAME, MAC]`` takes an interface, ``["rule", A, B, DELAY]`` lets
frames from A to B wait so many seconds, or, where it is null, vanish: neither side hears that a link is cut. Kernels without netem
are enough. Answers each command with a line.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Final

ETH_P_ALL: Final = 3
OUTGOING: Final = 4
"""PACKET_OUTGOING: what this very switch has sent."""
FRAME_BYTES: Final = 1 << 17
HELD_FRAMES: Final = 100_000
"""Most frames that wait at a time; more vanish, as in a switch whose buffers are full."""


class Switch:
    """The ports, and what happens between each two of them."""

    def __init__(self) -> None:
        self._ports: dict[str, socket.socket] = {}
        self._at: dict[bytes, str] = {}
        """Which port an address is at."""
        self._rules: dict[tuple[str, str], float | None] = {}
        self._held = 0

    def obey(self, command: list[object]) -> None:
        """Do what one line says."""
        match command:
            case ["port", str(name), str(mac)]:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                opened.bind((name, 0))
                opened.setblocking(False)
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                self._ports[name], self._at[bytes.fromhex(mac.replace(":", ""))] = opened, name
                asyncio.get_running_loop().add_reader(opened, self._read, name, opened)
            case ["rule", str(source), str(target), float() | int() | None as delay]:
                self._rules[source, target] = delay
            case _:
                raise SystemExit(f"there is no command {command}")

    def _read(self, source: str, opened: socket.socket) -> None:
        with suppress(OSError):  # there is no more for now, or the host is gone
            while True:
                frame, (_, _, kind, *_) = opened.recvfrom(FRAME_BYTES)
                if kind != OUTGOING:
                    self._forward(source, frame)

    def _forward(self, source: str, frame: bytes) -> None:
        known = self._at.get(frame[:6])
        for target in (known,) if known else self._ports:
            delay = self._rules.get((source, target), 0.0)
            if target == source or delay is None or self._held >= HELD_FRAMES:
                continue
            if not delay:
                self._send(target, frame)
                continue
            self._held += 1
            asyncio.get_running_loop().call_later(delay, partial(self._late, source, target, frame))

    def _late(self, source: str, target: str, frame: bytes) -> None:
        self._held -= 1
        if self._rules.get((source, target), 0.0) is not None:  # cut while it was under way
            self._send(target, frame)

    def _send(self, target: str, frame: bytes) -> None:
        with suppress(OSError):  # its host is gone, or its buffers are full: frames may be lost
            self._ports[target].send(frame)


async def main() -> None:
    switch, reader = Switch(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        switch.obey(json.loads(line))
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
