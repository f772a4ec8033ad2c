"""An operator whose answers a test can hold: ``python -m tests.hosts.operate NETWORK KEY MODEL``.

All of it is real but the model. A line `hold` lets answers stop behind their first half, `go` lets them go on; each is answered
with a line, and `held` is said when an answer has come to where it stops.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Final

from aos.clock import SystemClock
from aos.operator.node import running_operator
from aos.rpc.channel import channel
from aos.testing.scripted import HOLD_SECONDS, Hold, ScriptedModel
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey

HALF: Final = "Nothing is lost, "
TEXT: Final = HALF + "and nothing is done twice."
SLOTS: Final = 4


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def tell(hold: Hold) -> None:
    await hold.reached(HOLD_SECONDS)
    say("held")


async def main(network: str, key: str, name: str) -> None:
    model, lines = ScriptedModel(TEXT, slots=SLOTS), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    telling: asyncio.Task[None] | None = None
    async with (
        channel(network) as outward,
        running_operator(
            OperatorKey.load(Path(key)),
            {name: model},
            registry=outward,
            dispatcher=outward,
            price=Price(prompt_token="1", completion_token="2"),
            clock=SystemClock(),
            random=random.random,
            slots=SLOTS,
            grace=0,
        ) as node,
    ):
        say(node.address)
        while word := (await lines.readline()).decode().strip():
            if telling is not None:
                telling.cancel()
                telling = None
            if word == "hold":
                telling = asyncio.create_task(tell(model.hold(after=HALF)))
            else:
                model.interrupt()
            say(word)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
