"""What Envoy can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aos.controller_names import MODULE_BYTES
from gateway.body import BODY_BYTES, UNHEARD_BYTES

SOCKET_PATH: Final = 107
"""Most bytes of a unix socket's path on Linux."""
UNHEARD_MODULE_BYTES: Final = 2 * MODULE_BYTES
"""Largest module that is read to its end, so that its sender hears why it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """One Envoy. Raises ValueError, naming the setting, for a value that cannot be."""

    upstream: str
    """Path of the unix socket where the services are."""
    operator: str = ""
    """Path of the unix socket where an operator's own services are; empty: they are looked for at ``upstream``."""
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
    """Most calls at once; more are refused with 503."""
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
    drain_seconds: float = 10.0
    """How long running calls get to end when it stops."""
    log_path: Path | None = None
    """File that Envoy's warnings are added to; None: only the Python log `gateway.envoy` has them."""

    def __post_init__(self) -> None:
        for name in ("upstream", "operator"):
            if len(getattr(self, name).encode()) > SOCKET_PATH:
                raise ValueError(f"{name}: the path of a unix socket has at most {SOCKET_PATH} bytes")
        if not self.upstream:
            raise ValueError("upstream: is needed")
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
            ("drain_seconds", 0, 3600),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: must be from {least} to {most}, not {getattr(self, name)}")
        for origin in self.origins:
            if "*" in origin or "://" not in origin or origin.endswith("/"):
                raise ValueError(f"origins: must have the form https://host, not {origin!r}")
