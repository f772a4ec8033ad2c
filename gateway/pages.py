"""The status page: its files, the feed behind it, and the check of a receipt; docs/how-to/status-page.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib.resources import files
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict, ParseError

from aos.clock import Clock
from aos.errors import InvalidField, QueueFull
from aos.rpc.auth import caller
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.receipts import check_bundle
from gateway.http import Context, Metadata, Reply, dump, header, passed_on, read, send
from gateway.status_feed import Feed
from gateway.v1 import pages_pb2, pages_pb2_grpc

INDEX: Final = "index.html"
ASKED, OPEN = b'data-token="asked"', b'data-token="open"'
"""What the page's first line says about callers without a token: that they are refused, or let in."""
TYPES: Final = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
"""Of the page's files, by how their names end."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing runs that is not one of the page's own files, wherever a text comes from, and nobody frames the page."""
SAFE: Final[Metadata] = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
)
FEED: Final[Metadata] = (
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),
)
FEEDS: Final = 64
"""Most pages that are fed at once."""
CHECKS: Final = 2
"""Most receipts that are checked at once; each takes a thread for some milliseconds. More wait."""


class PagesServicer(pages_pb2_grpc.PagesServicer):
    """Calls the services through ``face`` with the viewer's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel, clock: Clock, *, open_to_all: bool) -> None:
        """``open_to_all`` is whether callers without a token are let in: then the page asks for none."""
        self._face, self._clock = face, clock
        self._files = {one.name: one.read_bytes() for one in (files("gateway") / "page").iterdir() if _type(one.name)}
        if open_to_all:
            self._files[INDEX] = self._files[INDEX].replace(ASKED, OPEN, 1)
        self._stopping, self._feeds, self._checks = asyncio.Event(), 0, asyncio.Semaphore(CHECKS)

    def stop(self) -> None:
        """End all feeds; to be called while the server still stands."""
        self._stopping.set()

    async def GetPage(self, request: pages_pb2.GetPageRequest, context: Context) -> HttpBody:
        name = request.file or INDEX
        if name not in self._files:
            return await send(context, Reply(b"There is no such part of the page.", 404, SAFE, "text/plain; charset=utf-8"))
        return await send(context, Reply(self._files[name], headers=SAFE, content_type=_type(name)))

    async def WatchStatus(self, request: pages_pb2.WatchStatusRequest, context: Context) -> AsyncGenerator[HttpBody]:
        del request
        if self._feeds >= FEEDS:
            raise QueueFull("status feeds", FEEDS)
        self._feeds += 1
        try:
            signed_in = bool(header(context, "authorization"))
            feed = Feed(self._face, caller(), passed_on(context), clock=self._clock, stopping=self._stopping, signed_in=signed_in)
            await context.send_initial_metadata(FEED)
            async with aclosing(feed.events()) as events:
                async for event in events:
                    yield HttpBody(content_type="text/event-stream", data=event)
        finally:
            self._feeds -= 1

    async def CheckReceipt(self, request: HttpBody, context: Context) -> HttpBody:
        body = await read(request)
        async with self._checks:
            said = await asyncio.to_thread(_checked, body.fields)
        return await send(context, Reply(dump(said).encode(), headers=FEED))


def _type(name: str) -> str:
    return TYPES.get(name.rpartition(".")[2], "")


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what all that the bundle proves by itself comes to. Raises InvalidField for what is no receipt."""
    try:
        bundle = ParseDict(fields, ReceiptBundle())
    except ParseError as error:
        raise InvalidField("body", f"is not a receipt: {str(error).partition(chr(10))[0]}") from error
    if not bundle.HasField("receipt"):
        raise InvalidField("receipt", "is missing; send what GET /v1/jobs/…/receipt gives")
    found = list(check_bundle(bundle))
    return {
        "holds": all(one.good is not False for one in found),
        "findings": [{"what": one.what, "good": one.good, "why": one.why} for one in found],
    }
