"""What a conformance check found, line by line. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

SAID: Final = 200
"""Most characters of a finding."""


class Verdict(enum.StrEnum):
    """What became of one line."""

    PASS = "pass"  # noqa: S105  # no password
    FAIL = "fail"
    """The interface asks for it, and it is not so."""
    NOTE = "note"
    """Good servers differ here, and callers cope."""
    SKIP = "skip"
    """Not asked, because the server does not offer it or an earlier line failed."""


class Broken(Exception):
    """An answer does not have the shape that the interface asks for; the message says where."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report."""

    line: str
    """What was looked at, such as `chat.stream.done`."""
    verdict: Verdict
    said: str
    """What was found, in words."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found about one server."""

    url: str
    model: str
    """Which of its models was asked; empty: none could be."""
    findings: tuple[Finding, ...]
    capabilities: tuple[str, ...]
    """What it can do, as replicas have it: `chat`, `stream`, `usage`, `stream-usage`, `models`, `errors`, `images`,
    `image-edits`, `image-edits-form`."""

    @property
    def conforms(self) -> bool:
        """Say whether no line failed, and one passed."""
        verdicts = [one.verdict for one in self.findings]
        return Verdict.FAIL not in verdicts and Verdict.PASS in verdicts

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "url": self.url,
            "model": self.model,
            "conforms": self.conforms,
            "capabilities": list(self.capabilities),
            "findings": [{"line": one.line, "verdict": str(one.verdict), "said": one.said} for one in self.findings],
        }


def shortened(text: str) -> str:
    """Return text as a finding repeats it: one line, cut short, without what a terminal would obey."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= SAID else f"{plain[: SAID - 3]}..."
