"""Links to files that anyone may follow for a time: what is signed, and whether it holds. Pure."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aos.errors import BadSignature

OWNER_DIGITS: Final = 32
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Link:
    """Who may be read by whoever has it, and until when."""

    name: str
    """`blobs/` and 64 hex digits."""
    owner: str
    """As ``owner_of`` gives it."""
    expires: int
    """Seconds since 1970-01-01 UTC."""

    def path(self, secret: bytes) -> str:
        """Return path and query."""
        query = urlencode({"owner": self.owner, "expires": self.expires, "signature": self.sign(secret)})
        return f"/v1/{self.name}?{query}"

    def sign(self, secret: bytes) -> str:
        """Return the signature: 64 hex digits."""
        said = f"aos.link.v1\n{self.name}\n{self.owner}\n{self.expires}"
        return hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()

    def check(self, signature: str, secret: bytes, *, now: float) -> None:
        """Raise BadSignature unless the signature is this link's, and it is not out of date; ``now`` is in seconds."""
        if not hmac.compare_digest(self.sign(secret).encode(), signature.encode()):
            raise BadSignature(self.name, "the link is not as it was made")
        if now >= self.expires:
            raise BadSignature(self.name, "the link is out of date")


def owner_of(project: str) -> str:
    """Return what stands for a project where its name is nobody's business."""
    return hashlib.sha256(b"aos.owner.v1\n" + project.encode()).hexdigest()[:OWNER_DIGITS]
