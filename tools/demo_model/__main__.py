"""Makes the demo model: `python -m tools.demo_model` trains, exports and evaluates it; the parts run alone as well."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "demo_model"
TARGET = ROOT / "aos" / "models" / "aos-demo.gguf"


def main(arguments: list[str]) -> None:
    """Runs the steps named, all of them when none is."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_model", description=__doc__)
    parser.add_argument("steps", nargs="*", metavar="train|export|evaluate", help="default: all three, in this order")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the checkpoint (default: build/demo_model)")
    parser.add_argument("--model", type=Path, default=TARGET, help="the GGUF to write and to evaluate")
    parser.add_argument("--training-steps", type=int, help="train for fewer or more steps than the recipe says")
    parser.add_argument("--threads", type=int, default=2, help="threads for training (default: 2)")
    options = parser.parse_args(arguments)
    steps = options.steps or ["train", "export", "evaluate"]
    if unknown := set(steps) - {"train", "export", "evaluate"}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")

    # each step imports its own drivers, so that none needs what only another one uses
    if "train" in steps:
        from tools.demo_model.model import Shape
        from tools.demo_model.train import Recipe, train

        recipe = replace(Recipe(), steps=options.training_steps) if options.training_steps else Recipe()
        print(train(options.work, recipe, Shape(), threads=options.threads))
    if "export" in steps:
        from tools.demo_model.export import export

        print(f"{options.model.name}: {export(options.work, options.model):,} bytes")
    if "evaluate" in steps:
        from tools.demo_model.evaluate import evaluate

        evaluate(options.work, options.model)


if __name__ == "__main__":
    main(sys.argv[1:])
