"""How a job may move: whatever happens in whatever order, some things always hold."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aos.dispatcher import jobs
from aos.dispatcher.jobs import At, Job, Money, Move, Output, State, View
from aos.order import canonical_sampling, digest_order, digest_tokens
from aos.v1.dispatcher_pb2 import JobError, JobEvent
from aos.v1.operator_pb2 import Chunk, Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FinishReason, Usage
from aos.verification.clock import Order, compare
from aos.verification.receipts import text_digest
from tests.dispatcher.jobs import NOW, PRICE, a_job, a_record

MAX_ATTEMPTS = 3
OPERATOR = "0x" + "0a" * 20
LEASES = st.integers(0, 5)
"""How many attempts ago the lease was given that a message speaks of."""


class Life(RuleBasedStateMachine):
    """One job, moved at random by callers, operators and timers, each as late as they like."""

    @initialize()
    def submit(self) -> None:
        order = a_record().submission.order
        self.job: Job = a_job(
            request_digest=digest_order(order), parameters=canonical_sampling(order.sampling), seed=order.sampling.seed
        )
        self.count, self.log, self.outcomes, self.before = 0, list[JobEvent](), 0, self.job
        self.now = NOW

    def view(self) -> View:
        text = "".join(event.chunk.text for event in self.log)
        tokens = [token for event in self.log for token in event.chunk.tokens]
        return View(self.job, self.count, lambda: Output(text, tokens))

    def make(self, move: Move | None) -> None:
        if move is None:
            return
        self.before, self.job = self.job, move.job
        self.count = max(self.count, move.job.clock.get("1", 0))
        self.log += move.events
        self.outcomes += move.outcome is not None

    def at(self) -> At:
        return At(self.now, "1", {OPERATOR: self.count})

    def lease(self, ago: int) -> str:
        return f"{self.job.id}/{max(self.job.attempts - ago, 0)}"

    @rule()
    def accept(self) -> None:
        self.make(jobs.accept(self.view(), self.at()))

    @rule()
    def assign(self) -> None:
        self.make(jobs.assign(self.view(), self.at(), operator=OPERATOR, price=PRICE))

    @rule(ago=LEASES)
    def start(self, ago: int) -> None:
        self.make(jobs.start(self.view(), self.at(), lease=self.lease(ago)))

    @rule(ago=LEASES)
    def extend(self, ago: int) -> None:
        chunk = Chunk(text="x", tokens=[len(self.log)])
        current = self.job.lease == self.lease(ago)
        before = len(self.log)
        self.make(jobs.extend(self.view(), self.at(), lease=self.lease(ago), chunk=chunk))
        assert (len(self.log) > before) == current

    @rule(ago=LEASES)
    def complete(self, ago: int) -> None:
        output = self.view().output()
        receipt = Receipt(
            job=bytes.fromhex(self.job.id),
            request_digest=self.job.request_digest,
            model_digest=bytes.fromhex(self.job.model_digest),
            parameters=self.job.parameters,
            seed=self.job.seed,
            output_digest=text_digest(output.text),
            output_tokens_digest=digest_tokens(output.tokens),
            usage=Usage(prompt_tokens=1, completion_tokens=len(output.tokens)),
            finish_reason=FinishReason.FINISH_REASON_STOP,
            price=str(1 + 2 * len(output.tokens)),
            operator=bytes.fromhex(OPERATOR[2:]),
        )
        finish = Finish(reason=FinishReason.FINISH_REASON_STOP, receipt=receipt)
        self.make(jobs.complete(self.view(), self.at(), lease=self.lease(ago), finish=finish, order=a_record().submission.order))

    @rule(ago=LEASES)
    def lose(self, ago: int) -> None:
        self.make(jobs.lose(self.view(), self.at(), lease=self.lease(ago), max_attempts=MAX_ATTEMPTS))

    @rule(ago=LEASES)
    def give_back(self, ago: int) -> None:
        failures = self.job.failures
        self.make(jobs.give_back(self.view(), self.at(), lease=self.lease(ago)))
        assert self.job.failures == failures

    @rule(ago=LEASES)
    def fail(self, ago: int) -> None:
        self.make(jobs.fail(self.view(), self.at(), lease=self.lease(ago), error=JobError(message="no")))

    @rule()
    def cancel(self) -> None:
        if self.job.money is not Money.PENDING:
            self.make(jobs.cancel(self.view(), self.at()))

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        if self.job.money is not Money.PENDING:
            self.make(jobs.expire(self.view(), self.at(), limit=600))

    @invariant()
    def final_is_final(self) -> None:
        if self.before.state.final:
            assert (self.job.state, self.job.ended) == (self.before.state, self.before.ended)

    @invariant()
    def an_end_is_told_once(self) -> None:
        ends = [event for event in self.log if event.HasField("outcome")]
        assert len(ends) == self.outcomes == int(self.job.state.final)
        assert all(event.HasField("outcome") for event in self.log[-1:]) or not self.job.state.final
        assert (self.job.ended is not None) == self.job.state.final

    @invariant()
    def the_lease_goes_with_the_state(self) -> None:
        assert bool(self.job.lease) == self.job.state.leased

    @invariant()
    def failures_are_counted(self) -> None:
        assert self.job.failures <= min(self.job.attempts, MAX_ATTEMPTS)
        assert self.job.failures < MAX_ATTEMPTS or self.job.state is State.FAILED

    @invariant()
    def clocks_do_not_go_back(self) -> None:
        assert compare(self.before.clock, self.job.clock) in (Order.BEFORE, Order.EQUAL)

    @invariant()
    def nothing_runs_unpaid(self) -> None:
        if self.job.money is Money.PENDING:
            assert self.job.state is State.QUEUED
            assert not self.log
        if self.job.money is Money.SETTLED:
            assert self.job.state.final


TestLife = Life.TestCase


class TestExpire:
    def test_not_before_its_time(self):
        """A job whose deadline has not come does not expire, however often it is looked at."""
        job = a_job(money=Money.HELD)
        view = View(job, 0, lambda: Output("", []))

        assert jobs.expire(view, At(job.deadline - timedelta(microseconds=1), "1"), limit=600) is None
        move = jobs.expire(view, At(job.deadline, "1"), limit=600, why="It waited.")
        assert move is not None
        assert move.outcome is not None
        assert move.outcome.error.message.endswith("was not done within 600 s. It waited.")
