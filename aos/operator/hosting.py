"""The model servers that are registered behind an operator: followed, opened, watched, reported, offered, and let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc
import httpx

from aos.clock import Clock
from aos.errors import AosError
from aos.fetch import Unreachable
from aos.operator.backoff import Backoff
from aos.operator.conforming import CHECKS, Conforming
from aos.operator.hosting_reports import REASON_CHARS, report_of
from aos.operator.offering import Offers
from aos.operator.probing import Prober
from aos.operator.upstream import Upstream, open_upstream
from aos.operator.upstream_group import Group, Member
from aos.operator.upstream_health import Probed, untold
from aos.operator.upstream_pictures import PictureServer, open_pictures
from aos.operator.upstream_settings import UpstreamSettings
from aos.rpc.status import from_rpc_error
from aos.v1.registry_pb2 import (
    ModelKind,
    Offer,
    ProjectSet,
    Replica,
    ReplicaReport,
    ReplicaState,
    ReportReplicasRequest,
    ReportReplicasResponse,
    WatchProjectsRequest,
)
from aos.v1.registry_pb2_grpc import RegistryStub
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey
from aos.verification.projects import prove_request
from aos.verification.upstream import name_digest

CALL_SECONDS: Final = 10.0
"""How long the registry may take with one report."""
OFFERS: Final = 64
"""Most models that one operator offers, its own included; the registry takes no more."""
AGAIN_SECONDS: Final = 1.0
"""Between two reports that the registry takes for one, because they say the same in the same second."""
PICTURES: Final = (ModelKind.MODEL_KIND_IMAGE, ModelKind.MODEL_KIND_IMAGE_EDIT)
"""Kinds of servers of pictures."""
GONE: Final = "it is not registered any more"

log = logging.getLogger(__name__)

Told = Callable[[Offers], Awaitable[None]]
"""Tells the network what is offered of the models behind the operator."""


@dataclass(slots=True)
class _Hosted:
    replica: Replica
    member: Member
    looking: list[asyncio.Task[None]]
    """That ask it how it is, and what it can do."""


class Hosting:
    """Hosts what the registry says it is to host. An async context manager; leaving it ends all answers that still run."""

    def __init__(
        self,
        key: OperatorKey,
        registry: grpc.aio.Channel,
        client: httpx.AsyncClient,
        *,
        settings: UpstreamSettings,
        own: Collection[str],
        price: Price,
        clock: Clock,
        random: Callable[[], float],
        unaddressed: bool = False,
        probed: Probed = untold,
    ) -> None:
        """``own`` are the models that the operator runs itself. ``random`` gives numbers in [0, 1).

        With ``unaddressed``, what was registered without a proof is hosted, too: for an operator on the registry's own machine.
        ``probed`` is told of each look at a server.
        """
        self._key, self._client, self._settings, self._own = key, client, settings, frozenset(own)
        self._price, self._clock, self._random, self._unaddressed = price, clock, random, unaddressed
        # whoever may register a server may have this machine call its own ports
        self._owners = {key.address.lower(), *(one.lower() for one in settings.owners), *([""] if unaddressed else [])}
        self._probed = probed
        self._stub: Any = RegistryStub(registry)
        self._groups: dict[str, Group] = {}
        self._hosted: dict[str, _Hosted] = {}
        self._refused: dict[str, str] = {}
        self._drained = set[str]()
        """Replicas that are being drained and were never opened here."""
        self._proven = set[str]()
        """Models that have had a server that may be used."""
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Semaphore(CHECKS)
        self._offer, self._report = asyncio.Event(), asyncio.Event()
        self._last = (0, b"")
        """The last report: when it was signed, and what it said."""

    def group(self, model: str) -> Group | None:
        """Return the servers of a model; None if none is registered."""
        return self._groups.get(model)

    def groups(self) -> list[Group]:
        """Return the servers of every model, in the order of the models' names."""
        return [group for _, group in sorted(self._groups.items())]

    def offers(self) -> Offers:
        """Return what is offered of the models behind the operator."""
        for group in self._groups.values():
            if group.usable:
                self._proven.add(group.model)
        # one whose servers are all down stays registered: the registry knows from the reports that it is not to be used, and why
        there = [group for model, group in sorted(self._groups.items()) if model in self._proven and group.staying]
        return Offers(
            registered=[self._offered(group, len(group.staying)) for group in there],
            usable=[self._offered(group, len(group.usable)) for group in there if group.usable],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        for identity in list(self._hosted):
            await self._drop(identity, "the operator is shutting down")

    def start(self, told: Told) -> None:
        """Begin to host; ``told`` is called whenever the offers have changed, and cancelled if they do again before it is done."""
        self._tasks = [asyncio.create_task(one) for one in (self._follow(), self._tell(told), self._keep_reporting())]

    async def stop(self) -> None:
        """Host, report and offer nothing more; answers that run go on. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        """Do as the registry says, for ever; while it does not answer, go on as it said last."""
        backoff = Backoff(self._random)
        request = WatchProjectsRequest(operator=self._key.address, unaddressed=self._unaddressed)
        while True:
            now = int(self._clock.now().timestamp())
            request.proof.CopyFrom(await asyncio.to_thread(prove_request, self._key, request, issued_at=now))
            try:
                async for wanted in self._stub.WatchProjects(request):
                    backoff.reset()
                    await self._host(wanted)
            except grpc.aio.AioRpcError as error:
                log.info("the registry does not say what to host, trying again: %s", from_rpc_error(error) or error.details())
            except Exception:  # a bug in one attempt: the next may do better, and the operator stays
                log.exception("following the registry failed")
            await backoff.pause()

    async def _host(self, wanted: ProjectSet) -> None:
        """Have these replicas and no others."""
        replicas = {one.id: one for one in wanted.replicas}
        for identity, hosted in list(self._hosted.items()):
            new = replicas.get(identity)
            if new is None or _called(new) != _called(hosted.replica):
                await self._drop(identity, GONE)
        self._refused = {identity: why for identity, why in self._refused.items() if identity in replicas}
        self._drained = set[str]()
        for identity, replica in replicas.items():
            draining = replica.state == ReplicaState.REPLICA_STATE_DRAINING
            if identity in self._hosted:
                self._hosted[identity].member.draining = draining
            elif draining:  # nothing of it runs here
                self._refused.pop(identity, None)
                self._drained.add(identity)
            else:
                await self._open(replica)
        self._changed()

    async def _open(self, replica: Replica) -> None:
        why = self._why_not(replica)
        if not why:
            try:
                upstream = await self._opened(replica)
            except AosError as error:
                why = error.message
            except Unreachable as error:
                why = str(error)
            else:
                self._look_at(replica, upstream)
                return
        if self._refused.get(replica.id) != why:
            log.warning("%s at %s is not hosted: %s", replica.model, replica.api, why)
        self._refused[replica.id] = why

    async def _opened(self, replica: Replica) -> Upstream | PictureServer:
        """Return the server. Raises AosError or Unreachable."""
        model, api, address = replica.model, replica.api, replica.address
        if replica.kind in PICTURES:
            edits = replica.kind == ModelKind.MODEL_KIND_IMAGE_EDIT
            return await open_pictures(self._client, model, api, self._settings, edits=edits, address=address)
        return await open_upstream(self._client, model, api, self._settings, address=address)

    def _look_at(self, replica: Replica, upstream: Upstream | PictureServer) -> None:
        def changed() -> None:
            conforming.stir()
            self._changed()

        settings, clock = self._settings, self._clock
        prober = Prober(upstream, settings=settings, clock=clock, random=self._random, changed=changed, probed=self._probed)
        member = Member(replica.id, upstream, prober)
        conforming = Conforming(member, self._client, settings=settings, clock=clock, turn=self._turn, changed=self._changed)
        looking = [asyncio.create_task(prober.run()), asyncio.create_task(conforming.run())]
        self._hosted[replica.id] = _Hosted(replica, member, looking)
        self._groups.setdefault(replica.model, Group(replica.model)).members.append(member)
        self._refused.pop(replica.id, None)

    def _why_not(self, replica: Replica) -> str:
        group, pictures = self._groups.get(replica.model), replica.kind in PICTURES
        if group is not None and group.pictures != pictures:
            return f"other servers of this model make {'texts' if pictures else 'pictures'}"
        if replica.owner not in self._owners:
            return f"{replica.owner or 'nobody'} registered it, for whom this operator hosts nothing"
        if replica.model in self._own:
            return "this operator runs a model of that name itself"
        if len(self._hosted) >= self._settings.servers:
            return f"this operator hosts at most {self._settings.servers} servers"
        if replica.model not in self._groups and len(self._groups) + len(self._own) >= OFFERS:
            return f"an operator offers at most {OFFERS} models"
        return ""

    async def _drop(self, identity: str, why: str) -> None:
        """Let a server go: its answers end now."""
        hosted = self._hosted.pop(identity)
        group = self._groups[hosted.replica.model]
        group.members.remove(hosted.member)
        if not group.members:
            del self._groups[group.model]
            self._proven.discard(group.model)
        hosted.member.upstream.cut(why)
        for task in hosted.looking:
            task.cancel()
        await asyncio.gather(*hosted.looking, return_exceptions=True)

    def _changed(self) -> None:
        self._offer.set()
        self._report.set()

    def _offered(self, group: Group, servers: int) -> Offer:
        offer = Offer(
            model=group.model,
            digest=name_digest(group.model).hex(),
            context_length=group.context,
            chat=not group.pictures,
            price=self._price,
            slots=self._settings.slots * servers,
            replicas=sorted(one.id for one in group.staying),
        )
        for one in group.usable or group.staying:
            if isinstance(one.upstream, PictureServer):
                offer.image_edits |= one.upstream.edits
                offer.images |= not one.upstream.edits
        return offer

    async def _tell(self, told: Told) -> None:
        last, telling = Offers([], []), asyncio.create_task(_nothing())
        try:
            while True:
                await self._offer.wait()
                self._offer.clear()
                if (offers := self.offers()) != last:
                    last = offers
                    # whoever is not there to be told the last must not keep others from being told this
                    await _ended(telling)
                    telling = asyncio.create_task(_logged(told, offers))
        finally:
            await _ended(telling)

    async def _keep_reporting(self) -> None:
        """Report at once what changes, and everything at least three times a lease."""
        backoff, pause = Backoff(self._random), self._settings.probe_seconds
        while True:
            await self._wait(pause)
            if not (self._hosted or self._refused or self._drained):
                continue
            try:
                reply = await self._send()
            except grpc.aio.AioRpcError as error:
                log.warning(
                    "the registry does not take how replicas are, trying again: %s", from_rpc_error(error) or error.details()
                )
                self._report.set()
                await backoff.pause()
                continue
            except Exception:
                log.exception("reporting failed")
                await backoff.pause()
                continue
            backoff.reset()
            if reply is None:
                pause = AGAIN_SECONDS
                continue
            for identity in set(reply.gone) & set(self._hosted):
                await self._drop(identity, GONE)
                self._offer.set()
            left = (reply.expires.ToDatetime(self._clock.now().tzinfo) - self._clock.now()).total_seconds()
            pause = max(AGAIN_SECONDS, min(left / 3, self._settings.probe_seconds))

    async def _send(self) -> ReportReplicasResponse | None:
        """Report; None if the same was reported in this very second."""
        request = ReportReplicasRequest(reports=self._reports())
        now, said = int(self._clock.now().timestamp()), request.SerializeToString(deterministic=True)
        if (now, said) == self._last:
            return None
        request.proof.CopyFrom(await asyncio.to_thread(prove_request, self._key, request, issued_at=now))
        reply = await self._stub.ReportReplicas(request, timeout=CALL_SECONDS)
        self._last = (now, said)
        return reply

    def _reports(self) -> list[ReplicaReport]:
        refused, drained = ReplicaState.REPLICA_STATE_REFUSED, ReplicaState.REPLICA_STATE_DRAINING
        reports = [ReplicaReport(id=one, state=refused, reason=why[:REASON_CHARS]) for one, why in sorted(self._refused.items())]
        reports += [ReplicaReport(id=one, state=drained) for one in sorted(self._drained)]
        reports += [report_of(hosted.member) for _, hosted in sorted(self._hosted.items())]
        return reports

    async def _wait(self, seconds: float) -> None:
        """Wait until it is time to report, or there is something new."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._report.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._report.clear()


def _called(replica: Replica) -> tuple[str, str, str, bool, bool]:
    """Return what decides how its server is called."""
    edits = replica.kind == ModelKind.MODEL_KIND_IMAGE_EDIT
    return replica.api, replica.address, replica.model, replica.kind in PICTURES, edits


async def _nothing() -> None:
    """Have nothing to do."""


async def _logged(told: Told, offers: Offers) -> None:
    try:
        await told(offers)
    except Exception:  # a bug; the next change may be told
        log.exception("telling what is offered failed")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
