"""What may be registered as an AI project: the limits, and a checked list of model servers as data. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from aos.addresses import Address, Network, Target, check_url, is_in
from aos.errors import InvalidField
from aos.v1 import registry_pb2 as pb

REPLICAS: Final = 256
"""Most replicas of one project."""
NAME_CHARS: Final = 128
"""Longest name of a project or a model, and longest `cid`."""
CAPABILITIES: Final = 32
"""Most capabilities of one replica."""
CAPABILITY_CHARS: Final = 32
REASON_CHARS: Final = 512
HOSTED: Final = 512
"""Most replicas of one operator, so that they fit into one message."""
REPORTS: Final = 2 * HOSTED
"""Most reports in one call: of what was registered for an operator, and of what was registered for nobody."""
STRANGERS: Final = 128
"""Most of these that other keys than the operator's own may have registered."""
PORTS_REFUSED: Final = frozenset({7, 9, 19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 587, 873, 993, 995, 2049,
                                  2375, 2376, 2379, 3306, 5432, 5672, 6379, 9200, 9300, 11211, 27017})  # fmt: skip
"""Ports of other services that understand, or are harmed by, what is sent to a model server."""
ANY: Final[tuple[Network, ...]] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

_NAME: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{NAME_CHARS}}}")
_ALLOWED: Final = f"1 to {NAME_CHARS} letters, digits and ._:/-"
_CAPABILITY: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{CAPABILITY_CHARS}}}")
_ADDRESS: Final = re.compile(r"0x[0-9A-Fa-f]{40}")
_ID: Final = re.compile(r"[0-9a-f]{32}")


class Kind(enum.IntEnum):
    """What a registered model does; the numbers are REST's `type`."""

    TEXT = 0
    IMAGE = 1
    IMAGE_EDIT = 2


@dataclass(frozen=True, slots=True)
class Spec:
    """A model server as it was registered, checked. ``address`` is what the name in ``api`` stood for."""

    model: str
    api: str
    kind: Kind
    cid: str
    address: str

    @property
    def key(self) -> tuple[str, str, Kind, str]:
        """What makes it the same one in another list."""
        return self.model, self.api, self.kind, self.cid


def check_project(name: str, at: str = "project") -> str:
    """Return the name. Raises InvalidField for one that cannot be."""
    return _name(name, at)


def check_operator(address: str, at: str = "operator") -> str:
    """Return an operator's address, lower-case. Raises InvalidField for any other text."""
    if not _ADDRESS.fullmatch(address):
        raise InvalidField(at, "must be 0x and 40 hex digits", value=address, limit="0x + 40 hex digits")
    return address.lower()


def check_urls(specs: Sequence[pb.ReplicaSpec], at: str = "replicas") -> list[Target]:
    """Return where each replica's URL leads, all their other fields checked. Raises InvalidField for the first that cannot be.

    Whether the addresses behind it may be called is for ``check_specs``, once they are known.
    """
    if not 1 <= len(specs) <= REPLICAS:
        raise InvalidField(at, f"must have 1 to {REPLICAS} replicas", value=len(specs), limit=REPLICAS)
    targets: list[Target] = []
    for index, spec in enumerate(specs):
        where = f"{at}[{index}]"
        _name(spec.model, f"{where}.model")
        if spec.cid:
            _name(spec.cid, f"{where}.cid")
        if spec.kind not in pb.ModelKind.values():
            raise InvalidField(f"{where}.kind", "must be TEXT, IMAGE or IMAGE_EDIT", value=spec.kind, limit=len(Kind))
        # any address for now: which ones may be called is said about a name and a number alike, below
        target = check_url(spec.api, f"{where}.api", ANY)
        if "?" in spec.api or "#" in spec.api:
            raise InvalidField(f"{where}.api", "must have no query and no fragment", value=spec.api)
        if target.port in PORTS_REFUSED:
            raise InvalidField(f"{where}.api", f"names port {target.port}, which is another service's", value=spec.api)
        targets.append(target)
    return targets


def check_specs(
    specs: Sequence[pb.ReplicaSpec],
    targets: Sequence[Target],
    addresses: Mapping[str, Sequence[Address]],
    networks: Sequence[Network],
    at: str = "replicas",
) -> tuple[Spec, ...]:
    """Return the replicas as data, each with one address. ``addresses`` are those of each target's host.

    Raises InvalidField for a URL that leads outside ``networks``, by any of its addresses, or nowhere, and for one given twice.
    """
    found: dict[tuple[str, str, Kind, str], Spec] = {}
    for index, (spec, target) in enumerate(zip(specs, targets, strict=True)):
        where = f"{at}[{index}].api"
        there = addresses[target.host]
        for address in there:
            if not is_in(address, networks):
                allowed = ", ".join(str(one) for one in networks)
                raise InvalidField(where, f"leads to {address}, not to the operator's own machine", value=spec.api, limit=allowed)
        if not there:
            raise InvalidField(where, "leads nowhere: its name has no address", value=spec.api)
        good = Spec(spec.model, spec.api, Kind(max(spec.kind - 1, 0)), spec.cid, str(there[0]))
        if good.key in found:
            raise InvalidField(f"{at}[{index}]", "is there twice", value=spec.model, limit="different model, api or cid")
        found[good.key] = good
    return tuple(found.values())


def check_reports(reports: Sequence[pb.ReplicaReport], at: str = "reports") -> None:
    """Raise InvalidField for the first field that cannot be accepted."""
    if len(reports) > REPORTS:
        raise InvalidField(at, f"must have at most {REPORTS} reports", value=len(reports), limit=REPORTS)
    for index, report in enumerate(reports):
        where = f"{at}[{index}]"
        if not _ID.fullmatch(report.id):
            raise InvalidField(f"{where}.id", "must be 32 hex digits", value=report.id, limit=32)
        if report.state not in REPORTED:
            names = ", ".join(pb.ReplicaState.Name(one).removeprefix("REPLICA_STATE_") for one in REPORTED)
            raise InvalidField(f"{where}.state", f"must be one of {names}", value=report.state, limit=names)
        if len(report.reason) > REASON_CHARS:
            raise InvalidField(
                f"{where}.reason", f"must have at most {REASON_CHARS} characters", value=len(report.reason), limit=REASON_CHARS
            )
        if len(report.capabilities) > CAPABILITIES:
            problem = f"must have at most {CAPABILITIES}"
            raise InvalidField(f"{where}.capabilities", problem, value=len(report.capabilities), limit=CAPABILITIES)
        for one in report.capabilities:
            if not _CAPABILITY.fullmatch(one):
                allowed = f"1 to {CAPABILITY_CHARS} letters, digits and ._:/-"
                raise InvalidField(f"{where}.capabilities", f"must have {allowed}", value=one, limit=allowed)


REPORTED: Final = (
    pb.REPLICA_STATE_REGISTERED,
    pb.REPLICA_STATE_HEALTHY,
    pb.REPLICA_STATE_UNHEALTHY,
    pb.REPLICA_STATE_REFUSED,
    pb.REPLICA_STATE_DRAINING,
)
"""States that an operator may say a replica is in."""


def _name(text: str, at: str) -> str:
    if not _NAME.fullmatch(text):
        raise InvalidField(at, f"must have {_ALLOWED}", value=text, limit=_ALLOWED)
    return text
