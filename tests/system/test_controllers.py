"""Controllers through the whole network: the package's own, real models, several operators, Envoy, and a client as AICI's is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.settings import DispatcherSettings
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import Aos, running_aos
from aos.v1.controllers_pb2 import CreateControllerRequest, GetControllerRequest
from aos.v1.dispatcher_pb2 import VERDICT_CHECKED, CreateJobRequest, GetJobRequest, GetReceiptRequest, ListResultsRequest
from aos.v1.types_pb2 import BranchEnd, Chat, ChatMessage, Control, Order, Sampling
from aos.verification.receipts import check_bundle
from tests.operator.wat import controller

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "demo"
WAIT = 120.0
SETTINGS = DispatcherSettings(epoch_seconds=0.01, risk=RiskSettings(plain=0))
PROGRAM = """
async function main() {{
    await $`The answer to question {number} is `
    await gen({{ regex: /{number}\\d/, storeVar: "answer", maxTokens: 10 }})
    await $`.`
}}
start(main)
"""
BRANCHES = """
async function main() {
    const id = await fork(3)
    await $`Fork ${id} says `
    await gen({ options: ["yes", "no"], storeVar: "said" + id })
}
start(main)
"""
LOOP = controller(mid="(call $loop)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with AsyncExitStack() as stack:
        models = [await stack.enter_async_context(loaded(bundled_model())) for _ in range(2)]
        yield await stack.enter_async_context(
            running_aos(*models, name=MODEL, envoy=True, clock=SystemClock(), controllers=True, vrf=True, dispatcher=SETTINGS)
        )


class Aici:
    """Reads a run as the AICI project's own client does."""

    def __init__(self, aos: Aos, prefix: str = "") -> None:
        self._url, self._headers = f"{aos.url}{prefix}/v1/run", {"authorization": f"Bearer {aos.token}"}

    async def run(self, name: str, arg: object, **fields) -> dict:
        """Texts, logs, variables and usage of a run."""
        texts: dict[int, str] = {}
        storage: dict[str, bytes] = {}
        result: dict = {"text": texts, "storage": storage, "logs": "", "error": "", "ends": {}}
        body = {"controller": name, "controller_arg": arg, **fields}
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=WAIT) as client,
            client.stream("POST", self._url, json=body) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if not line or line.startswith(":"):
                    continue
                assert line.startswith("data: "), line
                if line == "data: [DONE]":
                    return result
                said = json.loads(line[6:])
                result["job"] = said.get("job", result.get("job"))
                result["usage"] = said.get("usage")
                for fork in said.get("forks", []):
                    assert "Previous WASM Error" not in fork["logs"]
                    texts[fork["index"]] = texts.get(fork["index"], "") + fork["text"]
                    result["logs"] += fork["logs"]
                    result["error"] += fork["error"]
                    result["ends"][fork["index"]] = fork.get("finish_reason")
                    for one in fork["storage"]:
                        storage[one["WriteVar"]["name"]] = bytes.fromhex(one["WriteVar"]["value"])
        raise AssertionError("the stream ended without its mark")


async def test_many_at_once(network):
    """Programs run side by side with each other and with plain jobs, each to its own answer, and each with a receipt that holds."""
    client = Aici(network, "/demo")
    chat = Order(
        model=MODEL, chat=Chat(messages=[ChatMessage(role="user", content="What is AI?")]), sampling=Sampling(max_tokens=40)
    )
    alone = (await network.client.answer(chat)).text

    async def one(number: int) -> None:
        ran = await client.run("gh:microsoft/aici/jsctrl", PROGRAM.format(number=number))
        answer = ran["storage"]["answer"].decode()
        assert answer[:-1] == str(number)
        assert answer[-1].isdigit()
        assert ran["text"] == {0: f"The answer to question {number} is {answer}."}
        assert ran["ends"] == {0: "aici-stop"}, ran["error"]
        usage = ran["usage"]
        assert usage["cost"] == 2 * usage["sampled_tokens"] + usage["ff_tokens"]
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=ran["job"]))
        assert [finding.what for finding in check_bundle(bundle) if not finding.good] == []
        assert bundle.output == ran["text"][0]
        assert bundle.receipt.usage.completion_tokens == usage["sampled_tokens"]

    outcomes = [network.client.answer(chat) for _ in range(3)]
    _, *told = await asyncio.gather(asyncio.gather(*(one(number) for number in range(1, 5))), *outcomes)
    assert {outcome.text for outcome in told} == {alone}


async def test_forks_side_by_side(network):
    """Forks of one program go their own ways, and each writes its own variable."""
    ran = await Aici(network).run("jsctrl-latest", BRANCHES)
    said = {index: ran["storage"][f"said{index}"].decode() for index in range(3)}
    assert ran["text"] == {index: f"Fork {index} says {answer}" for index, answer in said.items()}
    assert set(said.values()) <= {"yes", "no"}


async def test_an_endless_one_disturbs_nobody(network):
    """A controller that never answers fails after its time; a run beside it is through long before."""

    async def parts():
        yield CreateControllerRequest(data=LOOP)

    endless = (await network.client.controllers.CreateController(parts())).name.removeprefix("controllers/")
    stuck = asyncio.create_task(Aici(network).run(endless, ""))
    ran = await Aici(network).run("gh:microsoft/aici/jsctrl", PROGRAM.format(number=4))
    assert ran["ends"] == {0: "aici-stop"}
    stopped = await stuck
    assert stopped["ends"] == {0: "fail"}
    assert stopped["error"] == "Worker: timeout\nAbnormal finish: Failed"
    assert "timeout [deadline: 50ms; step 10/10]" in stopped["logs"]


async def test_two_operators_give_the_same_run(network):
    """A controlled job that two operators run is CHECKED: the same steps, to the bit, whatever was computed beside them."""
    found = await network.client.controllers.GetController(GetControllerRequest(name="jsctrl-latest"))
    digest = bytes.fromhex(found.name.removeprefix("controllers/"))
    control = Control(controller=digest, argument=PROGRAM.format(number=7))
    order = Order(model=MODEL, prompt="Q: 7?\n", control=control, sampling=Sampling(temperature=0.8, max_tokens=60))
    job = await network.dispatcher.CreateJob(CreateJobRequest(order=order, redundancy=2))
    async with asyncio.timeout(WAIT):
        while not (seen := await network.dispatcher.GetJob(GetJobRequest(name=job.name))).verdict_reason:
            await asyncio.sleep(0.02)

    assert seen.verdict == VERDICT_CHECKED, seen.verdict_reason
    assert seen.verdict_reason == "2 of 2 wanted operators ran it, 2 agree, step by step."
    results = (await network.dispatcher.ListResults(ListResultsRequest(name=job.name))).results
    assert len({one.roots.steps for one in results}) == 1
    assert {one.receipt.controller_digest for one in results} == {digest}


async def test_natively(network):
    """`Client.run_controller` gives the job and its steps as they come."""
    events = network.client.run_controller("uppercase", model=MODEL, prompt="hello", sampling=Sampling(max_tokens=12))
    first, *others = [event async for event in events]
    assert first.job.order.control.controller
    steps = [event.job_event.chunk.run for event in others if event.job_event.chunk.HasField("run")]
    assert steps[-1].branches[0].end in {BranchEnd.BRANCH_END_LENGTH, BranchEnd.BRANCH_END_STOP}
    text = "".join(step.branches[0].text for step in steps)
    assert others[-1].job_event.outcome.text == text
