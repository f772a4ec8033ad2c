"""Whose token a caller shows, where the projects are not: the dispatchers are asked, with that very token."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import grpc

from aos.clock import Clock
from aos.errors import PermissionDenied, ServiceUnavailable, Unauthenticated
from aos.rpc.auth import Caller, Kind, hash_token
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc

REMEMBERED: Final = 1024
"""Most tokens that are known without asking."""
FRESH_SECONDS: Final = 5.0
"""How long an answer is good: so long after its rotation an old token may still be taken here."""
ASK_SECONDS: Final = 5.0
"""How long the dispatchers may take to answer."""


class AskedDispatchers:
    """Knows the projects' tokens from the dispatchers. Satisfies aos.rpc.auth.Authenticator."""

    def __init__(self, dispatchers: grpc.aio.Channel, clock: Clock) -> None:
        """``dispatchers`` sends no token of its own."""
        self._stub, self._clock = dispatcher_pb2_grpc.DispatcherStub(dispatchers), clock
        self._known: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    async def __call__(self, token: str) -> Caller | None:
        """Return the project that holds the token. Raises ServiceUnavailable if no dispatcher answers."""
        if not token or not token.isascii() or not token.isprintable():
            return None
        hashed, now = hash_token(token), self._clock.now().timestamp()
        known = self._known.get(hashed)
        if known is not None and now - known[1] < FRESH_SECONDS:
            return known[0]
        request = dispatcher_pb2.GetProjectRequest(name="projects/-")
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            project = await answered(self._stub.GetProject(request, metadata=metadata, timeout=ASK_SECONDS))
        except (Unauthenticated, PermissionDenied):
            self._known.pop(hashed, None)
            return None
        except grpc.aio.AioRpcError as error:
            raise ServiceUnavailable("dispatchers") from error
        who = Caller(Kind.PROJECT, project.name)
        self._known[hashed] = (who, now)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return who
