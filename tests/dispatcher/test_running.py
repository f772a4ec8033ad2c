"""A job's way through an operator: leases, text, receipts, ends."""

from __future__ import annotations

import pytest

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import Usage
from aos.verification.keys import OperatorKey
from aos.verification.receipts import check_bundle
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import an_offer
from tests.receipts import a_trace
from tests.refusals import refused


async def answered(aos, operator, job, text="An answer.", tokens=(1, 2, 3)):
    """Let the operator answer the job that it is leased next."""
    lease = await operator.lease()
    assert lease.job.hex() == job.name.removeprefix("jobs/")
    operator.start(lease)
    operator.say(lease, text, tokens)
    operator.finish(lease, text, tokens)
    return await aos.ends(job)


class TestAnswer:
    async def test_completes_with_a_receipt(self, aos):
        """An answered job is COMPLETED, with the whole text, what it took, and the operator's receipt."""
        operator = await aos.operator()
        job = await aos.submit()

        done = await answered(aos, operator, job)

        assert done.state == pb.JOB_STATE_COMPLETED
        assert done.outcome.text == "An answer."
        assert done.outcome.usage == Usage(prompt_tokens=3, completion_tokens=3)
        assert not done.outcome.HasField("error")
        assert done.operator == operator.address
        assert done.attempts == 1
        assert done.HasField("ended")

    async def test_cached_tokens(self, aos):
        """What the operator had computed before is a part of the usage, and of nothing that is signed or paid for."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        operator.start(lease)
        operator.say(lease, "Yes.", [1])
        receipt = operator.receipt(lease, "Yes.", [1])
        finish = Finish(reason=receipt.finish_reason, receipt=receipt, cached_tokens=9, trace=a_trace([1]))
        operator.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))

        done = await aos.ends(job)

        assert done.outcome.usage == Usage(prompt_tokens=3, completion_tokens=1, cached_tokens=3), "no more than there are"
        assert done.outcome.receipt.usage == Usage(prompt_tokens=3, completion_tokens=1)
        assert await aos.settles() == BALANCE - (3 + 1 * 2)

    async def test_tenants(self, aos):
        """Jobs of one project name the same tenant, which does not say whose they are; each lease says how much time is left."""
        operator = await aos.operator(an_offer(slots=2))
        for _ in range(2):
            await aos.submit()
        first, second = [await operator.lease() for _ in range(2)]

        assert first.tenant == second.tenant
        assert len(first.tenant) == 64
        assert first.seconds > 0

    async def test_is_paid_once(self, aos):
        """The operator gets what its receipt says; the rest of the hold goes back to the project."""
        operator = await aos.operator()

        await answered(aos, operator, await aos.submit())

        assert await aos.settles() == BALANCE - (3 + 3 * 2)
        assert await aos.balance(operator.address) == (9, 0)
        assert aos.interference.calls.count("Settle") == 1

    async def test_bundle_proves_itself(self, aos):
        """The receipt's bundle passes every check that needs nothing else."""
        operator = await aos.operator()
        job = await aos.submit()
        await answered(aos, operator, job)

        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

        assert [finding.what for finding in check_bundle(bundle) if not finding.good] == []

    async def test_no_receipt_before_the_end(self, aos):
        """A job that has not ended has no receipt."""
        await aos.operator(attach=False)
        job = await aos.submit()

        with refused("RECEIPT_NOT_FOUND", code="NOT_FOUND", job=job.name, state="QUEUED"):
            await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

    async def test_clock_has_seen_both(self, aos):
        """The job's clock counts the dispatcher's events and the operator's, and the lease carries what came before."""
        operator = await aos.operator()
        job = await aos.submit()
        assert dict(job.clock.counts) == {"1": 1}
        lease = await operator.lease()
        assert dict(lease.clock.counts) == {"1": 2}
        operator.start(lease)
        operator.finish(lease, "", [])

        done = await aos.ends(job)

        assert dict(done.clock.counts) == {"1": 4, operator.address: 2}

    async def test_operator_speaks_for_itself_only(self, aos):
        """What an operator says about other nodes' clocks is not taken over."""
        operator = await aos.operator()
        job = await aos.submit()
        lease = await operator.lease()
        clock = operator.clock
        clock.counts["1"], clock.counts["0xother"] = 10**18, 5
        operator.send(started=pb.LeaseStarted(lease=lease.id, clock=clock))

        assert dict((await aos.until(job, "RUNNING")).clock.counts) == {"1": 3, operator.address: 1}

    async def test_waits_for_an_operator(self, aos):
        """A job submitted while the operator is away is leased as soon as it attaches."""
        operator = await aos.operator(attach=False)
        job = await aos.submit()
        await operator.attach(aos.nobody)

        assert (await answered(aos, operator, job)).state == pb.JOB_STATE_COMPLETED

    async def test_slots_bound_what_runs(self, aos):
        """An operator has no more leases than it offered places; the next comes when one ends."""
        operator = await aos.operator(an_offer(slots=1))
        first, second = await aos.submit(), await aos.submit()

        done = await answered(aos, operator, first)
        assert (await aos.job(second)).state != pb.JOB_STATE_COMPLETED
        assert done.state == pb.JOB_STATE_COMPLETED
        assert (await answered(aos, operator, second)).state == pb.JOB_STATE_COMPLETED

    async def test_flood_does_not_starve_others(self, aos):
        """Projects take turns: one job of a second project comes right after the first of a project with many."""
        operator = await aos.operator(an_offer(slots=1), attach=False)
        await aos.deposit(BALANCE, "q")
        flood = [await aos.submit() for _ in range(5)]
        other = await aos.submit(by=aos.other)
        await operator.attach(aos.nobody)

        order = []
        for _ in range(3):
            lease = await operator.lease()
            order.append(f"jobs/{lease.job.hex()}")
            operator.finish(lease, "", [])

        assert order == [flood[0].name, other.name, flood[1].name]


