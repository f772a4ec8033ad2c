"""What controllers (AICI) are told and what they answer, as data: messages of the three ABIs, decisions, limits. Pure.

A controller is a Wasm program that steers one answer. The engine asks a ``ControlSession`` in each step of a run;
control_session.py fulfils it over Wasm, aos/testing/controlled.py by a script.
Facts: Microsoft AICI, ``aici_abi`` v0.0.10 to v0.2.1 and main.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aos.nesting import too_deep
from aos.operator.variables import Write

FORKS: Final = 16
"""Most branches of a run, the first included."""
STEP_MILLISECONDS: Final = 50
"""How long a callback takes before a step is counted as missed."""
LATE_STEPS: Final = 10
"""How many steps in a row a callback may miss; then it is interrupted and its branch fails."""
SETUP_MILLISECONDS: Final = 1000
"""How long ``aici_init``, ``aici_create`` and ``aici_init_prompt`` take together at most."""
ARGUMENT_BYTES: Final = 1 << 20
"""Most bytes of the argument of a controller."""
RESULT_BYTES: Final = 1 << 20
"""Most bytes of the JSON text that a callback returns."""
RESULT_TOKENS: Final = 1 << 16
"""Most tokens that it names; while it is parsed, in a millisecond for 10,000, nothing else of the process goes on."""
RESULT_PARTS: Final = 1 << 12
"""Most objects and lists in it."""
MASKS: Final = 16
"""Most masks that a callback hands over."""
TEMPERATURE: Final = 100.0
"""The highest temperature that a controller may set."""
LATE: Final = "⏲ timeout [deadline: {limit}ms; step {step}/{steps}]\n"
"""What the log says of each step that a callback misses."""
TIMEOUT: Final = "Worker: timeout"
"""Why a branch failed whose callback took too long."""
SETUP_TIMEOUT: Final = f"Error (setup): {TIMEOUT}"
"""Why a run failed that took too long to be set up."""
TOO_MANY_FORKS: Final = f"Worker: too many forks (max={FORKS})"
"""Why a branch failed that wanted one fork too many."""
CHOSEN: Final = {"backtrack": 1, "ff_tokens": 1, "fork": 1}
"""What ``aici_host_get_config`` says that there is; all else is 0."""

Mask = NDArray[np.uint32]
"""One bit a token, bit ``token % 32`` of word ``token // 32``; set: it may come. Bits past the vocabulary are 0."""


class BadResult(Exception):
    """What a callback returned is no decision. The text is for whoever wrote the controller."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a controller can know of a model's tokens. Two of the same key are the same."""

    key: str
    """The model's digest; what is made of a vocabulary is kept under it."""
    size: int
    """How many tokens there are: as many as there are logits."""
    end: int
    """The token with which the model ends an answer."""
    piece: Callable[[int], bytes] = field(compare=False)
    """The bytes of a token; none for control tokens. Any thread."""
    tokenise: Callable[[bytes], Sequence[int]] = field(compare=False)
    """The tokens of text in mid-answer, control tokens by their names included. Any thread. May raise ValueError."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done with a branch since its last callback."""

    backtrack: int = 0
    tokens: tuple[int, ...] = ()
    sampled: int | None = None


@dataclass(frozen=True, slots=True)
class Splice:
    """Tokens to take back from the end, and tokens to put there; after a draw, only if one of ``when_sampled`` was drawn."""

    backtrack: int
    tokens: tuple[int, ...]
    when_sampled: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What one branch does next. Without a mask nothing is drawn, and the only splice is done."""

    mask: Mask | None
    splices: tuple[Splice, ...]
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a callback. No branches and no error: the branch stops. An error: it failed."""

    branches: tuple[Choice, ...]
    logs: str
    writes: tuple[Write, ...]
    micros: int
    error: str = ""
    late: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """What came of setting a controller up: the prompt to go on from, or an error."""

    prompt: tuple[int, ...]
    logs: str
    writes: tuple[Write, ...]
    error: str = ""


Ask = tuple[int, Applied, tuple[int, ...]]
"""A branch, what was done with it, and the branches of the fork that was just made, itself included: else itself alone."""


