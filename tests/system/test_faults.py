"""Processes are killed at their worst moment; every accepted job still ends, and is paid for once."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
import pytest

from aos.v1.dispatcher_pb2 import CreateJobRequest, Job, JobState, ListJobsRequest, WatchJobRequest
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling

JOBS = 32
DEADLINE = 60


def an_order(model: str, number: int) -> Order:
    """A question whose answer, at temperature 0, is the same every time."""
    said = ("What is AI?", "What is a receipt?", "What does a dispatcher do?", "What is machine learning?")[number % 4]
    return Order(
        model=model,
        chat=Chat(messages=[ChatMessage(role="user", content=said)]),
        sampling=Sampling(temperature=0, max_tokens=200, seed=number),
    )


async def submit(network, count: int = JOBS) -> list[str]:
    orders = [an_order(network.ready["model"], number) for number in range(count)]
    made = [network.dispatcher.CreateJob(CreateJobRequest(order=order, request_id=f"r{i}")) for i, order in enumerate(orders)]
    return [(await call).name for call in made]


async def first_text(network, job: str) -> None:
    """Return once the job's first text has come."""
    async with asyncio.timeout(DEADLINE):
        async for event in network.dispatcher.WatchJob(WatchJobRequest(name=job)):
            if event.HasField("chunk") or event.HasField("outcome"):
                return


async def ended(network, jobs: list[str]) -> list[Job]:
    """Return the jobs once all have ended."""

    async def one(name: str) -> Job:
        async for event in network.dispatcher.WatchJob(WatchJobRequest(name=name), wait_for_ready=True):
            if event.HasField("outcome"):
                break
        return await network.job(name)

    async with asyncio.timeout(DEADLINE):
        return await asyncio.gather(*map(one, jobs))


async def settled(network):
    """Return the account once nothing is held any more."""
    async with asyncio.timeout(DEADLINE):
        while (account := await network.account()).held != "0":
            await asyncio.sleep(0.1)
    return account


def check_all_paid_once(jobs: list[Job], before: str, after: str) -> None:
    assert {JobState.Name(job.state) for job in jobs} == {"JOB_STATE_COMPLETED"}
    assert int(before) - int(after) == sum(int(job.outcome.receipt.price) for job in jobs)


def check_texts_agree(jobs: list[Job]) -> None:
    """Equal questions have equal answers, those that moved from one operator to another too."""
    for kind in range(4):
        assert len({job.outcome.text for job in jobs[kind::4]}) == 1


class TestOperatorKilled:
    async def test_jobs_go_on_and_are_paid_once(self, up):
        """kill -9 of the operator mid-stream: every job completes with the text it would have had, and is billed once."""
        async with up() as network:
            before = (await settled(network)).available
            jobs = await submit(network)
            await first_text(network, jobs[0])
            (victim,) = network.operators()
            os.kill(victim, signal.SIGKILL)

            done = await ended(network, jobs)

            assert any(job.attempts > 1 for job in done), "the kill came too late to matter"
            check_texts_agree(done)
            check_all_paid_once(done, before, (await settled(network)).available)

    async def test_a_watching_caller_sees_one_unbroken_stream(self, up):
        """A REST caller whose operators are killed reads the same answer as one whose are not."""
        async with up("--operators", "2") as network:
            body = {
                "model": network.ready["model"],
                "messages": [{"role": "user", "content": "What is AI?"}],
                "temperature": 0,
            }
            headers = {"authorization": f"Bearer {network.ready['token']}"}
            async with httpx.AsyncClient(base_url=network.ready["url"], headers=headers, timeout=DEADLINE) as rest:
                calm = (await rest.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
                text = ""
                killed = False
                async with rest.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as reply:
                    async for line in reply.aiter_lines():
                        if line.startswith("data: {"):
                            import json

                            chunk = json.loads(line[6:])
                            for choice in chunk["choices"]:
                                text += choice["delta"].get("content") or ""
                        if text and not killed:
                            killed = True
                            for pid in network.operators():
                                os.kill(pid, signal.SIGKILL)

            assert killed
            assert text == calm


class TestEverythingKilled:
    @pytest.mark.parametrize("after", [0, 1, 8])
    async def test_accepted_jobs_end_after_a_restart(self, up, after):
        """kill -9 of the dispatcher's process mid-job: after a restart every accepted job completes and is billed once."""
        async with up() as network:
            before = (await settled(network)).available
            jobs = await submit(network)
            if after:
                await first_text(network, jobs[after - 1])
            os.kill(network.process.pid, signal.SIGKILL)
            await network.process.wait()

        async with up() as network:
            done = await ended(network, jobs)

            check_texts_agree(done)
            check_all_paid_once(done, before, (await settled(network)).available)
            listed = await network.dispatcher.ListJobs(ListJobsRequest(page_size=1000))
            assert {job.name for job in listed.jobs} == set(jobs)

    async def test_no_process_is_left_behind(self, up):
        """When the main process is killed, its operators and its Envoy end with it."""
        from tests.system.conftest import gone

        async with up() as network:
            left = network.descendants()
            assert len(left) >= 2
            os.kill(network.process.pid, signal.SIGKILL)
            await network.process.wait()

        async with asyncio.timeout(DEADLINE):
            while not all(map(gone, left)):
                await asyncio.sleep(0.05)


class TestStopped:
    async def test_ctrl_c_gives_running_jobs_back(self, up):
        """Ctrl-C ends with status 0; what was not done is done after the next start, and billed once."""
        async with up("--grace", "0.2") as network:
            before = (await settled(network)).available
            jobs = await submit(network)
            network.process.send_signal(signal.SIGINT)

            assert await asyncio.wait_for(network.process.wait(), DEADLINE) == 0

        async with up() as network:
            done = await ended(network, jobs)
            check_all_paid_once(done, before, (await settled(network)).available)

    async def test_a_second_network_on_the_same_data_is_refused(self, up, tmp_path):
        """Two networks on one data folder would hand out the same jobs; the second says so and ends."""
        import sys

        async with up():
            second = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aos", "up", "--json", "--port", "0", "--data", str(tmp_path / "data")),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, complaint = await asyncio.wait_for(second.communicate(), DEADLINE)

            assert second.returncode == 1
            assert out == b""
            assert b"another network runs on" in complaint
