"""An operator that computes nothing: attached over gRPC, it has each answer ready. ``python -m bench.idle_operator ADDRESS 1 0``.

All tokens of an answer, and its end, are said at once, or in so many pieces with so many milliseconds between: the `--pieces` and
`--pace` of bench/job_cost.py.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from aos.order import canonical_sampling, cost, digest_order, digest_tokens
from aos.rpc.channel import channel
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.v1.operator_pb2 import Chunk, Finish, Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import FinishReason, Price, Usage, VectorClock
from aos.verification.keys import OperatorKey, attach_statement, prove
from aos.verification.receipts import sign, text_digest
from aos.verification.states import state_root
from aos.verification.trace import Step

MODEL = "idle"
TOKENS = list(range(97, 113))
PROMPT = [1, 2, 3]
SLOTS = 256
BEAT_SECONDS = 2


class IdleOperator:
    """One attached operator."""

    def __init__(self, pieces: int, pace: float) -> None:
        self._pieces, self._pace = pieces, pace
        self._key = OperatorKey.create()
        price = Price(prompt_token="1", completion_token="2")
        self._offer = Offer(model=MODEL, digest="aa" * 32, context_length=1024, chat=True, price=price, slots=SLOTS)
        self._outbox: asyncio.Queue[pb.OperatorMessage] = asyncio.Queue()
        self._events = 0
        size = len(TOKENS) // pieces
        self._parts = [TOKENS[at : at + size] for at in range(0, len(TOKENS), size)]
        steps = (Step(at, token, bytes(32), ((token, 1 << 16),)) for at, token in enumerate(TOKENS))
        self._trace = Trace(prompt_tokens=PROMPT, steps=b"".join(step.packed() for step in steps))

    def _clock(self) -> VectorClock:
        self._events += 1
        return VectorClock(counts={self._key.address.lower(): self._events})

    async def run(self, opened: grpc.aio.Channel) -> None:
        """Register, attach, and answer until the stream ends."""
        proof = prove(self._key, "register", [self._offer], issued_at=int(time.time()))
        request = registry_pb2.RegisterOperatorRequest(proof=proof, offers=[self._offer])
        await registry_pb2_grpc.RegistryStub(opened).RegisterOperator(request)
        call: Any = dispatcher_pb2_grpc.DispatcherStub(opened).Attach(self._sent())
        challenge = (await call.read()).challenge
        said = attach_statement(challenge.nonce, challenge.dispatcher, self._key.address)
        self._say(hello=pb.Hello(operator=self._key.address, signature=self._key.sign(said), offers=[self._offer]))
        await call.read()
        beating, answering = asyncio.create_task(self._beat()), set[asyncio.Task[None]]()
        print("ready", flush=True)
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.HasField("lease"):
                task = asyncio.create_task(self._answer(message.lease))
                answering.add(task)
                task.add_done_callback(answering.discard)
        beating.cancel()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._say(heartbeat=pb.Heartbeat(clock=self._clock()))

    async def _answer(self, lease: pb.Lease) -> None:
        self._say(started=pb.LeaseStarted(lease=lease.id, clock=self._clock()))
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=self._receipt(lease), trace=self._trace)
        for number, part in enumerate(self._parts):
            if number:
                await asyncio.sleep(self._pace)
            self._say(chunk=pb.LeaseChunk(lease=lease.id, chunk=Chunk(text=bytes(part).decode(), tokens=part)))
        self._say(finished=pb.LeaseFinished(lease=lease.id, finish=finish))

    def _receipt(self, lease: pb.Lease) -> Receipt:
        usage = Usage(prompt_tokens=len(PROMPT), completion_tokens=len(TOKENS))
        due = cost(self._offer.price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        receipt = Receipt(
            job=lease.job,
            request_digest=digest_order(lease.order),
            model_digest=bytes.fromhex(self._offer.digest),
            profile="idle",
            parameters=canonical_sampling(lease.order.sampling),
            seed=lease.order.sampling.seed,
            prompt_digest=digest_tokens(PROMPT),
            output_digest=text_digest(bytes(TOKENS).decode()),
            output_tokens_digest=digest_tokens(TOKENS),
            usage=usage,
            finish_reason=FinishReason.FINISH_REASON_STOP,
            price=str(due),
            clock=self._clock(),
            issued_at=int(time.time()),
            operator=bytes.fromhex(self._key.address[2:]),
        )
        receipt.state_root = state_root(receipt, self._trace)
        return sign(receipt, self._key)

    def _say(self, **message: object) -> None:
        self._outbox.put_nowait(pb.OperatorMessage(**message))  # pyright: ignore[reportArgumentType]

    async def _sent(self) -> AsyncGenerator[pb.OperatorMessage]:
        while True:
            yield await self._outbox.get()


async def main() -> None:
    address, pieces, pace = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1e3
    async with channel(address) as opened:
        await IdleOperator(pieces, pace).run(opened)


if __name__ == "__main__":
    asyncio.run(main())
