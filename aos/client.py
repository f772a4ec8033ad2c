"""``aos.connect``: the network as a typed client. What servers refuse is raised as the same class here (aos/errors.py)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import grpc

from aos.clock import Clock, SystemClock
from aos.errors import REASONS, AosError, Deadline, EngineFailed, JobCancelled, ServiceUnavailable
from aos.rpc.channel import channel
from aos.rpc.status import from_rpc_error
from aos.v1 import blobs_pb2_grpc, broker_pb2_grpc, controllers_pb2_grpc, dispatcher_pb2_grpc, operator_pb2_grpc, registry_pb2_grpc
from aos.v1.blobs_pb2 import ReadBlobRequest
from aos.v1.controllers_pb2 import RunControllerRequest, RunControllerResponse
from aos.v1.dispatcher_pb2 import CreateJobRequest, Job, JobEvent, JobState, Outcome, WatchJobRequest
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.registry_pb2 import ListModelsRequest, Model
from aos.v1.types_pb2 import EmbeddingInput, Order, PictureInput, Sampling

CALL_SECONDS: Final = 30.0
"""How long a call that returns at once may take."""
LOST_SECONDS: Final = 60.0
"""How long ``watch`` goes on looking for a server that is gone."""
PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between looks; the last one repeats."""


@contextmanager
def told() -> Generator[None]:
    """Raise the AosError that the server raised, in place of grpc's error. Other statuses stay AioRpcError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not error.trailing_metadata():
            raise ServiceUnavailable("server") from error  # our own deadline: nobody answered
        known = from_rpc_error(error)
        if known is None:
            raise
        raise known from None


class Client:
    """The network's services over one channel, with a few conveniences. Made by ``connect``.

    The stubs raise grpc's errors; put ``with told():`` around them to get AosError. The conveniences raise AosError themselves.
    """

    def __init__(self, opened: grpc.aio.Channel, *, clock: Clock | None = None) -> None:
        self.dispatcher = dispatcher_pb2_grpc.DispatcherStub(opened)
        self.registry = registry_pb2_grpc.RegistryStub(opened)
        self.broker = broker_pb2_grpc.BrokerStub(opened)
        self.operator = operator_pb2_grpc.OperatorStub(opened)
        self.blobs = blobs_pb2_grpc.BlobsStub(opened)
        self.controllers = controllers_pb2_grpc.ControllersStub(opened)
        self._clock = clock or SystemClock()

    async def submit(self, order: Order, *, request_id: str = "", user: str = "", annotation: str = "", job_type: str = "") -> Job:
        """Return the job, accepted and QUEUED. With a ``request_id``, safe to repeat after any failure.

        ``job_type`` is one of the model's; empty: `opml`.
        """
        request = CreateJobRequest(request_id=request_id, order=order, user=user, annotation=annotation, job_type=job_type)
        with told():
            return await self.dispatcher.CreateJob(request, timeout=CALL_SECONDS)

    def watch(self, job: Job | str, after: int = 0) -> AsyncGenerator[JobEvent]:
        """Yield the job's events behind sequence ``after``, each once, up to its outcome.

        Goes on where it was when the server comes back; raises ServiceUnavailable if it does not within ``LOST_SECONDS``.
        """
        return watch(self.dispatcher, _name(job), after=after, clock=self._clock)

    async def answer(self, order: Order, *, request_id: str = "", user: str = "") -> Outcome:
        """Submit, wait, and return the outcome with text, usage and receipt. Raises why there is no answer."""
        job = await self.submit(order, request_id=request_id, user=user)
        return await self.outcome(job)

    async def embed(self, model: str, *texts: str) -> list[list[float]]:
        """Return the texts as vectors of length 1, in order. Raises why there are none."""
        outcome = await self.answer(Order(model=model, embedding=EmbeddingInput(texts=texts)))
        return [list(one.values) for one in outcome.embeddings]

    async def paint(self, model: str, prompt: str, *, width: int = 0, height: int = 0, count: int = 0) -> list[bytes]:
        """Return pictures of the prompt, as PNG files. A side of 0 is 1024 pixels. Raises why there are none."""
        picture = PictureInput(prompt=prompt, width=width, height=height, count=count)
        outcome = await self.answer(Order(model=model, picture=picture))
        return [await self.read(f"blobs/{one.sha256.hex()}") for one in outcome.pictures]

    async def read(self, blob: str) -> bytes:
        """Return a file of the project. Raises BlobNotFound if there is none, or none any more."""
        with told():
            return b"".join([part.data async for part in self.blobs.ReadBlob(ReadBlobRequest(name=blob), timeout=CALL_SECONDS)])

    async def run_controller(
        self, controller: str, argument: str = "", *, model: str, prompt: str = "", sampling: Sampling | None = None, user: str = ""
    ) -> AsyncGenerator[RunControllerResponse]:
        """Run a controller, by its name or a tag, and yield the job that is made, then its events up to its outcome.

        Raises why there is no answer. Leaving the loop before its end cancels the job: put ``aclosing`` around it.
        """
        request = RunControllerRequest(
            controller=controller, argument=argument, model=model, prompt=prompt, sampling=sampling, user=user
        )
        call, name = self.controllers.RunController(request), ""
        try:
            with told():
                async for response in call:
                    name = response.job.name or name
                    yield response
                    failed = outcome_error(name, response.job_event.outcome) if response.job_event.HasField("outcome") else None
                    if failed is not None:
                        raise failed
        finally:
            call.cancel()

    async def outcome(self, job: Job | str) -> Outcome:
        """Wait for the job's end. Raises why there is no answer."""
        *_, last = [event async for event in self.watch(job)]
        failed = outcome_error(_name(job), last.outcome)
        if failed is not None:
            raise failed
        return last.outcome

    async def models(self) -> list[Model]:
        """Return all models by name, also those that no operator can run now."""
        with told():
            return await all_models(self.registry)


