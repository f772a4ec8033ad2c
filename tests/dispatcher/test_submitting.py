"""CreateJob: what is accepted, what is refused, and what a retry gives."""

from __future__ import annotations

import asyncio

import pytest

from aos.order import digest_order
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from tests.dispatcher.conftest import BALANCE, a_request, running
from tests.dispatcher.hand import an_offer
from tests.refusals import reason_of, refused


class TestCreateJob:
    async def test_starts_out_queued(self, aos):
        """A new job is QUEUED, belongs to its caller, and shows the order with every default filled in."""
        await aos.operator(attach=False)

        job = await aos.submit(user="ann", annotation='{"a": 1}')

        assert job.state == pb.JOB_STATE_QUEUED
        assert job.project == "projects/p"
        assert (job.user, job.annotation) == ("ann", '{"a": 1}')
        assert job.order.sampling.HasField("seed")
        assert job.order.sampling.temperature == 0.0
        assert job.created.ToDatetime() == aos.clock.now().replace(tzinfo=None)
        assert not job.HasField("ended")
        assert job == await aos.job(job)

    async def test_identity_is_its_own(self, aos):
        """The same order twice, without a request_id, makes two jobs with different ids and seeds."""
        await aos.operator(attach=False)

        first, second = await aos.submit(), await aos.submit()

        assert first.name != second.name
        assert first.order.sampling.seed != second.order.sampling.seed
        assert len(first.name) == len("jobs/") + 64

    async def test_retry_is_safe(self, aos):
        """The same request_id and contents give the first job back, however late, and hold its money once."""
        await aos.operator(attach=False)
        first = await aos.submit(request_id="r")
        held = await aos.balance()
        aos.clock.advance(seconds=100)

        assert await aos.submit(request_id="r") == first
        assert await aos.balance() == held

    async def test_retries_at_once_make_one_job(self, aos):
        """Many equal submissions at the same time are one job, held for once."""
        await aos.operator(attach=False)

        made = await asyncio.gather(*(aos.submit(request_id="r") for _ in range(8)))

        assert len({job.name for job in made}) == 1
        assert aos.interference.calls.count("Reserve") == 1

    async def test_retry_outlives_the_model(self, aos):
        """A retry finds its job although no operator could take a new one."""
        operator = await aos.operator(attach=False)
        first = await aos.submit(request_id="r")
        aos.clock.advance(seconds=100_000)

        # the registry's word that nobody is there any more is on its way
        await aos.eventually(lambda: reason_of(aos.submit()), lambda reason: reason == "MODEL_UNAVAILABLE")
        assert (await aos.submit(request_id="r")).name == first.name
        del operator

    @pytest.mark.parametrize(
        "other", [{"prompt": "Why?"}, {"user": "bob"}, {"annotation": "2"}, {"max_tokens": 7}], ids=lambda other: next(iter(other))
    )
    async def test_request_id_cannot_change_its_mind(self, aos, other):
        """The same request_id with other contents is refused, and the refusal names the job that holds it."""
        await aos.operator(attach=False)
        held = await aos.submit(request_id="r")

        with refused("REQUEST_ID_REUSED", code="ALREADY_EXISTS", job=held.name, requestId="r"):
            await aos.submit(request_id="r", **other)

    async def test_request_ids_are_the_projects_own(self, aos):
        """Two projects may use the same request_id for different jobs."""
        await aos.operator(attach=False)
        await aos.deposit(BALANCE, "q")

        mine, theirs = await aos.submit(request_id="r"), await aos.submit(request_id="r", by=aos.other)

        assert mine.name != theirs.name

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (a_request(""), "order.prompt"),
            (a_request(model=""), "order.model"),
            (a_request(request_id="x" * 129), "request_id"),
            (a_request(request_id="ö"), "request_id"),
            (a_request(user="ö" * 129), "user"),
            (a_request(annotation="{"), "annotation"),
            (a_request(annotation="NaN"), "annotation"),
            (a_request(annotation="[" * 30_000), "annotation"),
            (a_request(annotation=f'"{"x" * (64 << 10)}"'), "annotation"),
            (pb.CreateJobRequest(), "order.model"),
        ],
    )
    async def test_bad_field(self, aos, request_, field):
        """A field that cannot be accepted is named, before any work."""
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", field=field):
            await aos.project.CreateJob(request_)
        assert aos.interference.calls == []

    async def test_unknown_model(self, aos):
        """A model that nobody has ever offered is refused at once, naming those that there are."""
        await aos.operator(attach=False)

        with refused("MODEL_NOT_FOUND", code="NOT_FOUND", model="x", offered="m"):
            await aos.submit(model="x")

    async def test_chat_needs_a_template(self, aos):
        """A conversation for a model without a chat template is refused."""
        plain = an_offer()
        plain.chat = False
        await aos.operator(plain, attach=False)
        order = Order(model="m", chat=Chat(messages=[ChatMessage(role="user", content="hi")]))

        with refused("MODEL_UNSUITABLE", model="m"):
            await aos.project.CreateJob(pb.CreateJobRequest(order=order))

    async def test_administrator_has_no_jobs_of_its_own(self, aos):
        """Only projects submit: the administrator has no account to pay from."""
        with refused("PERMISSION_DENIED"):
            await aos.submit(by=aos.admin)

    async def test_stranger(self, aos):
        """A call without a token is refused."""
        with refused("UNAUTHENTICATED"):
            await aos.submit(by=aos.nobody)

    async def test_project_limit(self, tmp_path):
        """A project with as many unfinished jobs as it may have is refused one more, until one ends; others are not kept out."""
        async with running(tmp_path, project_jobs=2) as aos:
            await aos.operator(attach=False)
            await aos.deposit(BALANCE, "q")
            first, _ = await aos.submit(), await aos.submit()

            with refused("QUEUE_FULL", code="RESOURCE_EXHAUSTED", limit="2"):
                await aos.submit()
            await aos.submit(by=aos.other)
            await aos.project.CancelJob(pb.CancelJobRequest(name=first.name))
            await aos.submit()

    async def test_queue_limit(self, tmp_path):
        """With the whole queue full every project that has a job in it is refused, and its money is not touched."""
        async with running(tmp_path, queue_jobs=1) as aos:
            await aos.operator(attach=False)
            await aos.deposit(BALANCE, "q")
            await aos.submit()
            await aos.submit(by=aos.other)
            before = await aos.balance("q")

            with refused("QUEUE_FULL", queue="unfinished jobs"):
                await aos.submit(by=aos.other)
            assert await aos.balance("q") == before

    async def test_request_digest_is_of_the_shown_order(self, aos):
        """What operators sign for is the order that the job shows."""
        operator = await aos.operator()
        job = await aos.submit()

        lease = await operator.lease()

        assert digest_order(lease.order) == digest_order(job.order)
        assert lease.job.hex() == job.name.removeprefix("jobs/")


