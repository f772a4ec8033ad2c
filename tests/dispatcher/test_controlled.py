"""A controlled job's way through the dispatcher: its order, its operator, its steps, its receipt, and what if it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aos.control_logs import LOG_BYTES
from aos.control_order import bounds, solid
from aos.order import cost
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.controllers_pb2 import CreateControllerRequest, RunControllerRequest, TagControllerRequest
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.types_pb2 import Order, Sampling, Usage
from aos.verification.receipts import check_bundle
from tests.dispatcher import hand
from tests.dispatcher.conftest import BALANCE, WAIT
from tests.dispatcher.runs import CONTEXT, Run, a_run, an_offer, an_order, do_run, finish_run, say_steps
from tests.modules import module
from tests.refusals import refused

MODULE = module("run")


async def uploaded(aos, *tags: str) -> bytes:
    """Let the network have the controller; return its digest."""

    async def parts() -> AsyncIterator[CreateControllerRequest]:
        yield CreateControllerRequest(data=MODULE)

    stub = await aos.controllers()
    made = await stub.CreateController(parts())
    if tags:
        await stub.TagController(TagControllerRequest(controller=made.name, tags=tags))
    return bytes.fromhex(made.name.removeprefix("controllers/"))


async def submitted(aos, controller: bytes | None = None, **fields) -> pb.Job:
    order = an_order(controller if controller is not None else await uploaded(aos), **fields)
    return await aos.project.CreateJob(pb.CreateJobRequest(order=order))


def run_of(events) -> list:
    """The steps that a caller sees."""
    return [event.chunk.run for event in events if event.chunk.HasField("run")]


class TestAnOrder:
    async def test_names_a_controller_that_is_there(self, aos):
        """A controller that the network does not keep is refused at once, by its name."""
        await aos.operator(an_offer())
        with refused("CONTROLLER_NOT_FOUND", controller=f"controllers/{'00' * 32}"):
            await submitted(aos, bytes(32))

    async def test_needs_a_model_whose_operators_run_controllers(self, aos):
        """A model that no operator runs controllers with is refused."""
        controller = await uploaded(aos)
        await aos.operator(hand.an_offer())
        with refused("MODEL_UNSUITABLE"):
            await submitted(aos, controller)

    async def test_goes_only_to_operators_that_run_controllers(self, aos):
        """Another operator of the model is passed over, and the explanation says why; a plain job goes to it."""
        plain, able = await aos.operator(hand.an_offer()), await aos.operator(an_offer(slots=1))
        job = await submitted(aos)
        assert (await able.lease()).job.hex() == job.name.removeprefix("jobs/")
        await submitted(aos)
        waiting = await submitted(aos)
        said = await aos.project.ExplainJob(pb.ExplainJobRequest(name=waiting.name))
        assert {one.operator: one.reason for one in said.operators}[plain.address] == "does not run controllers"
        await aos.submit()
        assert not (await plain.lease()).order.HasField("control")

    async def test_holds_what_its_fuel_can_cost(self, aos):
        """What is held covers any run that keeps to its fuel, and no more is charged than was used."""
        operator = await aos.operator(an_offer())
        job = await submitted(aos)
        computed, passes = bounds(job.order, CONTEXT)
        held = cost(operator.offers[0].price, prompt_tokens=computed, completion_tokens=passes)
        assert await aos.balance() == (BALANCE - held, held)
        do_run(operator, await operator.lease(), a_run("a", "b"))
        await aos.ends(job)
        assert await aos.settles() == BALANCE - (3 + 2) - 3 * 2


class TestARun:
    async def test_is_shown_step_by_step(self, aos):
        """The caller sees each step once, in order, then the answer, then the outcome with a receipt that holds."""
        operator = await aos.operator(an_offer())
        job, run = await submitted(aos), a_run("Hello", " world")

        do_run(operator, await operator.lease(), run)
        done = await aos.ends(job)

        assert done.state == pb.JOB_STATE_COMPLETED
        assert done.outcome.text == "Hello world"
        assert done.outcome.usage == Usage(prompt_tokens=5, completion_tokens=3)
        events = await aos.watch(job)
        assert run_of(events) == run.steps
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))
        assert [one.what for one in check_bundle(bundle) if not one.good] == []
        assert list(bundle.trace.run) == [solid(step) for step in run.steps]
        assert not any(step.branches[0].logs for step in bundle.trace.run)

    async def test_has_its_logs_cut(self, aos):
        """A log that is longer than is kept of one callback is cut, and the run goes on."""
        operator = await aos.operator(an_offer())
        job, run = await submitted(aos), a_run("a")
        run.steps[0].branches[0].logs = "x" * (LOG_BYTES + 1)

        do_run(operator, await operator.lease(), run)

        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED
        assert run_of(await aos.watch(job))[0].branches[0].logs == "x" * LOG_BYTES

    @pytest.mark.parametrize("lie", ["controller", "record", "steps", "text"])
    async def test_is_not_taken_with_a_receipt_of_another(self, aos, lie):
        """An operator that signs for another controller or record, or sends what is no step, is not paid; another runs the job."""
        liar, honest = await aos.operator(an_offer()), await aos.operator(an_offer())
        job, run = await submitted(aos), a_run("a", "b")
        by = {liar.address: liar, honest.address: honest}
        first = by[(await aos.until(job, "ASSIGNED")).operator]
        lease = await first.lease()
        first.start(lease)
        match lie:
            case "controller":
                say_steps(first, lease, run.steps)
                finish_run(first, lease, run, controller_digest=bytes(31) + b"\1")
            case "record":
                say_steps(first, lease, run.steps)
                finish_run(first, lease, run, record=run.steps[:1], state_root=bytes(32))
            case "steps":
                first.send(chunk=pb.LeaseChunk(lease=lease.id, chunk={"text": "a", "run": run.steps[0]}))
            case _:
                first.say(lease, "plain", [1])
                first.finish(lease, "plain", [1])
        second = by[(await aos.until(job, "ASSIGNED")).operator]
        again = await second.lease()
        assert (second is not first, again.id != lease.id) == (True, True)
        if lie == "text":
            return
        do_run(second, again, run)
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_that_nobody_asked_for_is_not_taken(self, aos):
        """Steps of a run in the answer of a plain job end the attempt."""
        operator = await aos.operator(an_offer())
        job = await aos.submit()
        lease = await operator.lease()
        operator.start(lease)
        say_steps(operator, lease, a_run("a").steps)
        assert (await aos.until(job, "QUEUED", "ASSIGNED")).attempts >= 1
        assert (await operator.cancelled()) == lease.id


class TestALostRun:
    async def test_begins_anew(self, aos):
        """An operator that goes on gets nothing of what came before: a controller's memory is nowhere else."""
        first = await aos.operator(an_offer())
        job, run = await submitted(aos), a_run("a", "b", "c")
        lease = await first.lease()
        first.start(lease)
        say_steps(first, lease, run.steps[:2])
        await aos.eventually(lambda: aos.node._log.store.output(job.name[5:]), lambda seen: len(seen.run) == 2)
        first.drop()
        second = await aos.operator(an_offer())

        again = await second.lease()

        assert not again.accepted_tokens
        assert again.accepted_text_bytes == 0
        assert again.order == lease.order
        do_run(second, again, run)
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED
        assert run_of(await aos.watch(job)) == run.steps, "nothing is shown twice"

    async def test_fails_if_it_comes_out_otherwise(self, aos):
        """Steps that were shown cannot be taken back: if they do not come again, the job fails and says so, and nothing is paid."""
        first = await aos.operator(an_offer())
        job = await submitted(aos)
        lease = await first.lease()
        first.start(lease)
        say_steps(first, lease, a_run("a", "b").steps[:1])
        await aos.eventually(lambda: aos.node._log.store.output(job.name[5:]), lambda seen: len(seen.run) == 1)
        first.drop()
        second = await aos.operator(an_offer())
        lease = await second.lease()
        second.start(lease)
        say_steps(second, lease, Run().round("x", [99]).steps)

        done = await aos.ends(job)

        assert done.state == pb.JOB_STATE_FAILED
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_ANSWER_BROKEN
        assert "a step was another" in done.outcome.error.message
        assert await second.cancelled() == lease.id
        assert await aos.settles() == BALANCE

    async def test_is_found_again_after_a_crash(self, aos):
        """A dispatcher that comes back gives the run to an operator that runs controllers, and shows what was not shown yet."""
        first = await aos.operator(an_offer())
        job, run = await submitted(aos), a_run("a", "b")
        lease = await first.lease()
        first.start(lease)
        say_steps(first, lease, run.steps[:1])
        await aos.eventually(lambda: aos.node._log.store.output(job.name[5:]), lambda seen: len(seen.run) == 1)

        await aos.crash()
        await aos.operator(hand.an_offer())
        second = await aos.operator(an_offer())

        do_run(second, await second.lease(), run)
        assert (await aos.ends(job)).operator == second.address
        assert run_of(await aos.watch(job)) == run.steps


