"""Who calls, and what each method asks of the caller. Deny by default: a method without a row in POLICY is refused."""

from __future__ import annotations

import enum
import hashlib
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from aos.errors import PermissionDenied, Unauthenticated
from aos.rpc.status import Around, Wrapped

log = logging.getLogger(__name__)


class Kind(enum.Enum):
    """What a caller is to us."""

    ANONYMOUS = "anonymous"
    PROJECT = "project"
    ADMIN = "admin"
    SERVICE = "service"
    OPERATOR = "operator"
    """One that is attached to the dispatcher, which gave it a token."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who made this call. ``project`` is ``projects/…`` for projects, else empty."""

    kind: Kind
    project: str = ""


ANONYMOUS: Final = Caller(Kind.ANONYMOUS)
_CALLER: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def caller() -> Caller:
    """Return who made the call that is being served."""
    return _CALLER.get()


def own_project() -> str:
    """Return the calling project, or raise: the administrator has no jobs and no account of its own."""
    who = caller()
    if who.kind is not Kind.PROJECT:
        raise PermissionDenied("a project's token")
    return who.project


class Authenticator(Protocol):
    """Knows whose token it is."""

    async def __call__(self, token: str) -> Caller | None:
        """Return the holder, or None if nobody holds it."""
        ...


def hash_token(token: str) -> str:
    """Return what is kept of a token. Tokens carry 256 random bits, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FixedTokens:
    """The tokens that settings give: the administrator's and the services' own, compared in constant time."""

    admin: str
    service: str
    otherwise: Authenticator
    open_as: str = ""
    """In loopback dev mode, the project that callers act as whose token is nobody's; empty: they are refused.

    OpenAI's clients cannot call without a key, and people give them any word for one.
    """

    async def __call__(self, token: str) -> Caller | None:
        for known, kind in ((self.admin, Kind.ADMIN), (self.service, Kind.SERVICE)):
            if token and known and hmac.compare_digest(known.encode(), token.encode()):
                return Caller(kind)
        holder = await self.otherwise(token) if token else None
        return holder or (Caller(Kind.PROJECT, self.open_as) if self.open_as else None)


class Access(enum.Enum):
    """What a method asks of its caller."""

    ANYONE = frozenset(Kind)
    """No power of its own: it passes the caller's token on, or checks a signature in the message."""
    PROJECT = frozenset({Kind.PROJECT, Kind.ADMIN, Kind.SERVICE})
    MEMBER = frozenset({Kind.PROJECT, Kind.ADMIN, Kind.SERVICE, Kind.OPERATOR})
    ADMIN = frozenset({Kind.ADMIN, Kind.SERVICE})
    SERVICE = frozenset({Kind.SERVICE})


