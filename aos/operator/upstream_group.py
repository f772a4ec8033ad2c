"""The servers of one registered model: which one gets an order, and what happens when it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from aos.errors import AnswerBroken, AosError, QueueFull
from aos.operator.probing import Prober
from aos.operator.upstream import Answered, Fault, Upstream
from aos.v1.types_pb2 import Order


@dataclass(slots=True)
class Member:
    """One server, and what is known of it."""

    id: str
    """The replica's, as the registry made it."""
    upstream: Upstream
    prober: Prober
    draining: bool = False
    """Whether it gets no new requests."""

    @property
    def usable(self) -> bool:
        """Whether it may get requests."""
        return self.prober.health.usable and not self.draining


@dataclass(slots=True)
class Group:
    """The servers of one model. Orders go to the one with the fewest running."""

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

    async def generate(self, order: Order, *, seconds: float | None = None) -> AsyncGenerator[str | Answered]:
        """Stream an answer; where one server fails before it has said anything, the next one is asked.

        Raises what Upstream.generate raises, of the last one, and AnswerBroken for a failure in mid-answer.
        """
        left, failure = list(self.usable), Fault(self.model, "none of its servers can be used now")
        last: AosError = failure
        while left:
            member = min(left, key=lambda one: (one.upstream.running, one.id))
            left.remove(member)
            begun = False
            try:
                async with aclosing(member.upstream.generate(order, seconds=seconds)) as said:
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
