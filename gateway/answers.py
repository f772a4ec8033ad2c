"""Answers in the model interface's dialect, whole and streamed, of one choice or several; the dialects say each choice. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aos.errors import InvalidField
from aos.order import SEED_MAX
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.operator_pb2 import Chunk, TokenLogprob
from aos.v1.types_pb2 import FinishReason, Order, Usage
from aos.verification.receipts import address, digest
from gateway.http import dump

CHOICES: Final = 8
"""Most answers to one prompt, `n`."""
ANSWERS: Final = 16
"""Most answers of one request, over all its prompts. Each is a job."""
DONE: Final = b"data: [DONE]\n\n"
PING: Final = b": ping\n\n"
"""A comment: readers skip it, and what lies between keeps the connection open."""
FINISH: Final = {FinishReason.FINISH_REASON_STOP: "stop", FinishReason.FINISH_REASON_LENGTH: "length"}

Members = dict[str, Any]


class Choice(Protocol):
    """One answer of a job, as a dialect says it."""

    def __init__(self, job: Job) -> None: ...

    def opening(self) -> Members | None:
        """What a stream says of it before its text; None: nothing."""
        ...

    def plain(self, text: str) -> Members:
        """A piece of its text and nothing else."""
        ...

    def said(self, chunk: Chunk) -> list[str | Members]:
        """More of it: text alone as a string, what has more to it as members."""
        ...

    def rest(self) -> list[str | Members]:
        """What was held back, now that it has ended."""
        ...

    def ending(self, outcome: Outcome) -> Members:
        """What the last event of a stream says of it, `finish_reason` included."""
        ...

    def whole(self, outcome: Outcome, logprobs: Sequence[TokenLogprob]) -> Members:
        """All of it."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A job that has its answer."""

    job: Job
    outcome: Outcome
    logprobs: Sequence[TokenLogprob] = ()


def copies(order: Order, count: int) -> list[Order]:
    """Return the orders of ``count`` answers to one prompt: with a seed, each has the next one.

    Raises InvalidField if there are not so many seeds.
    """
    orders: list[Order] = []
    for index in range(count):
        copy = Order()
        copy.CopyFrom(order)
        if order.sampling.HasField("seed"):
            seed = order.sampling.seed + index
            if seed > SEED_MAX:
                raise InvalidField("seed", f"must leave a number to {SEED_MAX} for each of n answers", value=seed, limit=SEED_MAX)
            copy.sampling.seed = seed
        orders.append(copy)
    return orders


def answer_id(job: Job) -> str:
    """Return the id under which the dialect knows an answer whose first job this is."""
    return f"cmpl-{job.name.removeprefix('jobs/')}"


def completion(answers: Sequence[Answered], choice: Callable[[Job], Choice], kind: str) -> str:
    """Return the whole answer: the model interface's fields and OpenAI's."""
    first, alone = answers[0], len(answers) == 1
    choices = [
        {"index": index}
        | choice(one.job).whole(one.outcome, one.logprobs)
        | {"stop_reason": one.outcome.stop or None}
        | ({} if alone else network_of(one.job, one.outcome))
        for index, one in enumerate(answers)
    ]
    return dump(
        {
            "code": 0,
            "message": "success",
            **_same(first.job, kind),
            "choices": choices,
            "usage": usage_of([one.outcome.usage for one in answers]),
            "system_fingerprint": f"fp_{first.outcome.receipt.model_digest.hex()[:16]}",
            **(network_of(first.job, first.outcome) if alone else {}),
        }
    )


class Chunks:
    """The events of a streamed answer, each ready to be sent."""

    def __init__(self, jobs: Sequence[Job], choice: Callable[[Job], Choice], kind: str, *, include_usage: bool) -> None:
        self._jobs, self._choices = jobs, [choice(job) for job in jobs]
        self._same = _same(jobs[0], kind)
        self._open = {"usage": None} if include_usage else {}
        self._include_usage = include_usage
        self._usages: list[Usage] = []
        # what differs between two tokens is only their text, so the rest is written once
        self._frames = [
            self._event(index, one.plain("") | {"finish_reason": None}, self._open).decode().split('""', 1)
            for index, one in enumerate(self._choices)
        ]

    def opening(self) -> bytes:
        """The first events."""
        said = [(index, one.opening()) for index, one in enumerate(self._choices)]
        return b"".join(self._part(index, members) for index, members in said if members is not None)

    def text(self, index: int, chunk: Chunk) -> bytes:
        """Events with more of one choice; none if what came may still become something else."""
        return b"".join(self._part(index, one) for one in self._choices[index].said(chunk))

    def end(self, index: int, outcome: Outcome) -> bytes:
        """The last events of one choice: why it ended; behind the last choice what they took, and the mark."""
        choice, alone = self._choices[index], len(self._choices) == 1
        said = b"".join(self._part(index, one) for one in choice.rest())
        ending = choice.ending(outcome) | {"stop_reason": outcome.stop or None}
        network = network_of(self._jobs[index], outcome)
        self._usages.append(outcome.usage)
        last = len(self._usages) == len(self._choices)
        usage = usage_of(self._usages)
        around = {"usage": usage} if last else self._open
        said += self._event(index, ending | ({} if alone else network), around | (network if alone else {}))
        if last and self._include_usage:
            said += sse(dump(self._same | {"choices": [], "usage": usage}))
        return said + DONE if last else said

    def _part(self, index: int, part: str | Members) -> bytes:
        if isinstance(part, str):
            head, tail = self._frames[index]
            return f"{head}{dump(part)}{tail}".encode()
        return self._event(index, part | {"finish_reason": None}, self._open)

    def _event(self, index: int, members: Members, rest: Members) -> bytes:
        return sse(dump(self._same | {"choices": [{"index": index} | members]} | rest))


def usage_of(usages: Sequence[Usage]) -> dict[str, Any]:
    """Return what answers took together, as OpenAI has it."""
    prompt, completion = sum(one.prompt_tokens for one in usages), sum(one.completion_tokens for one in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in usages)},
    }


def _same(job: Job, kind: str) -> dict[str, Any]:
    return {"id": answer_id(job), "object": kind, "created": job.created.seconds, "model": job.order.model}


def network_of(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Return the field `aos`: what the network says of an answer besides the answer."""
    receipt = outcome.receipt
    return {"aos": {"job": job.name, "receipt_digest": f"0x{digest(receipt).hex()}", "operator": address(receipt)}}


def sse(text: str) -> bytes:
    """Return a server-sent event."""
    return f"data: {text}\n\n".encode()


def broken_off(error: bytes) -> bytes:
    """Return the last events of a stream that fails after its beginning: the error, and the mark."""
    return b"data: " + error + b"\n\n" + DONE
