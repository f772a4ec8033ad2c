"""What every dialect does with a call: read its body, pass its credentials on, reply with an HTTP status."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import told
from aos.errors import AosError, Unauthenticated
from gateway.body import BODY_BYTES, Body, parse

STATUS: Final = "x-aos-status"
"""Initial metadata that Envoy turns into the HTTP status (gateway/envoy/config.py)."""
ORIGIN: Final = "x-aos-origin"
"""Where the caller called, scheme and host; Envoy says it."""
INLINE_BYTES: Final = 32 << 10
"""Bodies up to this size are read on the event loop, which takes less than a thread's hand-over; larger ones in a thread."""

HTTP: Final = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "CANCELLED": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status by google.rpc.Code, where a dialect has no other for the error's class."""

PASSED: Final = ("x-request-id", "traceparent")
"""Headers that go on as they are."""

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str], ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    data: bytes
    status: int = 200
    headers: Metadata = ()
    content_type: str = "application/json"


def dump(value: object) -> str:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def read(request: HttpBody, *, limit: int = BODY_BYTES) -> Body:
    """Return the body's JSON object. Raises Malformed or TooLarge."""
    if len(request.data) <= INLINE_BYTES:
        return parse(request.data, limit=limit)
    return await asyncio.to_thread(parse, request.data, limit=limit)


async def send(context: Context, reply: Reply) -> HttpBody:
    """Return the message that makes Envoy answer with the reply. Nothing may have been sent before."""
    headers = reply.headers if reply.status == 200 else ((STATUS, str(reply.status)), *reply.headers)  # noqa: PLR2004
    if headers:
        await context.send_initial_metadata(headers)
    return HttpBody(content_type=reply.content_type, data=reply.data)


def header(context: Context, name: str) -> str:
    """Return a request header, or an empty string."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


def passed_on(context: Context, token: str = "") -> Metadata:
    """Return the caller's credentials, request id and trace, to be sent with the calls made for it: it has its own powers, no more.

    A ``token`` from elsewhere goes before the one in the header. Raises Unauthenticated for one that no header can carry.
    """
    authorization = f"Bearer {token}" if token else header(context, "authorization")
    if not _sendable(authorization):
        raise Unauthenticated
    sent = {"authorization": authorization, **{name: header(context, name) for name in PASSED}}
    return tuple((name, value) for name, value in sent.items() if value and _sendable(value))


def keyed(context: Context) -> Metadata:
    """Return what ``passed_on`` does, for a dialect whose clients send the token as `api-key`; `authorization` goes before it."""
    return passed_on(context, "" if header(context, "authorization") else header(context, "api-key"))


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def known(error: Exception) -> AosError | None:
    """Return the failure that a caller can act on, or None, logged, for what nobody foresaw."""
    if isinstance(error, AosError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        try:
            with told():
                raise error
        except AosError as meant:
            return meant
        except grpc.aio.AioRpcError:
            pass
    log.error("unexpected failure", exc_info=error)
    return None


def retry_after(error: AosError | None) -> Metadata:
    """Return the `retry-after` header, in whole seconds, for an error that says when to come again."""
    if error is None or error.retry_after is None:
        return ()
    return (("retry-after", str(max(1, math.ceil(error.retry_after)))),)
