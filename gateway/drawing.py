"""How tokens are to be drawn, as the REST dialects ask for it. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.errors import InvalidField
from aos.order import MAX_TOKENS, SEED_MAX, TOP_LOGPROBS
from aos.v1.types_pb2 import Determinism, Mirostat
from gateway.body import shown

UINT32: Final = (1 << 32) - 1
DETERMINISM: Final = {
    "": Determinism.DETERMINISM_UNSPECIFIED,
    "exact": Determinism.DETERMINISM_EXACT,
    "best_effort": Determinism.DETERMINISM_BEST_EFFORT,
}
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
    # under llama-server's names; its version 1 depends on a fit to the order of the vocabulary that few models keep
    mirostat: Literal[0, 2] = 0
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    # whether the answer must be the same whatever else the operator computes; ours
    determinism: Literal["", "exact", "best_effort"] = ""

    def parameters(self) -> dict[str, Any]:
        """Return the fields of Sampling that are set here. Raises InvalidField for fields that contradict each other."""
        found: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING}
        for name in ("mirostat_tau", "mirostat_eta"):
            value = getattr(self, name)
            if value is not None and not self.mirostat:
                raise InvalidField(name, "is only for mirostat 2", value=value)
            if value == 0:  # which the order takes for unset
                raise InvalidField(name, "must be above 0", value=value)
        if self.mirostat:
            found["mirostat"] = Mirostat(tau=self.mirostat_tau or 0.0, eta=self.mirostat_eta or 0.0)
        return found


SAMPLING: Final = [name for name in Drawing.model_fields if name != "determinism" and not name.startswith("mirostat")]
"""The fields that Sampling has under the same names."""
