"""How good the exported model is: measured through llama.cpp, on questions that training never saw."""

from __future__ import annotations

import difflib
import json
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.demo_model.conversations import slip
from tools.demo_model.corpus import DOMAIN, OUTSIDE, SMALL_TALK, Entry, read_corpus
from tools.demo_model.paraphrase import Question, expand
from tools.demo_model.runtime import Runtime, opened

CHALLENGE = Path(__file__).with_name("challenge.txt")

SAMPLES = (
    "What is AI?", "what is ai", "Explain inference", "Can you say what a receipt is?", "Tell me abuot nueral networks",
    "Why does AOS use VRF sampling?", "What is the difference between training and inference?", "Who are you?",
    "What is the weather in Lima?", "What is 12 + 30?", "Write a poem about rain.", "What is a lemon?",
    "Hi", "Hello", "Thank you!", "thanks",
)  # fmt: skip

NEAR = 0.8
"""Two answers this alike (share of matching characters) count as nearly the same."""


def evaluate(work: Path, model: Path, *, seed: int = 7, size: int = 500) -> dict[str, object]:
    """Measures ``model``, leaves evaluation.json in ``work`` and returns its figures.

    Compares logits with the reference that the export left in ``work``, where there is one.
    """
    rng = random.Random(seed)
    questions = expand(read_corpus())
    trained = _sample(rng, questions, size, DOMAIN, held_out=False)
    held = _sample(rng, questions, size, DOMAIN, held_out=True)
    chat = _sample(rng, questions, size, SMALL_TALK, held_out=True)
    strange = _sample(rng, questions, size, OUTSIDE, held_out=True)
    refusals = {answer for question in questions if question.entry.kind == OUTSIDE for answer in question.entry.answers}
    with opened(model) as runtime:
        figures: dict[str, object] = {
            "questions": sum(not question.held_out for question in questions),
            "held_out_questions": sum(question.held_out for question in questions),
            "train_loss": mean_loss(runtime, trained),
            "held_out_loss": mean_loss(runtime, held),
            "trained": _matches(runtime, [(question, question.text) for question in trained], refusals),
            "held_out": _matches(runtime, [(question, question.text) for question in held], refusals),
            "held_out_with_slips": _matches(runtime, [(question, slip(question.text, rng)) for question in held], refusals),
            "held_out_after_history": _matches(runtime, [(question, question.text) for question in held[: size // 2]],
                                               refusals, history=_histories(rng, trained)),
            "small_talk": _matches(runtime, [(question, question.text) for question in chat], refusals),
            "outside_declined": declined(runtime, strange, refusals),
            "outside_asked": len(strange),
            "challenge": challenge(runtime, CHALLENGE.read_text("utf-8"), refusals),
            "samples": [(text, runtime.answer(("user", text))) for text in SAMPLES],
        }  # fmt: skip
        reference = work / "reference.npz"
        if reference.exists():
            figures["parity"] = parity(runtime, dict(np.load(reference)))
    work.mkdir(parents=True, exist_ok=True)
    (work / "evaluation.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    return figures


def mean_loss(runtime: Runtime, questions: Iterable[Question]) -> float:
    """Mean loss per answer token over the questions; of several wordings the likeliest counts."""
    total, count = 0.0, 0
    for question in tqdm(list(questions), desc="loss", leave=False):
        loss, tokens = min(runtime.loss(question.text, answer) for answer in question.entry.answers)
        total, count = total + loss, count + tokens
    return total / count


def declined(runtime: Runtime, questions: list[Question], refusals: set[str]) -> float:
    """The share of the questions that are answered with one of the refusals, word for word or nearly."""
    answers = [runtime.answer(("user", question.text)) for question in tqdm(questions, desc="outside", leave=False)]
    return sum(_is_refusal(answer, refusals) for answer in answers) / len(questions)


def challenge(runtime: Runtime, text: str, refusals: set[str]) -> dict[str, object]:
    """How many lines of a challenge file come out as it asks, and those that do not."""
    lines = [line.split(" => ") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    failed, counts = [], {"domain": [0, 0], "outside": [0, 0]}
    for question, expected in lines:
        answer = runtime.answer(("user", question))
        if outside := expected == "REFUSE":
            good = _is_refusal(answer, refusals)
        else:
            good = any(word.lower() in answer.lower() for word in expected.split(", ")) and not _is_refusal(answer, refusals)
        tally = counts["outside" if outside else "domain"]
        tally[0] += good
        tally[1] += 1
        if not good:
            failed.append((question, answer))
    return {**counts, "failed": failed}


def parity(runtime: Runtime, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """How far llama.cpp's logits lie from torch's, with torch holding the same Q8_0 weights and the unrounded ones."""
    figures: dict[str, list[np.ndarray]] = {}
    for index in range(int(reference["count"])):
        ours = runtime.logits(reference[f"ids{index}"].tolist())
        for kind in ("rounded", "full"):
            theirs = reference[f"{kind}{index}"]
            figures.setdefault(f"same_choice_{kind}", []).append(ours.argmax(1) == theirs.argmax(1))
            figures.setdefault(f"difference_{kind}", []).append(np.abs(ours - theirs).max(1))
    joined = {name: np.concatenate(parts) for name, parts in figures.items()}
    return {
        "positions": int(joined["same_choice_full"].size),
        **{f"same_choice_{kind}": float(joined[f"same_choice_{kind}"].mean()) for kind in ("rounded", "full")},
        **{f"largest_difference_{kind}": float(joined[f"difference_{kind}"].max()) for kind in ("rounded", "full")},
        **{f"median_difference_{kind}": float(np.median(joined[f"difference_{kind}"])) for kind in ("rounded", "full")},
    }


def _matches(
    runtime: Runtime, asked: list[tuple[Question, str]], refusals: set[str], history: list[list[tuple[str, str]]] | None = None
) -> dict[str, float]:
    exact = near = refused = 0
    for index, (question, text) in enumerate(tqdm(asked, desc="answers", leave=False)):
        before = history[index % len(history)] if history else []
        answer = runtime.answer(*before, ("user", text))
        exact += answer in question.entry.answers
        near += _near(answer, question.entry)
        refused += _is_refusal(answer, refusals)
    return {"asked": len(asked), "exact": exact / len(asked), "near": near / len(asked), "refused": refused / len(asked)}


def _histories(rng: random.Random, questions: list[Question], count: int = 50) -> list[list[tuple[str, str]]]:
    return [
        [
            message
            for question in rng.sample(questions, rng.randint(1, 6))
            for message in (("user", question.text), ("assistant", question.entry.answers[0]))
        ]
        for _ in range(count)
    ]


def _near(answer: str, entry: Entry) -> bool:
    return any(_alike(answer, right) for right in entry.answers)


def _is_refusal(answer: str, refusals: set[str]) -> bool:
    return answer in refusals or any(_alike(answer, refusal) for refusal in refusals)


def _alike(one: str, other: str) -> bool:
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    # the first two are cheap upper bounds of the last
    return min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= NEAR and matcher.ratio() >= NEAR


def _sample(rng: random.Random, questions: list[Question], size: int, kind: str, *, held_out: bool) -> list[Question]:
    some = [question for question in questions if question.entry.kind == kind and question.held_out == held_out]
    return rng.sample(some, min(size, len(some)))
