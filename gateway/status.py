"""What the status page is told of operators, models, jobs and money; every text in it is somebody's, to be shown as text. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from aos.client import outcome_error
from aos.v1.broker_pb2 import Account, Totals
from aos.v1.dispatcher_pb2 import Job, JobExplanation, JobState, Verdict
from aos.v1.registry_pb2 import AiProject, Model, OperatorInfo
from aos.v1.types_pb2 import Order
from gateway.model_list import describe, registered

SHOWN_CHARS: Final = 200
"""Most characters of a prompt or an answer in the list of jobs."""
RATE_SECONDS: Final = 4.0
"""Tokens a second are counted over this time."""
ACTIVE: Final = (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_ASSIGNED, JobState.JOB_STATE_RUNNING)

Row = dict[str, Any]


class Pace:
    """How fast a job's answer comes, from what had come at several times."""

    def __init__(self) -> None:
        self._seen: deque[tuple[datetime, int]] = deque()

    def saw(self, now: datetime, tokens: int) -> None:
        """Take note of how many tokens there are by now."""
        self._seen.append((now, tokens))
        while (now - self._seen[0][0]).total_seconds() > RATE_SECONDS:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Return tokens a second; None until there are two times to compare."""
        if len(self._seen) <= 1:
            return None
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        seconds = (last - first).total_seconds()
        return (after - before) / seconds if seconds else None


class Progress:
    """What has come of a job's answer so far."""

    def __init__(self) -> None:
        self.tokens = 0
        self.text = ""
        self.pace = Pace()

    def add(self, tokens: int, text: str) -> None:
        """Take more of it; of the text only its end is kept."""
        self.tokens += tokens
        self.text = (self.text + text)[-SHOWN_CHARS:]


def operator_row(one: OperatorInfo) -> Row:
    """Return an operator: its address, what it offers, and why it is not used, if it is not."""
    return {
        "operator": one.name.removeprefix("operators/"),
        "state": "ready" if one.routable else "unavailable",
        "reason": one.reason,
        "models": [{"model": offer.model, "slots": offer.slots, "exact": offer.exact} for offer in one.offers],
        "registered": _seconds(one.registered),
        "vrf": bool(one.vrf_key),
    }


def model_rows(models: Sequence[Model], projects: Sequence[AiProject]) -> list[Row]:
    """Return models by name, as `GET /v1/models` shows them, and what each can do; those of registered model servers too."""
    offered, replicas = {model.name: model for model in models}, registered(projects)
    rows: list[Row] = []
    for name in sorted(offered.keys() | replicas.keys()):
        model = offered.get(name)
        does = {"images": model is not None and model.images, "exact": model is not None and model.exact}
        rows.append(describe(model, replicas.get(name, ())) | does)
    return rows


def job_row(job: Job, progress: Progress | None) -> Row:
    """Return a job as it stands; ``progress`` is what was heard of a running one."""
    outcome = job.outcome if job.HasField("outcome") else None
    failed = outcome_error(job.name, outcome) if outcome is not None else None
    tokens = outcome.usage.completion_tokens if outcome is not None else progress.tokens if progress is not None else 0
    rate = progress.pace.rate() if progress is not None and outcome is None else None
    seconds = _seconds(job.ended) - _seconds(job.created) if outcome is not None else None
    if seconds is not None and seconds > 0 and tokens:
        rate = tokens / seconds
    said = outcome.text if outcome is not None else progress.text if progress is not None else ""
    return {
        "job": job.name,
        "project": job.project,
        "user": job.user,
        "model": job.order.model,
        "kind": job.order.WhichOneof("input") or "",
        "state": JobState.Name(job.state).removeprefix("JOB_STATE_").lower(),
        "input": _cut(asked(job.order)),
        "output": _cut(said),
        "prompt_tokens": outcome.usage.prompt_tokens if outcome is not None else None,
        "tokens": tokens,
        "rate": None if rate is None else round(rate, 1),
        "created": _seconds(job.created),
        "seconds": None if seconds is None else round(seconds, 3),
        "operator": job.operator,
        "attempts": job.attempts,
        "verdict": "" if not job.verdict else Verdict.Name(job.verdict).removeprefix("VERDICT_").lower(),
        "verdict_reason": job.verdict_reason,
        "error": "" if failed is None else failed.message,
        "receipt": outcome is not None and outcome.HasField("receipt"),
    }


def queue_row(active: Sequence[Job], *, more: bool, explained: JobExplanation | None) -> Row:
    """Return how many of the caller's jobs wait and run, and why the first one waits."""
    waiting = sum(job.state == JobState.JOB_STATE_QUEUED for job in active)
    return {
        "waiting": waiting,
        "running": len(active) - waiting,
        "more": more,
        "waiting_in_network": explained.waiting if explained is not None else waiting,
        "why": explained.summary if explained is not None else "",
    }


def account_row(account: Account) -> Row:
    """Return the money of one account, in neurons as decimal digits."""
    return {"account": account.name, "available": account.available, "held": account.held}


def totals_row(totals: Totals) -> Row:
    """Return the money of all accounts, and whether it is what was deposited."""
    return {
        "accounts": totals.accounts,
        "available": totals.available,
        "held": totals.held,
        "deposited": totals.deposited,
        "adds_up": int(totals.available) + int(totals.held) == int(totals.deposited),
    }


def asked(order: Order) -> str:
    """Return what was asked, in its own words: the prompt, or the last turn or text."""
    match order.WhichOneof("input"):
        case "chat":
            return order.chat.messages[-1].content
        case "embedding":
            return order.embedding.texts[-1]
        case "picture":
            return order.picture.prompt
        case _:
            return order.prompt


def changed(parts: Mapping[str, str], before: Mapping[str, str]) -> bytes:
    """Return server-sent events for the parts, JSON by name, that are not what they were."""
    return b"".join(f"event: {name}\ndata: {text}\n\n".encode() for name, text in parts.items() if before.get(name) != text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _seconds(stamp: Timestamp) -> float:
    return stamp.seconds + stamp.nanos / 1e9
