"""What proof costs, and what it finds.

    python -m bench.verify [--sizes demo 110M] [--rounds 5] [--jobs 40] [--threads 1]

First, how long a VRF proof takes. Then, for each model, an answer of 128 tokens: what keeping its steps adds to generating it, what
hashing its trees and signing take, and what its replay takes, all as parts of generating it with nothing of that; medians of rounds
that take turns, by the clock and in the process's own seconds, of all its threads. Last, a table: of so many false answers of 128
tokens by a 15M model, in how many replay finds the lie. That model is nearly flat, so another temperature shows at once. The
bundled model is sure of its tokens, and often gives the same answer at both: of its answers it is said how many those are, and in
how many of the others the lie is found. All goes through what operators and `aos verify` run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import gguf

from aos.clock import SystemClock
from aos.operator import engine as engines
from aos.operator.engine import Engine
from aos.operator.llama import LlamaModel, load
from aos.operator.pool import Pool
from aos.operator.replay import replay_on
from aos.operator.runner import Runner
from aos.operator.sampling import Logits
from aos.operator.steps import Steps
from aos.operator.stream import End
from aos.order import canonical_sampling, cost, digest_order, digest_tokens, with_defaults
from aos.settings import bundled_model
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.operator_pb2 import Finish, Trace
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Order, Price, Sampling
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_bundle, sign, text_digest
from aos.verification.states import state_root
from aos.verification.trace import read_steps
from aos.verification.vrf import VrfKey, verify
from bench.weights import SIZES, write

TOKENS = 128
CONTEXT = 1024
PRICE = Price(prompt_token="1", completion_token="2")
PROMPT = "w00001w00042w00777w01234w04242w00815" * 2
KEY = OperatorKey.create()


class Unseen(Steps):
    """Keeps nothing: an operator without proof."""

    def saw(self, token: int, logits: Logits) -> None:
        """Take no notice."""

    def packed(self) -> bytes:
        """Return no steps."""
        return b""


def an_order(model: LlamaModel, number: int, **sampling: float) -> Order:
    """Return an order that no other number has, for an answer of 128 tokens."""
    given = {"temperature": 1.0, "max_tokens": TOKENS, "seed": number + 1, **sampling}
    order = Order(model="m", prompt=f"w{number:05}{PROMPT}", sampling=Sampling(**given))  # pyright: ignore[reportArgumentType]
    order.sampling.logit_bias.update(dict.fromkeys(model.ends, -100.0))  # nothing ends it early
    return with_defaults(order, job=bytes(32))


@asynccontextmanager
async def operating(model: LlamaModel) -> AsyncGenerator[Runner]:
    """Let an operator run on the model."""
    async with Pool({"m": model}) as pool:
        yield Runner(KEY, pool, price=PRICE, clock=SystemClock())


async def answered(runner: Runner, order: Order) -> ReceiptBundle:
    """Return an answer with all that proves it."""
    made = ReceiptBundle(order=order, price=PRICE)
    async for event in runner.run(order, job=bytes(32)):
        if isinstance(event, Finish):
            made.receipt.CopyFrom(event.receipt)
            made.trace.CopyFrom(event.trace)
        else:
            made.output += event.text
            made.output_tokens.extend(event.tokens)
    return made


async def proven(model: LlamaModel, order: Order) -> ReceiptBundle:
    """Compute an answer, and sign for it."""
    async with operating(model) as runner:
        return await answered(runner, order)


class Spent:
    """What passed by the clock, and of the process's own seconds."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Return both since this was made."""
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


async def generated(engine: Engine, order: Order) -> End:
    """Return the end of an answer."""
    async with aclosing(engine.generate(order)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End):
                return piece
    raise AssertionError("every answer ends")


def stated(made: ReceiptBundle, end: End) -> None:
    """Do what an operator does once an answer has ended: hash its trees, and sign."""
    steps = b"" if end.steps is None else end.steps.packed()
    receipt = Receipt()
    receipt.CopyFrom(made.receipt)
    receipt.state_root = state_root(receipt, Trace(prompt_tokens=end.prompt, steps=steps))
    sign(receipt, KEY)


