"""How an operator gets controllers' modules: once from its dispatcher, then from its folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager

import pytest

from aos.errors import ControllerNotFound, ServiceUnavailable
from aos.operator.modules import ENDING, Modules
from aos.rpc.auth import Caller, Kind
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.v1 import controllers_pb2, controllers_pb2_grpc

MODULE = b"\0asm" + bytes(range(200)) * 10_000
DIGEST = hashlib.sha256(MODULE).digest()


class Library(controllers_pb2_grpc.ControllersServicer):
    """A dispatcher's modules, and who asked for them."""

    def __init__(self) -> None:
        self.modules = {DIGEST: MODULE}
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def ReadController(self, request, context):
        self.asked.append(dict(context.invocation_metadata()).get("authorization", ""))
        await self.open.wait()
        found = self.modules.get(bytes.fromhex(request.name.removeprefix("controllers/")))
        if found is None:
            raise ControllerNotFound(request.name)
        for start in range(0, len(found), 500_000):
            yield controllers_pb2.ControllerPart(data=found[start : start + 500_000])


async def anybody(token: str) -> Caller:
    return Caller(Kind.ADMIN)


@asynccontextmanager
async def modules(folder, library, *, token=lambda: "t1", most=1 << 30):
    descriptor = controllers_pb2.DESCRIPTOR.services_by_name["Controllers"]
    service = Service(descriptor, controllers_pb2_grpc.add_ControllersServicer_to_server, library)
    async with serving(service, authenticate=anybody, grace=0) as (port,), channel(f"127.0.0.1:{port}") as opened:
        yield Modules(opened, folder, token=token, most=most)


class TestModules:
    async def test_are_fetched_once(self, tmp_path):
        """Those who want a module at the same time wait for one fetch; later ones find it in the folder, after a restart, too."""
        library = Library()
        library.open.clear()
        async with modules(tmp_path / "m", library) as kept:
            waiting = [asyncio.create_task(kept.get(DIGEST)) for _ in range(3)]
            while not library.asked:
                await asyncio.sleep(0.001)
            library.open.set()
            assert await asyncio.gather(*waiting) == [MODULE] * 3
            assert await kept.get(DIGEST) == MODULE
        async with modules(tmp_path / "m", library) as again:
            assert await again.get(DIGEST) == MODULE
        assert library.asked == ["Bearer t1"]

    async def test_are_fetched_for_the_others_when_one_leaves(self, tmp_path):
        """Who stops waiting does not stop the fetch."""
        library = Library()
        library.open.clear()
        async with modules(tmp_path, library) as kept:
            leaves, stays = asyncio.create_task(kept.get(DIGEST)), asyncio.create_task(kept.get(DIGEST))
            while not library.asked:
                await asyncio.sleep(0.001)
            leaves.cancel()
            library.open.set()
            assert await stays == MODULE
        assert leaves.cancelled()

    async def test_are_what_their_names_say(self, tmp_path):
        """What a dispatcher sends under another's name is not used; what was damaged on disk is fetched again."""
        library = Library()
        async with modules(tmp_path, library) as kept:
            await kept.get(DIGEST)
            (tmp_path / f"{DIGEST.hex()}{ENDING}").write_bytes(b"damaged")
            assert await kept.get(DIGEST) == MODULE
            library.modules[bytes(32)] = MODULE
            with pytest.raises(ServiceUnavailable):
                await kept.get(bytes(32))
        assert len(library.asked) == 3

    async def test_may_be_unknown_or_out_of_reach(self, tmp_path):
        """A module that the network does not have is told from one that cannot be had now."""
        async with modules(tmp_path, Library()) as kept:
            with pytest.raises(ControllerNotFound):
                await kept.get(bytes(32))
        async with channel("127.0.0.1:1") as nowhere:
            with pytest.raises(ServiceUnavailable):
                await Modules(nowhere, tmp_path, token=str).get(bytes(32))

    async def test_take_no_more_room_than_they_may(self, tmp_path):
        """Modules that were used longest ago go first, and come back when they are needed."""
        library = Library()
        others = [bytes([number]) * 1000 for number in range(3)]
        digests = [hashlib.sha256(one).digest() for one in others]
        library.modules |= dict(zip(digests, others, strict=True))
        async with modules(tmp_path, library, most=2500) as kept:
            for age, digest in enumerate(digests[:2]):
                await kept.get(digest)
                os.utime(tmp_path / f"{digest.hex()}{ENDING}", (age, age))
            await kept.get(digests[2])
            assert {path.stem for path in tmp_path.iterdir()} == {digest.hex() for digest in digests[1:]}
            assert await kept.get(digests[0]) == others[0]
