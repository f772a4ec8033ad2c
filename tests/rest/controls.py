"""Controllers of a few steps, in Wasm's text, and runs of them as a client asks for them."""

from __future__ import annotations

import json

import httpx

from tests.operator.wat import say


def choice(splice: list[int] | None = None, backtrack: int = 0, *, masked: bool = False, when: list[int] | None = None) -> dict:
    """A branch of a decision."""
    then = [] if splice is None else [{"backtrack": backtrack, "ff_tokens": splice, "when_sampled": when or []}]
    return {"sample_mask": 0 if masked else None, "splices": then}


def decide(*branches: dict) -> str:
    """Code that answers with branches."""
    return say(json.dumps({"branches": branches}, separators=(",", ":")))


def mask(letters: bytes) -> str:
    """Code that hands over a mask of these tokens, a letter each."""
    bits = sum(1 << letter for letter in letters)
    words = [f"(i32.store (i32.const {40960 + 4 * at}) (i32.const {bits >> 32 * at & 0xFFFFFFFF}))" for at in range(9)]
    return " ".join(words) + "(drop (call $bias (i32.const 40960)))"


def in_turn(*codes: str) -> str:
    """Code that does another thing in each callback of an instance; behind the last it ends the branch."""
    turns = [f"(if (i32.eq (i32.load (i32.const 900)) (i32.const {n})) (then {code}))" for n, code in enumerate(codes, 1)]
    count = "(i32.store (i32.const 900) (i32.add (i32.load (i32.const 900)) (i32.const 1)))"
    return f"{decide()} {count} {' '.join(turns)}"


def in_branch(number: int, code: str) -> str:
    """Code that is done in one branch only."""
    return f"(if (i32.eq (call $self) (i32.const {number})) (then {code}))"


class Told:
    """What a client has read of a run."""

    def __init__(self, answer: httpx.Response) -> None:
        """Read it as AICI's clients do: lines that are `data: ` and JSON, up to the mark."""
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream"), answer.text
        lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
        assert lines.pop() == "data: [DONE]"
        self.opening, *self.steps = [json.loads(line.removeprefix("data: ")) for line in lines]

    def forks(self, index: int) -> list[dict]:
        """A fork, in each step from its first on."""
        return [fork for step in self.steps for fork in step["forks"] if fork["index"] == index]

    def all(self, what: str, index: int = 0) -> str:
        """A fork's text, logs or error."""
        return "".join(fork[what] for fork in self.forks(index))

    @property
    def ends(self) -> list[str | None]:
        """How the forks ended."""
        return [fork.get("finish_reason") for fork in self.steps[-1]["forks"]]

    @property
    def usage(self) -> dict:
        """What was counted."""
        return self.steps[-1]["usage"]


async def run(rest: httpx.AsyncClient, module: bytes, argument: object = "", **fields: object) -> Told:
    """Upload a controller and run it."""
    made = (await rest.post("/v1/controllers", content=module)).json()["module_id"]
    return Told(await rest.post("/v1/run", json={"controller": made, "controller_arg": argument, **fields}))
