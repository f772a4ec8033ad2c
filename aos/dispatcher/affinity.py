"""Which operator computed the beginning of a job lately: it may still have it, and need not compute it again. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from aos.v1.types_pb2 import Order

FIRST_CHARS: Final = 256
"""Prompts that begin with the same so many characters begin alike. A shorter one has no beginning worth going after."""
TURNS: Final = 8
"""How many turns back a conversation looks for one that it goes on from."""
EDGE_CHARS: Final = 4096
"""Of a longer text its length, beginning and end stand for it, so that looking at a job takes no time worth naming."""
REMEMBERED: Final = 16_384
"""Most beginnings that are remembered; the oldest go first."""
RECENT_SECONDS: Final = 600.0
"""After so long an operator is not believed to have it any more."""
TOGETHER_SECONDS: Final = 2.0
"""Jobs with one input that come within this time of each other are answers to one request."""


@dataclass(frozen=True, slots=True)
class Beginnings:
    """How a job begins, as digests. Those of different projects and models are never equal."""

    whole: bytes = b""
    """Of all that it is given; empty: it has no place to prefer."""
    known_by: tuple[bytes, ...] = ()
    """What it goes on from, if an operator has it: the longest first."""
    leaves: tuple[bytes, ...] = ()
    """What is there once it has run, for others to go on from."""


@dataclass(frozen=True, slots=True)
class Near:
    """The operator that a job is drawn to."""

    operator: str
    together: bool
    """Whether it has just got the same input: then it is to have this one, too, if it has room."""


NOWHERE: Final = Beginnings()


def beginnings(order: Order, *, project: str, model_digest: str) -> Beginnings:
    """Return how a job with the order begins. Texts to be embedded begin with nothing that is kept."""
    of = f"{project}\n{order.model}\n{model_digest}\n{order.determinism}\n"
    match order.WhichOneof("input"):
        case "prompt":
            text = order.prompt
            first = (_digest(of, "first", text[:FIRST_CHARS]),) if len(text) >= FIRST_CHARS else ()
            return Beginnings(_digest(of, "whole", _shown(text)), first, first)
        case "chat":
            return _chat(order, of)
        case _:
            return NOWHERE


def _chat(order: Order, of: str) -> Beginnings:
    said = hashlib.sha256(of.encode())
    for tool in order.chat.tools:
        said.update(f"tool {tool.name}\n{_shown(tool.description)}\n{_shown(tool.parameters)}\n".encode())
    turns: list[bytes] = []
    for turn in order.chat.messages:
        calls = "".join(f"{call.name} {_shown(call.arguments)}\n" for call in turn.tool_calls)
        said.update(f"turn {turn.role}\n{_shown(turn.content)}\n{calls}".encode())
        turns.append(said.digest())
    before = turns[-1 - TURNS : -1][::-1]
    return Beginnings(turns[-1], (turns[-1], *before), tuple(turns[-2:]))


def _shown(text: str) -> str:
    return text if len(text) <= 2 * EDGE_CHARS else f"{len(text)} {text[:EDGE_CHARS]}…{text[-EDGE_CHARS:]}"


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode()).digest()


class Recent:
    """Who computed which beginning last."""

    def __init__(self) -> None:
        self._known = OrderedDict[bytes, tuple[str, datetime]]()

    def __len__(self) -> int:
        return len(self._known)

    def near(self, begins: Beginnings, now: datetime) -> Near | None:
        """Return whom the job is drawn to; None: nobody."""
        if (last := self._fresh(_together(begins), now, TOGETHER_SECONDS)) is not None:
            return Near(last, together=True)
        found: Sequence[str | None] = [self._fresh(one, now, RECENT_SECONDS) for one in begins.known_by]
        return next((Near(one, together=False) for one in found if one is not None), None)

    def note(self, begins: Beginnings, operator: str, now: datetime) -> None:
        """Remember who gets the job."""
        for one in (_together(begins), *begins.leaves):
            if one:
                self._known[one] = (operator, now)
                self._known.move_to_end(one)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _fresh(self, digest: bytes, now: datetime, seconds: float) -> str | None:
        operator, when = self._known.get(digest, ("", now))
        return operator if operator and now - when <= timedelta(seconds=seconds) else None


def _together(begins: Beginnings) -> bytes:
    return b"whole" + begins.whole if begins.whole else b""
