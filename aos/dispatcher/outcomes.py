"""What the ends of leases and streams say of how well operators' models work, and what all that comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from aos.dispatcher.health import Board, Health, Key
from aos.dispatcher.jobs import Job, State
from aos.dispatcher.leases import LeaseRun
from aos.dispatcher.placement import Candidate
from aos.dispatcher.store import Change

Known = tuple[Key, Health, Candidate | None]
"""An operator's model, how well it works, and its offer if it is attached."""


def lease_ended(board: Board, key: Key, run: LeaseRun, change: Change | None, now: datetime) -> None:
    """Note a lease's end, ``change`` being what ended it. One that the caller, its deadline or a shutdown ended says nothing."""
    if run.fault:
        board.failed(key, now, job=run.job.id, why=run.fault)
    elif change is not None and change.job.state is State.COMPLETED:
        board.worked(key, now)
        if run.first is not None:
            board.timed(key, now, seconds=run.first, prompt_tokens=change.events[-1].outcome.usage.prompt_tokens)


def stream_lost(board: Board, keys: Mapping[str, Key], lost: Sequence[Job], now: datetime) -> None:
    """Note that an operator's stream ended while it had these jobs: one failure of each model that it had any of."""
    for model in sorted({job.model for job in lost}):
        ids = sorted(job.id for job in lost if job.model == model)
        board.failed(keys[model], now, job=ids[0], why=f"its stream ended while it had jobs: {len(ids)}")


def health(board: Board, candidates: Sequence[Candidate]) -> list[Known]:
    """Return how well models work: of the operators that are attached, and of those that are not and failed last."""
    there = {(one.operator, one.model, one.model_digest): one for one in candidates}
    known = ((key, health, there.get((key.operator, key.model, key.digest))) for key, health in board)
    return sorted((one for one in known if one[2] is not None or one[1].reason), key=lambda one: one[0].name)
