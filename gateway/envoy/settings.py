"""What Envoy can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from aos.controller_names import MODULE_BYTES
from gateway.body import BODY_BYTES, UNHEARD_BYTES

PORTS: Final = 65_535
SOCKET_PATH: Final = 107
"""Most bytes of a unix socket's path on Linux."""
UNHEARD_MODULE_BYTES: Final = 2 * MODULE_BYTES
"""Largest module that is read to its end, so that its sender hears why it is refused."""


LEAST_BUFFER: Final = 65_535
"""Smallest window of a stream that HTTP/2 begins with."""
SERVERS: Final = 256
"""Most addresses of one service."""
_HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server is: a unix socket, or a host and port."""

    path: str = ""
    host: str = ""
    port: int = 0


@cache
def places(address: str) -> tuple[Place, ...]:
    """Return what `host:port`, `unix:/path` or a path stand for, or several with commas between them. Raises ValueError."""
    return tuple(_place(part.strip()) for part in address.split(","))


def _place(text: str) -> Place:
    match = None if text.startswith("unix:") else _HOST_PORT.fullmatch(text)
    if match is None:
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("must not be empty")
        if len(path.encode()) > SOCKET_PATH:
            raise ValueError(f"the path of a unix socket has at most {SOCKET_PATH} bytes")
        return Place(path=path)
    if not 1 <= int(match["port"]) <= PORTS:
        raise ValueError(f"a port must be from 1 to {PORTS}, not {match['port']}")
    return Place(host=match["host"].strip("[]"), port=int(match["port"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """One Envoy. Raises ValueError, naming the setting, for a value that cannot be."""

    upstream: str
    """Where the dialects are, and every service that has no place of its own: `host:port`, `unix:/path` or a path, or several with
    commas between them, over which calls are spread. A name stands for all its addresses."""
    dispatchers: str = ""
    """Where the dispatchers are, in the same form; empty: at `upstream`."""
    registry: str = ""
    """Where the registry is; empty: at `upstream`."""
    broker: str = ""
    """Where the broker is; empty: at `upstream`."""
    operator: str = ""
    """Where an operator's own services are; empty: they are looked for at `upstream`."""
    host: str = "127.0.0.1"
    """Address to listen on: an IP address or `localhost`."""
    port: int = 0
    """Port to listen on; 0 takes a free one."""
    body_bytes: int = BODY_BYTES
    """Largest REST body. Native gRPC messages have the servers' own limit."""
    edit_bytes: int = UNHEARD_BYTES
    """Largest REST body where pictures are sent; the dialect has a lower limit."""
    module_bytes: int = UNHEARD_MODULE_BYTES
    """Largest REST body where a controller's module is sent; the dialect has a lower limit."""
    headers_kib: int = 60
    """Largest request head, in KiB."""
    headers: int = 100
    """Most request headers."""
    streams: int = 10_000
    """Most calls at once, streams among them, to each service; more are refused with 503."""
    buffer_bytes: int = 65_536
    """Bytes that wait, at most, on each side of one stream for a reader that does not read; then its server waits, too."""
    retries: int = 0
    """How often a call is sent again that no server has begun, or that the protos let be done twice; 0: never, as there is only one
    server. Streams are not sent again once they have begun."""
    health_seconds: float = 2.0
    """How often each server is asked whether it is well; after two failures it gets no more calls."""
    eject_failures: int = 3
    """After so many calls in a row that were lost on the way, a server gets none for a while, where there are several."""
    eject_seconds: float = 5.0
    """How long, the first time. It comes back sooner if it says that it is well."""
    certificate: Path | None = None
    """PEM file with the certificates for TLS, the server's own first; None: no TLS. Read at the start."""
    private_key: Path | None = None
    """PEM file with its key."""
    client_ca: Path | None = None
    """PEM file with the authorities whose client certificates are let in, and no one without; None: none is asked for."""
    connections: int = 20_000
    """Most connections at once; more are closed."""
    call_seconds: float = 60.0
    """Longest call that does not stream."""
    idle_seconds: float = 660.0
    """Longest silence on a stream, in either direction. Above the longest life of a job, whose end ends the silence."""
    origins: tuple[str, ...] = ()
    """Web pages' origins, `https://host[:port]`, that browsers may call from; none by default."""
    hosts: tuple[str, ...] = ()
    """Names that it may be called by, with any port; empty: any. One that lets callers in without a token names its own: a page of
    somewhere else could reach it through a browser of this machine otherwise, under a name of its own (DNS rebinding) or not."""
    workers: int = 1
    """Envoy's threads; one carries far more than one machine's models."""
    start_seconds: float = 20.0
    """How long Envoy may take to be ready."""
    notice_seconds: float = 0.0
    """How long `/healthz` says that it leaves, and replies ask clients to connect anew, before it refuses connections."""
    drain_seconds: float = 10.0
    """How long running calls get to end when it stops; streams that take longer are cut."""
    log_path: Path | None = None
    """File that Envoy's warnings are added to; None: only the Python log `gateway.envoy` has them."""

    def __post_init__(self) -> None:
        if not self.upstream:
            raise ValueError("upstream: is needed")
        for cluster, address in self.clusters.items():
            name = "upstream" if cluster == "aos" else cluster
            try:
                found = places(address)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            if len(found) > SERVERS:
                raise ValueError(f"{name}: must be at most {SERVERS} addresses, not {len(found)}")
        if (self.certificate is None) != (self.private_key is None) or (self.client_ca and self.certificate is None):
            raise ValueError("certificate, private_key: go together, and client_ca with them")
        for name, least, most in (
            ("port", 0, 65_535),
            ("body_bytes", 1, 1 << 31),
            ("edit_bytes", 1, 1 << 31),
            ("module_bytes", 1, 1 << 31),
            ("headers_kib", 1, 8192),
            ("headers", 1, 10_000),
            ("streams", 1, 1 << 31),
            ("connections", 1, 1 << 31),
            ("call_seconds", 0.001, 86_400),
            ("idle_seconds", 0.001, 86_400),
            ("workers", 1, 256),
            ("start_seconds", 0.001, 3600),
            ("notice_seconds", 0, 3600),
            ("drain_seconds", 0, 3600),
            ("buffer_bytes", LEAST_BUFFER, 1 << 26),
            ("retries", 0, 10),
            ("health_seconds", 0.05, 3600),
            ("eject_failures", 1, 1000),
            ("eject_seconds", 0.05, 3600),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: must be from {least} to {most}, not {getattr(self, name)}")
        for origin in self.origins:
            if "*" in origin or "://" not in origin or origin.endswith("/"):
                raise ValueError(f"origins: must have the form https://host, not {origin!r}")

    @property
    def clusters(self) -> dict[str, str]:
        """The places where services are, by the names of Envoy's clusters; `aos` is where all others are."""
        own = {"dispatchers": self.dispatchers, "registry": self.registry, "broker": self.broker, "operator": self.operator}
        return {"aos": self.upstream} | {name: address for name, address in own.items() if address}
