"""What the demo model is taught: reads the topic files into entries. Pure but for reading them.

A topic file is plain text. Blank lines part its entries, `#` starts a comment line, an indented line
continues the one above, and `|` parts alternatives. The keys of an entry:

    what / whats   names of a thing (singular / plural); every way of asking for it is made from them
    how / hows     subject | "generates text" | "generate text"; the plural needs no third part
    why / whys     the same three parts
    vs             two names whose difference is asked
    ask            questions as they stand; {slot} stands for each value of that slot
    slot NAME      the values of a slot
    say            the answer; `||` parts equally good wordings
    more           the answer to "tell me more" after it
    weight         how often to practise it, 1 when absent
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

CORPUS_DIR = Path(__file__).parent / "corpus"

OUTSIDE = "outside"
"""Files whose name starts so hold questions that the model must decline."""

SMALL_TALK = "small_talk"
"""Files whose name starts so hold greetings and questions about the model itself."""

DOMAIN = "domain"
"""Everything else."""

_LISTS = {"what", "whats", "how", "hows", "why", "whys", "vs", "ask"}
_PARTS = {"how": 3, "hows": 2, "why": 3, "whys": 2, "vs": 2}


class CorpusError(ValueError):
    """A topic file says something that no entry can mean; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing the model can say, and the forms in which it may be asked for it."""

    topic: str
    line: int
    answers: tuple[str, ...]
    more: str = ""
    weight: float = 1.0
    asked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """OUTSIDE, SMALL_TALK or DOMAIN, from the name of the file."""
        return next((kind for kind in (OUTSIDE, SMALL_TALK) if self.topic.startswith(kind)), DOMAIN)


def read_corpus(folder: Path = CORPUS_DIR) -> list[Entry]:
    """Every entry of every topic file, in the order of file names and lines."""
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise CorpusError(f"{folder.name}: no topic files.")
    return [entry for path in paths for entry in parse_topic(path.stem, path.read_text("utf-8"))]


def parse_topic(topic: str, text: str) -> list[Entry]:
    """The entries of one topic file. Raises CorpusError on the first line that makes no sense."""
    entries, block = [], []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            if line[0].isspace():
                if not block:
                    raise CorpusError(f"{topic}:{number}: continues nothing.")
                at, above = block[-1]
                block[-1] = (at, f"{above} {line.strip()}")
            else:
                block.append((number, line.strip()))
        elif block:
            entries.append(_entry(topic, block))
            block = []
    return entries


def _entry(topic: str, block: list[tuple[int, str]]) -> Entry:
    asked, slots, single = [], {}, {}
    for number, line in block:
        key, colon, value = line.partition(":")
        value = value.strip()
        if not colon or not value:
            raise CorpusError(f"{topic}:{number}: expected `key: value`.")
        if key in _LISTS:
            parts = _alternatives(value)
            if len(parts) != _PARTS.get(key, len(parts)):
                raise CorpusError(f"{topic}:{number}: `{key}` takes {_PARTS[key]} parts.")
            asked.append((key, parts))
        elif match := re.fullmatch(r"slot (\w+)", key):
            slots[match[1]] = _alternatives(value)
        elif key in {"say", "more", "weight"} and key not in single:
            single[key] = value
        else:
            raise CorpusError(f"{topic}:{number}: unknown or repeated key `{key}`.")
    if "say" not in single or not asked:
        raise CorpusError(f"{topic}:{block[0][0]}: an entry needs a question and an answer.")
    return Entry(
        topic=topic,
        line=block[0][0],
        answers=tuple(part.strip() for part in single["say"].split("||")),
        more=single.get("more", ""),
        weight=float(single.get("weight", 1)),
        asked=tuple(asked),
        slots=slots,
    )


def _alternatives(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split("|") if part.strip())