class TestHolds:
    async def test_holds_the_most_it_may_cost(self, aos):
        """The hold covers every byte of the input as a token, room for the template, and all tokens of the answer."""
        await aos.operator(an_offer(prompt=1, completion=2), attach=False)

        await aos.submit("12345", max_tokens=100)

        most = (5 + 256) * 1 + 100 * 2
        assert await aos.balance() == (BALANCE - most, most)

    async def test_context_bounds_what_it_may_cost(self, aos):
        """Neither input nor answer can be longer than the model's context, so neither is held for."""
        await aos.operator(attach=False)
        order = Order(model="m", prompt="x" * 5000, sampling=Sampling(max_tokens=5000))

        await aos.project.CreateJob(pb.CreateJobRequest(order=order))

        assert (await aos.balance())[1] == 1024 * 1 + 1024 * 2

    async def test_too_poor(self, aos):
        """A project that cannot pay the most is refused, told what it needs, and no job is left behind."""
        await aos.operator(attach=False)

        with refused("INSUFFICIENT_BALANCE", code="FAILED_PRECONDITION", project="projects/q", available="0", needed="467"):
            await aos.submit(by=aos.other)
        assert not (await aos.admin.ListJobs(pb.ListJobsRequest())).jobs

    async def test_refusal_is_not_remembered(self, aos):
        """After a deposit the same request_id is accepted."""
        await aos.operator(attach=False)
        with refused("INSUFFICIENT_BALANCE"):
            await aos.submit(by=aos.other, request_id="r")
        await aos.deposit(BALANCE, "q")

        assert (await aos.submit(by=aos.other, request_id="r")).state == pb.JOB_STATE_QUEUED
