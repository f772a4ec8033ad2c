"""A model server's answer as the network's: chunks, and a receipt that says whose word it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aos.clock import Clock
from aos.errors import AnswerBroken
from aos.operator.upstream import Answered
from aos.operator.upstream_group import Group
from aos.order import canonical_sampling, cost, digest_order
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order, Price, Usage, VectorClock
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign, text_digest
from aos.verification.states import NOTHING
from aos.verification.upstream import NO_TOKENS, name_digest, profile_of

RESUMED = "an earlier operator was lost in mid-answer, and a model server cannot go on with another's text"


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
    """Stream chunks, which have no tokens, then the finish. ``order`` has its defaults stated.

    ``resumed`` is whether some of the answer has been sent by another; ``tick`` counts one event. Raises what Group.generate
    raises, and AnswerBroken at once where there is something to go on from.
    """
    if resumed:
        raise AnswerBroken(order.model, RESUMED)
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


def _signed(
    key: OperatorKey, order: Order, job: bytes, text: str, end: Answered, price: Price, clock: VectorClock, issued_at: int
) -> Receipt:
    usage = Usage(prompt_tokens=end.prompt_tokens, completion_tokens=end.completion_tokens)
    unsigned = Receipt(
        job=job,
        request_digest=digest_order(order),
        model_digest=name_digest(order.model),
        profile=profile_of(counted=end.counted),
        parameters=canonical_sampling(order.sampling),
        seed=order.sampling.seed,
        prompt_digest=NO_TOKENS,
        output_digest=text_digest(text),
        output_tokens_digest=NO_TOKENS,
        usage=usage,
        finish_reason=end.reason,
        price=str(cost(price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)),
        clock=clock,
        issued_at=issued_at,
        state_root=NOTHING,
    )
    return sign(unsigned, key)
