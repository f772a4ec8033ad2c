"""Which addresses a stranger may have us call: a URL's form, and what its name resolves to. Pure.

Whoever gives a URL chooses where our own machine connects to, from inside our network. So only public addresses are called unless
settings name others, and what was checked is what is called: aos/fetch.py connects to the checked address, not to the name again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aos.errors import InvalidField

URL_CHARS: Final = 2048
"""Longest URL."""
NETWORKS: Final = 64
"""Most networks that settings may allow."""
PORTS: Final = 65_535
SCHEMES: Final = {"http": 80, "https": 443}
"""Schemes that are called, and their ports."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""This machine, for networks that live on it."""
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. Its host is a name or an address, without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme] else f"{host}:{self.port}"

    def at(self, address: Address) -> str:
        """Return the URL with the address in the name's place."""
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def check_url(url: str, at: str, allowed: Sequence[Network] = ()) -> Target:
    """Return where a URL leads. Raises InvalidField, naming the field ``at``, for one that is not called.

    A name is only checked once it is resolved, with ``check_addresses``; an address in the URL is checked here, too.
    """
    if not 1 <= len(url) <= URL_CHARS:
        raise InvalidField(at, f"must have 1 to {URL_CHARS} characters", value=len(url), limit=URL_CHARS)
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        # readers of URLs disagree about these, so that one could check another host than the next one calls
        raise InvalidField(at, "must be printable ASCII without spaces and backslashes", value=url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidField(at, "is no URL", value=url) from None
    if parts.scheme not in SCHEMES:
        raise InvalidField(at, "must begin with http:// or https://", value=url, limit=", ".join(SCHEMES))
    host = (parts.hostname or "").removesuffix(".")
    if not host or "@" in parts.netloc or "%" in host:
        raise InvalidField(at, "must name a host, and no user", value=url)
    if port == 0:
        raise InvalidField(at, f"must have a port from 1 to {PORTS}", value=url, limit=PORTS)
    literal = _literal(host)
    if literal is not None:
        check_addresses(url, [literal], at, allowed)
    return Target(parts.scheme, host, port or SCHEMES[parts.scheme], _path(parts))


def _path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _literal(host: str) -> Address | None:
    if host == "localhost" or host.endswith(".localhost"):  # this machine, by RFC 6761
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        return None


def check_addresses(url: str, addresses: Sequence[Address], at: str, allowed: Sequence[Network] = ()) -> Sequence[Address]:
    """Return the addresses. Raises InvalidField if any of them may not be called: a name with one inner address is a trick."""
    for address in addresses:
        if not may_call(address, allowed):
            raise InvalidField(at, f"leads to {address}, which is not a public address", value=url, limit="public addresses")
    if not addresses:
        raise InvalidField(at, "leads nowhere: its name has no address", value=url)
    return addresses


def may_call(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Say whether an address is public, or in a network that settings allow."""
    inner = _inner(address)
    if any(inner in network for network in allowed):
        return True
    # `is_global` alone takes multicast for global
    return inner.is_global and not inner.is_multicast


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Say whether an address is in one of the networks, and nowhere else: an address that tunnels to another is itself."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None  # the same machine, written otherwise
    return any((mapped or address) in network for network in networks)


def read_networks(texts: Sequence[str], at: str) -> tuple[Network, ...]:
    """Return networks written as `10.0.0.0/8` or as one address. Raises ValueError, naming the setting ``at``."""
    if len(texts) > NETWORKS:
        raise ValueError(f"{at}: must have at most {NETWORKS} networks, not {len(texts)}")
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise ValueError(f"{at}: must be a network like 10.0.0.0/8: {error}") from None
