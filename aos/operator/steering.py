"""From an order with a controller to a run that the engine can begin: its module, its session, its setup."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aos.control_order import fuel
from aos.errors import ContextOverflow, ModelUnsuitable
from aos.operator.control_engine import Steered
from aos.operator.control_run import Limits, Run
from aos.operator.controllers import ControlSession, Vocabulary
from aos.operator.model import Model
from aos.operator.sampling import Draw
from aos.operator.steps import Steps
from aos.operator.timings import Timings
from aos.operator.waiting import Terms
from aos.order import MAX_TOKENS
from aos.v1.types_pb2 import Control, Order

if TYPE_CHECKING:
    from aos.operator.wasm_programs import Controllers

BLANK: Final = b" "
"""The prompt where there is none: a model computes nothing from nothing."""

Open = Callable[[Control, Model], Awaitable[ControlSession]]
"""Begins a session of a controller with its argument, for a model.

Raises ControllerNotFound, InvalidField or ServiceUnavailable.
"""


@dataclass(frozen=True, slots=True)
class Again:
    """What must be known of a run to run it again: nothing in it follows from the order alone."""

    context: int
    """Most tokens that a branch could have."""
    timed_out: frozenset[tuple[int, int]] = frozenset()
    """Rounds, from 1, and branches whose controllers took too long: they are not asked."""
    tokens: tuple[int, ...] | None = None
    """What was drawn, in order, to be taken as it is; None: it is drawn anew."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What runs controllers."""

    open: Open
    again: Again | None = None
    """Of a run that is run again: how it went."""


async def steer(
    name: str,
    model: Model,
    order: Order,
    *,
    steering: Steering | None,
    steps: Steps,
    terms: Terms,
    due: float,
    clock: Callable[[], float],
) -> Steered:
    """Return the order's run, set up; it may have failed at that. ``steps`` takes what its receipt speaks of.

    Raises ModelUnsuitable without ``steering``, ContextOverflow for a prompt that is too long, and what ``Steering.open`` raises.
    """
    if steering is None:
        raise ModelUnsuitable(name, "controllers")
    full = Order()
    full.CopyFrom(order)
    full.sampling.max_tokens = order.sampling.max_tokens or MAX_TOKENS
    again = steering.again or Again(model.context)
    context = min(again.context, model.context)
    prompt = await asyncio.to_thread(model.tokenise, order)
    if len(prompt) >= context:
        raise ContextOverflow(name, len(prompt), context)
    session = await steering.open(order.control, model)
    try:
        setup = await asyncio.to_thread(session.setup, prompt)
        given = prompt if setup.error else setup.prompt
        setup = replace(setup, prompt=tuple(given or model.tokens_of(BLANK)))
    except BaseException:
        session.close()
        raise
    limits = Limits(context, full.sampling.max_tokens, fuel(full, again.context), model.vocabulary)
    how = Draw.of(order.sampling, model.vocabulary)
    run = Run(setup, limits, model.piece, timed_out=again.timed_out)
    drawn = None if again.tokens is None else list(again.tokens)
    return Steered(run, session, how, terms, due, Timings(clock()), steps, given=drawn)


def opening(read: Callable[[bytes], Awaitable[bytes]], controllers: Controllers, *, patience: float = 1.0) -> Open:
    """Return what opens sessions over Wasm. ``read`` gives a module by its SHA-256, and raises ControllerNotFound or another.

    Controllers may take ``patience`` times as long as usual.
    """

    async def opened(control: Control, model: Model) -> ControlSession:
        program = await controllers.program(control.controller, lambda: read(control.controller))
        if model.end < 0:
            raise ModelUnsuitable(model.digest, "token that ends an answer")
        vocabulary = Vocabulary(model.digest, model.vocabulary, model.end, model.piece, model.tokens_in)
        return await controllers.session(program, control.argument, vocabulary, patience=patience)

    return opened
