"""An operator whose model says a few scripted tokens, one each ``PACE`` seconds, in a process of its own.

python -m bench.faults.operator ADDRESS KEY    prints a line once it is attached, and runs until it is stopped
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aos.clock import SystemClock
from aos.operator.batch import Row
from aos.operator.node import running_operator
from aos.operator.sampling import Logits
from aos.rpc.channel import channel
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey

MODEL = "faults"
SLOTS = 4
PACE = 0.03
"""Seconds from one token of an answer to the next: an answer lasts long enough to be interrupted."""
LETTERS = 16
TOKENS = LETTERS + 4
"""Most tokens of an answer: its letters, and the end."""
CONTEXT = 512


def answer(question: str) -> str:
    """Return what every operator says to a question: another text for each."""
    return hashlib.sha256(question.encode()).hexdigest()[:LETTERS]


class PacedModel(ScriptedModel):
    """A scripted model that takes its time over each step, as a real one does."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: answer(prompt.removeprefix("user: ").strip()), slots=SLOTS, context=CONTEXT, name=MODEL)

    def decode(self, rows: Sequence[Row]) -> list[Logits]:
        """Take the rows, a moment later."""
        time.sleep(PACE)  # the engine's own thread
        return super().decode(rows)


async def operate(address: str, key: Path) -> None:
    """Run it. Never returns."""
    async with (
        channel(address) as outward,
        running_operator(
            OperatorKey.load(key),
            {MODEL: PacedModel()},
            registry=outward,
            dispatcher=outward,
            price=Price(prompt_token="1", completion_token="2"),
            clock=SystemClock(),
            random=random.random,
            slots=SLOTS,
            grace=0,
        ) as node,
    ):
        await node.attached()
        print("attached", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(operate(sys.argv[1], Path(sys.argv[2])))
