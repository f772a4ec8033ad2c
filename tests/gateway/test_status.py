"""What the status page is told: how fast an answer comes, what a job and money look like, and what is news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from aos.v1.broker_pb2 import Totals
from aos.v1.dispatcher_pb2 import Job, JobError, JobState, Outcome
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.types_pb2 import Chat, ChatMessage, EmbeddingInput, Order, PictureInput, Usage
from gateway.status import RATE_SECONDS, SHOWN_CHARS, Pace, Progress, asked, changed, job_row, totals_row

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class TestPace:
    def test_needs_two_times(self):
        """One look says how much there is, not how fast it comes; nor do two at one time."""
        pace = Pace()
        assert pace.rate() is None
        pace.saw(NOON, 100)
        assert pace.rate() is None
        pace.saw(NOON, 200)
        assert pace.rate() is None

    def test_is_that_of_the_last_seconds(self):
        """What came long ago counts no more: an answer that stands still has a pace of 0."""
        pace = Pace()
        for second in range(3):
            pace.saw(at(second), 50 * second)
        assert pace.rate() == 50
        for second in range(3, 3 + 2 * int(RATE_SECONDS)):
            pace.saw(at(second), 100)
        assert pace.rate() == 0


class TestJobRow:
    def test_a_running_one_shows_how_far_it_is(self):
        """Tokens, the end of the text and the pace are those that were heard."""
        progress = Progress()
        progress.pace.saw(NOON, 0)
        progress.add(3, "x" * SHOWN_CHARS)
        progress.add(3, "end")
        progress.pace.saw(at(2), 6)
        row = job_row(Job(name="jobs/1", state=JobState.JOB_STATE_RUNNING, order=Order(prompt="p" * 300)), progress)
        assert (row["state"], row["tokens"], row["rate"], row["seconds"]) == ("running", 6, 3, None)
        assert len(row["output"]) == SHOWN_CHARS
        assert row["output"].endswith("xend")
        assert row["input"] == "p" * SHOWN_CHARS + "…"

    def test_one_that_ended_shows_what_it_took(self):
        """Its pace is over all of its time, from acceptance to end."""
        outcome = Outcome(state=JobState.JOB_STATE_COMPLETED, text="Yes.", usage=Usage(prompt_tokens=7, completion_tokens=5))
        row = job_row(
            Job(created=Timestamp(seconds=10), ended=Timestamp(seconds=12, nanos=500_000_000), outcome=outcome), Progress()
        )
        assert (row["seconds"], row["rate"], row["prompt_tokens"], row["tokens"], row["output"]) == (2.5, 2, 7, 5, "Yes.")

    def test_one_that_failed_shows_why(self):
        """The reason is the error's message; there is no pace without tokens, and no receipt."""
        error = JobError(reason=ErrorReason.ERROR_REASON_OPERATOR_LOST, message="All were lost.")
        outcome = Outcome(state=JobState.JOB_STATE_FAILED, error=error)
        row = job_row(Job(created=Timestamp(seconds=1), ended=Timestamp(seconds=2), outcome=outcome), None)
        assert (row["error"], row["rate"], row["receipt"]) == ("All were lost.", None, False)

    @pytest.mark.parametrize(
        "order",
        [
            Order(prompt="Why?"),
            Order(chat=Chat(messages=[ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Why?")])),
            Order(embedding=EmbeddingInput(texts=["a", "Why?"])),
            Order(picture=PictureInput(prompt="Why?")),
        ],
    )
    def test_what_was_asked(self, order):
        """Of every kind of order it is the prompt, or the last turn or text."""
        assert asked(order) == "Why?"


class TestMoney:
    @pytest.mark.parametrize(("held", "adds_up"), [("20", True), ("21", False)])
    def test_it_adds_up_or_it_does_not(self, held, adds_up):
        """What is available and held together is what was deposited, to the last neuron, at any size."""
        row = totals_row(Totals(accounts=2, available=str(10**40), held=held, deposited=str(10**40 + 20)))
        assert row["adds_up"] is adds_up


class TestNews:
    def test_only_what_changed_is_sent(self):
        """Each part is an event of its own, and comes again only if it is not what it was."""
        first = changed({"jobs": "[1]", "ledger": "{}"}, {})
        assert first == b"event: jobs\ndata: [1]\n\nevent: ledger\ndata: {}\n\n"
        assert changed({"jobs": "[2]", "ledger": "{}"}, {"jobs": "[1]", "ledger": "{}"}) == b"event: jobs\ndata: [2]\n\n"
        assert changed({"jobs": "[2]"}, {"jobs": "[2]"}) == b""