class ControlSession(Protocol):
    """The controllers of one run: an instance for each of its branches. One caller; ``close`` from any thread."""

    def setup(self, prompt: Sequence[int]) -> Setup:
        """Begin branch 0. Blocks for at most ``SETUP_MILLISECONDS``, give or take: call it on a worker thread, once, first."""
        ...

    def step(self, asks: Sequence[Ask], done: Callable[[list[tuple[int, Decision]]], None]) -> None:
        """Ask live branches, one after the other, in this order. Returns at once; ``done`` gets all decisions, on a worker."""
        ...

    def fork(self, parent: int, children: Sequence[int]) -> None:
        """Let new branches go on from where ``parent`` is. Before the next ``step``; the work is done there."""
        ...

    def drop(self, branch: int) -> None:
        """Forget a branch that has ended."""
        ...

    def close(self) -> None:
        """Let all go. Idempotent, and never waits."""
        ...


def init_prompt_argument(prompt: Sequence[int]) -> bytes:
    """Return what ``aici_init_prompt`` is told."""
    return _compact({"prompt": list(prompt)})


def mid_argument(applied: Applied, group: Sequence[int]) -> bytes:
    """Return what ``aici_mid_process`` is told."""
    # for each step of each branch, and much faster than by way of a dictionary
    sampled = "null" if applied.sampled is None else applied.sampled
    tokens, members = ",".join(map(str, applied.tokens)), ",".join(map(str, group))
    return f'{{"backtrack":{applied.backtrack},"tokens":[{tokens}],"sampled":{sampled},"fork_group":[{members}]}}'.encode()


def old_mid_argument(group: Sequence[int]) -> bytes:
    """Return what ``aici_mid_process`` is told in the oldest ABI."""
    return _compact({"fork_group": list(group)})


def post_argument(applied: Applied) -> bytes:
    """Return what ``aici_post_process`` is told, in the oldest ABI."""
    return _compact({"tokens": list(applied.tokens), "backtrack": applied.backtrack})


def read_prompt(result: bytes, given: Sequence[int], vocabulary: int) -> tuple[int, ...]:
    """Return the prompt that ``aici_init_prompt`` wants, or what was given if it says nothing. Raises BadResult."""
    said = _object(_parse(result, RESULT_TOKENS + len(given)), "the result")
    return tuple(given) if said.get("prompt") is None else _tokens(said["prompt"], "prompt", vocabulary)


def read_decision(result: bytes, masks: Mapping[int, Mask], vocabulary: int) -> tuple[Choice, ...]:
    """Return the branches that ``aici_mid_process`` wants. ``masks``: those of this callback, by offset. Raises BadResult."""
    said = _object(_parse(result), "the result")
    if "branches" not in said:
        raise BadResult("the result has no branches")
    branches = _list(said["branches"], "branches")
    if len(branches) > FORKS:
        raise BadResult(TOO_MANY_FORKS)
    return tuple(_choice(_object(one, "a branch"), masks, vocabulary) for one in branches)


def read_stop(result: bytes) -> bool:
    """Say whether ``aici_post_process`` ends the branch, in the oldest ABI. Raises BadResult."""
    stop = _object(_parse(result), "the result").get("stop", False)
    if not isinstance(stop, bool):
        raise BadResult("stop must be true or false")
    return stop


@dataclass(frozen=True, slots=True)
class Before:
    """What ``aici_pre_process`` says, in the oldest ABI."""

    forks: int
    suspend: bool
    tokens: tuple[int, ...]


def read_before(result: bytes, vocabulary: int) -> Before:
    """Return what ``aici_pre_process`` says. Raises BadResult."""
    said = _object(_parse(result), "the result")
    suspend = said.get("suspend", False)
    if not isinstance(suspend, bool):
        raise BadResult("suspend must be true or false")
    forks = _count(said.get("num_forks", 1), "num_forks")
    if forks > FORKS:
        raise BadResult(TOO_MANY_FORKS)
    return Before(forks, suspend, _tokens(said.get("ff_tokens", []), "ff_tokens", vocabulary))


def read_old_decision(result: bytes, mask: Mask | None, vocabulary: int, end: int) -> tuple[Choice, ...]:
    """Return what ``aici_mid_process`` wants in the oldest ABI, as a decision of the newer ones. Raises BadResult.

    ``Stop`` draws the token that ends an answer. The backtracking of a splice counts the token that would have been drawn; none is.
    """
    said = _parse(result)
    if said == "Stop":
        return (Choice(packed([end], vocabulary), ()),)
    said = _object(said, "the result")
    if "SampleWithBias" in said:
        if mask is None:
            raise BadResult("SampleWithBias without aici_host_return_logit_bias")
        return (Choice(mask, ()),)
    if "Splice" not in said:
        raise BadResult("the result is none of Stop, SampleWithBias and Splice")
    splice = _splice(_object(said["Splice"], "Splice"), vocabulary)
    return (Choice(None, (Splice(max(0, splice.backtrack - 1), splice.tokens),)),)


