"""What can be set about the model servers that an operator hosts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aos.addresses import LOOPBACK, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """Limits and times of one operator's model servers. Times are in seconds. Raises ValueError for a value that cannot work."""

    networks: tuple[Network, ...] = LOOPBACK
    """Where they may be: nowhere else is connected to, public addresses included."""
    owners: tuple[str, ...] = ()
    """Addresses of keys, besides the operator's own, whose servers are hosted; `0x` and 40 hex digits."""
    servers: int = 512
    """Most of them at once; what is registered beyond that is refused."""
    slots: int = 8
    """Requests that one of them gets at once."""
    context: int = 8192
    """Most tokens of prompt and answer together, for a server that does not say."""
    connect_seconds: float = 5.0
    """How long one may take to take a connection."""
    first_seconds: float = 120.0
    """How long one may take to begin a reply: it may read a long input first."""
    idle_seconds: float = 60.0
    """How long one may send nothing at all in mid-answer."""
    silent_seconds: float = 300.0
    """How long one may send nothing that says anything: comments keep a connection open, not for ever."""
    picture_seconds: float = 600.0
    """How long one may take to make one picture."""
    probe_seconds: float = 5.0
    """From one look at a server to the next."""
    probe_timeout: float = 3.0
    """How long it may take to answer such a look."""
    canary_seconds: float = 60.0
    """From one prompt with which a server is tried out to the next."""
    canary_timeout: float = 20.0
    """How long the answer to that may take."""
    check_seconds: float = 300.0
    """From one check of a server that lacks something essential to the next."""
    faults: int = 3
    """So many answers in a row that fail take a server out."""
    jitter: float = 0.1
    """The part of a pause that is left to chance, at most, so that not all are looked at at once."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name not in ("networks", "owners", "jitter") and not value > 0:
                raise ValueError(f"upstream setting {name} must be above 0, not {value}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"upstream setting jitter must be from 0 to below 1, not {self.jitter}")
