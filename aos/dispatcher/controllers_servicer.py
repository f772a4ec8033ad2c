"""Controllers over gRPC: read the request, let the keeper decide, reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from aos.clock import Clock
from aos.controller_names import TAGS_AT_ONCE, check_tag, name_of, read_digest
from aos.dispatcher.controller_rules import ADMIN, KeptTag, Module, check_names
from aos.dispatcher.controllers import Controllers
from aos.dispatcher.limits import ProjectLimits
from aos.dispatcher.quotas import Requests
from aos.errors import ServiceUnavailable
from aos.paging import page_length, page_start_number, page_token
from aos.rpc.auth import Kind, caller
from aos.v1 import controllers_pb2 as pb
from aos.v1 import controllers_pb2_grpc

SHOWN_TAGS: Final = 100
"""Most tags that are shown with one controller."""


class Runs(Protocol):
    """Runs controllers; aos/dispatcher/controller_runs.py."""

    def RunController(self, request: pb.RunControllerRequest, context: Any) -> AsyncGenerator[pb.RunControllerResponse]:
        """Make a job and stream its events."""
        ...


class ControllersServicer(controllers_pb2_grpc.ControllersServicer):
    """The Controllers service. Made by aos.dispatcher.node."""

    def __init__(self, controllers: Controllers, limits: ProjectLimits, *, runs: Runs | None, clock: Clock) -> None:
        """``limits`` say how often a project may ask for something that is kept; without ``runs``, nothing is run here."""
        self._controllers, self._limits, self._runs, self._clock = controllers, limits, runs, clock
        self._requests = Requests()

    async def CreateController(self, request_iterator: AsyncIterator[pb.CreateControllerRequest], context: Any) -> pb.Controller:
        """Take in a module."""
        owner, time = await self._owner(), asyncio.get_running_loop().time
        began = time()
        module = await self._controllers.create(owner, _data(request_iterator))
        shown = await self._shown(module)
        shown.milliseconds = max(1, round(1000 * (time() - began)))
        return shown

    async def GetController(self, request: pb.GetControllerRequest, context: Any) -> pb.Controller:
        """Show one controller."""
        digest = await self._controllers.resolve(request.name, "name")
        return await self._shown(await self._controllers.store.get(digest))

    async def ListControllers(self, request: pb.ListControllersRequest, context: Any) -> pb.ListControllersResponse:
        """Show a page of tags."""
        length, before = page_length(request.page_size), page_start_number("ListControllers", request.page_token)
        # one more than is shown says whether there is a next page
        found = await self._controllers.store.tags(before=before or None, limit=length + 1)
        shown = found[:length]
        following = page_token("ListControllers", str(shown[-1].number)) if len(found) > length else ""
        return pb.ListControllersResponse(tags=[_tag(one) for one in shown], next_page_token=following)

    async def TagController(self, request: pb.TagControllerRequest, context: Any) -> pb.TagControllerResponse:
        """Let tags stand for a controller."""
        owner, digest = await self._owner(), read_digest(request.controller, "controller")
        names = [check_tag(name, f"tags[{index}]") for index, name in enumerate(check_names(request.tags, TAGS_AT_ONCE))]
        return pb.TagControllerResponse(tags=[_tag(one) for one in await self._controllers.tag(owner, digest, names)])

    async def DeleteController(self, request: pb.DeleteControllerRequest, context: Any) -> pb.DeleteControllerResponse:
        """Let a controller go."""
        owner, digest = await self._owner(), read_digest(request.name, "name")
        return pb.DeleteControllerResponse(deleted=await self._controllers.delete(owner, digest))

    async def ReadController(self, request: pb.ReadControllerRequest, context: Any) -> AsyncGenerator[pb.ControllerPart]:
        """Send a module."""
        async with aclosing(self._controllers.read(read_digest(request.name, "name"))) as parts:
            async for part in parts:
                yield pb.ControllerPart(data=part)

    async def RunController(self, request: pb.RunControllerRequest, context: Any) -> AsyncGenerator[pb.RunControllerResponse]:
        """Run a controller."""
        if self._runs is None:
            raise ServiceUnavailable("dispatcher")
        async with aclosing(self._runs.RunController(request, context)) as events:
            async for event in events:
                yield event

    async def _owner(self) -> str:
        """Return as whom the caller keeps things. Raises QuotaExceeded for a project that asks too often."""
        who = caller()
        if who.kind is not Kind.PROJECT:
            return ADMIN
        limits = await self._limits.of(who.project)
        self._requests.take(who.project, self._clock.now(), per_minute=limits.requests_per_minute)
        return who.project

    async def _shown(self, module: Module) -> pb.Controller:
        tags = await self._controllers.store.tags_of(module.digest, limit=SHOWN_TAGS)
        return _controller(module, tags)


async def _data(messages: AsyncIterator[pb.CreateControllerRequest]) -> AsyncGenerator[bytes]:
    async for message in messages:
        yield message.data


def _controller(module: Module, tags: Sequence[str]) -> pb.Controller:
    shown = pb.Controller(name=name_of(module.digest), abi=module.abi, tags=tags)
    shown.wasm_size, shown.compiled_size = module.wasm_size, module.compiled_size
    shown.created.FromDatetime(module.created)
    return shown


def _tag(kept: KeptTag) -> pb.ControllerTag:
    updated = Timestamp()
    updated.FromDatetime(kept.tag.updated)
    return pb.ControllerTag(
        tag=kept.tag.name,
        controller=name_of(kept.tag.digest),
        updated=updated,
        updated_by=kept.tag.updated_by,
        wasm_size=kept.module.wasm_size,
        compiled_size=kept.module.compiled_size,
    )
