"""The operator's lease in the Registry: taken, renewed, taken again when it lapsed, given up at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc

from aos.clock import Clock
from aos.errors import AosError, LeaseExpired, OperatorNotFound
from aos.operator.backoff import Backoff
from aos.operator.tee import Tee
from aos.rpc.status import from_rpc_error
from aos.v1.registry_pb2 import (
    ChallengeOperatorRequest,
    Offer,
    OperatorInfo,
    OperatorProof,
    RegisterOperatorRequest,
    RenewOperatorRequest,
    UnregisterOperatorRequest,
)
from aos.v1.registry_pb2_grpc import RegistryStub
from aos.verification.attestation.statement import declare
from aos.verification.attestation.wire import evidence_digest, write_attestation
from aos.verification.keys import OperatorKey, prove

CALL_SECONDS: Final = 10.0
"""How long the registry may take with one call."""
SHORTEST_SECONDS: Final = 0.05
"""Between two renewals, however short the lease."""

log = logging.getLogger(__name__)


class Registration:
    """Keeps the operator's offers in the Registry."""

    def __init__(
        self,
        key: OperatorKey,
        offers: Sequence[Offer],
        registry: grpc.aio.Channel,
        *,
        clock: Clock,
        random: Callable[[], float],
        vrf_key: bytes = b"",
        tee: Tee | None = None,
    ) -> None:
        """``vrf_key`` is the public one; without it the operator is never drawn. With ``tee``, its key is declared as attested."""
        self._key, self._offers, self._clock, self._vrf_key, self._tee = key, list(offers), clock, vrf_key, tee
        self._stub: Any = RegistryStub(registry)
        self._backoff = Backoff(random)
        self._registered, self._lapsed = asyncio.Event(), asyncio.Event()
        self._known = list(offers)
        """What was registered last."""
        self._told = asyncio.Condition()

    async def change(self, offers: Sequence[Offer]) -> None:
        """Offer these from now on; return once they are registered. Put a timeout around it: the registry may not be there."""
        if self._known == self._offers == list(offers):
            return
        self._offers = list(offers)
        self._lapsed.set()
        async with self._told:
            await self._told.wait_for(lambda: self._known == self._offers)

    async def registered(self) -> None:
        """Return once the operator is registered."""
        await self._registered.wait()

    def lapsed(self) -> None:
        """Note that someone says it is not: register again now."""
        self._registered.clear()
        self._lapsed.set()

    async def run(self) -> None:
        """Register, and renew at a third of the lease, until cancelled."""
        while True:
            try:
                same = self._registered.is_set() and self._known == self._offers
                info = await (self._renew() if same else self._register())
            except (LeaseExpired, OperatorNotFound):
                log.warning("the registration lapsed; registering again")
                self.lapsed()
                continue
            except (grpc.aio.AioRpcError, AosError) as error:
                refusal = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error
                log.warning("the registry does not take the operator, trying again: %s", refusal or error)
                await self._backoff.pause()
                continue
            except Exception:  # a bug in one attempt: the next may do better, and the operator stays
                log.exception("registering failed")
                await self._backoff.pause()
                continue
            self._backoff.reset()
            if self._known == self._offers:  # else they were changed meanwhile
                self._lapsed.clear()
            self._registered.set()
            async with self._told:
                self._told.notify_all()
            left = (info.expires.ToDatetime(self._clock.now().tzinfo) - self._clock.now()).total_seconds()
            await self._sleep(max(left / 3, SHORTEST_SECONDS))

    async def stop(self) -> None:
        """Unregister, so that no more jobs come. Does nothing if the registry does not answer: the lease ends by itself."""
        if self._registered.is_set():
            with suppress(grpc.aio.AioRpcError, TimeoutError):
                proof = await self._prove("unregister", [])
                await self._stub.UnregisterOperator(UnregisterOperatorRequest(proof=proof), timeout=CALL_SECONDS)

    async def _register(self) -> OperatorInfo:
        offers = self._offers
        request = RegisterOperatorRequest(offers=offers, vrf_key=self._vrf_key)
        digest = await self._declare(request, self._tee) if self._tee is not None else b""
        request.proof.CopyFrom(await self._prove("register", offers, self._vrf_key, digest))
        info = await self._stub.RegisterOperator(request, timeout=CALL_SECONDS)
        self._known = offers
        return info

    async def _declare(self, request: RegisterOperatorRequest, tee: Tee) -> bytes:
        """Add evidence that the key is in the enclave's hands, for a challenge of the registry's; return its digest."""
        asked = ChallengeOperatorRequest(operator=self._key.address)
        request.tee_nonce = (await self._stub.ChallengeOperator(asked, timeout=CALL_SECONDS)).nonce
        evidence = await tee.evidence(declare(self._key.address, request.tee_nonce))
        request.attestation.CopyFrom(write_attestation(evidence))
        return evidence_digest(evidence)

    async def _renew(self) -> OperatorInfo:
        proof = await self._prove("renew", [])
        try:
            return await self._stub.RenewOperator(RenewOperatorRequest(proof=proof), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if isinstance(refusal, (LeaseExpired, OperatorNotFound)):
                raise refusal from error
            raise

    async def _prove(self, action: str, offers: list[Offer], vrf_key: bytes = b"", evidence: bytes = b"") -> OperatorProof:
        issued_at = int(self._clock.now().timestamp())
        said = {"vrf_key": vrf_key, "evidence": evidence}
        return await asyncio.to_thread(prove, self._key, action, offers, issued_at=issued_at, **said)

    async def _sleep(self, seconds: float) -> None:
        """Wait until it is time, or someone says that the registration lapsed."""
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._lapsed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
