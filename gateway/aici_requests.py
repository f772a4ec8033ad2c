"""What `POST /v1/run` may say, and the order that it becomes. Pure; docs/reference/rest-aici.md has the fields."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from aos.errors import ModelUnavailable
from aos.order import MAX_TOKENS, SEED_MAX
from aos.v1.registry_pb2 import Model
from aos.v1.types_pb2 import Control, Order, Sampling

NONE: Final = "none"
"""Stands for no controller."""
ALL: Final = -1
"""As `top_k`: no token is left out."""
PATH: Final = "/v1/run"
REQUIRED: Final = "controller_arg"
"""May be null, which is an argument as any other JSON value is."""


class RunRequest(BaseModel):
    """The body. Fields that are unknown are ignored, as the AICI server does."""

    model_config = ConfigDict(strict=True, extra="ignore")

    controller: str
    controller_arg: Any
    prompt: str = ""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=ALL, lt=1 << 32)] = ALL
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    # of this network alone: it has several models, and answers that can be had again
    model: str = ""
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None


def open_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the body without members that are null, but for the one that may be."""
    return {name: value for name, value in fields.items() if value is not None or name == REQUIRED}


def argument(value: object) -> str:
    """Return what the controller is told: a string as it is, any other value as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def order_of(asked: RunRequest, model: str, controller: bytes) -> Order:
    """Return the order; ``controller`` is the digest that the body's name stands for, empty for none."""
    sampling = Sampling(temperature=asked.temperature, top_p=asked.top_p, top_k=max(0, asked.top_k))
    if asked.max_tokens is not None:
        sampling.max_tokens = asked.max_tokens
    if asked.seed is not None:
        sampling.seed = asked.seed
    if controller:
        control = Control(controller=controller, argument=argument(asked.controller_arg))
        return Order(model=model, prompt=asked.prompt, sampling=sampling, control=control)
    told = asked.controller_arg if isinstance(asked.controller_arg, str) else asked.prompt
    return Order(model=model, prompt=told or " ", sampling=sampling)


def prefix(path: str) -> str:
    """Return what stands before `/v1/run` in the path that the caller asked for, without slashes at its ends."""
    before, found, _ = path.partition("?")[0].rpartition(PATH)
    return unquote(before).strip("/") if found else ""


def choose_model(models: Iterable[Model], *, asked: str, before: str, controlled: bool) -> str:
    """Return the name of the model that runs: the one that is asked for, that the path begins with, or the first that was offered.

    Of the last, only those that can be used now, and that run controllers if one is to be run. Raises ModelUnavailable.
    """
    if asked:
        return asked
    there = list(models)
    if any(one.name == before for one in there):
        return before
    fit = [one for one in there if one.routable and (one.controllers if controlled else not (one.images or one.image_edits))]
    if not fit:
        raise ModelUnavailable("*", "no operator that runs controllers can be used" if controlled else "no operator can be used")
    return min(fit, key=lambda one: (one.created.ToNanoseconds(), one.name)).name
