"""The model card: what the recipe and the measurements say, as Markdown beside the model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Template

CARD = Path(__file__).with_name("card.md")
"""The text of the card, with $names for the figures."""


def write_card(work: Path, model: Path) -> Path:
    """Writes the card for ``model`` beside it, from training.json and evaluation.json in ``work``.

    Raises FileNotFoundError when the model was not yet trained or not yet evaluated there.
    """
    training = json.loads((work / "training.json").read_text("utf-8"))
    evaluation = json.loads((work / "evaluation.json").read_text("utf-8"))
    path = model.with_suffix(".md")
    path.write_text(render(CARD.read_text("utf-8"), training, evaluation, model.read_bytes()), "utf-8")
    return path


def render(text: str, training: dict, evaluation: dict, model: bytes) -> str:
    """The card's text with every figure filled in. Raises KeyError for a $name that nothing fills."""
    shape, recipe = training["shape"], training["recipe"]
    values = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "size": f"{len(model):,}",
        "parameters": f"{parameters(shape):,}",
        "minutes": f"{training['seconds'] / 60:.0f}",
        "tokens": f"{training['tokens'] / 1e6:.1f}",
        "answer_loss": f"{training['answer_loss']:.3f}",
        "steps": recipe["steps"],
        "seed": recipe["seed"],
        "samples": "\n".join(f"| {_cell(question)} | {_cell(answer)} |" for question, answer in evaluation["samples"]),
        "failed": "\n".join(f"| {_cell(question)} | {_cell(answer)} |" for question, answer in evaluation["challenge"]["failed"]),
        **{name: shape[name] for name in ("width", "layers", "heads", "kv_heads", "feed_forward", "context", "vocabulary")},
        **{name: f"{evaluation[name]:,}" for name in ("questions", "held_out_questions", "outside_asked")},
        **{name: f"{evaluation[name]:.3f}" for name in ("train_loss", "held_out_loss")},
        "outside_declined": _percent(evaluation["outside_declined"]),
    }
    for group in ("trained", "held_out", "held_out_with_slips", "held_out_after_history", "small_talk"):
        figures = evaluation[group]
        values[f"{group}_asked"] = figures["asked"]
        values |= {f"{group}_{name}": _percent(figures[name]) for name in ("exact", "near", "refused")}
    for group in ("domain", "outside"):
        values[f"challenge_{group}"] = "{} of {}".format(*evaluation["challenge"][group])
    parity = evaluation["parity"]
    values["positions"] = parity["positions"]
    for kind in ("rounded", "full"):
        values[f"same_choice_{kind}"] = _percent(parity[f"same_choice_{kind}"])
        values[f"largest_difference_{kind}"] = f"{parity[f'largest_difference_{kind}']:.3f}"
        values[f"median_difference_{kind}"] = f"{parity[f'median_difference_{kind}']:.3f}"
    return Template(text).substitute({name: str(value) for name, value in values.items()})


def parameters(shape: dict[str, int]) -> int:
    """How many numbers a model of this shape learns; the embedding counts once."""
    width, head = shape["width"], shape["width"] // shape["heads"]
    attention = 2 * width * width + 2 * width * head * shape["kv_heads"]
    block = attention + 3 * width * shape["feed_forward"] + 2 * width
    return shape["vocabulary"] * width + shape["layers"] * block + width


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
