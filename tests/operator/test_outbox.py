"""What an operator has to say on its stream."""

from __future__ import annotations

import asyncio
import random

import pytest

from aos.operator.outbox import OUTBOX, Outbox
from aos.v1.dispatcher_pb2 import LeaseStarted, OperatorMessage

SECONDS = 10


def saying(number: int) -> OperatorMessage:
    return OperatorMessage(started=LeaseStarted(lease=str(number)))


def numbers(message: OperatorMessage) -> list[int]:
    return [int(one.started.lease) for one in message.several.messages or [message]]


class TestOutbox:
    @pytest.mark.parametrize("several", [True, False])
    @pytest.mark.parametrize("seed", range(5))
    async def test_in_order(self, several, seed):
        """Messages come in the order in which they were put, however slowly they are taken and however many wait for room."""
        chance, outbox, said = random.Random(seed), Outbox(), []
        outbox.several = several

        async def read() -> None:
            async for message in outbox.messages():
                said.extend(numbers(message))
                for _ in range(chance.choice([0, 1, 5])):
                    await asyncio.sleep(0)

        reading, putting = asyncio.create_task(read()), []
        for _ in range(100):
            for _ in range(chance.choice([0, 1, 5, OUTBOX + 16])):
                putting.append(asyncio.create_task(outbox.put(saying(len(putting)))))
            await asyncio.sleep(0)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*putting)
            await outbox.end()
            await reading

        assert said == list(range(len(putting)))

    async def test_room(self):
        """So many messages wait to be sent; whoever has another waits until they are."""
        outbox = Outbox()
        for number in range(OUTBOX):
            await outbox.put(saying(number))
        late = asyncio.create_task(outbox.put(saying(OUTBOX)))
        await asyncio.sleep(0)
        assert not late.done()

        outbox.several = True
        messages = outbox.messages()
        assert numbers(await anext(messages)) == list(range(OUTBOX))
        async with asyncio.timeout(SECONDS):
            assert numbers(await anext(messages)) == [OUTBOX]
            await late

    async def test_closed(self):
        """Closing ends what reads the messages."""
        outbox = Outbox()
        await outbox.put(saying(1))
        outbox.close()
        async with asyncio.timeout(SECONDS):
            assert [numbers(one) async for one in outbox.messages()] == [[1]]
