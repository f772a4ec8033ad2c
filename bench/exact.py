"""What exactness costs: the exact ways of running a model against the fastest, below all scheduling; and what a replay costs.

    python -m bench.exact [--sizes 15M 110M] [--rounds 5] [--threads 1] [--context 2304]

The contexts share one set of random Q8_0 weights and take turns, round after round. Shown are medians of the process's own seconds,
so that what else the machine does counts little, as ratios to best effort's: 1.03 costs 3 %. The last line is a replay of 64 + 128
tokens, all at once, as a part of drawing them one by one in the same way.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from aos.operator.batch import Row
from aos.operator.foretold import Foretold
from aos.operator.llama import LlamaModel, Weights
from aos.operator.model import Model
from aos.operator.modes import BLOCKS, FASTEST, MIXED, Q8_0, Layout
from bench.weights import SIZES, write

LAYOUTS = {"best effort": FASTEST, "f16": BLOCKS, "q8_0": Q8_0, "f16/bf16": MIXED}
SLOTS = 4
STEPS = 16
ANSWER = 128
TOKENS = [int(token) for token in np.random.default_rng(1).integers(300, 30_000, 4096)]


def fill(model: Model, count: int) -> None:
    """Compute a prompt of so many tokens in the first slot."""
    model.reuse(0, 0, 0)
    whole = count - count % model.block if model.block else count
    for at, end in ((at, end) for part in (range(whole), range(whole, count)) for at, end in _steps(part, model.step_tokens)):
        model.decode([Row(0, 0, at, TOKENS[at:end], draws=end == count)])


def _steps(part: range, size: int) -> Iterator[tuple[int, int]]:
    return ((at, min(part.stop, at + size)) for at in range(part.start, part.stop, size))


def draw(model: Model, slots: int, past: int, steps: int) -> None:
    """Go on with the first slots, which hold ``past`` tokens, one token a step each."""
    for at in range(past, past + steps):
        model.decode([Row(slot, slot, at, [TOKENS[at]], draws=True) for slot in range(slots)])


def seconds(work: Callable[[], None]) -> float:
    """Return how long the process computed."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measures(model: LlamaModel, context: int) -> Iterator[tuple[str, float]]:
    """Yield what is measured in one round."""
    for past in (64, 512, 2000):
        if past + ANSWER > context:
            return
        prompt = seconds(lambda past=past: fill(model, past))
        for slots in (1, SLOTS):
            for slot in range(slots):
                model.reuse(slot, 0, past)
            step = seconds(lambda slots=slots, past=past: draw(model, slots, past, STEPS)) / STEPS
            yield f"a step of {slots} behind {past}", step
            if slots == 1:
                yield f"{past} in, {ANSWER} out", prompt + ANSWER * step
            for slot in range(slots):
                model.reuse(slot, slot, past)
        yield f"a prompt of {past}", prompt


def replay(model: LlamaModel) -> float:
    """Return what part of the time of drawing an answer its replay takes."""

    def answer(one: Model) -> None:
        fill(one, 64)
        draw(one, 1, 64, ANSWER)

    told = Foretold(model, TOKENS[64 : 64 + ANSWER])
    return seconds(lambda: answer(told)) / seconds(lambda: answer(model))  # pyright: ignore[reportArgumentType]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["15M", "110M"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=2304)
    given = parser.parse_args()
    for name in given.sizes:
        with tempfile.TemporaryDirectory(prefix="aos-bench-") as folder:
            weights = Weights(write(Path(folder), SIZES[name], given.context))
        show(name, weights, given.rounds, given.threads, given.context)
        weights.close()


def show(name: str, weights: Weights, rounds: int, threads: int, context: int) -> None:
    """Measure one model, and print it."""

    def opened(layout: Layout) -> LlamaModel:
        return weights.open(slots=SLOTS, context=context, threads=threads, layout=layout)

    models = {label: opened(layout) for label, layout in LAYOUTS.items()}
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for label, model in models.items():
            for what, value in measures(model, context):
                found[what][label].append(value)
            found["replay"][label].append(replay(model))
    print(f"{name:26}" + "".join(f"{label:>14}" for label in models))
    for what, by in found.items():
        medians = {label: statistics.median(values) for label, values in by.items()}
        base = 1.0 if what == "replay" else medians["best effort"]
        shown = "" if what == "replay" else f"   {base * 1000:.1f} ms"
        print(f"{what:26}" + "".join(f"{one / base:14.2f}" for one in medians.values()) + shown, flush=True)
    for model in models.values():
        model.close()


if __name__ == "__main__":
    main()
