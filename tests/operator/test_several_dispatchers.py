"""An operator that is told of several dispatchers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from aos.cli.main import main
from aos.rpc.several import SeveralChannels, several_channels
from aos.testing.scripted import ScriptedModel
from aos.v1 import registry_pb2, registry_pb2_grpc
from aos.verification.keys import OperatorKey
from tests.operator.dispatching import SECONDS, Network, running_network


async def two(stack: AsyncExitStack, folder: Path) -> tuple[Network, Network, SeveralChannels]:
    """Two networks of one operator, and the channel that knows both."""
    key, networks = OperatorKey.create(), []
    for name in ("a", "b"):
        (folder / name).mkdir()
        networks.append(await stack.enter_async_context(running_network(folder / name, key)))
    both = SeveralChannels([one.channel for one in networks], ["a", "b"])
    return networks[0], networks[1], both


class TestAttaching:
    async def test_moves_on(self, tmp_path):
        """It attaches to the next dispatcher when one ends its stream, and to the first again when that ends it, too."""
        async with AsyncExitStack() as stack:
            first, second, both = await two(stack, tmp_path)
            first.channel = both
            await stack.enter_async_context(first.operator(ScriptedModel("yes")))
            session = await first.dispatcher.session()
            await session.greet()

            session.end()
            other = await second.dispatcher.session()
            await other.greet()
            other.end()

            again = await first.dispatcher.session()
            await again.greet()
            again.end()


class TestChannels:
    async def test_a_call_finds_nobody(self, tmp_path):
        """The call fails as it would with one server, and the next one goes to the next server."""
        async with running_network(tmp_path, OperatorKey.create()) as there:
            wanted = registry_pb2.ListModelsRequest()
            async with several_channels([f"unix:{tmp_path}/nobody", f"unix:{tmp_path}/net"], "x") as both:
                registry = registry_pb2_grpc.RegistryStub(both)
                with pytest.raises(grpc.aio.AioRpcError):
                    await registry.ListModels(wanted, timeout=SECONDS)
                async with asyncio.timeout(SECONDS):
                    while both.at == 0:
                        await asyncio.sleep(0.005)

                assert await registry.ListModels(wanted, timeout=SECONDS) == await there.registry.ListModels(wanted)

    async def test_left_once(self, tmp_path):
        """Two callers that lost the same server go on to the same next one."""
        async with several_channels(["unix:a", "unix:b", "unix:c"]) as three:
            at = three.at
            three.leave(at)
            three.leave(at)

            assert three.at == 1

    async def test_none(self):
        """Without an address there is nothing to connect to."""
        with pytest.raises(ValueError, match="no address"):
            async with several_channels([]):
                pass


class TestCommand:
    def test_twice(self, tmp_path):
        """An address that comes twice is refused by its name."""
        given = ["operator", "--connect", "127.0.0.1:1,127.0.0.1:2", "--connect", "127.0.0.1:1", "--key", str(tmp_path / "key")]
        result = CliRunner().invoke(main, given)

        assert result.exit_code == 2
        assert "'127.0.0.1:1' comes twice" in result.output
