"""The servers of one registered model: which one gets an order, and what happens when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from aos.errors import AnswerBroken, AosError, ModelUnsuitable, QueueFull
from aos.operator.probing import Prober
from aos.operator.rendering import PROMPT_TOKENS
from aos.operator.upstream import Answered, Upstream
from aos.operator.upstream_pictures import PictureServer, check_order
from aos.operator.upstream_server import Fault
from aos.v1.types_pb2 import Order, Picture


@dataclass(slots=True)
class Member:
    """One server, and what is known of it."""

    id: str
    """The replica's, as the registry made it."""
    upstream: Upstream | PictureServer
    prober: Prober
    draining: bool = False
    """Whether it gets no new requests."""
    lacking: str = ""
    """What essential it lacks, as its check found; empty if nothing."""
    found: tuple[str, ...] = ()
    """What it can do, as its check found."""

    @property
    def usable(self) -> bool:
        """Whether it may get requests."""
        return self.prober.health.usable and not self.draining and not self.lacking

    @property
    def capabilities(self) -> list[str]:
        """What it can do, in the words of the registry."""
        return list(dict.fromkeys([*self.upstream.capabilities, *self.found]))

    @property
    def pictures(self) -> bool:
        """Whether it makes pictures or changes them, rather than texts."""
        return isinstance(self.upstream, PictureServer)


@dataclass(slots=True)
class Group:
    """The servers of one model: all of texts, or all of pictures. Orders go to the one with the fewest running."""

    model: str
    members: list[Member] = field(default_factory=list[Member])

    @property
    def usable(self) -> Sequence[Member]:
        """Those that may get requests."""
        return [one for one in self.members if one.usable]

    @property
    def staying(self) -> Sequence[Member]:
        """Those that are not being drained."""
        return [one for one in self.members if not one.draining]

    @property
    def pictures(self) -> bool:
        """Whether they make pictures or change them, rather than texts."""
        return any(one.pictures for one in self.members)

    @property
    def context(self) -> int:
        """Most tokens that any of them takes, of prompt and answer together; for pictures, what the longest prompt counts as."""
        return PROMPT_TOKENS if self.pictures else min((one.upstream.context for one in self.staying), default=0)

    async def generate(self, order: Order, *, seconds: float | None = None) -> AsyncGenerator[str | Answered]:
        """Stream an answer; where one server fails before it has said anything, the next one is asked.

        Raises what Upstream.generate raises, of the last one, and AnswerBroken for a failure in mid-answer.
        """
        if self.pictures:
            raise ModelUnsuitable(self.model, "text: it makes pictures")
        left = [(one, one.upstream) for one in self.usable if isinstance(one.upstream, Upstream)]
        last: AosError = self._nobody()
        while left:
            member, upstream = min(left, key=lambda one: (one[1].running, one[0].id))
            left.remove((member, upstream))
            begun = False
            try:
                async with aclosing(upstream.generate(order, seconds=seconds)) as said:
                    async for one in said:
                        begun = True
                        if isinstance(one, Answered):
                            member.prober.served()
                        yield one
            except Fault as fault:
                member.prober.failed(fault)
                if begun:
                    raise AnswerBroken(self.model, fault.problem) from fault
                last = fault
            except QueueFull as full:
                last = full
            else:
                return
        raise last

    async def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of an order's input; where one server fails, the next one is asked.

        Raises what Upstream.tokenise raises, of the last one.
        """
        left = [(one, one.upstream) for one in self.usable if isinstance(one.upstream, Upstream)]
        last: AosError = ModelUnsuitable(self.model, "tokens of text") if self.pictures else self._nobody()
        while left:
            member, upstream = min(left, key=lambda one: (one[1].running, one[0].id))
            left.remove((member, upstream))
            try:
                return await upstream.tokenise(order)
            except (Fault, QueueFull) as error:  # its answers say how well it works, not this
                last = error
        raise last

    async def draw(self, order: Order, *, seconds: float | None = None) -> AsyncGenerator[Picture]:
        """Yield an order's pictures one by one; where one server fails, the next one is asked for that picture.

        Raises what PictureServer.draw raises, of the last one, and AnswerBroken for a failure of all after the first picture.
        """
        check_order(order)
        due = None if seconds is None else asyncio.get_running_loop().time() + seconds
        for index in range(max(1, order.picture.count)):
            try:
                yield await self._drawn(order, index, due, seconds)
            except (Fault, QueueFull) as error:
                if not index:
                    raise
                raise AnswerBroken(self.model, error.problem if isinstance(error, Fault) else error.message) from error

    async def _drawn(self, order: Order, index: int, due: float | None, seconds: float | None) -> Picture:
        edits = bool(order.picture.sources)
        theirs = [(one, one.upstream) for one in self.members if isinstance(one.upstream, PictureServer)]
        if not any(server.edits == edits for _, server in theirs):
            raise ModelUnsuitable(self.model, "edits of pictures" if edits else "pictures: it only changes them")
        left = [(one, server) for one, server in theirs if one.usable and server.edits == edits]
        last: AosError = self._nobody()
        while left:
            member, server = min(left, key=lambda one: (one[1].running, one[0].id))
            left.remove((member, server))
            try:
                picture = await server.draw(order, index, due=due, seconds=seconds)
            except Fault as fault:
                member.prober.failed(fault)
                last = fault
            except QueueFull as full:
                last = full
            else:
                member.prober.served()
                return picture
        raise last

    def _nobody(self) -> Fault:
        return Fault(self.model, "none of its servers can be used now")
