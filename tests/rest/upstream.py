"""A Dispatcher in a process of its own, so that it can be killed and stopped: `python -m tests.rest.upstream SOCKET NAME SEEN`.

It says its name in a job's model. A job `jobs/die` or a model `die` kills it in mid-call, once: SEEN is a file to which each such
call adds a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order
from tests.gateway import scripted_network as scripted

START_SECONDS = 30


class Upstream(dispatcher_pb2_grpc.DispatcherServicer):
    def __init__(self, name: str, seen: Path) -> None:
        self._name, self._seen = name, seen

    async def GetJob(self, request, context):
        if request.name == "jobs/die":
            self._die()
        return dispatcher_pb2.Job(name=request.name, order=Order(model=self._name))

    async def CreateJob(self, request, context):
        if request.order.model == "die":
            self._die()
        return dispatcher_pb2.Job(name="jobs/1", order=Order(model=self._name))

    async def WatchJob(self, request, context):
        """Two events, and the second only once the file of the job's name is there."""
        yield dispatcher_pb2.JobEvent(sequence=1, chunk=Chunk(text="one"))
        while not self._seen.with_name(request.name.replace("/", "-")).exists():
            await asyncio.sleep(0.01)
        yield dispatcher_pb2.JobEvent(sequence=2, chunk=Chunk(text="two"))

    def _die(self) -> None:
        with self._seen.open("a") as file:
            file.write(f"{self._name}\n")
        if len(self._seen.read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class Process:
    """A running upstream; `start` it again after it was killed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.socket, self.seen = name, str(folder / name), folder / "seen"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        await asyncio.to_thread(Path(self.socket).unlink, missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.rest.upstream", self.socket, self.name, str(self.seen))
        )
        async with channel(f"unix:{self.socket}") as opened:
            await asyncio.wait_for(opened.channel_ready(), START_SECONDS)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def two_upstreams(folder: Path):
    """Two of them, called a and b."""
    both = Process(folder, "a"), Process(folder, "b")
    try:
        await asyncio.gather(*(one.start() for one in both))
        yield both
    finally:
        await asyncio.gather(*(one.kill() for one in both))


async def main(socket: str, name: str, seen: str) -> None:
    descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    service = Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, Upstream(name, Path(seen)))
    async with serving(service, authenticate=scripted.authenticator(), addresses=(f"unix:{socket}",), grace=0):
        await asyncio.get_running_loop().create_future()


async def model_of(call: grpc.aio.UnaryUnaryCall) -> str:
    """Return which upstream answered; the name of the status if none did."""
    try:
        return (await call).order.model
    except grpc.aio.AioRpcError as error:
        return error.code().name


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