NOOP: Final = Choice(None, (Splice(0, ()),))
"""A step in which a branch does nothing."""


def words(vocabulary: int) -> int:
    """Return how many words a mask has."""
    return (vocabulary + 31) // 32


def packed(tokens: Sequence[int], vocabulary: int) -> Mask:
    """Return the mask that allows these tokens, and no others."""
    mask = np.zeros(words(vocabulary), np.uint32)
    chosen = np.asarray(tokens, np.int64)
    np.bitwise_or.at(mask, chosen // 32, np.uint32(1) << (chosen % 32).astype(np.uint32))
    return mask


def read_mask(data: bytes, vocabulary: int) -> Mask:
    """Return the mask in these bytes, ``4 * words(vocabulary)`` of them. What it says of tokens that are none is ignored."""
    mask = np.frombuffer(data, "<u4").astype(np.uint32)
    if vocabulary % 32:
        mask[-1] &= np.uint32((1 << vocabulary % 32) - 1)
    return mask


def _choice(said: dict[str, Any], masks: Mapping[int, Mask], vocabulary: int) -> Choice:
    offset, mask = said.get("sample_mask"), None
    if offset is not None:
        mask = masks.get(_count(offset, "sample_mask"))
        if mask is None:
            raise BadResult(f"sample_mask {offset} was not handed out in this callback")
    splices = tuple(_splice(_object(one, "a splice"), vocabulary) for one in _list(said.get("splices", []), "splices"))
    if mask is None and (len(splices) != 1 or splices[0].when_sampled):
        raise BadResult("a branch without sample_mask has exactly one splice, with an empty when_sampled")
    heat = said.get("temperature")
    if heat is not None and (isinstance(heat, bool) or not isinstance(heat, int | float) or not 0 <= heat <= TEMPERATURE):
        raise BadResult(f"temperature must be 0 to {TEMPERATURE:g}")
    return Choice(mask, splices, None if heat is None else float(heat))


def _splice(said: dict[str, Any], vocabulary: int) -> Splice:
    return Splice(
        _count(said.get("backtrack", 0), "backtrack"),
        _tokens(said.get("ff_tokens", []), "ff_tokens", vocabulary),
        _tokens(said.get("when_sampled", []), "when_sampled", vocabulary),
    )


def _parse(text: bytes, tokens: int = RESULT_TOKENS) -> Any:
    if len(text) > RESULT_PARTS:  # else no count can be over its limit
        _check_counts(text, tokens)
    try:
        decoded = text.decode()
        if too_deep(decoded):
            raise BadResult("the result is nested too deeply")
        return json.loads(decoded)
    except ValueError as error:
        raise BadResult(f"the result is no JSON: {error}") from None


def _check_counts(text: bytes, tokens: int) -> None:
    if len(text) > RESULT_BYTES:
        raise BadResult(f"the result has more than {RESULT_BYTES} bytes")
    if text.count(b"{") + text.count(b"[") > RESULT_PARTS:
        raise BadResult(f"the result has more than {RESULT_PARTS} objects and lists")
    # each part has at most four members
    if text.count(b",") > tokens + 4 * RESULT_PARTS:
        raise BadResult(f"the result has more than {tokens} tokens")


def _object(said: Any, what: str) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise BadResult(f"{what} must be an object")
    return said  # pyright: ignore[reportUnknownVariableType]  # JSON's keys are strings


def _list(said: Any, what: str) -> list[Any]:
    if not isinstance(said, list):
        raise BadResult(f"{what} must be a list")
    return said  # pyright: ignore[reportUnknownVariableType]


def _count(said: Any, what: str) -> int:
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said < 1 << 32:
        raise BadResult(f"{what} must be an integer from 0 to {(1 << 32) - 1}")
    return said


def _tokens(said: Any, what: str, vocabulary: int) -> tuple[int, ...]:
    tokens = _list(said, what)
    if not tokens or (set(map(type, tokens)) == {int} and min(tokens) >= 0 and max(tokens) < vocabulary):
        return tuple(tokens)
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary:
            raise BadResult(f"{what} has {str(token)[:20]!r}, which is no token: there are {vocabulary}")
    return tuple(tokens)


def _compact(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
