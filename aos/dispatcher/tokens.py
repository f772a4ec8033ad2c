"""Whose token a caller shows: a project's, or that of an operator that is attached."""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from aos.dispatcher.attached import Elsewhere
from aos.dispatcher.sessions import Session
from aos.dispatcher.store import ProjectStore
from aos.rpc.auth import Authenticator, Caller, Kind, hash_token

REMEMBERED: Final = 1024
"""Most tokens that are known without asking the store."""
_SESSION: Final = re.compile(r"0x[0-9a-f]{40}\.")
"""How the token of an operator's stream begins."""


class ProjectAuthenticator:
    """Knows the projects' tokens. Satisfies aos.rpc.auth.Authenticator."""

    def __init__(self, store: ProjectStore) -> None:
        self._store = store
        self._known: OrderedDict[str, Caller] = OrderedDict()
        self._rotations = 0

    async def __call__(self, token: str) -> Caller | None:
        """Return the project that holds the token."""
        if not token:
            return None
        hashed = hash_token(token)
        if known := self._known.get(hashed):
            self._known.move_to_end(hashed)
            return known
        rotations = self._rotations
        project = await self._store.holder(hashed)
        if project is None:
            return None
        who = Caller(Kind.PROJECT, f"projects/{project}")
        # an answer that a rotation has overtaken is good for this call, which began before it, and for no other
        if rotations == self._rotations:
            self._known[hashed] = who
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return who

    def forget_all(self) -> None:
        """Ask the store again for every token: others may have been replaced, unheard."""
        self._rotations += 1
        self._known.clear()

    def forget(self, project: str) -> None:
        """Ask the store again for every token of ``projects/…``: one was replaced."""
        self._rotations += 1
        for hashed in [hashed for hashed, who in self._known.items() if who.project == project]:
            del self._known[hashed]


class OperatorAuthenticator:
    """Knows the tokens of operators while their streams stand. Satisfies aos.rpc.auth.Authenticator."""

    def __init__(self, sessions: Mapping[str, Session], elsewhere: Elsewhere, *, otherwise: Authenticator) -> None:
        """``sessions`` are the operators that are attached here, by address; tokens that are not theirs are known ``otherwise``."""
        self._sessions, self._elsewhere, self._otherwise = sessions, elsewhere, otherwise

    async def __call__(self, token: str) -> Caller | None:
        """Return who holds the token."""
        # a session's token begins with its operator's address, so that it is found without looking at all of them
        session = self._sessions.get(token.partition(".")[0])
        if session is not None and not session.ended and hmac.compare_digest(session.token.encode(), token.encode()):
            return Caller(Kind.OPERATOR)
        # who attached through a proxy may read through it from another dispatcher
        if _SESSION.match(token) and await self._elsewhere.holds(token):
            return Caller(Kind.OPERATOR)
        return await self._otherwise(token)
