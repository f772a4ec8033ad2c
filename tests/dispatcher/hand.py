"""An operator driven by hand: the test says what it sends, and sees what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager

import grpc

from aos.operator.drawing import Drawer
from aos.order import canonical_sampling, cost, digest_order, digest_tokens, draws
from aos.v1 import dispatcher_pb2 as pb
from aos.v1 import dispatcher_pb2_grpc, registry_pb2, registry_pb2_grpc
from aos.v1.operator_pb2 import Chunk, Finish, TokenLogprob
from aos.v1.receipt_pb2 import Receipt
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import FinishReason, Price, Usage, VectorClock
from aos.verification.keys import OperatorKey, attach_statement, prove
from aos.verification.receipts import sign, text_digest
from aos.verification.states import NOTHING, state_root
from aos.verification.vrf import VrfKey
from tests.receipts import PROMPT, a_trace

WAIT = 10.0
"""Seconds after which what does not come has not come."""


def an_offer(model: str = "m", *, digest: str = "aa" * 32, slots: int = 2, prompt: int = 1, completion: int = 2) -> Offer:
    price = Price(prompt_token=str(prompt), completion_token=str(completion))
    return Offer(model=model, digest=digest, context_length=1024, chat=True, price=price, slots=slots)


class Hand:
    """One operator. ``events`` is its own clock."""

    def __init__(self, *offers: Offer, key: OperatorKey | None = None, vrf: VrfKey | None = None) -> None:
        self.vrf = vrf
        self.key = key or OperatorKey.create()
        self.offers = list(offers or (an_offer(),))
        self.events = 0
        self._outbox: asyncio.Queue[pb.OperatorMessage | None] = asyncio.Queue()
        self.call: grpc.aio.StreamStreamCall | None = None

    @property
    def address(self) -> str:
        return self.key.address.lower()

    @property
    def clock(self) -> VectorClock:
        self.events += 1
        return VectorClock(counts={self.address: self.events})

    async def register(self, registry: registry_pb2_grpc.RegistryAsyncStub, *, now: int) -> None:
        public = self.vrf.public if self.vrf else b""
        proof = prove(self.key, "register", self.offers, issued_at=now, vrf_key=public)
        request = registry_pb2.RegisterOperatorRequest(proof=proof, offers=self.offers, vrf_key=public)
        await registry.RegisterOperator(request)

    def open(self, dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub) -> None:
        self._outbox = asyncio.Queue()
        self.call = dispatcher.Attach(self._sent(self._outbox))

    async def attach(self, dispatcher: dispatcher_pb2_grpc.DispatcherAsyncStub, *, signer: OperatorKey | None = None) -> pb.Welcome:
        self.open(dispatcher)
        challenge = (await self.read()).challenge
        said = attach_statement(challenge.nonce, challenge.dispatcher, self.key.address)
        signature = (signer or self.key).sign(said)
        self.send(hello=pb.Hello(operator=self.key.address, signature=signature, offers=self.offers))
        welcome = await self.read()
        assert welcome.HasField("welcome"), welcome
        return welcome.welcome

    @staticmethod
    async def _sent(outbox: asyncio.Queue[pb.OperatorMessage | None]) -> AsyncIterator[pb.OperatorMessage]:
        while (message := await outbox.get()) is not None:
            yield message

    async def read(self) -> pb.DispatcherMessage:
        """The next message. Raises EOFError once the dispatcher has ended the stream."""
        assert self.call is not None
        async with asyncio.timeout(WAIT):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            raise EOFError
        return message

    async def lease(self) -> pb.Lease:
        message = await self.read()
        assert message.HasField("lease"), message
        return message.lease

    async def cancelled(self) -> str:
        message = await self.read()
        assert message.HasField("cancel"), message
        return message.cancel.lease

    async def ended(self) -> None:
        """Read until the dispatcher has ended the stream."""
        try:
            while True:
                await self.read()
        except EOFError:
            return

    def send(self, **message) -> None:
        self._outbox.put_nowait(pb.OperatorMessage(**message))

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Send what is sent in the block in one message, behind it."""
        outbox, self._outbox = self._outbox, asyncio.Queue()
        yield
        said, self._outbox = self._outbox, outbox
        self.send(several=pb.OperatorMessages(messages=[said.get_nowait() for _ in range(said.qsize())]))

    def heartbeat(self) -> None:
        self.send(heartbeat=pb.Heartbeat(clock=self.clock))

    def start(self, lease: pb.Lease) -> None:
        self.send(started=pb.LeaseStarted(lease=lease.id, clock=self.clock))

    def say(self, lease: pb.Lease, text: str, tokens: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> None:
        self.send(chunk=pb.LeaseChunk(lease=lease.id, chunk=Chunk(text=text, tokens=tokens, logprobs=logprobs)))

    def finish(
        self, lease: pb.Lease, text: str, tokens: Sequence[int], *, key: OperatorKey | None = None, logits: int = 0, **changes
    ) -> Receipt:
        """End the lease with a receipt for the whole answer, its fields changed as told; ``logits`` are what it computed."""
        receipt = self.receipt(lease, text, tokens, key=key, logits=logits, **changes)
        trace = a_trace(tokens, logits) if draws(lease.order) else None
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=receipt, trace=trace)
        if lease.HasField("draw") and self.vrf:
            self.send(finished=Drawer(key or self.key, self.vrf).finished(lease, finish))
        else:
            self.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))
        return receipt

    async def asked(self) -> pb.DrawAsked:
        message = await self.read()
        assert message.HasField("asked"), message
        return message.asked

    def claim(self, asked: pb.DrawAsked) -> pb.DrawClaimed:
        """What an honest operator answers."""
        assert self.vrf is not None
        return Drawer(self.key, self.vrf).claim(asked, self.clock)

    async def review(self, text: str, tokens: Sequence[int], **changes) -> pb.Lease:
        """Answer a draw, then the lease that follows from it."""
        self.send(claimed=self.claim(await self.asked()))
        lease = await self.lease()
        self.start(lease)
        self.say(lease, text, tokens)
        self.finish(lease, text, tokens, **changes)
        return lease

    def receipt(
        self, lease: pb.Lease, text: str, tokens: Sequence[int], *, key: OperatorKey | None = None, logits: int = 0, **changes
    ) -> Receipt:
        usage = Usage(prompt_tokens=3, completion_tokens=len(tokens))
        offer = next(one for one in self.offers if one.model == lease.order.model)
        due = cost(offer.price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        receipt = Receipt(
            job=lease.job,
            request_digest=digest_order(lease.order),
            model_digest=bytes.fromhex(offer.digest),
            profile="by hand",
            parameters=canonical_sampling(lease.order.sampling),
            seed=lease.order.sampling.seed,
            prompt_digest=digest_tokens(PROMPT),
            output_digest=text_digest(text),
            output_tokens_digest=digest_tokens(list(tokens)),
            usage=usage,
            finish_reason=FinishReason.FINISH_REASON_STOP,
            price=str(due),
            clock=self.clock,
            issued_at=1_767_225_600,
        )
        receipt.MergeFrom(Receipt(**changes))
        if "state_root" not in changes:
            receipt.operator = bytes.fromhex((key or self.key).address[2:])
            receipt.state_root = state_root(receipt, a_trace(tokens, logits)) if draws(lease.order) else NOTHING
        return sign(receipt, key or self.key)

    def fail(self, lease: pb.Lease, reason: str, *, retryable: bool, message: str = "no") -> None:
        error = pb.JobError(reason=f"ERROR_REASON_{reason}", message=message)
        self.send(failed=pb.LeaseFailed(lease=lease.id, error=error, retryable=retryable))

    def drop(self) -> None:
        """Break the stream, as a killed process does."""
        assert self.call is not None
        self.call.cancel()