POLICY: Final[dict[str, Access]] = {
    "/grpc.health.v1.Health/": Access.ANYONE,
    "/grpc.reflection.v1alpha.ServerReflection/": Access.ANYONE,
    "/gateway.v1.Jobs/": Access.ANYONE,
    "/gateway.v1.Images/": Access.ANYONE,
    "/gateway.v1.AiProjects/": Access.ANYONE,
    "/gateway.v1.Aici/": Access.ANYONE,
    "/gateway.v1.Models/": Access.ANYONE,
    "/gateway.v1.Opml/": Access.ANYONE,
    "/gateway.v1.OpmlCallbacks/": Access.ANYONE,
    "/gateway.v1.Operators/": Access.ANYONE,
    "/gateway.v1.Projects/": Access.ANYONE,
    "/gateway.v1.Metrics/": Access.ADMIN,
    # a signature in the headers stands for a token
    "/gateway.v1.Zerog/": Access.ANYONE,
    "/gateway.v1.Pages/": Access.PROJECT,
    # without it, nobody could be asked for a token
    "/gateway.v1.Pages/GetPage": Access.ANYONE,
    "/aos.v1.Dispatcher/": Access.PROJECT,
    "/aos.v1.Dispatcher/CreateProject": Access.ADMIN,
    "/aos.v1.Dispatcher/ListProjects": Access.ADMIN,
    "/aos.v1.Dispatcher/RotateProjectToken": Access.ADMIN,
    "/aos.v1.Dispatcher/SetProjectLimits": Access.ADMIN,
    "/aos.v1.Dispatcher/PurgeJobs": Access.ADMIN,
    "/aos.v1.Dispatcher/Attach": Access.ANYONE,
    "/aos.v1.Blobs/": Access.PROJECT,
    # the link's signature stands for a token
    "/aos.v1.Blobs/GetSharedBlob": Access.ANYONE,
    "/aos.v1.Callbacks/": Access.ANYONE,
    "/aos.v1.Controllers/": Access.PROJECT,
    # operators read what their jobs need
    "/aos.v1.Controllers/ReadController": Access.MEMBER,
    "/aos.v1.Registry/": Access.PROJECT,
    "/aos.v1.Registry/ChallengeOperator": Access.ANYONE,
    "/aos.v1.Registry/RegisterOperator": Access.ANYONE,
    "/aos.v1.Registry/RenewOperator": Access.ANYONE,
    "/aos.v1.Registry/UnregisterOperator": Access.ANYONE,
    "/aos.v1.Registry/RegisterProject": Access.ANYONE,
    "/aos.v1.Registry/UnregisterProject": Access.ANYONE,
    "/aos.v1.Registry/ReportReplicas": Access.ANYONE,
    "/aos.v1.Registry/WatchProjects": Access.ANYONE,
    "/aos.v1.Registry/ListAudit": Access.ADMIN,
    "/aos.v1.Broker/": Access.PROJECT,
    "/aos.v1.Broker/Deposit": Access.ADMIN,
    "/aos.v1.Broker/GetTotals": Access.ADMIN,
    "/aos.v1.Broker/Reserve": Access.SERVICE,
    "/aos.v1.Broker/Settle": Access.SERVICE,
    "/aos.v1.Broker/ListLedgers": Access.ADMIN,
    "/aos.v1.Broker/CheckInvariants": Access.ADMIN,
    "/aos.v1.Broker/SealSettlement": Access.ADMIN,
    "/aos.v1.Broker/SettleFee": Access.SERVICE,
    "/aos.v1.Broker/FreezeReceipt": Access.SERVICE,
    "/aos.v1.Broker/ResolveReceipt": Access.SERVICE,
    "/aos.v1.Requests/": Access.PROJECT,
    "/aos.v1.Requests/AdmitRequest": Access.SERVICE,
    "/aos.v1.Requests/NoteJob": Access.SERVICE,
    "/aos.v1.Requests/KeepAnswer": Access.SERVICE,
    "/aos.v1.Requests/GetAnswer": Access.SERVICE,
    "/aos.v1.Operator/": Access.ADMIN,
    # in loopback dev mode callers without a token are a project, here as elsewhere
    "/aos.v1.Questions/": Access.PROJECT,
}
"""By method, or by service with a trailing slash; the method's own row wins."""


KNOWN: Final = frozenset({"/aos.v1.Registry/RegisterProject", "/aos.v1.Registry/UnregisterProject"})
"""Methods for anyone that know their caller if it brings a token: the administrator may do more without a signature."""


def access(method: str) -> Access | None:
    """Return what ``/package.Service/Method`` asks, or None if nobody decided."""
    service = method[: method.rfind("/") + 1]
    return POLICY.get(method) or POLICY.get(service)


ON_BEHALF: Final = "x-aos-project"
"""Metadata with which a service acts as a project, `projects/…`, that it let in by other means. From others it means nothing."""


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Finds out who calls, and refuses those whom POLICY does not let in."""

    def __init__(self, authenticate: Authenticator) -> None:
        self._authenticate = authenticate
        self._wrapped = Wrapped()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler, method = await continuation(handler_call_details), handler_call_details.method
        return handler and self._wrapped.of(method, handler, lambda: self._admitting(method))

    def _admitting(self, method: str) -> Around:
        needed, known = access(method), method in KNOWN

        @asynccontextmanager
        async def admitted(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncGenerator[None]:
            if needed is None:
                log.error("no policy for %s", method)
                raise PermissionDenied("a policy, and this method has none")
            if known:
                _CALLER.set(await self._authenticate(_bearer(context)) or ANONYMOUS)
            elif needed is not Access.ANYONE:
                who = await self._authenticate(_bearer(context)) or ANONYMOUS
                if who.kind is Kind.ANONYMOUS:
                    raise Unauthenticated
                if who.kind is Kind.SERVICE and (project := _metadata(context, ON_BEHALF)):
                    who = Caller(Kind.PROJECT, project)
                if who.kind not in needed.value:
                    raise PermissionDenied(f"the {needed.name.lower()} token")
                _CALLER.set(who)
            yield

        return admitted


def _bearer(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    scheme, _, token = _metadata(context, "authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _metadata(context: grpc.aio.ServicerContext[Any, Any], name: str) -> str:
    """Return what was sent first under the name; empty if nothing was."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""
