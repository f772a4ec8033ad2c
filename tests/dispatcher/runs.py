"""Runs of controllers as operators send them: made by hand, round by round, as an engine would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aos.control_order import argument_digest, solid_steps
from aos.operator.drawing import Drawer
from aos.order import cost
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import BranchEnd, BranchStep, Control, FinishReason, Order, Price, RunStep, Sampling, Usage
from aos.verification.receipts import sign
from aos.verification.states import state_root
from tests.dispatcher.hand import Hand
from tests.receipts import PROMPT, a_trace

CONTEXT = 1024
STOP = BranchEnd.BRANCH_END_STOP
FAIL = BranchEnd.BRANCH_END_FAIL


def an_offer(*, slots: int = 2) -> Offer:
    price = Price(prompt_token="1", completion_token="2")
    return Offer(model="m", digest="aa" * 32, context_length=CONTEXT, chat=True, price=price, slots=slots, controllers=True)


def an_order(
    controller: bytes, *, argument: str = "be brief", prompt: str = "What is AI?", max_tokens: int = 10, **fields
) -> Order:
    control = Control(controller=controller, argument=argument)
    return Order(model="m", prompt=prompt, sampling=Sampling(max_tokens=max_tokens), control=control, **fields)


@dataclass
class Run:
    """A run of one branch: each round draws or puts in tokens, the last one ends it."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)
    steps: list[RunStep] = field(default_factory=list)

    def round(
        self, text: str = "", tokens: Sequence[int] = (), *, sampled: bool = True, end: BranchEnd | None = None, **said
    ) -> Run:
        """Add a round. Its counts follow from those before: a forward pass each, over what the last one put there."""
        last = self.steps[-1] if self.steps else RunStep(ff_tokens=len(PROMPT))
        told = len(last.branches[0].tokens) if self.steps else 0
        branch = BranchStep(text=text, tokens=tokens, sampled=sampled and bool(tokens), end=end, **said)
        counts = {"sampled_tokens": last.sampled_tokens + 1, "ff_tokens": last.ff_tokens + told}
        self.steps.append(RunStep(branches=[branch], **counts))
        self.text += text
        self.tokens += tokens
        self.drawn += tokens if branch.sampled else []
        return self

    @property
    def usage(self) -> Usage:
        return Usage(prompt_tokens=self.steps[-1].ff_tokens, completion_tokens=self.steps[-1].sampled_tokens)


def a_run(*words: str) -> Run:
    """A run that draws a token a word, and then stops."""
    run = Run()
    for number, word in enumerate(words):
        run.round(word, [10 + number], logs=f"drew {number}\n", micros=7)
    return run.round(end=STOP)


def say_steps(hand: Hand, lease: pb.Lease, steps: Iterable[RunStep]) -> None:
    for step in steps:
        hand.send(chunk=pb.LeaseChunk(lease=lease.id, chunk=Chunk(run=step)))


def finish_run(hand: Hand, lease: pb.Lease, run: Run, *, record: Sequence[RunStep] | None = None, **changes) -> Receipt:
    """Say the answer's text and tokens, and end the lease with a receipt, its fields changed as told."""
    hand.say(lease, run.text, run.tokens)
    control, price = lease.order.control, hand.offers[0].price
    due = cost(price, prompt_tokens=run.usage.prompt_tokens, completion_tokens=run.usage.completion_tokens)
    stated = {
        "controller_digest": control.controller,
        "argument_digest": argument_digest(control),
        "usage": run.usage,
        "price": str(due),
        "state_root": bytes(32),
    }
    receipt = hand.receipt(lease, run.text, run.tokens, **stated | changes)
    trace = a_trace(run.drawn)
    trace.context = CONTEXT
    trace.run.extend(solid_steps(run.steps) if record is None else record)
    if not changes:
        receipt.operator = bytes.fromhex(hand.address[2:])
        receipt.state_root = state_root(receipt, trace)
    finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=sign(receipt, hand.key), trace=trace)
    if lease.HasField("draw") and hand.vrf:
        hand.send(finished=Drawer(hand.key, hand.vrf).finished(lease, finish))
    else:
        hand.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))
    return finish.receipt


def do_run(hand: Hand, lease: pb.Lease, run: Run) -> Receipt:
    hand.start(lease)
    say_steps(hand, lease, run.steps)
    return finish_run(hand, lease, run)
