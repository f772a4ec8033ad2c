"""What one viewer of the status page is told as it changes: a look at the network each second, with the viewer's credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import grpc

from aos.client import CALL_SECONDS, watch
from aos.clock import Clock, within
from aos.errors import AosError, Unauthenticated
from aos.rpc.auth import Caller, Kind
from aos.rpc.status import answered
from aos.v1 import broker_pb2_grpc, dispatcher_pb2_grpc, registry_pb2_grpc
from aos.v1.broker_pb2 import GetAccountRequest, GetTotalsRequest
from aos.v1.dispatcher_pb2 import ExplainJobRequest, Job, JobState, ListJobsRequest
from aos.v1.registry_pb2 import ListAiProjectsRequest, ListModelsRequest, ListOperatorsRequest
from gateway.http import Metadata, dump
from gateway.status import ACTIVE, Progress, account_row, changed, job_row, model_rows, operator_row, queue_row, totals_row

LOOK_SECONDS: Final = 1.0
"""How often jobs are looked at."""
NETWORK_LOOKS: Final = 3
"""At every so many looks, operators, models and the project's money are looked at, too."""
TOTALS_LOOKS: Final = 15
"""At every so many looks, all money is added up for the administrator, which takes longer the more accounts there are."""
QUIET_LOOKS: Final = 10
"""After so many looks without news a comment is sent, so that nothing between takes the feed for dead."""
LIFE_SECONDS: Final = 300.0
"""How long a feed lasts at most: a page calls again, and a token that was revoked meanwhile is refused."""
JOBS: Final = 25
"""Most jobs that are shown, newest first, besides older ones that have not ended."""
ACTIVE_JOBS: Final = 50
"""Most jobs that are counted as waiting or running."""
FOLLOWED: Final = 8
"""Most running jobs whose text is read as it comes."""
PAGE: Final = 200
"""Most operators, models and AI projects that are shown."""
PING: Final = b": ping\n\n"


