"""What `aos up` leaves for the other commands: where the network is and which tokens open it."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where a network listens and who may do what there. Its repr shows no token."""

    url: str = ""
    """Where REST is: `http://host:port`."""
    grpc: str = ""
    """Where gRPC is: `host:port`."""
    project: str = ""
    """`projects/…`."""
    token: str = ""
    """The project's token."""
    admin_token: str = ""
    """The administrator's token."""

    @classmethod
    def load(cls, data: Path) -> Credentials:
        """Return what is kept in the data folder; empty fields if nothing is. Raises ValueError for a damaged file."""
        path = data / FILE
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return cls()
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to start with new tokens") from error

    def save(self, data: Path) -> None:
        """Keep them, readable by the owner only, in one step: a reader sees the old file or the new one."""
        path = data / f"{FILE}.new"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        path.replace(data / FILE)

    def with_admin(self) -> Credentials:
        """Return them with an administrator's token, a new one if there was none."""
        return self if self.admin_token else replace(self, admin_token=secrets.token_urlsafe(32))

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r}, project={self.project!r})"
