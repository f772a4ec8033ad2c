"""Where calls go: addresses as settings say them, as gRPC takes them. Pure."""

from __future__ import annotations

from ipaddress import ip_address


def target(address: str) -> str:
    """Return gRPC's name for `host:port`, `unix:/path`, or several of one kind with commas between them. Raises ValueError."""
    parts = [part.strip() for part in address.split(",")]
    if len(parts) == 1:
        return parts[0]
    if all(part.startswith("unix:") for part in parts):
        return "unix:" + ",".join(part.removeprefix("unix:") for part in parts)
    try:
        versions = {ip_address(part.rpartition(":")[0].strip("[]")).version for part in parts}
    except ValueError:
        raise ValueError(f"several addresses must all be IP addresses or all unix sockets, in {address!r}") from None
    if len(versions) > 1:
        raise ValueError(f"several addresses must be of one IP version, in {address!r}")
    return f"ipv{versions.pop()}:{','.join(parts)}"
