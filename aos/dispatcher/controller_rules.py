"""Who may keep how many controllers, and who may move which tag. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aos.dispatcher.controller_settings import ControllerSettings
from aos.errors import ControllerInUse, InvalidField, PermissionDenied, StorageFull

ADMIN: Final = "admin"
"""Who sets a tag as the administrator."""
SHIPPED: Final = "aos"
"""Who sets the tags of the controllers that come with the package."""
TRUSTED: Final = frozenset({ADMIN, SHIPPED})
"""Who speaks for the network. No project is called so: theirs are `projects/…`."""


@dataclass(frozen=True, slots=True)
class Module:
    """A controller that the network keeps."""

    digest: bytes
    """SHA-256 of the module."""
    wasm_size: int
    compiled_size: int
    abi: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for a controller."""

    name: str
    digest: bytes
    updated: datetime
    updated_by: str
    """`projects/…`, ADMIN or SHIPPED."""


@dataclass(frozen=True, slots=True)
class KeptTag:
    """A tag as it is kept, with what it stands for. ``number`` counts tags in the order in which they were set."""

    number: int
    tag: Tag
    module: Module


@dataclass(frozen=True, slots=True)
class Usage:
    """What one project keeps."""

    modules: int = 0
    bytes: int = 0
    tags: int = 0


@dataclass(frozen=True, slots=True)
class Holders:
    """Who and what holds a controller."""

    owners: frozenset[str]
    """Who has sent it."""
    tag: str
    """A tag that stands for it; empty: none."""
    running: bool
    """Whether a job that has not ended runs it."""


def check_delete(owner: str, name: str, holders: Holders) -> bool:
    """Say whether the controller goes when the owner lets it go; else it stays for others.

    Raises PermissionDenied for who has not sent it, and ControllerInUse if it would go and is in use.
    """
    if owner != ADMIN and owner not in holders.owners:
        raise PermissionDenied("the token of a project that has sent the controller, or the administrator's")
    if owner != ADMIN and len(holders.owners) > 1:
        return False
    if holders.tag:
        raise ControllerInUse(name, f"the tag {holders.tag!r} stands for it")
    if holders.running:
        raise ControllerInUse(name, "a job that has not ended runs it")
    return True


def check_room(owner: str, usage: Usage, more: int, settings: ControllerSettings) -> None:
    """Raise StorageFull if the owner may not keep one more module of so many bytes."""
    if owner in TRUSTED:
        return
    if usage.modules + 1 > settings.project_modules:
        raise StorageFull(owner, "controllers", settings.project_modules)
    if usage.bytes + more > settings.project_bytes:
        raise StorageFull(owner, "bytes of controllers", settings.project_bytes)


def set_tags(
    names: Sequence[str],
    digest: bytes,
    *,
    existing: Mapping[str, Tag],
    usage: Usage,
    owner: str,
    now: datetime,
    settings: ControllerSettings,
) -> list[Tag]:
    """Return the tags as they are from now on. Raises PermissionDenied for one of somebody else's, StorageFull for one too many.

    A project moves its own tags, the administrator all.
    """
    for name in names:
        if owner != ADMIN and name in existing and existing[name].updated_by != owner:
            raise PermissionDenied(f"the token of who set the tag {name!r}, or the administrator's")
    mine = sum(name in existing and existing[name].updated_by == owner for name in names)
    if owner not in TRUSTED and usage.tags + len(names) - mine > settings.project_tags:
        raise StorageFull(owner, "tags", settings.project_tags)
    return [Tag(name, digest, now, owner) for name in names]


def shipped_tags(names: Sequence[str], digest: bytes, *, existing: Mapping[str, Tag]) -> list[str]:
    """Return which tags of a controller that comes with the package are to be set: those that nobody else has."""
    return [
        name for name in names if name not in existing or (existing[name].updated_by == SHIPPED and existing[name].digest != digest)
    ]


def check_names(names: Sequence[str], most: int) -> Sequence[str]:
    """Return the names of the tags that one call sets. Raises InvalidField for none, too many, or one twice."""
    if not 1 <= len(names) <= most:
        raise InvalidField("tags", f"must be 1 to {most}", value=len(names), limit=most)
    if len(set(names)) != len(names):
        raise InvalidField("tags", "has a tag twice", value=", ".join(names))
    return names