class Feed:
    """One viewer's. ``events`` may be read once."""

    def __init__(
        self, face: grpc.aio.Channel, who: Caller, metadata: Metadata, *, clock: Clock, stopping: asyncio.Event, signed_in: bool
    ) -> None:
        self._registry = registry_pb2_grpc.RegistryStub(face)
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)
        self._broker = broker_pb2_grpc.BrokerStub(face)
        self._who, self._metadata, self._clock, self._stopping = who, metadata, clock, stopping
        self._hello = {"project": who.project, "administrator": who.kind is not Kind.PROJECT, "signed_in": signed_in}
        self._followed: dict[str, tuple[Progress, asyncio.Task[None]]] = {}

    async def events(self) -> AsyncGenerator[bytes]:
        """Yield server-sent events: `hello`, then `network`, `ledger` and `jobs`, each whole, whenever it is not what it was.

        A part that cannot be told now is an event `trouble` with why. Ends when the services stop, when the viewer's token is not
        known any more, and after ``LIFE_SECONDS``.
        """
        begun, looks, quiet, before = self._clock.now(), 0, 0, dict[str, str]()
        ledger_looks = NETWORK_LOOKS if self._who.kind is Kind.PROJECT else TOTALS_LOOKS
        try:
            yield changed({"hello": dump(self._hello | {"now": begun.timestamp()})}, {})
            while not self._stopping.is_set() and (self._clock.now() - begun).total_seconds() < LIFE_SECONDS:
                parts = await self._look(network=looks % NETWORK_LOOKS == 0, ledger=looks % ledger_looks == 0)
                news = changed(parts, before)
                before |= parts
                looks, quiet = looks + 1, 0 if news else quiet + 1
                if news or quiet % QUIET_LOOKS == 0:
                    yield news or PING
                with suppress(TimeoutError):
                    await within(self._clock, LOOK_SECONDS, self._stopping.wait())
        except Unauthenticated:
            return  # who calls again is told
        finally:
            await self._follow(())

    async def _look(self, *, network: bool, ledger: bool) -> dict[str, str]:
        wanted: dict[str, Awaitable[dict[str, Any]]] = {"jobs": self._jobs()}
        if network:
            wanted["network"] = self._network()
        if ledger:
            wanted["ledger"] = self._ledger()
        found = await asyncio.gather(*wanted.values(), return_exceptions=True)
        parts, troubles = dict[str, str](), dict[str, str]()
        for name, part in zip(wanted, found, strict=True):
            if isinstance(part, Unauthenticated):
                raise part
            if isinstance(part, AosError):
                troubles[name] = part.message
            elif isinstance(part, grpc.aio.AioRpcError):
                troubles[name] = part.details() or "The service does not answer."
            elif isinstance(part, BaseException):
                raise part
            else:
                parts[name] = dump(part)
        return parts | {"trouble": dump(troubles)}

    async def _network(self) -> dict[str, Any]:
        registry, metadata = self._registry, self._metadata
        operators, models, projects = await asyncio.gather(
            answered(registry.ListOperators(ListOperatorsRequest(page_size=PAGE), metadata=metadata, timeout=CALL_SECONDS)),
            answered(registry.ListModels(ListModelsRequest(page_size=PAGE), metadata=metadata, timeout=CALL_SECONDS)),
            answered(registry.ListAiProjects(ListAiProjectsRequest(page_size=PAGE), metadata=metadata, timeout=CALL_SECONDS)),
        )
        more = operators.next_page_token or models.next_page_token or projects.next_page_token
        return {
            "operators": [operator_row(one) for one in operators.operators],
            "models": model_rows(models.models, projects.projects),
            "more": bool(more),
        }

    async def _ledger(self) -> dict[str, Any]:
        if self._who.kind is Kind.PROJECT:
            own = GetAccountRequest(name="accounts/-")
            return account_row(await answered(self._broker.GetAccount(own, metadata=self._metadata, timeout=CALL_SECONDS)))
        return totals_row(await answered(self._broker.GetTotals(GetTotalsRequest(), metadata=self._metadata, timeout=CALL_SECONDS)))

    async def _jobs(self) -> dict[str, Any]:
        newest, active = await asyncio.gather(
            answered(self._dispatcher.ListJobs(ListJobsRequest(page_size=JOBS), metadata=self._metadata, timeout=CALL_SECONDS)),
            answered(
                self._dispatcher.ListJobs(
                    ListJobsRequest(page_size=ACTIVE_JOBS, states=ACTIVE), metadata=self._metadata, timeout=CALL_SECONDS
                )
            ),
        )
        now = self._clock.now()
        # those only that were followed before: what had come by the time that reading began would count as fast
        for progress, _ in self._followed.values():
            progress.pace.saw(now, progress.tokens)
        await self._follow([job for job in active.jobs if job.state == JobState.JOB_STATE_RUNNING][:FOLLOWED])
        listed = {job.name for job in newest.jobs}
        older = [job for job in active.jobs if job.name not in listed]
        rows = [job_row(job, self._progress(job)) for job in (*newest.jobs, *older)]
        queued = [job for job in active.jobs if job.state == JobState.JOB_STATE_QUEUED]
        return {
            "jobs": rows,
            "queue": queue_row(active.jobs, more=bool(active.next_page_token), explained=await self._why(queued)),
            "rate": round(sum(row["rate"] or 0.0 for row in rows if row["state"] == "running"), 1),
        }

    async def _why(self, queued: Sequence[Job]) -> Any:
        """Return why the oldest of these jobs waits; None if there is none, or it waits no more."""
        if not queued:
            return None
        asked = ExplainJobRequest(name=queued[-1].name)
        with suppress(AosError):
            return await answered(self._dispatcher.ExplainJob(asked, metadata=self._metadata, timeout=CALL_SECONDS))
        return None

    def _progress(self, job: Job) -> Progress | None:
        found = self._followed.get(job.name)
        return found[0] if found is not None else None

    async def _follow(self, jobs: Sequence[Job]) -> None:
        """Read what comes of these jobs from now on, and of no others."""
        names = {job.name for job in jobs}
        gone = [self._followed.pop(name)[1] for name in self._followed.keys() - names]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for name in names - self._followed.keys():
            progress = Progress()
            self._followed[name] = progress, asyncio.create_task(self._read(name, progress))

    async def _read(self, name: str, progress: Progress) -> None:
        with suppress(AosError, grpc.aio.AioRpcError):  # the list of jobs says how it goes on
            async with aclosing(watch(self._dispatcher, name, clock=self._clock, metadata=self._metadata)) as events:
                async for event in events:
                    if event.HasField("chunk"):
                        progress.add(len(event.chunk.tokens), event.chunk.text)
