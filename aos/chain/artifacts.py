"""What the compiler made of the contracts: ABI and creation code, as shipped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

Name = Literal["Ledger", "InferenceServing", "FineTuningServing"]
CONTRACTS: Final[tuple[Name, ...]] = ("Ledger", "InferenceServing", "FineTuningServing")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract. ``bytecode`` creates it, the constructor's arguments behind it."""

    abi: list[dict[str, Any]]
    bytecode: str


@cache
def artifact(name: Name) -> Artifact:
    """Return the shipped artifact of a contract."""
    found = json.loads((files("aos.chain") / "artifacts" / f"{name}.json").read_text())
    return Artifact(found["abi"], found["bytecode"])
