"""Controllers of somebody who wants to do harm: each ends with its reason, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.testing.harness import Aos, running_aos
from aos.v1.broker_pb2 import GetAccountRequest
from aos.v1.controllers_pb2 import CreateControllerRequest
from aos.v1.dispatcher_pb2 import CancelJobRequest, GetReceiptRequest, JobState
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling
from aos.verification.receipts import check_bundle
from tests.operator.wat import NOOP, command, controller
from tests.rest.controls import Told, choice, decide, in_turn, mask, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT = 120.0
EXACTLY = Path(__file__).parents[1] / "controllers" / "programs" / "exactly-c.wasm"
"""Draws as many tokens as its argument says."""
CHAT = Order(model="scripted", chat=Chat(messages=[ChatMessage(role="user", content="hello")]), sampling=Sampling(max_tokens=40))
LOOP = controller("(call $loop)")
HONEST = controller(in_turn(mask(b"x") + decide(choice(masked=True)), decide(choice([97, 98])), NOOP))
AT = 200_000
"""Where a megabyte begins."""


def megabyte(begin: str, unit: str, end: str) -> str:
    """Code that answers with a megabyte of JSON, made of one piece again and again."""
    places = {name: text.encode() for name, text in (("begin", begin), ("unit", unit), ("end", end))}
    count = ((1 << 20) - len(begin) - len(end)) // len(unit)

    def put(text: bytes, at: str) -> str:
        return "".join(f"(i32.store8 offset={n} {at} (i32.const {byte}))" for n, byte in enumerate(text))

    where = f"(i32.add (i32.const {AT + len(begin)}) (i32.mul (local.get $n) (i32.const {len(unit)})))"
    return f"""(local $n i32) {put(places["begin"], f"(i32.const {AT})")}
      (loop $again {put(places["unit"], where)}
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {count}))))
      {put(places["end"], where)} (call $say (i32.const {AT}) (i32.const {len(begin) + count * len(unit) + len(end)}))"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with running_aos(envoy=True, clock=SystemClock()) as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {network.token}"}
    async with httpx.AsyncClient(base_url=network.url, headers=headers, timeout=WAIT) as client:
        yield client


async def uploaded(network: Aos, module: bytes) -> str:
    """The name of a controller."""

    async def parts():
        yield CreateControllerRequest(data=module)

    return (await network.client.controllers.CreateController(parts())).name


async def nothing_held(network: Aos) -> None:
    """Return once no money is held any more."""
    async with asyncio.timeout(WAIT):
        while (await network.broker.GetAccount(GetAccountRequest(name="accounts/-"))).held != "0":
            await asyncio.sleep(0.02)


async def undisturbed(network: Aos) -> None:
    """A plain chat and an honest run are as ever, and no money is kept back."""
    assert (await network.client.answer(CHAT)).text == "Scripted."
    await nothing_held(network)


class TestResults:
    @pytest.mark.parametrize(
        ("begin", "unit", "end", "said"),
        [
            ('{"branches":[{"splices":[{"ff_tokens":[65]}]}]}', " ", "\n", ""),
            ('{"branches":[{"splices":[{"ff_tokens":[65', ",65", "]}]}]}", "more than 65536 tokens"),
            ('{"branches":[[]', ",[]", "]}", "more than 4096 objects and lists"),
            ('{"branches":[{}', ',{"a":1}', "]}", "more than 4096 objects and lists"),
            ('{"branches":', "[", "", "more than 4096 objects and lists"),
            ('{"branches":[{"', "x", '":1}]}', "exactly one splice"),
        ],
        ids=["blanks", "tokens", "lists", "objects", "depth", "names"],
    )
    async def test_of_a_megabyte(self, network, rest, begin, unit, end, said):
        """One that is a decision is done, step for step; of one that takes long to read nothing is read."""
        told = await run(rest, controller(megabyte(begin, unit, end), memory="24"), prompt="p", max_tokens=20)
        assert told.ends == ["fail" if said else "length"]
        assert said in told.all("error")
        await undisturbed(network)

    async def test_written_without_end(self, network, rest):
        """Variables in every callback, for ever: the run ends when its record is full, and its receipt holds."""
        value = "61" * 250
        write = "(drop " + command(f'{{"WriteVar":{{"name":"a","value":"{value}","op":"Set"}}}}') + ")"
        again = f"""(local $n i32) (loop $again {write}
          (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 250))))"""
        told = await run(rest, controller(again + NOOP), prompt="p")
        assert told.ends == ["aici-out-of-fuel"]
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=told.opening["job"]))
        assert [one.what for one in check_bundle(bundle) if not one.good] == []
        await undisturbed(network)


