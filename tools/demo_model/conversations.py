"""What one training conversation looks like: draws questions into dialogues, with the slips people make.

Everything random comes from the generator handed in, so a seed fixes every conversation.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from tools.demo_model.corpus import DOMAIN, OUTSIDE, SMALL_TALK, Entry
from tools.demo_model.paraphrase import Question

SHARES = {DOMAIN: 0.66, OUTSIDE: 0.27, SMALL_TALK: 0.07}
"""How often a turn is drawn from each part of the corpus."""

RAW_SHARE = 0.08
"""Share of conversations without chat markup: a prompt handed in as plain text, then its answer."""

SYSTEM_SHARE = 0.3
"""Share of the others that begin with a system message."""

OPENED, CLOSED, UNMARKED, LOWER, UPPER = 0.08, 0.05, 0.3, 0.3, 0.02
"""How often a question has words before it, words after it, no final mark, only small or only capital letters."""

TYPOS = (0.18, 0.06)
"""How often it has a typing error, and how often another."""

LONG_WORD = 5
"""Letters from which on a word is long enough to be mistyped and still be known."""

SYSTEMS = (
    "You are a helpful assistant.", "You are aos-demo, a small model that answers questions about AI and the AOS network.",
    "You are a helpful AI assistant. Answer briefly.", "Answer the user's question in plain English.",
    "You are AOS.", "You are a concise assistant.", "Be polite and brief.", "You are a friendly teacher.",
    "You are a helpful, honest assistant. Say so when you do not know.", "Respond in one or two sentences.",
)  # fmt: skip

MORE_QUESTIONS = (
    "Tell me more.", "More, please.", "Can you say more about that?", "Go on.", "Please go on.", "Say more.",
    "Could you tell me more?", "What else?", "Can you add something?", "Anything else?", "Tell me more about it.",
    "Continue.", "I would like to hear more.", "More details, please.",
)  # fmt: skip

NO_MORE = "That is all I have learned about it. You could ask me about a term near it."

_OPENERS = ("Hello! ", "Hi, ", "Hey, ", "OK, ", "So, ", "And ", "Please, ", "Hi! ", "Good day. ", "Well, ")
_CLOSERS = (" Thanks!", " Thank you.", " Please.", " I'm curious.", " Answer briefly.", " 🙂")
_NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wqreytiuopsadgfhkjlxzvcbmn", strict=True))


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages as (role, content). Raw ones have one prompt and one answer and no markup."""

    messages: tuple[tuple[str, str], ...]
    raw: bool = False


class Practice:
    """Draws conversations from questions. Entries of one kind are drawn by weight, then one of their questions."""

    def __init__(self, questions: Iterable[Question]) -> None:
        by_entry: dict[int, list[Question]] = {}
        for question in questions:
            by_entry.setdefault(id(question.entry), []).append(question)
        self._pools: dict[str, tuple[list[list[Question]], list[float]]] = {}
        for group in by_entry.values():
            pools = self._pools.setdefault(group[0].entry.kind, ([], []))
            pools[0].append(group)
            pools[1].append(group[0].entry.weight)

    def draw(self, rng: random.Random) -> Conversation:
        """One conversation of one to eight turns; most are short."""
        if rng.random() < RAW_SHARE:
            question = self._question(rng)
            return Conversation((("user", slip(question.text, rng)), ("assistant", _answer(question.entry, rng))), raw=True)
        messages = [("system", rng.choice(SYSTEMS))] if rng.random() < SYSTEM_SHARE else []
        turns = rng.choices((1, 2, 3, 5, 8), (50, 22, 14, 10, 4))[0]
        while turns > 0:
            question = self._question(rng)
            messages += [("user", slip(question.text, rng)), ("assistant", _answer(question.entry, rng))]
            turns -= 1
            if question.entry.kind == DOMAIN and rng.random() < (0.35 if question.entry.more else 0.04):
                messages += [("user", slip(rng.choice(MORE_QUESTIONS), rng)), ("assistant", question.entry.more or NO_MORE)]
        return Conversation(tuple(messages))

    def _question(self, rng: random.Random) -> Question:
        kinds = list(self._pools)
        groups, weights = self._pools[rng.choices(kinds, [SHARES[kind] for kind in kinds])[0]]
        return rng.choice(rng.choices(groups, weights)[0])


def slip(text: str, rng: random.Random) -> str:
    """The question as a hurried person types it: often unchanged, else with other case, mark, opener or a typo."""
    if rng.random() < OPENED:
        text = rng.choice(_OPENERS) + text
    if rng.random() < CLOSED:
        text += rng.choice(_CLOSERS)
    if rng.random() < UNMARKED:
        text = text.rstrip("?.")
    for chance in TYPOS:
        if rng.random() < chance:
            text = typo(text, rng)
    case = rng.random()
    if case < LOWER:
        text = text.lower()
    elif case < LOWER + UPPER:
        text = text.upper()
    return text


def typo(text: str, rng: random.Random) -> str:
    """One letter inside a word of five or more dropped, doubled, swapped with the next or hit beside its key."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= LONG_WORD]
    if not long:
        return text
    index = rng.choice(long)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    words[index] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + _NEIGHBOURS.get(word[at], word[at]) + word[at + 1 :],
        )
    )
    return " ".join(words)


def _answer(entry: Entry, rng: random.Random) -> str:
    return rng.choice(entry.answers)
