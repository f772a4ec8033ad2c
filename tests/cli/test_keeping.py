"""`aos jobs` with a filter, `aos why`, `aos purge`, `aos limits`."""

from __future__ import annotations

import json
from dataclasses import replace

from aos.credentials import Credentials
from aos.v1.dispatcher_pb2 import CreateJobRequest
from aos.v1.types_pb2 import Order
from tests.cli.conftest import run_aos


async def job_of(aos, user: str) -> str:
    made = await aos.dispatcher.CreateJob(CreateJobRequest(order=Order(model="scripted", prompt="hi"), user=user))
    await aos.client.outcome(made.name)
    return made.name


class TestJobs:
    async def test_a_filter(self, aos, on):
        """--user, --state and --model show the jobs that fit all of them."""
        ann, bob = await job_of(aos, "ann"), await job_of(aos, "bob")
        shown = (await on("jobs", "--user", "ann", "--state", "completed", "--model", "scripted")).out

        assert ann in shown
        assert bob not in shown
        assert json.loads((await on("jobs", "--json", "--state", "failed")).out) == {}
        assert (await on("jobs", "--state", "lost")).code == 2


class TestWhy:
    async def test_a_finished_job(self, aos, on):
        """Says who was chosen, and with what load."""
        job = await job_of(aos, "ann")
        told = (await on("why", job)).out

        assert f"It is completed; in attempt 1 {aos.operators[0].lower()} was chosen" in told
        assert "It was the only one that could take it." in told
        assert "works" in told
        assert json.loads((await on("why", job, "--json")).out)["chosen"] == aos.operators[0].lower()


class TestPurge:
    async def test_the_administrators_token_is_in_the_data_folder(self, aos, tmp_path):
        """With it, ended jobs go; without it, the command says what is missing."""
        options = ("--data", str(tmp_path), "--connect", aos.address, "--token", aos.token)
        job = await job_of(aos, "ann")
        refused = await run_aos(*options, "purge", "--older-than", "0")
        replace(Credentials.load(tmp_path), admin_token=aos.admin_token).save(tmp_path)
        done = await run_aos(*options, "purge", "--older-than", "36500")

        assert (refused.code, "administrator's token" in refused.err) == (1, True)
        assert (done.code, done.err.strip()) == (0, "0 jobs deleted")
        assert (await run_aos(*options, "jobs", job)).code == 0


class TestLimits:
    async def test_shown_set_and_taken_back(self, aos, tmp_path):
        """Without options they are shown; what is given is set and shown; --default takes all of it back; junk is refused."""
        replace(Credentials.load(tmp_path), admin_token=aos.admin_token).save(tmp_path)
        command = ("--data", str(tmp_path), "--connect", aos.address, "--token", aos.token, "limits", "demo")

        async def told(*options: str) -> dict:
            return json.loads((await run_aos(*command, *options)).out)

        assert (await told())["limits"]["kept_jobs"] == 100_000
        made = await told("--kept-jobs", "7", "--tokens-per-day", "1000000")
        assert made["own_limits"] == {"kept_jobs": 7, "tokens_per_day": "1000000"}
        assert await told() == made
        assert (await told("--weight", "300"))["limits"]["weight"] == 300
        refused = await run_aos(*command, "--kept-jobs", "4000000000")
        assert (refused.code, "limits.kept_jobs: must be from 1" in refused.err) == (1, True)
        assert (await run_aos(*command, "--kept-jobs", "0")).code == 2
        assert "kept_jobs" not in (await told("--default")).get("own_limits", {})
