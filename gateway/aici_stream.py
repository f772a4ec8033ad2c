"""A run as `POST /v1/run` streams it: one event a step, as the AICI server has them. Pure; docs/reference/rest-aici.md."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from aos.v1.dispatcher_pb2 import Job, JobState, Outcome
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import BranchEnd, BranchStep, FinishReason, RunStep, VariableWrite
from gateway.http import dump

DONE: Final = b"data: [DONE]\n\n"
UUID_BYTES: Final = 16
STOP: Final = "aici-stop"
SETUP: Final = "Error (setup)"
"""Begins the error of a controller that could not be set up: its run is one event."""
ABORT: Final = "abort"
ENDS: Final = {
    BranchEnd.BRANCH_END_STOP: STOP,
    BranchEnd.BRANCH_END_LENGTH: "length",
    BranchEnd.BRANCH_END_FAIL: "fail",
    BranchEnd.BRANCH_END_OUT_OF_FUEL: "aici-out-of-fuel",
}
"""`finish_reason` by how a branch ended."""
PLAIN_ENDS: Final = {FinishReason.FINISH_REASON_STOP: "eos", FinishReason.FINISH_REASON_LENGTH: "length"}
"""The same where no controller is at work."""
ABNORMAL: Final = {
    "eos": "FoundEos",
    "length": "MaxTokensReached",
    "fail": "Failed",
    "aici-out-of-fuel": "AiciOutOfFuel",
    ABORT: "Aborted",
}
"""What is said of the ends that no controller chose."""

Members = dict[str, Any]


@dataclass(slots=True)
class _Usage:
    sampled: int = 0
    fed: int = 0

    def said(self) -> Members:
        return {"sampled_tokens": self.sampled, "ff_tokens": self.fed, "cost": 2 * self.sampled + self.fed}


@dataclass(slots=True)
class RunStream:
    """One run as it is told. Its forks are listed in the order in which they came to be, in each event all of them."""

    job: Job
    _ends: dict[int, str] = field(default_factory=dict[int, str])
    """By fork, `finish_reason`; empty while it goes on."""
    _usage: _Usage = field(default_factory=_Usage)
    _unset: bool = False
    """Whether the controller could not be set up."""

    def opening(self) -> bytes:
        """Return the first event."""
        made = self.job.created.ToSeconds()
        named = uuid.UUID(bytes=bytes.fromhex(self.job.name.removeprefix("jobs/"))[:UUID_BYTES], version=4)
        opening = {"id": f"run-{named}", "object": "initial-run", "created": made, "model": self.job.order.model}
        return _event(opening | {"job": self.job.name})

    def step(self, step: RunStep) -> bytes:
        """Return the event of a step."""
        self._usage = _Usage(step.sampled_tokens, step.ff_tokens)
        did = {one.index: one for one in step.branches}
        for index in did:
            self._ends.setdefault(index, "")
        return self._run([self._fork(index, did.get(index)) for index in sorted(self._ends)])

    def plain(self, chunk: Chunk) -> bytes:
        """Return the event of more text where no controller is at work. The prompt's tokens are known, and counted, at the end."""
        self._ends.setdefault(0, "")
        self._usage = _Usage(self._usage.sampled + len(chunk.tokens), self._usage.fed + len(chunk.tokens))
        return self._run([_entry(0, "", text=chunk.text)])

    def end(self, outcome: Outcome) -> bytes:
        """Return the last events: what became of the run as a whole."""
        if outcome.state != JobState.JOB_STATE_COMPLETED:
            return self._aborted(outcome) + DONE
        if not self.job.order.HasField("control"):
            return self._plain_end(outcome) + DONE
        if self._unset:  # there is nothing to repeat
            return DONE
        return self._run([_entry(index, end) for index, end in sorted(self._ends.items())]) + DONE

    def _plain_end(self, outcome: Outcome) -> bytes:
        drawn = outcome.usage.completion_tokens
        self._usage = _Usage(drawn, outcome.usage.prompt_tokens + max(0, drawn - 1))
        end = PLAIN_ENDS.get(outcome.finish_reason, "eos")
        said = _abnormal(end)
        return self._run([_entry(0, end, error=said, logs=said)]) + self._run([_entry(0, end)])

    def _aborted(self, outcome: Outcome) -> bytes:
        forks: list[Members] = []
        for index, end in sorted((self._ends or {0: ""}).items()):
            said = "" if end else _abnormal(ABORT)
            forks.append(_entry(index, end or ABORT, error="" if end else outcome.error.message + said, logs=said))
        if all(self._ends.values()):  # nobody signs for what came
            forks[0]["error"] = outcome.error.message
        return self._run(forks)

    def _fork(self, index: int, did: BranchStep | None) -> Members:
        if did is None:
            return _entry(index, self._ends[index])
        end = self._ends[index] = ENDS.get(did.end, "")
        nothing = not (self._usage.sampled or self._usage.fed)
        self._unset = nothing and did.end == BranchEnd.BRANCH_END_FAIL and did.error.startswith(SETUP)
        said = "" if self._unset else _abnormal(end)
        return _entry(
            index,
            end,
            text=did.text,
            error=did.error + said,
            logs=did.logs + said,
            storage=[_write(one) for one in did.writes],
            micros=did.micros,
        )

    def _run(self, forks: list[Members]) -> bytes:
        return _event({"object": "run", "forks": forks, "usage": self._usage.said()})


def _abnormal(end: str) -> str:
    return f"\nAbnormal finish: {ABNORMAL[end]}" if end in ABNORMAL else ""


def _entry(
    index: int,
    end: str,
    *,
    text: str = "",
    error: str = "",
    logs: str = "",
    storage: list[Members] | None = None,
    micros: int = 0,
) -> Members:
    ending = {"finish_reason": end} if end else {}
    return {"index": index, **ending, "text": text, "error": error, "logs": logs, "storage": storage or [], "micros": micros}


def _write(write: VariableWrite) -> Members:
    version = write.when_version_is if write.HasField("when_version_is") else None
    op = "Append" if write.append else "Set"
    return {"WriteVar": {"name": write.name, "value": write.value.hex(), "op": op, "when_version_is": version}}


def _event(value: Members) -> bytes:
    return b"data: " + dump(value).encode() + b"\n\n"
