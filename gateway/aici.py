"""The AICI runtime's REST dialect: controllers, tags and runs; docs/reference/rest-aici.md has the fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, ConfigDict

from aos.client import CALL_SECONDS
from aos.clock import Clock
from aos.controller_names import MODULE_BYTES, PREFIX, SENT_BYTES
from aos.errors import Unauthenticated
from aos.paging import PAGE_MOST
from aos.rpc.status import answered
from aos.v1 import controllers_pb2_grpc
from aos.v1.controllers_pb2 import Controller, ControllerTag, CreateControllerRequest, ListControllersRequest, TagControllerRequest
from gateway.aici_errors import GET_TAGS, MODULE, SET_TAGS, failure
from gateway.aici_run import AiciRuns
from gateway.body import TooLarge, check
from gateway.http import Context, Reply, dump, keyed, known, read, send
from gateway.v1 import aici_pb2, aici_pb2_grpc

UPLOAD_SECONDS: Final = 700.0
"""How long a module may take to come in and be compiled."""
UNHEARD_SECONDS: Final = 60.0
"""How long the rest of a refused module is read, so that its sender hears why: many listen only once all is sent."""
PROJECT: Final = "projects/"
NETWORK: Final = ("admin", "aos")
"""Who speaks for the network; a project of such a name is shown with what it is."""


class TagRequest(BaseModel):
    """The body of a call that sets tags. Unknown members mean nothing, as everywhere in this dialect."""

    model_config = ConfigDict(strict=True)

    module_id: str
    tags: list[str]


class AiciServicer(aici_pb2_grpc.AiciServicer):
    """Calls the Controllers service through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel, clock: Clock) -> None:
        self._controllers = controllers_pb2_grpc.ControllersStub(face)
        self._runs = AiciRuns(face, clock)

    async def CreateController(self, request_iterator: AsyncIterator[HttpBody], context: Context) -> HttpBody:
        upload = _Upload(request_iterator)
        try:
            call: Any = self._controllers.CreateController(upload.parts(), metadata=keyed(context), timeout=UPLOAD_SECONDS)
            made: Controller = await answered(call)
        except Exception as error:
            with suppress(TimeoutError):
                async with asyncio.timeout(UNHEARD_SECONDS):
                    await upload.drain()
            refusal = known(error)
            if upload.size > MODULE_BYTES and not isinstance(refusal, Unauthenticated):
                refusal = TooLarge(upload.size, MODULE_BYTES)
            return await send(context, failure(refusal, op=MODULE))
        return await send(context, Reply(dump(controller_row(made)).encode()))

    async def TagController(self, request: HttpBody, context: Context) -> HttpBody:
        try:
            asked = check(TagRequest, (await read(request)).fields)
            wanted = TagControllerRequest(controller=asked.module_id, tags=asked.tags)
            done = await answered(self._controllers.TagController(wanted, metadata=keyed(context), timeout=CALL_SECONDS))
        except Exception as error:
            return await send(context, failure(known(error), op=SET_TAGS))
        return await send(context, Reply(dump({"tags": [tag_row(one) for one in done.tags]}).encode()))

    async def ListControllers(self, request: aici_pb2.ListControllersRequest, context: Context) -> HttpBody:
        del request
        try:
            rows = [tag_row(one) async for one in self._tags(context)]
        except Exception as error:
            return await send(context, failure(known(error), op=GET_TAGS))
        return await send(context, Reply(dump({"tags": rows}).encode()))

    async def RunController(self, request: HttpBody, context: Context) -> AsyncGenerator[HttpBody]:
        async with aclosing(self._runs.run(request, context)) as parts:
            async for part in parts:
                yield part

    async def _tags(self, context: Context) -> AsyncGenerator[ControllerTag]:
        token, metadata = "", keyed(context)
        while True:
            wanted = ListControllersRequest(page_size=PAGE_MOST, page_token=token)
            page = await answered(self._controllers.ListControllers(wanted, metadata=metadata, timeout=CALL_SECONDS))
            for one in page.tags:
                yield one
            if not (token := page.next_page_token):
                return


class _Upload:
    """A module on its way through: at no time more of it is here than what one message has."""

    def __init__(self, messages: AsyncIterator[HttpBody]) -> None:
        self._messages = messages
        self.size = 0
        """Bytes that have come."""

    async def parts(self) -> AsyncGenerator[CreateControllerRequest]:
        """Yield what comes, in parts that the service takes."""
        async for message in self._messages:
            self.size += len(message.data)
            for start in range(0, len(message.data), SENT_BYTES):
                yield CreateControllerRequest(data=message.data[start : start + SENT_BYTES])

    async def drain(self) -> None:
        """Read the rest, and forget it."""
        async for message in self._messages:
            self.size += len(message.data)


def controller_row(made: Controller) -> dict[str, Any]:
    """Return what the dialect says of a module that was taken in."""
    return {
        "module_id": made.name.removeprefix(PREFIX),
        "wasm_size": made.wasm_size,
        "compiled_size": made.compiled_size,
        "time": made.milliseconds,
    }


def tag_row(tag: ControllerTag) -> dict[str, Any]:
    """Return the dialect's tag."""
    by = tag.updated_by.removeprefix(PROJECT)
    return {
        "tag": tag.tag,
        "module_id": tag.controller.removeprefix(PREFIX),
        "updated_at": tag.updated.seconds,
        "updated_by": tag.updated_by if by in NETWORK else by,
        "wasm_size": tag.wasm_size,
        "compiled_size": tag.compiled_size,
    }
