"""What an order with a controller (AICI) may be: its limits, its canonical form, what it can use at most. Pure.

docs/reference/controllers.md has the controllers, docs/reference/receipt.md what is signed of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from aos.errors import InvalidField
from aos.v1.types_pb2 import Control, Order, RunStep

DIGEST_BYTES: Final = 32
"""Of a module's SHA-256."""
ARGUMENT_BYTES: Final = 1 << 20
"""Most bytes of what a controller is told."""
FORKS: Final = 16
"""Most branches of one run, the first counted in."""
FUEL: Final = 10
"""So many times the tokens of its longest answer a run may use, those that are drawn counted twice."""
EDGE_TOKENS: Final = 256
"""What a controller may put before an answer without being told: a prompt of its own, marks."""
SAMPLING: Final = frozenset({"temperature", "top_p", "top_k", "max_tokens", "seed"})
"""The parameters that mean something where a controller says what may be drawn."""


def check_control(order: Order, at: str) -> None:
    """Raise InvalidField for the first thing that an order with a controller cannot have; ``at`` is where the order is."""
    if not order.HasField("control"):
        return
    control = order.control
    if order.WhichOneof("input") != "prompt":
        raise InvalidField(f"{at}.control", "is only for orders with a prompt, which may be empty", value=order.WhichOneof("input"))
    if len(control.controller) != DIGEST_BYTES:
        problem = f"must be a SHA-256, {DIGEST_BYTES} bytes"
        raise InvalidField(f"{at}.control.controller", problem, value=control.controller.hex(), limit=DIGEST_BYTES)
    size = len(control.argument.encode())
    if size > ARGUMENT_BYTES:
        problem = f"has {size} bytes; at most {ARGUMENT_BYTES} are accepted"
        raise InvalidField(f"{at}.control.argument", problem, value=size, limit=ARGUMENT_BYTES)
    if order.HasField("constraint"):
        raise InvalidField(f"{at}.constraint", "is not for orders with a controller, which says what may be drawn; choose one")
    for field, _ in order.sampling.ListFields():
        if field.name not in SAMPLING:
            raise InvalidField(
                f"{at}.sampling.{field.name}", "is not for orders with a controller", limit=", ".join(sorted(SAMPLING))
            )


def canonical_control(control: Control) -> dict[str, Any]:
    """Return the controller as canonical JSON has it."""
    return {"controller": control.controller.hex(), "argument": control.argument}


def argument_digest(control: Control) -> bytes:
    """Return the SHA-256 of the argument's UTF-8: the receipt's ``argument_digest``."""
    return hashlib.sha256(control.argument.encode()).digest()


def longest_answer(order: Order, context: int) -> int:
    """Return the most tokens that one branch can come to have, prompt included, in a context of so many tokens.

    Each token of a text stands for a byte of it at least.
    """
    text = len(order.prompt.encode()) + len(order.control.argument.encode())
    return min(context, text + EDGE_TOKENS + order.sampling.max_tokens)


def fuel(order: Order, context: int) -> int:
    """Return what a run of the order may use: twice its forward passes and, once, the tokens computed in them.

    A branch whose next pass would use more ends without it. Every default of the order must be filled in.
    """
    return FUEL * longest_answer(order, context)


def bounds(order: Order, context: int) -> tuple[int, int]:
    """Return the most tokens that a run of the order can be charged for: computed ones, and forward passes."""
    most = fuel(order, context)
    return most, most // 2


def solid(step: RunStep) -> RunStep | None:
    """Return what of a step is the same whenever the order is run again exactly; None if that is nothing.

    Left out are texts, which follow from the tokens, logs, errors, times, and branches whose controllers were only late.
    """
    kept = RunStep(sampled_tokens=step.sampled_tokens, ff_tokens=step.ff_tokens)
    for one in step.branches:
        if not one.late:
            branch = kept.branches.add()
            branch.CopyFrom(one)
            for name in ("text", "logs", "error", "micros"):
                branch.ClearField(name)
    return kept if kept.branches else None


def solid_steps(steps: Iterable[RunStep]) -> list[RunStep]:
    """Return what ``solid`` leaves of the steps."""
    return [kept for step in steps if (kept := solid(step)) is not None]
