"""Registry over gRPC: read the request, check the proof, let the core decide inside a transaction, reply."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from aos.clock import Clock
from aos.errors import InvalidField, ModelNotFound, OperatorNotFound, QueueFull
from aos.paging import PAGE_MOST, page_length, page_start, page_token
from aos.registry import catalog, watching
from aos.registry.catalog import Listing, behind
from aos.registry.challenger import Challenger
from aos.registry.challenges import CHALLENGE_SECONDS
from aos.registry.changes import Changes
from aos.registry.leases import Offered, Proof, Registration, register, renew, unregister
from aos.registry.offers import check_offers, check_vrf_key, offer_proto
from aos.registry.operator_log import lapsed, noted, told_left, told_registered
from aos.registry.project_protos import stamp
from aos.registry.project_servicer import ProjectMethods
from aos.registry.replicas import Word
from aos.registry.settings import RegistrySettings
from aos.registry.store import Kept, ProjectStore, RegistryStore
from aos.registry.watching import Shared, Whole, everything
from aos.v1 import registry_pb2 as pb
from aos.v1.attestation_pb2 import Attested
from aos.v1.types_pb2 import Price
from aos.verification.attestation.check import check
from aos.verification.attestation.evidence import Evidence
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.statement import declare
from aos.verification.attestation.wire import evidence_digest, read_attestation, write_attested
from aos.verification.keys import check_proof, digest_offers

SHOWN_MODELS: Final = 20
"""Most models that MODEL_NOT_FOUND names, as far as they fit into an error."""
VERIFYING: Final = 2
"""Most declarations whose evidence is verified at once: anyone may hand some in, and each takes up to 50 ms of a core."""
_OPERATOR: Final = re.compile(r"operators/(0x[0-9A-Fa-f]{40})")


class RegistryServicer(ProjectMethods):
    """The Registry service over its stores."""

    def __init__(
        self,
        store: RegistryStore,
        projects: ProjectStore,
        *,
        settings: RegistrySettings,
        clock: Clock,
        changes: Changes,
        randomness: Callable[[int], bytes],
        challenger: Challenger,
    ) -> None:
        ProjectMethods.__init__(self, projects, settings=settings, clock=clock, changes=changes, randomness=randomness)
        self._store, self._settings, self._clock, self._challenger = store, settings, clock, challenger
        self._shared = Shared()
        self._verifying, self._declarations = asyncio.Semaphore(VERIFYING), 0
        self._lease, self._claim = timedelta(seconds=settings.lease), timedelta(seconds=settings.claim)
        self._memory = timedelta(seconds=settings.forget_after)

    async def ChallengeOperator(self, request: pb.ChallengeOperatorRequest, context: Any) -> pb.OperatorChallenge:
        """Give an operator what its evidence must answer."""
        now = int(self._clock.now().timestamp())
        nonce = await self._challenger.make(request.operator, now=now)
        return pb.OperatorChallenge(nonce=nonce, expires=Timestamp(seconds=now + CHALLENGE_SECONDS))

    async def RegisterOperator(self, request: pb.RegisterOperatorRequest, context: Any) -> pb.OperatorInfo:
        """Begin or replace a registration."""
        offers, vrf_key = check_offers(request.offers), check_vrf_key(request.vrf_key)
        evidence = read_attestation(request.attestation) if request.HasField("attestation") else None
        operator, proof = await self._checked_operator(request.proof, "register", request.offers, vrf_key, evidence)
        now = self._clock.now()
        attested = None if evidence is None else await self._attested(operator, request.tee_nonce, evidence, now)
        await self._store.lapse(now, partial(lapsed, now=now))  # what is forgotten has been noted before
        await self._store.forget(now - self._memory)
        if await self._store.get(operator, since=now - self._memory) is None:
            await self._refuse_if_full()

        def decide(before: Registration | None) -> Kept:
            lease, claim = self._lease, self._claim
            after = register(before, operator, offers, proof, now=now, lease=lease, claim=claim, vrf_key=vrf_key, attested=attested)
            return Kept(after, [*noted(before, now)[1], *told_registered(before, after, now)], news=True)

        registered = await self._store.change(operator, decide, now=now)
        self._changes.tell()
        return await self._info(registered, now)

    async def RenewOperator(self, request: pb.RenewOperatorRequest, context: Any) -> pb.OperatorInfo:
        """Begin a registration's time anew."""
        operator, proof = await self._checked_operator(request.proof, "renew")
        now = self._clock.now()

        def decide(before: Registration | None) -> Kept:
            return Kept(renew(before, operator, proof, now=now, lease=self._lease))

        return await self._info(await self._store.change(operator, decide, now=now), now)

    async def UnregisterOperator(self, request: pb.UnregisterOperatorRequest, context: Any) -> pb.OperatorInfo:
        """End a registration."""
        operator, proof = await self._checked_operator(request.proof, "unregister")
        now = self._clock.now()

        def decide(before: Registration | None) -> Kept:
            known, entries = noted(before, now)
            after = unregister(known, operator, proof, now=now)
            return Kept(after, [*entries, *told_left(after)], news=True)

        ended = await self._store.change(operator, decide, now=now)
        self._changes.tell()
        return await self._info(ended, now)

    async def GetOperator(self, request: pb.GetOperatorRequest, context: Any) -> pb.OperatorInfo:
        """Show one operator."""
        match = _OPERATOR.fullmatch(request.name)
        if match is None:
            raise InvalidField(
                "name", "must be operators/ and an address", value=request.name, limit="operators/0x + 40 hex digits"
            )
        now = self._clock.now()
        found = await self._store.get(match[1].lower(), since=now - self._memory)
        if found is None:
            raise OperatorNotFound(request.name)
        return await self._info(found, now)

    async def ListOperators(self, request: pb.ListOperatorsRequest, context: Any) -> pb.ListOperatorsResponse:
        """Show a page of operators."""
        length, after = page_length(request.page_size), page_start("ListOperators", request.page_token)
        now = self._clock.now()
        # one more than is shown says whether there is a next page
        found = await self._store.page(after=after, limit=length + 1, since=now - self._memory)
        shown = found[:length]
        following = page_token("ListOperators", shown[-1].lease.operator) if len(found) > length else ""
        return pb.ListOperatorsResponse(operators=await self._infos(shown, now), next_page_token=following)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.Model:
        """Show one model."""
        now = self._clock.now()
        since = now - self._memory
        listings = await self._listings([request.name], since)
        if request.name not in listings:
            names = await self._store.models(after="", limit=SHOWN_MODELS, since=since)
            offered = sorted(await self._listings(names, since))
            raise ModelNotFound(request.name, ", ".join(offered))
        return _model(catalog.model(request.name, listings[request.name], now=now, claim=self._claim, policy=self._settings.tee))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """Show a page of models."""
        length, after = page_length(request.page_size), page_start("ListModels", request.page_token)
        version, read = self._changes.version, partial(self._everything, context)
        # everybody asks for it, and while nothing has changed nothing is read
        whole = await self._shared.get(version, self._clock.now(), read, reasons=True)
        models, more = watching.page(whole.models, after, length)
        following = page_token("ListModels", models[-1].name) if more else ""
        return pb.ListModelsResponse(models=models, next_page_token=following)

    async def WatchCatalog(self, request: pb.WatchCatalogRequest, context: Any) -> AsyncGenerator[pb.Catalog]:
        """Send all models and operators, as often as they change."""
        del request
        with self._changes.watched(self._settings.watchers):
            async with aclosing(self._catalog(context)) as parts:
                async for part in parts:
                    yield part

    async def _catalog(self, context: Any) -> AsyncGenerator[pb.Catalog]:
        sent: Sequence[bytes] | None = None
        while True:
            version = self._changes.version
            whole = await self._shared.get(version, self._clock.now(), partial(self._everything, context))
            if whole.looks != sent:
                for part in watching.parts(version, whole.models, whole.operators):
                    yield part
                sent = whole.looks
            if not await self._changes.since(version, whole.until):
                return

    async def _everything(self, context: Any) -> Whole:
        models = await self._models()
        operators = await everything(self.ListOperators, pb.ListOperatorsRequest(page_size=PAGE_MOST), "operators", context)
        return watching.whole(models, operators, self._clock.now(), self._claim)

    async def _models(self) -> list[pb.Model]:
        """Return all models by name."""
        found: list[pb.Model] = []
        now, names = self._clock.now(), [""]
        since, claim, tee = now - self._memory, self._claim, self._settings.tee
        while names:
            names = await self._store.models(after=names[-1], limit=PAGE_MOST, since=since)
            listings = await self._listings(names, since)
            # a model may be forgotten between the two reads
            there = [name for name in names if name in listings]
            found += [_model(catalog.model(name, listings[name], now=now, claim=claim, policy=tee)) for name in there]
        return found

    async def _listings(self, names: Collection[str], since: datetime) -> dict[str, list[Listing]]:
        """Return every offer of these models, but for those by replicas that are not registered any more."""
        found = await self._store.listings(names, since=since)
        states = await self._states(one.offered for listings in found.values() for one in listings)
        kept = {name: [with_word for one in there if (with_word := behind(one, states))] for name, there in found.items()}
        return {name: listings for name, listings in kept.items() if listings}

    async def _states(self, offers: Iterable[Offered]) -> dict[str, Word]:
        ids = {replica for one in offers for replica in one.offer.replicas}
        return await self._projects.words(ids) if ids else {}

    async def _checked_operator(
        self,
        proof: pb.OperatorProof,
        action: str,
        offers: Sequence[pb.Offer] = (),
        vrf_key: bytes = b"",
        evidence: Evidence | None = None,
    ) -> tuple[str, Proof]:
        """Return the operator's address, lower-case, and what its proof says. Raises BadSignature."""
        now, shown = int(self._clock.now().timestamp()), b"" if evidence is None else evidence_digest(evidence)
        # in a thread: recovering a key takes milliseconds. `last` is looked at inside the transaction, by leases.py
        operator = await asyncio.to_thread(
            check_proof, proof, action, list(offers), now=now, last=0, vrf_key=vrf_key, evidence=shown
        )
        says = hashlib.sha256(action.encode() + b"\0" + digest_offers(list(offers), vrf_key, shown)).hexdigest()
        return operator.lower(), Proof(proof.issued_at, says)

    async def _attested(self, operator: str, nonce: bytes, evidence: Evidence, now: datetime) -> Attested:
        """Return what the evidence, which the operator signed, is taken for. Raises InvalidField, BadEvidence or QueueFull."""
        seconds, policy = int(now.timestamp()), self._settings.tee
        await self._challenger.check(nonce, operator, now=seconds)
        policy.admit(evidence.provider)
        if self._declarations >= self._settings.declarations:
            raise QueueFull("declarations", self._settings.declarations)
        self._declarations += 1
        try:
            async with self._verifying:
                # in a thread: signatures and chains take up to 50 ms
                found = await asyncio.to_thread(check, evidence, declare(operator, nonce), policy=policy, now=seconds)
        finally:
            self._declarations -= 1
        return write_attested(found, now=seconds)

    async def _refuse_if_full(self) -> None:
        if await self._store.count() >= self._settings.operators:
            raise QueueFull("operators", self._settings.operators)

    async def _info(self, registration: Registration, now: datetime) -> pb.OperatorInfo:
        return (await self._infos([registration], now))[0]

    async def _infos(self, registrations: Sequence[Registration], now: datetime) -> list[pb.OperatorInfo]:
        names = {one.offer.model for registration in registrations for one in registration.offers}
        listings = await self._listings(names, now - self._memory)
        states = await self._states(one for registration in registrations for one in registration.offers)
        claimants: dict[str, Listing] = {}
        for name, offered in listings.items():
            first = catalog.claimant(offered, now=now, claim=self._claim)
            if first is not None:
                claimants[name] = first
        tee = self._settings.tee
        return [_operator(one, catalog.why_not(one, claimants, now=now, states=states), tee) for one in registrations]


def _operator(registration: Registration, reason: str, policy: Policy) -> pb.OperatorInfo:
    lease = registration.lease
    return pb.OperatorInfo(
        name=f"operators/{lease.operator}",
        offers=[offer_proto(one.offer) for one in registration.offers],
        registered=stamp(lease.registered),
        expires=stamp(lease.ends),
        routable=not reason,
        reason=reason,
        vrf_key=registration.vrf_key,
        vrf_key_since=None if registration.vrf_key_since is None else stamp(registration.vrf_key_since),
        attested=registration.attested if catalog.attested(registration.attested, policy) else None,
    )


def _model(model: catalog.Model) -> pb.Model:
    return pb.Model(
        name=model.name,
        digest=model.digest,
        context_length=model.context_length,
        chat=model.chat,
        price=Price(prompt_token=str(model.prompt_price), completion_token=str(model.completion_price)),
        operators=model.operators,
        routable=bool(model.operators),
        reason=model.reason,
        created=stamp(model.created),
        exact=model.exact,
        embeddings=model.embeddings,
        job_types=model.job_types,
        images=model.images,
        image_edits=model.image_edits,
        controllers=model.controllers,
    )
