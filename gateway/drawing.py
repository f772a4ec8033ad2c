"""How tokens are to be drawn, as the REST dialects ask for it. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.order import MAX_TOKENS, SEED_MAX, TOP_LOGPROBS
from gateway.body import shown

UINT32: Final = (1 << 32) - 1
_ID: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


def _by_token(value: object) -> dict[int, Any]:
    """Return an object whose keys are token ids, JSON's only keys being strings, with the ids as numbers."""
    if not isinstance(value, dict):
        raise ValueError("must be an object of token ids and what to add for each")  # noqa: TRY004  # pydantic's protocol
    found: dict[int, Any] = {}
    for key, bias in value.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str) or not _ID.fullmatch(key) or int(key) > UINT32:
            raise ValueError(f"has the key {shown(key)}, which is no token id")
        found[int(key)] = bias
    return found


TopLogprobs = Annotated[int, Field(ge=0, le=TOP_LOGPROBS)]


class Drawing(BaseModel):
    """The parameters that all dialects have, under vLLM's names. What is left open here is left open in the order."""

    model_config = ConfigDict(strict=True, extra="forbid")

    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Field(ge=0, le=UINT32)] | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[int, float], BeforeValidator(_by_token)] = {}
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
