"""What a project is: its id, and the token of which only a hash is kept. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aos.dispatcher.quotas import OwnLimits
from aos.errors import InvalidField
from aos.rpc.auth import hash_token

TOKEN_BYTES: Final = 32
RANDOM_ID_BYTES: Final = 8
DISPLAY_NAME: Final = 128
"""Most characters of a display name."""
OWN: Final = "-"
"""Stands for the caller's own project, so it cannot be an id."""

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ADDRESS: Final = re.compile(r"0[xX][0-9A-Fa-f]{40}")
"""An operator's account; a project of that name would share it."""
_RULE: Final = "1 to 64 letters, digits, '.', '_', '-', not '-' alone, not an address"

Randomness = Callable[[int], bytes]
"""Returns so many random bytes that nobody can guess: secrets.token_bytes."""


@dataclass(frozen=True, slots=True)
class Project:
    """An application that submits jobs and pays for them."""

    id: str
    token_hash: str
    created: datetime
    display_name: str = ""
    """What people call it."""
    limits: OwnLimits = field(default_factory=OwnLimits)

    @property
    def name(self) -> str:
        return f"projects/{self.id}"


def check_id(project_id: str, at: str) -> str:
    """Return the id. Raises InvalidField if it cannot be one."""
    if project_id == OWN or not _ID.fullmatch(project_id) or _ADDRESS.fullmatch(project_id):
        raise InvalidField(at, f"must be {_RULE}", value=project_id, limit=_RULE)
    return project_id


def read_name(name: str) -> str:
    """Return the id in ``projects/…``. Raises InvalidField for anything else."""
    head, _, project_id = name.partition("/")
    if head != "projects":
        raise InvalidField("name", "must be projects/ and an id", value=name, limit="projects/…")
    return check_id(project_id, "name")


def new_token(randomness: Randomness) -> str:
    """Return a token of 256 random bits, safe in a header and a URL."""
    return base64.urlsafe_b64encode(randomness(TOKEN_BYTES)).decode().rstrip("=")


def new_project(project_id: str, token: str, *, randomness: Randomness, now: datetime, display_name: str = "") -> Project:
    """Return a new project; an empty id becomes a random one. Raises InvalidField."""
    if len(display_name) > DISPLAY_NAME or not (display_name.isprintable() or not display_name):
        problem = f"must have at most {DISPLAY_NAME} characters on one line"
        raise InvalidField("display_name", problem, value=display_name, limit=DISPLAY_NAME)
    if project_id:
        check_id(project_id, "project_id")
    return Project(project_id or f"p-{randomness(RANDOM_ID_BYTES).hex()}", hash_token(token), now, display_name)
