"""What an operator's message says of its leases. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aos.errors import REASONS
from aos.v1.dispatcher_pb2 import JobError, LeaseFailed, LeaseFinished, OperatorMessage
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Chunk

MESSAGE_CHARS: Final = 1000
"""Most characters of an operator's error message that are kept."""
FACTS: Final = 16
"""Most entries of an operator's error metadata that are kept."""
NOBODYS_FAULT: Final = frozenset({"SHUTTING_DOWN", "DEADLINE", "QUEUE_FULL", "JOB_CANCELLED"})
"""Failures that say nothing of whether the operator works."""

Heard = Chunk | LeaseFinished | LeaseFailed | None
"""What an operator says of a lease; None: it began."""


def read(message: OperatorMessage) -> list[tuple[str, Heard]]:
    """Return which leases an operator speaks of, and what it says of each."""
    match message.WhichOneof("message"):
        case "started":
            return [(message.started.lease, None)]
        case "chunk":
            return [(message.chunk.lease, message.chunk.chunk)]
        case "chunks":
            return [(one.lease, one.chunk) for one in message.chunks.chunks]
        case "finished":
            return [(message.finished.lease, message.finished)]
        case "failed":
            return [(message.failed.lease, message.failed)]
        case _:
            return []


def counts(message: OperatorMessage) -> Mapping[str, int]:
    """Return the clock that an operator's message carries."""
    match message.WhichOneof("message"):
        case "heartbeat":
            return message.heartbeat.clock.counts
        case "started":
            return message.started.clock.counts
        case "claimed":
            return message.claimed.clock.counts
        case "finished":
            return message.finished.finish.receipt.clock.counts
        case _:
            return {}


def reason_of(error: JobError) -> str:
    """Return the reason's name as AosError has it; empty for one that there is not."""
    return ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_") if error.reason in ErrorReason.values() else ""


def kept_error(error: JobError) -> JobError:
    """Return what may be kept of an operator's error: a reason that there is, and not too much text."""
    known = reason_of(error) in REASONS
    kept = sorted(error.metadata.items())[:FACTS]
    return JobError(
        reason=error.reason if known else ErrorReason.ERROR_REASON_ENGINE_FAILED,
        message=error.message[:MESSAGE_CHARS] or "The operator gave no reason.",
        metadata={key[:MESSAGE_CHARS]: value[:MESSAGE_CHARS] for key, value in kept},
    )
