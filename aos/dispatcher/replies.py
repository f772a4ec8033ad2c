"""Jobs and projects as callers see them. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from aos.dispatcher.checks import POSITIONS, sent_tag
from aos.dispatcher.explain import Placement, summary
from aos.dispatcher.health import Health, Key, State
from aos.dispatcher.jobs import Job
from aos.dispatcher.jobs import State as JobState
from aos.dispatcher.output import Output
from aos.dispatcher.placement import Candidate
from aos.dispatcher.projects import Project
from aos.dispatcher.quotas import Limits, sent_limits
from aos.dispatcher.risk import RiskSettings, Standing
from aos.dispatcher.store import Row
from aos.errors import InvalidField, JobNotFound, ReceiptNotFound
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.attestation_pb2 import Attestation
from aos.v1.operator_pb2 import Trace
from aos.v1.types_pb2 import VectorClock

ID_DIGITS = 64


def job_id(name: str) -> str:
    """Return the id in ``jobs/…``. Raises InvalidField for another form, JobNotFound for an id that no job can have."""
    head, _, identity = name.partition("/")
    if head != "jobs" or not identity:
        raise InvalidField("name", "must be jobs/ and an id", value=name, limit="jobs/…")
    if len(identity) != ID_DIGITS or not all(digit in "0123456789abcdef" for digit in identity):
        raise JobNotFound(name if len(name) <= 2 * ID_DIGITS else f"{name[: 2 * ID_DIGITS]}...")
    return identity


def job_proto(row: Row) -> pb.Job:
    job, submission = row.job, row.submission
    said = pb.Job(
        name=job.name,
        project=job.project,
        request_id=submission.request_id,
        order=submission.order,
        user=submission.user,
        annotation=submission.annotation,
        state=job.state.wire,
        operator=job.operator,
        attempts=job.attempts,
        clock=VectorClock(counts=job.clock),
        created=_timestamp(job.created),
        outcome=row.outcome,
        priority=job.priority,
        deadline=_timestamp(job.deadline),
        job_type=job.job_type,
        provider=job.provider,
    )
    risk = row.risk
    said.tag, said.position, said.redundancy = sent_tag(risk.tag), POSITIONS[risk.position], risk.redundancy
    said.verdict, said.verdict_reason = risk.verdict, risk.reason
    if job.ended is not None:
        said.ended.CopyFrom(_timestamp(job.ended))
    return said


def bundle(row: Row, output: Output, trace: Trace | None, attestation: Attestation | None) -> pb.ReceiptBundle:
    """Return the receipt with what it speaks of. Raises ReceiptNotFound unless the job is COMPLETED."""
    job = row.job
    if job.state is not JobState.COMPLETED or row.outcome is None:
        raise ReceiptNotFound(job.name, job.state.name)
    return pb.ReceiptBundle(
        receipt=row.outcome.receipt,
        order=row.submission.order,
        output=output.text,
        output_tokens=output.tokens,
        price=job.price,
        embeddings=output.embeddings,
        pictures=output.pictures,
        trace=trace,
        attestation=attestation,
        attested=row.outcome.attested if row.outcome.HasField("attested") else None,
    )


def explanation(job: Job, placement: Placement | None, *, node: str) -> pb.JobExplanation:
    """Return why the job is where it is, as far as that is known to the dispatcher ``node``."""
    said = pb.JobExplanation(name=job.name, state=job.state.wire, summary=summary(job, placement), dispatcher=node)
    if placement is None or placement.chosen not in ("", job.operator):
        return said
    said.ahead, said.waiting, said.chosen, said.not_shown = (
        placement.ahead,
        placement.waiting,
        placement.chosen,
        placement.not_shown,
    )
    said.choice = placement.choice
    said.operators.extend(
        pb.ConsideredOperator(
            operator=one.operator,
            free=one.free,
            reason=one.reason,
            running=one.running,
            slots=one.slots,
            failed_before=one.failed_before,
            health=_state(one.health, late=one.suspect) if one.health else None,
            next_probe=_timestamp(one.health.next_probe) if one.health and one.health.next_probe else None,
        )
        for one in placement.considered
    )
    return said


def health_proto(key: Key, health: Health, candidate: Candidate | None) -> pb.OperatorHealth:
    """Return how well an operator's model works; ``candidate`` is its offer if it is attached."""
    reason = [health.reason] if health.reason else []
    if candidate is None:
        reason.append("it is not attached")
    elif candidate.late:
        reason.append("it is silent: its heartbeat is overdue")
    return pb.OperatorHealth(
        operator=key.operator,
        model=key.model,
        model_digest=key.digest,
        state=_state(health, late=candidate is not None and candidate.late),
        reason="; ".join(reason),
        attached=candidate is not None,
        failures=len(health.failures),
        since=_timestamp(health.since),
        next_probe=_timestamp(health.next_probe) if candidate and health.next_probe else None,
        seconds_per_token=health.pace or 0.0,
        running=candidate.running if candidate else 0,
        slots=candidate.slots if candidate else 0,
    )


def _state(health: Health, *, late: bool) -> pb.HealthState:
    state = State.SUSPECT if late and health.state is State.HEALTHY else health.state
    return cast("pb.HealthState", int(state))


def project_proto(project: Project, limits: Limits) -> pb.Project:
    """Return the project; ``limits`` are those that hold for it."""
    return pb.Project(
        name=project.name,
        created=_timestamp(project.created),
        display_name=project.display_name,
        own_limits=sent_limits(project.limits),
        limits=sent_limits(limits),
    )


def user_proto(project: str, user: str, standing: Standing, settings: RiskSettings) -> pb.User:
    return pb.User(
        project=project,
        user=user,
        tag=sent_tag(standing.tag),
        jobs_left=standing.left,
        clean_reviews=standing.clean,
        clean_reviews_needed=settings.clean_reviews if standing.tag else 0,
    )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
