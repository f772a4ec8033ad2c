"""A run's forks as the terminal shows them: a panel each while it goes on, or a line for each thing that happens. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.markup import escape
from rich.panel import Panel

from aos.v1.types_pb2 import BranchEnd, BranchStep, RunStep, VariableWrite

SHOWN_CHARS: Final = 1000
"""Most characters of a fork's text in its panel: the last ones."""
SHOWN_VALUE: Final = 60
"""Most characters of a variable's value."""
ENDS: Final = {
    BranchEnd.BRANCH_END_STOP: "stop",
    BranchEnd.BRANCH_END_LENGTH: "length",
    BranchEnd.BRANCH_END_FAIL: "fail",
    BranchEnd.BRANCH_END_OUT_OF_FUEL: "out of fuel",
}


@dataclass(slots=True)
class Fork:
    """One branch of a run, as far as it has come."""

    text: str = ""
    end: str = ""
    error: str = ""
    parent: int | None = None

    @property
    def title(self) -> str:
        """What stands above its text."""
        return " ".join(filter(None, ("" if self.parent is None else f"of {self.parent}", self.end or "…")))


class Forks:
    """All branches of a run, in the order in which they came to be."""

    def __init__(self) -> None:
        self.forks: dict[int, Fork] = {}
        self.usage = (0, 0)
        """Forward passes, and tokens that were computed."""

    def take(self, step: RunStep) -> None:
        """Note a step."""
        self.usage = (step.sampled_tokens, step.ff_tokens)
        for branch in step.branches:
            fork = self.forks.setdefault(branch.index, Fork())
            if branch.HasField("forked_from"):
                fork.parent = branch.forked_from
            fork.text += branch.text
            fork.end = ENDS.get(branch.end, "")
            fork.error += branch.error

    def panels(self) -> Group:
        """Return a panel a fork."""
        return Group(*(_panel(index, fork) for index, fork in sorted(self.forks.items())))

    def summary(self) -> str:
        """Return one line about what it took."""
        sampled, fed = self.usage
        return f"{len(self.forks)} forks, {sampled} forward passes, {fed} tokens computed, cost {2 * sampled + fed}"


def _panel(index: int, fork: Fork) -> Panel:
    text = escape(fork.text[-SHOWN_CHARS:]) + (f"\n[red]{escape(fork.error)}[/red]" if fork.error else "")
    colour = "green" if fork.end == "stop" else "yellow" if not fork.end else "red"
    return Panel(text, title=f"fork {index} {fork.title}", title_align="left", border_style=colour)


def lines(step: RunStep) -> list[str]:
    """Return a line for each thing that happened in the step: the fork, what it is, and that as JSON."""
    return [f"{branch.index}\t{what}" for branch in step.branches for what in _said(branch)]


def _said(branch: BranchStep) -> Iterable[str]:
    if branch.HasField("forked_from"):
        yield f"fork\t{branch.forked_from}"
    for kind, text in (("log", branch.logs), ("text", branch.text), ("error", branch.error)):
        if text:
            yield f"{kind}\t{json.dumps(text, ensure_ascii=False)}"
    for write in branch.writes:
        yield f"{'append' if write.append else 'set'}\t{write.name}\t{_value(write)}"
    if branch.end:
        yield f"end\t{ENDS.get(branch.end, 'unknown')}"


def _value(write: VariableWrite) -> str:
    text = json.dumps(write.value.decode(errors="replace"), ensure_ascii=False)
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}…"
