"""Makes the bundled image model. The steps, in order: outline, find, compose, export (torch), measure, card (onnxruntime)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

STEPS = ("outline", "find", "compose", "export", "measure", "card")
ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "picture_model"
TARGET = ROOT / "aos" / "models" / "aos-pictures.onnx"


def main(arguments: list[str]) -> None:
    """Runs the steps named, in the order of STEPS. Training goes on from the checkpoints in the work folder."""
    parser = argparse.ArgumentParser(prog="python -m tools.picture_model", description=__doc__)
    parser.add_argument("steps", nargs="+", choices=STEPS, help="what to do")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for the checkpoints (default: build/picture_model)")
    parser.add_argument("--model", type=Path, default=TARGET, help="the ONNX file to write and to measure")
    parser.add_argument("--threads", type=int, default=1, help="threads for training (default: 1)")
    parser.add_argument("--each", type=int, default=24, help="how many tasks of each kind are measured (default: 24)")
    options = parser.parse_args(arguments)

    # each step imports its own drivers, so that none needs what only another one uses
    if "outline" in options.steps:
        from tools.picture_model.outline import Drill, learn_outlines

        learn_outlines(options.work, Drill(), threads=options.threads)
    if "find" in options.steps:
        from tools.picture_model.find import Search, train_finder

        train_finder(options.work, Search(), threads=options.threads)
    if "compose" in options.steps:
        from tools.picture_model.compose import Recipe, train
        from tools.picture_model.model import Form

        train(options.work, Recipe(), Form(), threads=options.threads)
    if "export" in options.steps:
        from tools.picture_model.export import export

        print(f"{options.model.name}: {export(options.work, options.model):,} bytes")
    if "measure" in options.steps:
        from tools.picture_model.measure import measure

        measure(options.work, options.model, each=options.each)
    if "card" in options.steps:
        from tools.picture_model.card import write_card

        print(f"{write_card(options.work, options.model).name}: written")


if __name__ == "__main__":
    main(sys.argv[1:])