async def costs(model: LlamaModel, rounds: int) -> None:
    """Print what proof costs on one model."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    real = engines.Steps
    for number in range(-1, rounds):
        order = an_order(model, number + 100)
        made = await proven(model, order)
        model.clear()
        now: dict[str, tuple[float, float]] = {}
        async with Engine("m", model, slots=1) as engine:
            kinds = [("plain", Unseen), ("steps", real)]
            for what, kind in kinds if number % 2 else reversed(kinds):
                engines.Steps = kind
                model.clear()
                engine._batcher.rewind()  # pyright: ignore[reportPrivateUsage]  # nothing is reused
                spent = Spent()
                end = await generated(engine, order)
                now[what] = spent.seconds()
            engines.Steps = real
            end = await generated(engine, order)
            spent = Spent()
            stated(made, end)
            now["stated"] = spent.seconds()
        model.clear()
        spent = Spent()
        await replay_on(made, model)
        now["replay"] = spent.seconds()
        if number >= 0:  # the first warms up
            for what, seconds in now.items():
                found[what].append(seconds)
    for kind, name in enumerate(("by the clock", "process's own")):
        plain = statistics.median(one[kind] for one in found["plain"])
        share = {what: statistics.median(one[kind] for one in found[what]) / plain for what in ("steps", "stated", "replay")}
        print(
            f"  {name:14}{plain / TOKENS * 1e3:7.2f} ms a token; steps {share['steps'] - 1:+6.1%}, trees and signature"
            f" {share['stated']:+6.1%}; replay {share['replay']:.2f}x",
            flush=True,
        )


def forged(made: ReceiptBundle, order: Order, model: LlamaModel, edit: int | None = None) -> ReceiptBundle:
    """Return the answer as one to ``order`` by ``model``, signed for, with nothing in it that contradicts that.

    ``edit``: where in the answer to put another token.
    """
    lie = ReceiptBundle(order=order, price=PRICE, output_tokens=made.output_tokens)
    prompt, steps = model.tokenise(order), read_steps(made.trace.steps)
    if edit is not None:
        lie.output_tokens[edit] = next(token for token, _ in steps[edit].top if token != lie.output_tokens[edit])
        steps[edit] = replace(steps[edit], token=lie.output_tokens[edit])
    lie.output = b"".join(model.piece(token) for token in lie.output_tokens).decode(errors="replace")
    lie.trace.CopyFrom(Trace(prompt_tokens=prompt, steps=b"".join(step.packed() for step in steps)))
    receipt = Receipt()
    receipt.CopyFrom(made.receipt)
    receipt.request_digest, receipt.parameters = digest_order(order), canonical_sampling(order.sampling)
    receipt.seed, receipt.model_digest, receipt.profile = order.sampling.seed, bytes.fromhex(model.digest), model.profile
    receipt.prompt_digest, receipt.output_tokens_digest = digest_tokens(prompt), digest_tokens(list(lie.output_tokens))
    receipt.output_digest, receipt.usage.prompt_tokens = text_digest(lie.output), len(prompt)
    receipt.price = str(cost(PRICE, prompt_tokens=len(prompt), completion_tokens=receipt.usage.completion_tokens))
    receipt.state_root = state_root(receipt, lie.trace)
    lie.receipt.CopyFrom(sign(receipt, KEY))
    return lie


def cut(order: Order) -> Order:
    """Return the order with the first half of its prompt."""
    short = Order()
    short.CopyFrom(order)
    short.prompt = order.prompt[: len(order.prompt) // 2]
    return short


async def detection(model: LlamaModel, swapped: LlamaModel, jobs: int) -> None:
    """Print in how many answers each lie is found, and where; the last line is of answers without one."""
    print(f"{'lie':28}{'contradicts itself':>20}{'found by replay':>18}{'first step, median':>20}")
    for lie in ("swapped model, Q4_0", "wrong seed", "wrong temperature, 0.9 for 1", "truncated prompt", "edited output", "none"):
        seen, caught, places = 0, 0, list[int]()
        for number in range(jobs):
            order, edit = an_order(model, number), None
            ran, runs = order, model
            match lie.split(",")[0]:
                case "swapped model":
                    runs = swapped
                case "wrong seed":
                    ran = an_order(model, number, seed=number + 7919)
                case "wrong temperature":
                    ran = an_order(model, number, temperature=0.9)
                case "truncated prompt":
                    ran = cut(order)
                case "edited output":
                    edit = (number * 37) % TOKENS
                case _:
                    pass
            told = forged(await proven(runs, ran), order, model, edit)
            seen += any(finding.good is False for finding in check_bundle(told))
            model.clear()
            finding = await replay_on(told, model)
            caught += finding.good is False
            if at := re.search(r"(?:step|token) (\d+)", finding.why):
                places.append(int(at[1]))
        median = f"{statistics.median(places):.0f}" if places else "-"
        print(f"{lie:28}{f'{seen} of {jobs}':>20}{f'{caught} of {jobs}':>18}{median:>20}", flush=True)


ASKED = ("What is AI?", "What is a receipt?", "How does a model learn?", "What is an operator?", "What is a token?")


def a_question(number: int, temperature: float) -> Order:
    """Return an order that the bundled model has an answer to, which ends by itself."""
    sampling = Sampling(temperature=temperature, max_tokens=TOKENS, seed=number + 1)
    return with_defaults(Order(model="m", prompt=ASKED[number % len(ASKED)], sampling=sampling), job=bytes(32))


async def temperatures(model: LlamaModel, jobs: int) -> None:
    """Print in how many answers another temperature than was asked for makes a difference, and in how many of these it is found."""
    for temperature in (0.9, 0.5, 0.0):
        same, caught = 0, 0
        for number in range(jobs):
            order = a_question(number, 1.0)
            model.clear()
            honest = await proven(model, order)
            model.clear()
            told = forged(await proven(model, a_question(number, temperature)), order, model)
            if told.output_tokens == honest.output_tokens:
                same += 1
            model.clear()
            caught += (await replay_on(told, model)).good is False
        print(f"  {temperature:g} for 1: the same answer in {same} of {jobs}, found in {caught} of {jobs - same}", flush=True)


def vrf(rounds: int = 200) -> None:
    """Print what a VRF proof costs."""
    key, times = VrfKey(os.urandom(32)), {"prove": list[float](), "verify": list[float]()}
    for number in range(rounds):
        began = time.perf_counter()
        proof = key.prove(b"job %d" % number)
        proved = time.perf_counter()
        verify(key.public, b"job %d" % number, proof)
        times["prove"].append(proved - began)
        times["verify"].append(time.perf_counter() - proved)
    print("VRF: " + ", ".join(f"{what} {statistics.median(one) * 1e3:.2f} ms" for what, one in times.items()), flush=True)


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", choices=["demo", *SIZES], default=["demo", "110M"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=40, help="of each lie; 0: no table")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    vrf()
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as name:
        folder = Path(name)
        for size in given.sizes:
            path = bundled_model() if size == "demo" else write(folder, SIZES[size], CONTEXT)
            with opened(path, given.threads) as model:
                print(f"{size}, {model.profile}")
                asyncio.run(costs(model, given.rounds))
        if given.jobs:
            honest = write(folder, SIZES["15M"], CONTEXT)
            swapped = write(folder, SIZES["15M"], CONTEXT, gguf.GGMLQuantizationType.Q4_0)
            with opened(honest, given.threads) as model, opened(swapped, given.threads) as other:
                asyncio.run(detection(model, other, given.jobs))
            with opened(bundled_model(), given.threads) as model:
                print("wrong temperature, demo")
                asyncio.run(temperatures(model, given.jobs))


@contextmanager
def opened(path: Path, threads: int) -> Generator[LlamaModel]:
    """Open a file with room for one answer."""
    model = load(path, slots=1, context=CONTEXT, threads=threads)
    try:
        yield model
    finally:
        model.close()


if __name__ == "__main__":
    main()
