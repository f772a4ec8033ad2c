"""Jobs as rows of a table, and back. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from aos.dispatcher.admission import Record
from aos.dispatcher.jobs import Job, Money, State, Submission
from aos.dispatcher.output import Output, joined
from aos.v1.dispatcher_pb2 import JobEvent, Outcome
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order, Price

_FIELDS: Final = (
    "id", "project", "model", "model_digest", "request_digest", "parameters", "seed", "prompt_bound", "completion_bound",
    "amount", "created", "deadline", "money", "state", "operator", "lease", "price", "attempts", "failures", "clock", "ended",
    "priority", "traceparent", "job_type", "waits", "controlled", "provider", "node",
)  # fmt: skip
JOB: Final = ", ".join(_FIELDS)
"""The columns of what moves."""
ASKED: Final = 'ordered, "user", annotation, contents'
"""The columns of what was handed in."""
ALL: Final = f"{JOB}, number, request_id, {ASKED}"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """Return the microseconds since 1970-01-01 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


_CLOCK: Final = json.JSONEncoder(sort_keys=True).encode


def _ended(micros: int | None) -> datetime | None:
    return None if micros is None else _time(micros)


def _price(written: bytes | None) -> Price | None:
    return None if written is None else Price.FromString(written)


_VALUES: Final = attrgetter(*_FIELDS)
_WRITTEN: Final[dict[str, Callable[[Any], Any]]] = {
    "amount": str,
    "created": micros,
    "deadline": micros,
    "money": int,
    "state": int,
    "controlled": int,
    "waits": int,
    "price": lambda price: None if price is None else price.SerializeToString(),
    "clock": lambda clock: _CLOCK(dict(clock)),
    "ended": lambda ended: None if ended is None else micros(ended),
}
"""How what no column can hold is written."""
_READ: Final[list[tuple[int, Callable[[Any], Any]]]] = [
    (_FIELDS.index(name), read)
    for name, read in {
        "amount": int,
        "created": _time,
        "deadline": _time,
        "money": {int(one): one for one in Money}.__getitem__,
        "state": {int(one): one for one in State}.__getitem__,
        "price": _price,
        "clock": json.loads,
        "ended": _ended,
        "waits": bool,
        "controlled": bool,
    }.items()
]
"""How it is read, by its place."""


def write_job(job: Job) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(_FIELDS, _VALUES(job), strict=True))
    return row | {name: write(row[name]) for name, write in _WRITTEN.items()}


def write_changes(before: Job, after: Job) -> dict[str, Any]:
    """Return the columns in which a job is another than before: an index is touched only by what is in it."""
    differ = [name for name, was, now in zip(_FIELDS, _VALUES(before), _VALUES(after), strict=True) if was != now]
    return {name: _WRITTEN[name](getattr(after, name)) if name in _WRITTEN else getattr(after, name) for name in differ}


def read_job(row: Mapping[str, Any]) -> Job:
    return job_of([row[name] for name in _FIELDS])


def job_of(values: Sequence[Any]) -> Job:
    """Return the job of a row that has the columns ``JOB``, in their order."""
    read = list(values)
    for at, value in _READ:
        read[at] = value(read[at])
    return Job(*read)


def write_submission(submission: Submission) -> dict[str, Any]:
    return {
        "ordered": submission.order.SerializeToString(),
        "user": submission.user,
        "annotation": submission.annotation,
        "contents": submission.contents,
    }


def read_record(row: Mapping[str, Any]) -> Record:
    return Record(read_job(row), read_submission(row))


def read_submission(row: Mapping[str, Any]) -> Submission:
    order = Order.FromString(row["ordered"])
    return Submission(row["request_id"] or "", order, row["user"], row["annotation"], row["contents"])


def read_outcome(row: Mapping[str, Any]) -> Outcome | None:
    return None if row["outcome"] is None else Outcome.FromString(row["outcome"])


def write_event(event: JobEvent) -> dict[str, Any]:
    match event.WhichOneof("event"):
        case "state":
            return {"state": int(event.state), "chunk": None}
        case "chunk":
            return {"state": None, "chunk": event.chunk.SerializeToString()}
        case _:
            return {"state": None, "chunk": None}


def read_event(row: Mapping[str, Any]) -> JobEvent:
    if row["state"] is not None:
        return JobEvent(sequence=row["sequence"], state=State(row["state"]).wire)
    if row["chunk"] is not None:
        return JobEvent(sequence=row["sequence"], chunk=Chunk.FromString(row["chunk"]))
    return JobEvent(sequence=row["sequence"], outcome=read_outcome(row))


def read_output(chunks: Iterable[bytes]) -> Output:
    """Return the whole answer that the chunks make."""
    return joined(map(Chunk.FromString, chunks))
