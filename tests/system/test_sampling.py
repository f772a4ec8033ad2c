"""Operators that check each other, as networks run them: their own keys, engines and signatures."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.settings import DispatcherSettings
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import MODEL, Aos, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Order, Sampling
from aos.verification.attribution import check_result
from aos.verification.results import said_of_result
from aos.verification.vrf import Suite

WAIT = 60.0
SETTINGS = DispatcherSettings(epoch_seconds=1.0, risk=RiskSettings(plain=0))


async def submitted(aos: Aos, *, name: str = MODEL, **asked) -> pb.Job:
    """A job whose operators' keys count."""
    aos.clock.advance(seconds=2)
    order = Order(model=name, prompt="What is AI?", sampling=Sampling(max_tokens=16))
    return await aos.dispatcher.CreateJob(pb.CreateJobRequest(order=order, **asked))


async def concluded(aos: Aos, job: pb.Job) -> pb.Job:
    async with asyncio.timeout(WAIT):
        while not (seen := await aos.dispatcher.GetJob(pb.GetJobRequest(name=job.name))).verdict_reason:
            await asyncio.sleep(0.02)
    return seen


async def results(aos: Aos, job: pb.Job) -> list[pb.JobResult]:
    return list((await aos.dispatcher.ListResults(pb.ListResultsRequest(name=job.name))).results)


class TestSampling:
    async def test_real_operators_agree(self):
        """Two operators with the demo model give one answer to the bit: CHECKED, each with its proof and its signature."""
        async with AsyncExitStack() as stack:
            models = [await stack.enter_async_context(loaded(bundled_model())) for _ in range(2)]
            aos = await stack.enter_async_context(running_aos(*models, name="demo", dispatcher=SETTINGS, vrf=True))
            job = await concluded(aos, await submitted(aos, name="demo", redundancy=2))

            assert job.verdict == pb.VERDICT_CHECKED
            assert job.verdict_reason == "2 of 2 wanted operators ran it, 2 agree, step by step."
            said = await results(aos, job)
            assert len({one.roots.steps for one in said}) == 1
            assert len({one.receipt.state_root for one in said}) == 2, "each names its operator"
            assert {one.operator for one in said} == {one.lower() for one in aos.operators}
            assert len({one.result for one in said}) == 1
            for one in said:
                assert check_result(said_of_result(one.receipt, one.vrf, tag=one.tag), one.signature).lower() == one.operator

    async def test_one_that_lies_is_found(self):
        """Of three operators one says something else: it is on record, whoever of them served the caller."""
        models = [ScriptedModel("Wrong."), ScriptedModel("Right."), ScriptedModel("Right.")]
        async with running_aos(*models, dispatcher=SETTINGS, vrf=True) as aos:
            liar = aos.operators[0].lower()
            job = await concluded(aos, await submitted(aos, redundancy=3))

            assert job.verdict == (pb.VERDICT_CHALLENGED if job.operator == liar else pb.VERDICT_CHECKED)
            found = (await aos.dispatcher.ListEvidence(pb.ListEvidenceRequest(job=job.name))).evidence
            assert [(one.what, one.operator, one.proves) for one in found] == [("dissent", liar, True)]

    async def test_the_older_suite(self):
        """A network that draws with the draft's ECVRF: its operators prove with it, and are checked by it."""
        settings = replace(SETTINGS, vrf_suite=Suite.DRAFT04)
        async with running_aos(ScriptedModel("Yes."), ScriptedModel("Yes."), dispatcher=settings, vrf=True) as aos:
            job = await concluded(aos, await submitted(aos, redundancy=2))

            assert job.verdict == pb.VERDICT_CHECKED
            assert {one.vrf.suite for one in await results(aos, job)} == {pb.VRF_SUITE_DRAFT04}

    async def test_a_network_of_one(self):
        """With a single operator everything works: the job completes, and says that nobody could check it."""
        async with running_aos(ScriptedModel("Yes."), dispatcher=SETTINGS, vrf=True) as aos:
            job = await concluded(aos, await submitted(aos, redundancy=3, tag=pb.RISK_TAG_SUSPICION))

            assert (job.state, job.verdict) == (pb.JOB_STATE_COMPLETED, pb.VERDICT_UNCHECKED)
            assert "1 of 3 wanted operators ran it" in job.verdict_reason
            assert job.outcome.text == "Yes."