class TestManyAtOnce:
    async def test_loops_beside_honest_ones(self, network, rest):
        """Of forty runs half never come back: those fail after their time, and the others and plain chats end as ever."""
        loop, honest = [(await rest.post("/v1/controllers", content=one)).json()["module_id"] for one in (LOOP, HONEST)]

        async def one(module: str) -> Told:
            return Told(await rest.post("/v1/run", json={"controller": module, "controller_arg": "", "prompt": "p"}))

        async def chats() -> set[str]:
            return {(await network.client.answer(CHAT)).text for _ in range(20)}

        async with asyncio.TaskGroup() as group:
            said = group.create_task(chats())
            runs = [group.create_task(one(module)) for _ in range(20) for module in (loop, honest)]
        assert said.result() == {"Scripted."}
        for task in runs[::2]:
            assert task.result().all("error") == "Worker: timeout\nAbnormal finish: Failed"
        for task in runs[1::2]:
            assert (task.result().ends, task.result().all("text")) == (["aici-stop"], "xab")
        await undisturbed(network)


class TestCancel:
    async def test_one_that_never_comes_back(self, network):
        """A run whose controller loops is cancelled at once; nothing is held for it any more."""
        running = network.client.run_controller(await uploaded(network, LOOP), model="scripted", prompt="p")
        async with aclosing(running) as events:
            job = (await anext(events)).job
            await network.dispatcher.CancelJob(CancelJobRequest(name=job.name))
            *_, last = [event async for event in network.client.watch(job)]
        assert last.outcome.state == JobState.JOB_STATE_CANCELLED
        await undisturbed(network)


class TestOperatorKilled:
    async def test_a_run_goes_on_from_its_beginning(self, up):
        """kill -9 of the operator in mid-run: another attempt gives the same steps, shown once, and is billed once."""
        async with up("--operators", "1") as aos:
            headers = {"authorization": f"Bearer {aos.ready['token']}"}
            async with httpx.AsyncClient(base_url=aos.ready["url"], headers=headers, timeout=WAIT) as rest:
                module = (await rest.post("/v1/controllers", content=EXACTLY.read_bytes())).json()["module_id"]
                body = {"controller": module, "controller_arg": "400", "prompt": "What is AI?"}
                calm, lines, killed = Told(await rest.post("/v1/run", json=body)), list[str](), False
                async with rest.stream("POST", "/v1/run", json=body) as answer:
                    async for line in answer.aiter_lines():
                        lines.append(line)
                        if not killed and '"object":"run"' in line.replace(" ", ""):
                            killed = True
                            for pid in aos.operators():
                                os.kill(pid, signal.SIGKILL)
                again = Told(httpx.Response(200, headers={"content-type": "text/event-stream"}, text="\n".join(lines)))
            job = await aos.job(again.opening["job"])
            assert job.attempts > 1, "the kill came too late to matter"
            assert (again.all("text"), again.ends, again.usage) == (calm.all("text"), calm.ends, calm.usage)
            assert job.state == JobState.JOB_STATE_COMPLETED
            async with asyncio.timeout(WAIT):
                while (await aos.account()).held != "0":
                    await asyncio.sleep(0.1)
