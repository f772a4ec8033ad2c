"""Calls within one process: the same as over a socket, which each test is run against, too."""

import asyncio
import gc
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest

from aos.errors import JobNotFound, PermissionDenied, Unauthenticated
from aos.rpc.auth import FixedTokens, Kind, caller
from aos.rpc.channel import channel
from aos.rpc.local import UNREAD, LocalChannel
from aos.rpc.server import Service, serving
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from aos.v1.dispatcher_pb2 import CancelJobRequest, GetJobRequest, Job, JobEvent, ListProjectsRequest, WatchJobRequest

SECONDS = 10
ADMIN = (("authorization", "Bearer admin"),)
MANY = 2000


class Steered(dispatcher_pb2_grpc.DispatcherServicer):
    """Answers by the name that it is asked for, and notes who leaves."""

    def __init__(self) -> None:
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        self.sent = 0

    async def GetJob(self, request, context):
        match request.name:
            case "refused":
                raise JobNotFound("jobs/1")
            case "broken":
                raise ZeroDivisionError
            case "hangs":
                await self._hang()
        return Job(
            name=request.name, user=caller().kind.value, annotation=dict(context.invocation_metadata()).get("traceparent", "")
        )

    async def WatchJob(self, request, context):
        try:
            for number in range(1, MANY + 1 if request.name == "many" else 4):
                self.sent = number
                yield JobEvent(sequence=number)
            if request.name == "refused":
                raise JobNotFound("jobs/1")
            if request.name == "hangs":
                await self._hang()
        finally:
            self.left.set()

    async def _hang(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


async def project(token: str):
    from aos.rpc.auth import Caller

    return Caller(Kind.PROJECT, "projects/p") if token == "project" else None


@asynccontextmanager
async def opened(way: str, servicer: Steered):
    descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    service = Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, servicer)
    tokens = FixedTokens(admin="admin", service="", otherwise=project)
    if way == "local":
        yield dispatcher_pb2_grpc.DispatcherStub(LocalChannel(service, authenticate=tokens))
        return
    async with serving(service, authenticate=tokens, grace=0) as (port,), channel(f"127.0.0.1:{port}") as over:
        yield dispatcher_pb2_grpc.DispatcherStub(over)


@pytest.fixture
def servicer():
    return Steered()


@pytest.fixture(params=["local", "socket"])
async def stub(request, servicer):
    async with asyncio.timeout(SECONDS), opened(request.param, servicer) as made:
        yield made


class TestUnary:
    async def test_answer(self, stub):
        """The answer comes, and the servicer knows who calls and what was sent along."""
        job = await stub.GetJob(GetJobRequest(name="jobs/7"), metadata=(*ADMIN, ("traceparent", "00-1-2-01")))

        assert (job.name, job.user, job.annotation) == ("jobs/7", "admin", "00-1-2-01")

    async def test_own_context(self, stub):
        """Who calls within is not who called us."""
        await stub.GetJob(GetJobRequest(name="jobs/7"), metadata=ADMIN)

        assert caller().kind is Kind.ANONYMOUS

    async def test_refusal(self, stub):
        """What the servicer raises is raised here, whole."""
        with pytest.raises(JobNotFound) as raised:
            await answered(stub.GetJob(GetJobRequest(name="refused"), metadata=ADMIN))

        assert raised.value.facts == {"job": "jobs/1"}

    async def test_defect(self, stub):
        """A defect is an internal error that tells nothing."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetJob(GetJobRequest(name="broken"), metadata=ADMIN)

        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, "Internal error.")

    @pytest.mark.parametrize(
        ("metadata", "error"), [((), Unauthenticated), ((("authorization", "Bearer project"),), PermissionDenied)]
    )
    async def test_power(self, stub, metadata, error):
        """A method asks of local callers what it asks of others."""
        with pytest.raises(error):
            await answered(stub.ListProjects(ListProjectsRequest(), metadata=metadata))

    async def test_not_written(self, stub):
        """A method that the servicer does not have is UNIMPLEMENTED or fails; it never hangs."""
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.CancelJob(CancelJobRequest(name="jobs/7"), metadata=ADMIN)

    async def test_deadline(self, stub, servicer):
        """A call ends at its deadline, and with it what it does."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetJob(GetJobRequest(name="hangs"), metadata=ADMIN, timeout=0.2)

        await servicer.left.wait()
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def test_leaving(self, stub, servicer):
        """A caller that is cancelled ends the call."""
        calling = asyncio.ensure_future(answered(stub.GetJob(GetJobRequest(name="hangs"), metadata=ADMIN)))
        await servicer.entered.wait()
        calling.cancel()
        await servicer.left.wait()

        assert calling.cancelled() or await asyncio.wait_for(asyncio.gather(calling, return_exceptions=True), SECONDS)


class TestStream:
    async def test_in_order(self, stub):
        """Every message comes, once and in order, however many there are."""
        events = [event.sequence async for event in stub.WatchJob(WatchJobRequest(name="many"), metadata=ADMIN)]

        assert events == list(range(1, MANY + 1))

    async def test_refusal(self, stub):
        """What came before the refusal comes first."""
        call = stub.WatchJob(WatchJobRequest(name="refused"), metadata=ADMIN)
        read = [(await call.read()).sequence for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()

        assert (read, raised.value.code()) == ([1, 2, 3], grpc.StatusCode.NOT_FOUND)

    async def test_read(self, stub):
        """Messages can be read one by one; the end is EOF, as often as it is asked for."""
        call = stub.WatchJob(WatchJobRequest(name="few"), metadata=ADMIN)
        read = [(await call.read()).sequence for _ in range(3)]

        assert read == [1, 2, 3]
        assert [await call.read(), await call.read()] == [grpc.aio.EOF, grpc.aio.EOF]

    async def test_deadline(self, stub, servicer):
        """A stream ends at its deadline."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stub.WatchJob(WatchJobRequest(name="hangs"), metadata=ADMIN, timeout=0.2):
                pass

        await servicer.left.wait()
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def test_cancelled(self, stub, servicer):
        """Who cancels a stream ends what makes it."""
        call = stub.WatchJob(WatchJobRequest(name="hangs"), metadata=ADMIN)
        await call.read()
        call.cancel()

        await servicer.left.wait()

    async def test_reader_leaves(self, stub, servicer):
        """A reader that is cancelled ends what makes the stream."""

        async def reading():
            async def events():
                call = stub.WatchJob(WatchJobRequest(name="hangs"), metadata=ADMIN)
                try:
                    async for event in call:
                        yield event
                finally:
                    call.cancel()

            async with aclosing(events()) as every:
                async for _ in every:
                    pass

        task = asyncio.create_task(reading())
        await servicer.entered.wait()
        task.cancel()
        await servicer.left.wait()


class TestLocal:
    """What only a local channel can promise."""

    async def test_slow_reader(self, servicer):
        """The servicer waits for a reader that does not read."""
        async with opened("local", servicer) as stub:
            call = stub.WatchJob(WatchJobRequest(name="many"), metadata=ADMIN)
            await call.read()
            for _ in range(MANY):
                await asyncio.sleep(0)

            assert servicer.sent <= UNREAD + 3
            call.cancel()

    async def test_forgotten(self, servicer):
        """A stream that nobody holds any more ends."""
        async with opened("local", servicer) as stub:
            call = stub.WatchJob(WatchJobRequest(name="hangs"), metadata=ADMIN)
            await call.read()
            del call
            gc.collect()
            async with asyncio.timeout(SECONDS):
                await servicer.left.wait()
