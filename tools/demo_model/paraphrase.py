"""In how many ways a question can be asked: turns entries into questions, and holds some back.

Pure and without randomness: which questions are held out depends on their text alone, so adding an
entry never moves another one from one side to the other.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from tools.demo_model.corpus import OUTSIDE, Entry

HELD_OUT_SHARE = 0.07
"""Share of questions that training never sees."""

_MARKS = (
    string.punctuation + "\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{EN DASH}"
)

_SHORTEST_TO_WRAP = 12
"""Characters below which a question is an exclamation, and "Please tell me: Hi." makes no sense."""

_WHAT = (
    "What {is} {x}?", "What's {x}?", "Explain {x}.", "Tell me about {x}.", "Can you say what {x} {is}?",
    "Can you explain {x}?", "Define {x}.", "What does {x} mean?", "Describe {x}.", "Please explain {x}.",
    "I want to know what {x} {is}.", "{x}?", "What exactly {is} {x}?", "Give me a short definition of {x}.",
    "In simple words, what {is} {x}?", "Do you know what {x} {is}?", "Help me understand {x}.",
    "Could you tell me what {x} {is}?", "How would you define {x}?", "What do you know about {x}?",
    "I have heard of {x}. What {is} {it}?", "What is meant by {x}?", "Tell me what {x} {is}.", "What about {x}?",
    "Can you tell me about {x}?", "Can you describe {x} briefly?", "What can you tell me about {x}?",
    "Explain {x} to a beginner.", "Explain what {x} {is}.", "Say what {x} {is} in a few words.",
    "What {is} {x} in one sentence?", "Let's talk about {x}.", "Could you explain {x} to me, please?",
    "I do not understand {x}.", "{is_cap} {x} important? What {is} {it}?", "What sort of thing {is} {x}?",
    "Remind me what {x} {is}.", "So what {is} {x}?", "Who can tell me what {x} {is}?", "Say something about {x}.",
    "I'd like to learn about {x}.", "Give me an explanation of {x}.", "What, then, {is} {x}?",
)  # fmt: skip

_HOW = (
    "How {does} {s} {inf}?", "Explain how {s} {verb}.", "Can you explain how {s} {verb}?", "Tell me how {s} {verb}.",
    "In what way {does} {s} {inf}?", "Describe how {s} {verb}.", "Do you know how {s} {verb}?",
    "How exactly {does} {s} {inf}?", "I would like to know how {s} {verb}.", "Please say how {s} {verb}.",
    "Can you tell me how {s} {verb}?", "How is it that {s} {verb}?", "In simple words, how {does} {s} {inf}?",
    "I wonder how {s} {verb}.", "Help me understand how {s} {verb}.",
)  # fmt: skip

_WHY = (
    "Why {does} {s} {inf}?", "Explain why {s} {verb}.", "Can you explain why {s} {verb}?", "Tell me why {s} {verb}.",
    "What is the reason that {s} {verb}?", "Why is it that {s} {verb}?", "Do you know why {s} {verb}?",
    "Why exactly {does} {s} {inf}?", "I would like to know why {s} {verb}.", "For what reason {does} {s} {inf}?",
    "Please say why {s} {verb}.", "How come {s} {verb}?", "Can you tell me why {s} {verb}?",
)  # fmt: skip

_VERSUS = (
    "What is the difference between {a} and {b}?", "How do {a} and {b} differ?", "{a} vs {b}?", "Compare {a} and {b}.",
    "Is {a} the same as {b}?", "What sets {a} apart from {b}?", "Explain the difference between {a} and {b}.",
    "{a} or {b}: what is the difference?", "How is {a} different from {b}?", "Are {a} and {b} the same thing?",
    "Can you compare {a} with {b}?", "What's the difference between {a} and {b}?",
    "Tell me the difference between {a} and {b}.", "How does {a} differ from {b}?",
)  # fmt: skip

_FREE = (
    "{q}", "I have a question. {q}", "Please tell me: {q}", "Can you help me? {q}", "Question: {q}", "{q} Please explain.",
    "I wonder: {q}", "A short answer, please: {q}", "Tell me, {q_low}", "One question: {q}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """One way of asking for one entry."""

    entry: Entry
    text: str
    held_out: bool


def expand(entries: list[Entry]) -> list[Question]:
    """Every question that the corpus can ask, each once.

    Where two entries could be asked in the same words, the first keeps them. Spelling variants
    (case, final punctuation) count as the same words, so none of them crosses the hold-out line.
    """
    seen: set[str] = set()
    questions = []
    for entry in entries:
        for index, (unit, text) in enumerate(_forms(entry)):
            key = plain(text)
            if not key or key in seen:
                continue
            seen.add(key)
            first = index == 0 and entry.kind != OUTSIDE
            questions.append(Question(entry, text, not first and _share(plain(unit)) < HELD_OUT_SHARE))
    return questions


def plain(text: str) -> str:
    """The text in lower case, with punctuation gone and spaces single: equal for mere spelling variants."""
    kept = "".join(" " if char in _MARKS else char for char in text.lower())
    return " ".join(kept.split())


def _forms(entry: Entry) -> Iterator[tuple[str, str]]:
    """(unit of hold-out, question). Outside the domain the unit is the subject, not the wording:
    what counts there is whether a subject never met is declined.
    """
    outside = entry.kind == OUTSIDE
    for key, parts in entry.asked:
        if key in {"what", "whats"}:
            for name, form in itertools.product(parts, _WHAT):
                text = _what(form, name, plural=key == "whats")
                yield (name if outside else text), text
        elif key in {"how", "hows", "why", "whys"}:
            for form in _HOW if key.startswith("how") else _WHY:
                text = _clause(form, parts)
                yield (parts[0] + parts[1] if outside else text), text
        elif key == "vs":
            for (a, b), form in itertools.product((parts, parts[::-1]), _VERSUS):
                text = _capital(form.format(a=a, b=b))
                yield (parts[0] + parts[1] if outside else text), text
        else:
            for question in (filled for ask in parts for filled in _fill(ask, entry.slots)):
                wrappers = _FREE[:1] if outside or len(question) < _SHORTEST_TO_WRAP else _FREE
                for form in wrappers:
                    yield (
                        question if outside else form.format(q=question, q_low=""),
                        form.format(q=question, q_low=_small(question)),
                    )


def _what(form: str, name: str, *, plural: bool) -> str:
    if plural:
        form = form.replace("What's", "What are").replace("does {x} mean", "do {x} mean")
    words = {"is": "are", "it": "they", "is_cap": "Are"} if plural else {"is": "is", "it": "it", "is_cap": "Is"}
    return _capital(form.format(x=name, **words))


def _clause(form: str, parts: tuple[str, ...]) -> str:
    subject, verb, *infinitive = parts  # a plural has none of its own: "receipts work", "do receipts work"
    return _capital(form.format(s=subject, verb=verb, inf=(*infinitive, verb)[0], does="does" if infinitive else "do"))


def _fill(ask: str, slots: dict[str, tuple[str, ...]]) -> Iterator[str]:
    names = list(dict.fromkeys(re.findall(r"\{(\w+)\}", ask)))
    for values in itertools.product(*(slots[name] for name in names)):
        yield ask.format(**dict(zip(names, values, strict=True)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    second = text[1:2]
    return text if second.isupper() or second == " " else text[:1].lower() + text[1:]


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