class TestBadReceipt:
    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"job": bytes(32)}, "job"),
            ({"request_digest": bytes(32)}, "request_digest"),
            ({"model_digest": bytes(32)}, "model_digest"),
            ({"parameters": "{}"}, "parameters"),
            ({"seed": 1}, "seed"),
            ({"output_digest": bytes(32)}, "output_digest"),
            ({"output_tokens_digest": bytes(32)}, "output_tokens_digest"),
            ({"usage": Usage(completion_tokens=4)}, "usage.completion_tokens"),
            ({"usage": Usage(prompt_tokens=5000), "price": "5006"}, "usage.prompt_tokens"),
            ({"price": "1000"}, "price"),
            ({"finish_reason": 2}, "finish_reason"),
            ({"profile": "x" * 70_000}, "size"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_contradiction(self, tmp_path, changes, field):
        """A receipt that contradicts the job in any field ends the last attempt with BAD_RECEIPT, and nothing is paid."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await aos.submit()
            lease = await operator.lease()
            operator.say(lease, "No.", [1, 2, 3])
            operator.finish(lease, "No.", [1, 2, 3], **changes)

            done = await aos.ends(job)

            assert done.state == pb.JOB_STATE_FAILED
            assert done.outcome.error.reason == ErrorReason.ERROR_REASON_BAD_RECEIPT
            assert done.outcome.error.metadata["field"] == field
            assert done.outcome.text == "No."
            assert not done.outcome.HasField("receipt")
            assert await aos.settles() == BALANCE

    async def test_of_another_key(self, tmp_path):
        """A receipt signed by somebody else than the operator that has the lease is not taken."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await aos.submit()
            lease = await operator.lease()
            operator.finish(lease, "", [], key=OperatorKey.create())

            done = await aos.ends(job)

            assert done.outcome.error.metadata["field"] == "operator"

    async def test_with_a_broken_signature(self, tmp_path):
        """A receipt whose signature is of other contents is not taken."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await aos.submit()
            lease = await operator.lease()
            receipt = operator.receipt(lease, "", [])
            receipt.issued_at += 1
            finish = Finish(reason=receipt.finish_reason, receipt=receipt)
            operator.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))

            done = await aos.ends(job)

            assert done.outcome.error.metadata["field"] == "signature"

    async def test_invented_stop(self, tmp_path):
        """A stop string that the caller did not give is not taken."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await aos.submit()
            lease = await operator.lease()
            receipt = operator.receipt(lease, "", [])
            finish = Finish(reason=receipt.finish_reason, stop="x", receipt=receipt)
            operator.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))

            assert (await aos.ends(job)).outcome.error.metadata["field"] == "stop"

    async def test_another_operator_mends_it(self, aos):
        """While attempts remain the job goes to another operator, which goes on behind what the caller has seen."""
        bad, good = await aos.operator(), await aos.operator(attach=False)
        job = await aos.submit()
        lease = await bad.lease()
        await good.attach(aos.nobody)
        bad.say(lease, "So ", [1, 2])
        bad.finish(lease, "So ", [1, 2], price="9999")

        again = await good.lease()
        assert list(again.accepted_tokens) == [1, 2]
        assert again.accepted_text_bytes == 3
        good.say(again, "be it.", [3])
        good.finish(again, "So be it.", [1, 2, 3])
        done = await aos.ends(job)

        assert done.outcome.text == "So be it."
        assert (done.attempts, done.operator) == (2, good.address)
        assert await aos.settles() == BALANCE - 9
        assert await aos.balance(good.address) == (9, 0)

    async def test_more_tokens_than_asked_for(self, tmp_path):
        """An operator that sends more than max_tokens loses the lease at once, and none of the surplus is kept."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await aos.submit(max_tokens=3)
            lease = await operator.lease()
            operator.say(lease, "abc", [1, 2, 3])
            operator.say(lease, "d", [4])

            done = await aos.ends(job)

            assert done.outcome.error.reason == ErrorReason.ERROR_REASON_BAD_RECEIPT
            assert done.outcome.text == "abc"
            assert await operator.cancelled() == lease.id


class TestFailure:
    async def test_callers_fault_ends_the_job(self, aos):
        """A failure that no other operator would mend ends the job with the operator's reason, and all money goes back."""
        operator = await aos.operator()
        job = await aos.submit()
        operator.fail(await operator.lease(), "CONTEXT_OVERFLOW", retryable=False, message="too long")

        done = await aos.ends(job)

        assert done.state == pb.JOB_STATE_FAILED
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_CONTEXT_OVERFLOW
        assert done.outcome.error.message == "too long"
        assert await aos.settles() == BALANCE

    async def test_operators_fault_is_tried_elsewhere(self, aos):
        """After a failure that is the operator's own, another gets the job although the first has free places."""
        first = await aos.operator(an_offer(slots=8))
        job = await aos.submit()
        lease = await first.lease()
        second = await aos.operator(an_offer(slots=8))
        first.fail(lease, "ENGINE_FAILED", retryable=True)

        assert (await second.lease()).job == lease.job
        assert (await aos.job(job)).attempts == 2

    async def test_attempts_end(self, aos):
        """After five failed attempts the job has FAILED with OPERATOR_LOST."""
        operator = await aos.operator()
        job = await aos.submit()
        for _ in range(5):
            operator.fail(await operator.lease(), "ENGINE_FAILED", retryable=True)

        done = await aos.ends(job)

        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_OPERATOR_LOST
        assert done.outcome.error.metadata["attempts"] == "5"
        assert done.attempts == 5

    async def test_operators_words_are_bounded(self, aos):
        """A reason that does not exist becomes ENGINE_FAILED, and an endless message is cut."""
        operator = await aos.operator()
        job = await aos.submit()
        error = pb.JobError(reason=999, message="x" * 100_000, metadata={str(key): "v" * 9999 for key in range(99)})
        operator.send(failed=pb.LeaseFailed(lease=(await operator.lease()).id, error=error))

        said = (await aos.ends(job)).outcome.error

        assert said.reason == ErrorReason.ERROR_REASON_ENGINE_FAILED
        assert len(said.message) == 1000
        assert len(said.metadata) == 16

    async def test_leaving_operator_gives_back(self, aos):
        """A job that a leaving operator gives back goes elsewhere, the attempt is not held against it, and no new job comes."""
        leaving = await aos.operator(an_offer(slots=8))
        job = await aos.submit()
        lease = await leaving.lease()
        leaving.fail(lease, "SHUTTING_DOWN", retryable=True)
        await aos.until(job, "QUEUED")
        second = await aos.operator()

        assert (await second.lease()).job == lease.job
