"""The operator's stream to the dispatcher, opened from its side so that it works from behind NAT: leases in, text out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

import grpc

from aos.clock import Clock
from aos.control_logs import STEP_BYTES, RunLogs
from aos.errors import AnswerBroken, AosError, EngineFailed, InvalidField, LeaseExpired, OperatorNotFound, ShuttingDown
from aos.operator.backoff import Backoff
from aos.operator.drawing import Drawer
from aos.operator.embedding import arrays
from aos.operator.outbox import Outbox
from aos.operator.registration import Registration
from aos.operator.runner import Runner
from aos.operator.tee import TEE, Tee, attest, check_lease
from aos.operator.waiting import Terms
from aos.rpc.several import SeveralChannels
from aos.rpc.status import from_rpc_error
from aos.v1.dispatcher_pb2 import (
    Challenge,
    DispatcherMessage,
    DrawAsked,
    Heartbeat,
    Hello,
    JobError,
    Lease,
    LeaseChunk,
    LeaseFailed,
    LeaseFinished,
    LeaseStarted,
    OffersChanged,
    OperatorMessage,
)
from aos.v1.dispatcher_pb2_grpc import DispatcherStub
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.registry_pb2 import Offer
from aos.verification.keys import attach_statement

HANDSHAKE_SECONDS: Final = 10.0
"""How long the dispatcher may take with each step until it has welcomed us."""
FAREWELL_SECONDS: Final = 5.0
"""How long the last messages may take to be sent, and the dispatcher to close the stream."""
DRAWS: Final = 1024
"""Most draws that wait for their answer; more are not answered."""
FINAL: Final = frozenset({"INVALID_FIELD", "CONTEXT_OVERFLOW", "MODEL_UNSUITABLE", "ANSWER_BROKEN", "CONTROLLER_NOT_FOUND"})
"""Failures that no other operator can mend."""
EVENT_BYTES: Final = 7 << 20
"""Largest part of an answer, or end of one: a little less than what a server takes in one message."""

log = logging.getLogger(__name__)


class Attachment:
    """Keeps the operator attached to a dispatcher, the next one when it loses that, and runs the leases that it gives."""

    def __init__(
        self,
        runner: Runner,
        dispatcher: grpc.aio.Channel,
        *,
        offers: Sequence[Offer],
        registration: Registration,
        clock: Clock,
        random: Callable[[], float],
        drawer: Drawer | None = None,
        tee: Tee | None = None,
    ) -> None:
        """``dispatcher`` may be SeveralChannels: they are tried in turn.

        ``drawer`` has the keys with which draws are answered; without it they are not. ``tee`` is the enclave it runs in.
        """
        self._drawer, self._tee = drawer, tee
        self._runner, self._offers, self._registration, self._clock = runner, offers, registration, clock
        self._stub: Any = DispatcherStub(dispatcher)
        self._several = dispatcher if isinstance(dispatcher, SeveralChannels) else None
        self._backoff = Backoff(random)
        self._leases: dict[str, asyncio.Task[None]] = {}
        self._draws: set[asyncio.Task[None]] = set()
        self._outbox = Outbox()
        self._stopping = False
        self.token = ""
        """With which what leases need is read at the dispatcher; empty while there is no stream."""
        self.ending = False
        """Whether all is said and the dispatcher is to close the stream."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._attached = asyncio.Event()

    @property
    def leases(self) -> int:
        """How many leases are running."""
        return len(self._leases)

    async def change(self, offers: Sequence[Offer]) -> None:
        """Offer these from now on, at once if a dispatcher is there; leases of models that are not among them go on."""
        self._offers = offers
        if self._attached.is_set():
            await self._send(offers=OffersChanged(offers=offers))

    async def attached(self) -> None:
        """Return once the dispatcher has welcomed the operator."""
        await self._attached.wait()

    async def run(self) -> None:
        """Attach, and attach again whenever the stream breaks, until ``stop`` or cancellation."""
        while not self._stopping:
            await self._registration.registered()
            at = self._several.at if self._several is not None else 0
            try:
                await self._attach()
            except (TimeoutError, grpc.aio.AioRpcError) as error:
                self._explain(error)
            except Exception:  # a bug in one stream: the next may do better, and the operator stays
                log.exception("the stream to the dispatcher failed")
            finally:
                self._attached.clear()
                self.token = ""
                await self._drop_leases()
            if not self._stopping:
                # whatever it was that ended: the next may do better, and takes over what this one had
                if self._several is not None:
                    self._several.leave(at)
                await self._backoff.pause()

    async def stop(self, grace: float) -> None:
        """Take no more leases, give running ones ``grace`` seconds, give the rest back, and end the stream."""
        self._stopping = True
        if not self._attached.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        given_back = list(self._leases)
        await self._drop_leases()
        if not self._attached.is_set():  # the stream broke meanwhile: nobody is left to tell
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for lease in given_back:
                    await self._send(failed=_failed(lease, ShuttingDown()))
                await self._outbox.end()
                self.ending = True

    async def _attach(self) -> None:
        """Go through one stream, from the challenge to its end."""
        self._outbox = outbox = Outbox()
        call = self._stub.Attach(outbox.messages())
        beat: asyncio.Task[None] | None = None
        try:
            challenge = (await _within(HANDSHAKE_SECONDS, call.read(), "challenge")).challenge
            await self._send(hello=await self._hello(challenge))
            welcome = (await _within(HANDSHAKE_SECONDS, call.read(), "welcome")).welcome
            log.info("attached to dispatcher %s", challenge.dispatcher)
            self._backoff.reset()
            self.token, outbox.several = welcome.token, welcome.takes_several
            self._attached.set()
            beat = asyncio.create_task(self._beat(welcome.heartbeat_seconds))
            while (message := await call.read()) is not grpc.aio.EOF:
                await self._take(message)
            if not self._stopping:
                log.warning("the dispatcher ended the stream; attaching again")
        finally:
            if beat is not None:
                beat.cancel()
            call.cancel()
            outbox.close()  # a call that failed leaves what reads for it waiting for ever

    async def _hello(self, challenge: Challenge) -> Hello:
        key = self._runner.key
        said = attach_statement(challenge.nonce, challenge.dispatcher, key.address)
        return Hello(operator=key.address, signature=await asyncio.to_thread(key.sign, said), offers=self._offers)

    async def _beat(self, seconds: float) -> None:
        """Send heartbeats three times as often as is asked for: two may be late."""
        while True:
            await self._clock.sleep(seconds / 3)
            await self._send(heartbeat=Heartbeat(clock=self._runner.clock))

    async def _take(self, message: DispatcherMessage) -> None:
        match message.WhichOneof("message"):
            case "lease" if self._stopping:
                await self._send(failed=_failed(message.lease.id, ShuttingDown()))
            case "lease":
                lease = message.lease
                self._idle.clear()
                task = asyncio.create_task(self._work(lease))
                self._leases[lease.id] = task
                task.add_done_callback(lambda done: self._done(lease.id, done))
            case "cancel":
                task = self._leases.get(message.cancel.lease)
                if task is not None:
                    task.cancel()
            case "asked":
                if self._drawer is not None and len(self._draws) < DRAWS:
                    draw = asyncio.create_task(self._claim(self._drawer, message.asked))
                    self._draws.add(draw)
                    draw.add_done_callback(self._draws.discard)
            case other:
                log.debug("the dispatcher says %s, which this operator does not know", other)

    async def _work(self, lease: Lease) -> None:
        """Run one lease to its end, and say how it ended."""
        try:
            clock = self._runner.tick(lease.clock)
            await self._send(started=LeaseStarted(lease=lease.id, clock=clock))
            check_lease(lease)
            sent = lease.accepted_text_bytes if lease.HasField("accepted_text_bytes") else None
            seconds = lease.seconds if lease.HasField("seconds") else None
            # who names no tenant shares with nobody
            terms = Terms(lease.tenant or f"lease {lease.id}", lease.priority, seconds)
            vectors = arrays(lease.accepted_embeddings)
            answer = self._runner.run(
                lease.order,
                vectors=vectors,
                pictures=lease.accepted_pictures,
                job=lease.job,
                accepted=lease.accepted_tokens,
                sent_bytes=sent,
                terms=terms,
                traceparent=lease.traceparent,
            )
            logs = RunLogs()
            async with aclosing(answer) as events:
                async for event in events:
                    if isinstance(event, Chunk) and event.HasField("run"):
                        logs.cut(event.run)
                    _check_size(event, lease.order.model)
                    if isinstance(event, Chunk):
                        await self._send(chunk=LeaseChunk(lease=lease.id, chunk=event))
                    else:
                        await self._send(finished=await self._finished(lease, event))
        except AosError as error:
            await self._send(failed=_failed(lease.id, error))
        except Exception:
            log.exception("lease %s failed", lease.id)
            await self._send(failed=_failed(lease.id, EngineFailed(lease.order.model)))

    async def _finished(self, lease: Lease, finish: Finish) -> LeaseFinished:
        finished = LeaseFinished(lease=lease.id, finish=finish)
        if self._drawer is not None:
            finished = await asyncio.to_thread(self._drawer.finished, lease, finish)
        if lease.job_type == TEE:
            finished.attestation.CopyFrom(await attest(self._tee, finish.receipt, self._runner.key))
        return finished

    async def _claim(self, drawer: Drawer, asked: DrawAsked) -> None:
        """Say what the VRF says about a job."""
        try:
            claimed = await asyncio.to_thread(drawer.claim, asked, self._runner.clock)
        except InvalidField as error:
            log.warning("the dispatcher asks about a draw that cannot be: %s", error)
            return
        await self._send(claimed=claimed)

    def _done(self, lease: str, task: asyncio.Task[None]) -> None:
        if self._leases.get(lease) is task:
            del self._leases[lease]
        if not self._leases:
            self._idle.set()

    async def _drop_leases(self) -> None:
        tasks = [*self._leases.values(), *self._draws]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, **message: Any) -> None:
        await self._outbox.put(OperatorMessage(**message))

    def _explain(self, error: TimeoutError | grpc.aio.AioRpcError) -> None:
        refusal = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else None
        if isinstance(refusal, (LeaseExpired, OperatorNotFound)):
            self._registration.lapsed()
        if not self._stopping:
            log.warning("not attached, trying again: %s", refusal or error)


async def _within(seconds: float, answer: Awaitable[Any], what: str) -> Any:
    async with asyncio.timeout(seconds):
        message = await answer
    if message is grpc.aio.EOF:
        raise TimeoutError(f"the dispatcher ended the stream before its {what}")
    return message


def _check_size(event: Chunk | Finish, model: str) -> None:
    """Raise AnswerBroken for what no dispatcher takes: sent, it would end the stream, and with it all other leases."""
    size, most = event.ByteSize(), STEP_BYTES if isinstance(event, Chunk) and event.HasField("run") else EVENT_BYTES
    if size > most:
        raise AnswerBroken(model, f"its controller made a step, or a record of them, of {size} bytes; at most {most} are sent")


def _failed(lease: str, error: AosError) -> LeaseFailed:
    said = JobError(reason=f"ERROR_REASON_{error.reason}", message=error.message, metadata=error.facts)
    return LeaseFailed(lease=lease, error=said, retryable=error.reason not in FINAL)