@asynccontextmanager
async def connect(address: str, token: str = "") -> AsyncGenerator[Client]:
    """Give a client of the network at ``host:port`` or ``unix:path``, and close it with the block.

    Nothing is sent before the first call, which raises ServiceUnavailable if nobody is there. ``token`` is the project's.
    """
    async with channel(address, token) as opened:
        yield Client(opened)


async def all_models(registry: registry_pb2_grpc.RegistryAsyncStub, *, metadata: tuple[tuple[str, str], ...] = ()) -> list[Model]:
    """Return all models by name, page by page, also those that no operator can run now. Raises grpc's errors."""
    found: list[Model] = []
    request = ListModelsRequest(page_size=1000)
    while True:
        page = await registry.ListModels(request, metadata=metadata, timeout=CALL_SECONDS)
        found += page.models
        if not page.next_page_token:
            return found
        request = ListModelsRequest(page_size=1000, page_token=page.next_page_token)


def _name(job: Job | str) -> str:
    return job.name if isinstance(job, Job) else job


async def watch(
    dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub,
    name: str,
    *,
    after: int = 0,
    clock: Clock,
    metadata: tuple[tuple[str, str], ...] = (),
) -> AsyncGenerator[JobEvent]:
    """Yield a job's events as ``Client.watch`` does, with the caller's own metadata on each call."""
    waited, pauses = 0.0, iter(PAUSES)
    while True:
        call = dispatcher.WatchJob(WatchJobRequest(name=name, after_sequence=after), metadata=metadata)
        try:
            with told():
                async for event in call:
                    after, waited, pauses = event.sequence, 0.0, iter(PAUSES)
                    yield event
                    if event.WhichOneof("event") == "outcome":
                        return
            lost: AosError = ServiceUnavailable("dispatcher")  # it ended the stream before the outcome: it is going away
        except ServiceUnavailable as error:
            lost = error
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:  # a stopping server's word to those who are still there
                raise
            lost = ServiceUnavailable("dispatcher")
        finally:
            call.cancel()
        pause = next(pauses, PAUSES[-1])
        waited += pause
        if waited > LOST_SECONDS:
            raise lost
        await clock.sleep(pause)


def outcome_error(job: str, outcome: Outcome) -> AosError | None:
    """Return why a job ended without an answer, as the class that its reason names; None for one that is COMPLETED."""
    if outcome.state == JobState.JOB_STATE_COMPLETED:
        return None
    reason = ErrorReason.Name(outcome.error.reason).removeprefix("ERROR_REASON_")
    if reason in REASONS:
        return REASONS[reason].rebuild(outcome.error.message, dict(outcome.error.metadata))
    match outcome.state:
        case JobState.JOB_STATE_CANCELLED:
            return JobCancelled(job)
        case JobState.JOB_STATE_EXPIRED:
            return Deadline.rebuild(outcome.error.message or f"{job!r} ran out of time.", {"job": job})
        case _:
            return EngineFailed.rebuild(outcome.error.message or f"{job!r} failed.", {"job": job})
