"""A way from a test into a host: ``python -m tests.hosts.door PATH HOST PORT`` forwards a unix socket to an address there.

Whoever connects to the socket has a connection from that host. While its link is cut, that connection stands and says nothing.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

PIECE: Final = 64 << 10


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def main(path: str, host: str, port: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            beyond_reader, beyond = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_forward(reader, beyond), _forward(beyond_reader, writer))

    async with await asyncio.start_unix_server(accept, path) as server:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
