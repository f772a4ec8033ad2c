"""Makes the demo model. The steps, in order: train and export (they need torch), evaluate and card (they need llama.cpp)."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

STEPS = ("train", "export", "evaluate", "card")
ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "demo_model"
TARGET = ROOT / "aos" / "models" / "aos-demo.gguf"


def main(arguments: list[str]) -> None:
    """Runs the steps named, in the order of STEPS."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_model", description=__doc__)
    parser.add_argument("steps", nargs="+", choices=STEPS, help="what to do")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the checkpoint (default: build/demo_model)")
    parser.add_argument("--model", type=Path, default=TARGET, help="the GGUF to write and to evaluate")
    parser.add_argument("--training-steps", type=int, help="train for fewer or more steps than the recipe says")
    parser.add_argument("--threads", type=int, default=2, help="threads for training (default: 2)")
    options = parser.parse_args(arguments)

    # each step imports its own drivers, so that none needs what only another one uses
    if "train" in options.steps:
        from tools.demo_model.model import Shape
        from tools.demo_model.train import Recipe, train

        recipe = replace(Recipe(), steps=options.training_steps) if options.training_steps else Recipe()
        print(train(options.work, recipe, Shape(), threads=options.threads))
    if "export" in options.steps:
        from tools.demo_model.export import export

        print(f"{options.model.name}: {export(options.work, options.model):,} bytes")
    if "evaluate" in options.steps:
        from tools.demo_model.evaluate import evaluate

        evaluate(options.work, options.model)
    if "card" in options.steps:
        from tools.demo_model.card import write_card

        print(f"{write_card(options.work, options.model).name}: written")


if __name__ == "__main__":
    main(sys.argv[1:])
