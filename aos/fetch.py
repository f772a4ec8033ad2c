"""Calling URLs that strangers gave: public addresses only, wherever they lead, and an end to time and size."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin

import httpx

from aos.addresses import Address, Network, Target, check_addresses, check_url

RESOLVE_SECONDS: Final = 5.0
"""How long a name may take to be resolved."""
ADDRESSES: Final = 4
"""Most addresses of one name that are tried."""
CONNECTIONS: Final = 64
"""Most connections at once."""
REDIRECTS: Final = 3
"""Most redirects of one ``get``."""
REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})


class Unreachable(Exception):
    """Nobody took the call, or nobody that could be understood; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    location: str = ""
    """Where a redirect leads, as it says; empty: it is none."""


class Fetcher:
    """Calls URLs that strangers gave. Made by ``fetcher``."""

    def __init__(self, client: httpx.AsyncClient, allowed: Sequence[Network], at: str) -> None:
        self._client, self._allowed, self._at = client, tuple(allowed), at

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        """Return the reply, within ``seconds`` over all; a redirect is a reply like any other, and is not followed.

        Raises InvalidField for a URL that may not be called, at whatever its name leads to now, and Unreachable for all that can go
        wrong on the way, a reply of more than ``most`` bytes included.
        """
        return await self._call("POST", url, body, headers, seconds=seconds, most=most)

    async def get(self, url: str, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        """Return the reply, as ``post`` does; at most ``REDIRECTS`` redirects are followed, each checked as the first URL was.

        ``seconds`` are for all of them together.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        for _ in range(REDIRECTS + 1):
            left = max(0.001, due - loop.time())
            reply = await self._call("GET", url, b"", headers, seconds=left, most=most)
            if not reply.location:
                return reply
            url = urljoin(url, reply.location)
        raise Unreachable(f"it leads elsewhere more than {REDIRECTS} times")

    async def _call(self, method: str, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, most: int) -> Reply:
        target = check_url(url, self._at, self._allowed)
        try:
            async with asyncio.timeout(seconds):
                addresses = check_addresses(url, await resolve(target.host, target.port), self._at, self._allowed)
                reply = await self._send(method, target, addresses, body, headers, seconds)
                try:
                    location = reply.headers.get("location", "") if reply.status_code in REDIRECTED else ""
                    return Reply(reply.status_code, await _body(reply, most), location)
                finally:
                    await reply.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise Unreachable(f"no whole reply within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    async def _send(
        self, method: str, target: Target, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str], seconds: float
    ) -> httpx.Response:
        """Return the first reply that one of the addresses begins."""
        last: httpx.ConnectError | None = None
        for address in addresses[:ADDRESSES]:
            # the name again would be resolved again, perhaps to another address than the one that was checked
            request = self._client.build_request(
                method,
                target.at(address),
                content=body,
                headers={**headers, "host": target.authority},
                extensions={"sni_hostname": target.host},
                timeout=seconds,
            )
            try:
                return await self._client.send(request, stream=True, follow_redirects=False)
            except httpx.ConnectError as error:  # not there, by IPv6 say; there may be another way
                last = error
        assert last is not None, "a checked name has an address"
        raise last


async def _body(reply: httpx.Response, most: int) -> bytes:
    # raw: a small body that unpacks to a large one is not unpacked
    body = bytearray()
    async for part in reply.aiter_raw():
        body += part
        if len(body) > most:
            raise Unreachable(f"the reply has more than {most} bytes")
    return bytes(body)


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, or the address itself. Raises Unreachable if it has none, or not in time."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Unreachable(f"{host} was not resolved within {RESOLVE_SECONDS:g} s") from None
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} cannot be resolved: {error}") from error
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


@asynccontextmanager
async def fetcher(allowed: Sequence[Network] = (), *, at: str = "url") -> AsyncGenerator[Fetcher]:
    """Give a Fetcher that also calls the ``allowed`` networks; what it refuses, it refuses as the field ``at``."""
    # no environment: a proxy would resolve names by itself, and .netrc would give passwords away
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=limits, cookies=None) as client:
        yield Fetcher(client, allowed, at)
