"""How likely the model took a token to be: in its own distribution, before bias, penalties and temperature changed it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aos.operator.penalties import Logits
from aos.operator.sampling import Draw, likeliest
from aos.order import LEAST_LOGPROB
from aos.v1.operator_pb2 import TokenLogprob


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The natural logarithm of a token's probability, and the likeliest tokens in its place with theirs, likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def reported(logits: Logits, token: int, how: Draw) -> Sequence[Likelihood]:
    """Return what the order wants to know of the token that was drawn: one likelihood or none."""
    return () if how.top_logprobs is None else (likelihood(logits, token, how.top_logprobs),)


def likelihood(logits: Logits, token: int, top: int) -> Likelihood:
    """Return what the model thought of ``token``, with ``top`` of the likeliest; of equally likely ones the lower id is first."""
    largest = logits.max()
    with np.errstate(over="ignore", under="ignore"):
        # 32 bits are exact enough for each, and many times faster; their sum is not to lose any
        total = np.float64(largest) + np.log(np.exp(logits - largest).sum(dtype=np.float64))
    ids = likeliest(logits, top) if top else np.zeros(0, np.intp)
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    logprobs = np.maximum(logits[[token, *ids]] - total, LEAST_LOGPROB).tolist()
    return Likelihood(token, logprobs[0], tuple(zip(ids.tolist(), logprobs[1:], strict=True)))


def messages(likelihoods: Sequence[Likelihood], piece: Callable[[int], bytes]) -> list[TokenLogprob]:
    """Return them as chunks carry them; ``piece`` gives the bytes that a token stands for."""

    def message(token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token=token, logprob=logprob, piece=piece(token))

    said: list[TokenLogprob] = []
    for one in likelihoods:
        said.append(message(one.token, one.logprob))
        said[-1].top.extend(message(*other) for other in one.top)
    return said