class TestRunController:
    async def test_streams_the_job_and_its_events(self, aos):
        """A controller called by its tag makes a job, whose events come on the same stream to the outcome."""
        controller, operator, run = await uploaded(aos, "mine"), await aos.operator(an_offer()), a_run("a")
        stub = await aos.controllers()
        call = stub.RunController(RunControllerRequest(controller="mine", argument="x", model="m", sampling=Sampling(max_tokens=4)))
        lease = await operator.lease()
        assert (lease.order.control.controller, lease.order.control.argument) == (controller, "x")
        do_run(operator, lease, run)

        async with asyncio.timeout(WAIT):
            first, *others = [response async for response in call]

        assert first.job.order == lease.order
        assert run_of([response.job_event for response in others]) == run.steps
        assert others[-1].job_event.outcome.state == pb.JOB_STATE_COMPLETED

    async def test_cancels_the_job_of_who_leaves(self, aos):
        """Nobody waits for the run any more, so it ends, and nothing is paid."""
        await uploaded(aos, "mine")
        operator = await aos.operator(an_offer())
        call = (await aos.controllers()).RunController(RunControllerRequest(controller="mine", model="m"))
        job = (await call.read()).job
        lease = await operator.lease()

        call.cancel()

        assert (await aos.until(job, "CANCELLED")).state == pb.JOB_STATE_CANCELLED
        assert await operator.cancelled() == lease.id
        assert await aos.settles() == BALANCE

    async def test_needs_a_controller_that_is_there(self, aos):
        """A tag that nobody set is refused before any job is made."""
        await aos.operator(an_offer())
        with refused("CONTROLLER_NOT_FOUND", controller="nobody"):
            async for _ in (await aos.controllers()).RunController(RunControllerRequest(controller="nobody", model="m")):
                pass
        assert not (await aos.admin.ListJobs(pb.ListJobsRequest())).jobs

    async def test_says_what_is_wrong_with_an_order(self, aos):
        """What no order can have is refused here, too: plain prompts may not be empty, those with a controller may."""
        await uploaded(aos, "mine")
        await aos.operator(an_offer())
        with refused("INVALID_FIELD", field="order.sampling.min_p"):
            sampling = Sampling(min_p=0.5)
            async for _ in (await aos.controllers()).RunController(
                RunControllerRequest(controller="mine", model="m", sampling=sampling)
            ):
                pass
        with refused("INVALID_FIELD", field="order.prompt"):
            await aos.project.CreateJob(pb.CreateJobRequest(order=Order(model="m", prompt="")))
