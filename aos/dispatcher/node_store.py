"""What dispatchers on one database know of each other, and where that lives. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from aos.dispatcher.checks import CheckKey
from aos.dispatcher.presence import NodeRow, There
from aos.dispatcher.store import Waiting


class NodeStore(Protocol):
    """The dispatchers of one database: who is there, which operators each has, who does what must not be done twice."""

    async def held(self, node: str) -> NodeRow | None:
        """Return who has the name and may be another process; None: it is free, or nobody else can use the database."""
        ...

    async def claim(self, node: str, holder: str, *, instead_of: NodeRow | None) -> bool:
        """Take the name, from nobody or from the one that was seen; False if somebody else has it by now."""
        ...

    async def beat(self, node: str, holder: str) -> bool:
        """Say that one is there, again if others had given one up; False if another has the name."""
        ...

    async def nodes(self) -> Sequence[NodeRow]:
        """Return the dispatchers that are there."""
        ...

    async def give_up(self, row: NodeRow) -> bool:
        """Take a silent dispatcher for gone; False if it said something since."""
        ...

    async def release(self, node: str, holder: str) -> None:
        """Leave: what one has is the others' from now on."""
        ...

    async def attach(self, there: There) -> int:
        """Keep that an operator has a stream here, and nowhere else any more; return its version."""
        ...

    async def detach(self, operator: str, version: int) -> None:
        """Keep that the stream ended. Does nothing if there is a later one."""
        ...

    async def describe(self, there: There) -> None:
        """Keep what the operator's stream of this version offers now."""
        ...

    async def attachments(self) -> Sequence[There]:
        """Return all operators' streams with dispatchers that are there."""
        ...

    async def attachment(self, operator: str) -> There | None:
        """Return an operator's stream, if a dispatcher that is there has it."""
        ...

    async def take_check(self, key: CheckKey, node: str) -> bool:
        """Take a check upon oneself; False if another dispatcher does it."""
        ...

    async def leave_check(self, key: CheckKey, node: str) -> None:
        """Leave a check to whoever takes it next. Does nothing if another has it."""
        ...

    async def queued(self, *, after: int, limit: int) -> Sequence[tuple[int, str]]:
        """Return number and id of jobs that wait for an operator, those behind ``after``, oldest first."""
        ...

    async def waiting(self, job_ids: Collection[str]) -> Sequence[Waiting]:
        """Return those of the jobs that wait for an operator."""
        ...

    async def last(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Return the sequence of each job's last event."""
        ...
