"""A model server's answer as the network's: chunks, and a receipt that says whose word it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from aos.clock import Clock
from aos.errors import AnswerBroken
from aos.operator.upstream import Answered
from aos.operator.upstream_group import Group
from aos.order import canonical_sampling, cost, digest_order
from aos.picture_order import digest_input, digest_pictures, picture_tokens
from aos.pictures import ENCODER
from aos.v1.operator_pb2 import Chunk, Finish, LoadedModel
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Order, Picture, Price, Usage, VectorClock
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign, text_digest
from aos.verification.states import NOTHING
from aos.verification.upstream import NO_TOKENS, PROFILE, name_digest, picture_profile, profile_of

RESUMED = "an earlier operator was lost in mid-answer, and a model server cannot go on with another's answer"


async def answering(
    group: Group,
    order: Order,
    *,
    job: bytes,
    resumed: bool,
    seconds: float | None,
    key: OperatorKey,
    price: Price,
    clock: Clock,
    tick: Callable[[], VectorClock],
) -> AsyncGenerator[Chunk | Finish]:
    """Stream chunks, which have no tokens, then the finish. ``order`` has its defaults stated, and its files their names.

    ``resumed`` is whether some of the answer has been sent by another; ``tick`` counts one event. Raises what Group.generate
    and Group.draw raise, and AnswerBroken at once where there is something to go on from.
    """
    if resumed:
        raise AnswerBroken(order.model, RESUMED)
    if order.HasField("picture"):
        made = list[Picture]()
        async with aclosing(group.draw(order, seconds=seconds)) as drawn:
            async for picture in drawn:
                yield Chunk(pictures=[picture])
                made.append(Picture(sha256=picture.sha256, width=picture.width, height=picture.height, size=picture.size))
        now = int(clock.now().timestamp())
        receipt = await asyncio.to_thread(_signed_pictures, key, order, job, made, price, tick(), now)
        yield Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=receipt)
        return
    text = list[str]()
    async with aclosing(group.generate(order, seconds=seconds)) as said:
        async for one in said:
            if isinstance(one, str):
                text.append(one)
                yield Chunk(text=one)
            else:
                now = int(clock.now().timestamp())
                # hashing a long order, and secp256k1 in Python, take milliseconds
                receipt = await asyncio.to_thread(_signed, key, order, job, "".join(text), one, price, tick(), now)
                yield Finish(reason=one.reason, stop=one.stop, receipt=receipt)


def described(group: Group) -> LoadedModel:
    """Return a registered model, as the operator describes those that it runs; it is loaded if one of its servers may be used."""
    return LoadedModel(
        name=group.model,
        digest=name_digest(group.model).hex(),
        context_length=group.context,
        chat=not group.pictures,
        profile=PROFILE,
        running=sum(one.upstream.running for one in group.members),
        slots=sum(one.upstream.slots for one in group.usable),
        loaded=bool(group.usable),
        images=group.pictures,
    )


def _signed(
    key: OperatorKey, order: Order, job: bytes, text: str, end: Answered, price: Price, clock: VectorClock, issued_at: int
) -> Receipt:
    usage = Usage(prompt_tokens=end.prompt_tokens, completion_tokens=end.completion_tokens)
    unsigned = _receipt(order, job, usage, price, clock, issued_at)
    unsigned.profile, unsigned.finish_reason = profile_of(counted=end.counted), end.reason
    unsigned.prompt_digest, unsigned.output_digest = NO_TOKENS, text_digest(text)
    return sign(unsigned, key)


def _signed_pictures(
    key: OperatorKey, order: Order, job: bytes, made: Sequence[Picture], price: Price, clock: VectorClock, issued_at: int
) -> Receipt:
    prompt, completion = picture_tokens(order.picture)
    unsigned = _receipt(order, job, Usage(prompt_tokens=prompt, completion_tokens=completion), price, clock, issued_at)
    unsigned.profile, unsigned.finish_reason = picture_profile(ENCODER), FinishReason.FINISH_REASON_STOP
    unsigned.prompt_digest, unsigned.output_digest = digest_input(order.picture), digest_pictures(made)
    return sign(unsigned, key)


def _receipt(order: Order, job: bytes, usage: Usage, price: Price, clock: VectorClock, issued_at: int) -> Receipt:
    """Return what is the same in all of them."""
    return Receipt(
        job=job,
        request_digest=digest_order(order),
        model_digest=name_digest(order.model),
        parameters=canonical_sampling(order.sampling),
        seed=order.sampling.seed,
        output_tokens_digest=NO_TOKENS,
        usage=usage,
        price=str(cost(price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)),
        clock=clock,
        issued_at=issued_at,
        state_root=NOTHING,
    )
