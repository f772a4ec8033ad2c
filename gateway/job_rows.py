"""Jobs and their results as the jobs dialect shows them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aos.client import outcome_error
from aos.v1.dispatcher_pb2 import Job, JobResult, JobState, RiskPosition, RiskTag, Vrf
from aos.v1.types_pb2 import Order
from gateway.drawing import DETERMINISM
from gateway.http import dump
from gateway.job_replies import time

KIND: Final = "opml"
"""The kind of job that is run if `job.tag` names none."""
ANNOTATION: Final = "gateway.v1.Jobs"

STATUS: Final = {
    JobState.JOB_STATE_QUEUED: "created",
    JobState.JOB_STATE_ASSIGNED: "dispatched",
    JobState.JOB_STATE_RUNNING: "dispatched",
    JobState.JOB_STATE_COMPLETED: "completed",
    JobState.JOB_STATE_FAILED: "failed",
    JobState.JOB_STATE_CANCELLED: "cancelled",
    JobState.JOB_STATE_EXPIRED: "expired",
}
TAGS: Final = {"": RiskTag.RISK_TAG_UNSPECIFIED, "suspicion": RiskTag.RISK_TAG_SUSPICION, "malicious": RiskTag.RISK_TAG_MALICIOUS}
WORDS: Final = {tag: word for word, tag in TAGS.items()}
POSITIONS: Final = {RiskPosition.RISK_POSITION_BEFORE: "before", RiskPosition.RISK_POSITION_AFTER: "after"}


def bare(name: str) -> str:
    """Return a job's id."""
    return name.removeprefix("jobs/")


def submitted(job: Job) -> tuple[str, str]:
    """Return the risk tag, and the text of `job` as it was submitted, or as it would have been for a job made otherwise."""
    try:
        kept: Any = json.loads(job.annotation)[ANNOTATION]
        head, tail = kept["job"]
    except (ValueError, KeyError, TypeError):  # made by another door, with an annotation of its own or none
        return WORDS.get(job.tag, ""), dump(_as_job(job.order, job.job_type))
    return WORDS.get(job.tag, "") or kept["tag"], f"{head}{dump(_prompt(job.order))}{tail}"


def _prompt(order: Order) -> str:
    if order.HasField("picture"):
        return order.picture.prompt
    return order.chat.messages[-1].content if order.HasField("chat") else order.prompt


def _as_job(order: Order, kind: str) -> dict[str, Any]:
    params: dict[str, Any] = {field.name: value for field, value in order.sampling.ListFields() if field.name != "mirostat"}
    if order.sampling.HasField("mirostat"):
        params |= {"mirostat": 2, "mirostat_tau": order.sampling.mirostat.tau, "mirostat_eta": order.sampling.mirostat.eta}
    if order.determinism:
        params["determinism"] = next(name for name, value in DETERMINISM.items() if value == order.determinism)
    if "stop" in params:
        params["stop"] = list(order.sampling.stop)
    if "logit_bias" in params:
        params["logit_bias"] = {str(token): bias for token, bias in sorted(order.sampling.logit_bias.items())}
    job: dict[str, Any] = {"tag": kind or KIND, "prompt": _prompt(order), "model": order.model, "params": params}
    if order.HasField("chat"):
        job["messages"] = [{"role": message.role, "content": message.content} for message in order.chat.messages]
    return job


def results_of(job: Job, results: Sequence[JobResult] = ()) -> list[dict[str, Any]]:
    """Return the dialect's results: what each operator said, or, for a job without any, how it ended; none before it has."""
    tag, _ = submitted(job)
    if results:
        rows = [_row(job, one) for one in results]
        seen = set[str]()
        for number, row in enumerate(rows, start=1):
            # an operator that ran it twice under one tag said two things
            row["id"] = f"{row['id']}_{number}" if row["id"] in seen else row["id"]
            seen.add(row["id"])
        return rows
    if not job.HasField("outcome"):
        return []
    outcome = job.outcome
    failed = outcome_error(job.name, outcome)
    receipt = None if failed else outcome.receipt
    clock = receipt.clock if receipt else job.clock
    return [
        {
            "id": f"{job.operator}_{bare(job.name)}_{tag}",
            "job_id": bare(job.name),
            "operator": job.operator,
            "result": "" if failed else outcome.text,
            "verify_id": bare(job.name),
            "vrf": _vrf(Vrf()),
            "clock": _clock(clock.counts),
            "signature": f"0x{receipt.signature.hex()}" if receipt else "",
            "job_type": "",
            "tag": tag,
            "position": POSITIONS.get(job.position, ""),
            "created_at": time(job.ended),
            "reason": failed.message if failed else "",
        }
    ]


def _row(job: Job, result: JobResult) -> dict[str, Any]:
    tag = WORDS.get(result.tag, "")
    return {
        "id": f"{result.operator}_{bare(job.name)}_{tag}",
        "job_id": bare(job.name),
        "operator": result.operator,
        "result": result.result,
        "verify_id": bare(job.name),
        "vrf": _vrf(result.vrf),
        "clock": _clock(result.clock.counts),
        "signature": result.signature or (f"0x{result.receipt.signature.hex()}" if result.HasField("receipt") else ""),
        "job_type": "",
        "tag": tag,
        "position": POSITIONS.get(result.position, ""),
        "created_at": time(result.created),
        "reason": result.reason,
    }


def _vrf(vrf: Vrf) -> dict[str, Any]:
    return {
        "selected": vrf.selected,
        "vrf_prompt_hash": vrf.prompt_hash.hex(),
        "vrf_random_value": vrf.random_value.hex(),
        "vrf_verify_pubkey": vrf.verify_pubkey.hex(),
        "vrf_proof": vrf.proof.hex(),
    }


def detail_of(job: Job) -> str:
    """Return the dialect's job as JSON text, with the submitted `job` in its own words."""
    tag, text = submitted(job)
    failed = outcome_error(job.name, job.outcome) if job.HasField("outcome") else None
    rest = {
        "user": job.user,
        "job_type": "",
        "status": STATUS.get(job.state, ""),
        "tag": tag,
        "position": POSITIONS.get(job.position, ""),
        "clock": _clock(job.clock.counts),
        "created_at": time(job.created),
        "reason": failed.message if failed else "",
    }
    return f'{{"id":{dump(bare(job.name))},"job":{text},{dump(rest)[1:]}'


def _clock(counts: Mapping[str, int]) -> dict[str, str]:
    return {node: str(count) for node, count in sorted(counts.items())}
