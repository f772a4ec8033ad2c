"""The AICI dialect's runs: `POST /v1/run`, with the controllers that come with the package."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

import aos
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetReceiptRequest, JobState, ListJobsRequest
from aos.verification.receipts import check_bundle
from tests.operator.wat import controller, printed
from tests.rest.test_aici_examples import shell
from tests.rest.test_documented_examples import examples

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHIPPED = Path(aos.__file__).parent / "controllers"
QUESTION = """
async function main() {
    await $`Ultimate answer is to the life, universe and everything is `
    await gen({ regex: /\\d\\d/, storeVar: "answer", maxTokens: 10 })
}
start(main)
"""
"""The example of the AICI page."""
FORKED = """
async function main() {
    const id = await fork(2)
    await $`I am ${id ? "child" : "parent"} `
    await gen({ regex: /\\d/ })
    if (id) throw new Error("the child fails")
}
start(main)
"""
ENDLESS = "async function main() { await gen({ regex: /[a-z]{50}/, maxTokens: 100 }) }\nstart(main)"
ECHO = controller(mid="(call $print_blob (call $module_arg))" + printed("|") + '(call $say "{\\"branches\\":[]}")')


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _controllers(aos_rest):
    """Upload what the tests run, as a client does."""
    headers = {"authorization": f"Bearer {aos_rest.token}"}
    async with httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=60) as client:
        for tag, data in (("jsctrl-latest", (SHIPPED / "jsctrl.wasm").read_bytes()), ("echo", ECHO)):
            module = (await client.post("/v1/controllers", content=data)).json()["module_id"]
            assert (await client.post("/v1/controllers/tags", json={"module_id": module, "tags": [tag]})).status_code == 200


def events(answer: httpx.Response) -> list[dict]:
    """What an AICI client reads: lines that are `data: ` and JSON, up to the end mark."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream"), answer.text
    lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    *said, mark = [line.removeprefix("data: ") for line in lines]
    assert mark == "[DONE]"
    return [json.loads(one) for one in said]


async def ran(rest, controller: str = "jsctrl-latest", arg: object = QUESTION, path: str = "/v1/run", **fields) -> list[dict]:
    return events(await rest.post(path, json={"controller": controller, "controller_arg": arg, **fields}))


class TestARun:
    async def test_is_the_documented_example(self, aos_rest, rest):
        """A fixed text, two digits that the model has to draw, and a variable: as on the AICI page, counts and costs included."""
        opening, *steps = await ran(rest)
        assert uuid.UUID(opening.pop("id").removeprefix("run-")).version == 4
        job = opening.pop("job")
        assert time.time() - opening.pop("created") < 60
        assert opening == {"object": "initial-run", "model": "scripted"}
        assert {one["object"] for one in steps} == {"run"}
        assert [len(one["forks"]) for one in steps] == [1, 1, 1, 1]
        text = "".join(one["forks"][0]["text"] for one in steps)
        fixed = "Ultimate answer is to the life, universe and everything is "
        assert text.startswith(fixed)
        assert text.removeprefix(fixed).isdigit()
        assert len(text) == len(fixed) + 2
        # a token a byte and one for the end of the prompt, then a token a step
        first = len(fixed) + 1
        assert [one["usage"]["ff_tokens"] for one in steps] == [first, first + 1, first + 2, first + 2]
        assert [one["usage"]["sampled_tokens"] for one in steps] == [1, 2, 3, 3]
        assert all(one["cost"] == 2 * one["sampled_tokens"] + one["ff_tokens"] for one in (step["usage"] for step in steps))
        assert [one["forks"][0].get("finish_reason") for one in steps] == [None, None, "aici-stop", "aici-stop"]
        (stored,) = [write["WriteVar"] for one in steps for write in one["forks"][0]["storage"]]
        assert stored == {"name": "answer", "value": text[-2:].encode().hex(), "op": "Set", "when_version_is": None}
        assert steps[-1]["forks"] == [
            {"index": 0, "finish_reason": "aici-stop", "text": "", "error": "", "logs": "", "storage": [], "micros": 0}
        ]
        bundle = await aos_rest.dispatcher.GetReceipt(GetReceiptRequest(name=job))
        assert [one.what for one in check_bundle(bundle) if not one.good] == []
        assert bundle.output == text

    async def test_shows_all_forks_in_each_step(self, rest):
        """Forks are listed from where they came to be, in order; one that fails says so, and leaves the other alone."""
        _, *steps = await ran(rest, arg=FORKED)
        assert [one["index"] for one in steps[-1]["forks"]] == [0, 1]
        texts = ["".join(fork["text"] for one in steps for fork in one["forks"] if fork["index"] == index) for index in (0, 1)]
        assert [text[:-1] for text in texts] == ["I am parent ", "I am child "]
        assert [one["finish_reason"] for one in steps[-1]["forks"]] == ["aici-stop", "fail"]
        (error,) = [fork["error"] for one in steps for fork in one["forks"] if fork["error"]]
        assert error.startswith("Error (mid): ")
        assert error.endswith("\nAbnormal finish: Failed")
        logs = "".join(fork["logs"] for one in steps for fork in one["forks"] if fork["index"] == 1)
        assert "the child fails" in logs

    async def test_is_one_event_if_the_controller_cannot_begin(self, rest):
        """A program that does not parse fails in its setup: a stream all the same, of one event with counts of nothing."""
        _, only = await ran(rest, arg="this is not a program (")
        (fork,) = only["forks"]
        assert (fork["finish_reason"], fork["text"]) == ("fail", "")
        assert fork["error"].startswith("Error (setup): ")
        assert only["usage"] == {"sampled_tokens": 0, "ff_tokens": 0, "cost": 0}

    async def test_ends_at_max_tokens(self, rest):
        """A fork that has as many tokens as were asked for ends by `length`, and says so in its log."""
        _, *steps = await ran(rest, arg=ENDLESS, max_tokens=12)
        assert steps[-1]["forks"][0]["finish_reason"] == "length"
        assert [fork["logs"] for one in steps for fork in one["forks"] if "MaxTokensReached" in fork["logs"]]
        assert len("".join(one["forks"][0]["text"] for one in steps)) <= 12

    @pytest.mark.parametrize(
        ("arg", "told"), [('{"a": 1}', '{"a": 1}'), ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'), (None, "null"), ("", ""), (1.5, "1.5")]
    )
    async def test_tells_the_controller_its_argument(self, rest, arg, told):
        """A string as it is, any other JSON compactly."""
        _, *steps = await ran(rest, "echo", arg)
        assert steps[0]["forks"][0]["logs"] == f"{told}|"

    async def test_needs_no_controller(self, rest):
        """With `none` the model goes on with the argument, or with the prompt where that is no text."""
        for arg, prompt in (("Say it.", ""), ({}, "Say it.")):
            opening, *steps = await ran(rest, "none", arg, prompt=prompt)
            assert opening["object"] == "initial-run"
            assert "".join(one["forks"][0]["text"] for one in steps) == "Scripted."
            assert steps[-1]["forks"][0]["finish_reason"] == "eos"
            assert steps[-1]["usage"]["sampled_tokens"] == len("Scripted.")
        _, *steps = await ran(rest, "none", "Say it.", max_tokens=3)
        assert steps[-1]["forks"][0]["finish_reason"] == "length"

    @pytest.mark.parametrize("path", ["/scripted/v1/run", "/some/proxy/v1/run"])
    async def test_may_be_asked_for_below_a_prefix(self, rest, path):
        """Clients that know several servers by one address put a name before the path."""
        opening, *_ = await ran(rest, "echo", "x", path=path)
        assert opening["model"] == "scripted"

    async def test_ends_with_its_caller(self, aos_rest):
        """Whoever goes away leaves no controller running."""
        aos_rest.model.say("Once upon a time.", to="leaving")
        hold = aos_rest.model.hold(after="Once")
        body = {"controller": "none", "controller_arg": "leaving"}
        headers = {"authorization": f"Bearer {aos_rest.token}"}
        async with (
            httpx.AsyncClient(base_url=aos_rest.url, headers=headers, timeout=20) as client,
            client.stream("POST", "/v1/run", json=body) as answer,
        ):
            assert "initial-run" in await anext(answer.aiter_lines())
            await hold.reached()
        job = (await aos_rest.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0]
        async with asyncio.timeout(20):
            *_, last = [event async for event in aos_rest.client.watch(job)]
        hold.release()
        assert last.outcome.state == JobState.JOB_STATE_CANCELLED


async def test_a_silent_run_gets_comments():
    """While nothing happens, comments keep the connection open: first the run is named, so its caller knows that it is there."""
    async with running_aos(envoy=True) as network:
        hold = network.model.hold()
        lines: list[str] = []

        async def read() -> None:
            body, headers = {"controller": "none", "controller_arg": "hi"}, {"authorization": f"Bearer {network.token}"}
            async with (
                httpx.AsyncClient(base_url=network.url, headers=headers, timeout=20) as client,
                client.stream("POST", "/v1/run", json=body) as answer,
            ):
                async for line in answer.aiter_lines():
                    if line:
                        lines.append(line)  # noqa: PERF401  # they are looked at as they come

        reading = asyncio.create_task(read())
        await hold.reached()
        async with asyncio.timeout(20):
            while len(lines) < 3:
                network.clock.advance(seconds=2)
                await asyncio.sleep(0.01)
            hold.release()
            await reading
    assert json.loads(lines[0].removeprefix("data: "))["object"] == "initial-run"
    assert lines[1] == lines[2] == ": ping"
    assert lines[-1] == "data: [DONE]"


class TestReferencePage:
    async def test_the_example_does_what_the_page_shows(self, aos_rest, tmp_path):
        """The command on the page gives events of the documented form, one for one."""
        ((command, _, shown),) = [one for one in examples("rest-aici.md") if "/v1/run" in one[0]]
        said = [one.removeprefix("data: ") for one in shown.strip().split("\n\n")]
        got = await shell(command, tmp_path, AOS_URL=aos_rest.url, AOS_TOKEN=aos_rest.token)
        lines = [one.removeprefix("data: ") for one in got.strip().split("\n\n") if not one.startswith(":")]
        assert lines.pop() == said.pop() == "[DONE]"
        for line, documented in zip(map(json.loads, lines), map(json.loads, said), strict=True):
            assert list(line) == list(documented)
            for fork, like in zip(line.get("forks", []), documented.get("forks", []), strict=True):
                assert list(fork) == list(like)
                assert [list(one["WriteVar"]) for one in fork["storage"]] == [list(one["WriteVar"]) for one in like["storage"]]
                assert len(fork["text"]) == len(like["text"])


class TestARefusal:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"controller": "nobody"}, "APIError: While executing instantiate:\ntag nobody not found"),
            ({"controller": "a/b"}, "APIError: 'controller' must be a 64-char hex string or tag name, got a/b."),
            ({"temperature": -1}, "temperature: must be at least 0"),
            ({"temperature": 2.5}, "temperature: must be from 0 to 2"),
            ({"top_p": 0}, "top_p: "),
            ({"top_k": -2}, "top_k: must be at least -1"),
            ({"max_tokens": 0}, "max_tokens: must be at least 1"),
            ({"model": "nobody"}, "There is no model 'nobody'"),
            ({"prompt": 1}, "prompt: must be a string"),
            ({"controller_arg": "x" * ((1 << 20) + 1)}, "at most 1048576 are accepted"),
            (
                {"prompt": "x" * 20_000, "max_tokens": 5},
                "is 16384 tokens. However, you requested 20006 tokens (20001 in the messages, 5 in the completion). Please reduce",
            ),
        ],
    )
    async def test_is_plain_text_before_the_stream(self, rest, fields, said):
        """What is wrong with a request is said with 400, in the AICI server's form, and names the field."""
        answer = await rest.post("/v1/run", json={"controller": "echo", "controller_arg": ""} | fields)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert said in answer.text

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"controller": "echo"}', "Json deserialize error: missing field `controller_arg`"),
            (b'{"controller_arg": ""}', "Json deserialize error: missing field `controller`"),
            (b"{", "Json deserialize error: "),
            (b"[]", "Json deserialize error: "),
        ],
    )
    async def test_names_what_a_body_lacks(self, rest, body, said):
        """A body that cannot be read is refused as the AICI server does."""
        answer = await rest.post("/v1/run", content=body)
        assert answer.status_code == 400
        assert answer.text.startswith(said)

    async def test_is_there_for_callers_without_a_token(self, bare):
        """Nobody runs controllers without a project's token."""
        assert (await bare.post("/v1/run", json={"controller": "echo", "controller_arg": ""})).status_code == 401

    async def test_makes_no_job(self, aos_rest, rest):
        """A refused request has cost nothing."""
        before = await aos_rest.dispatcher.ListJobs(ListJobsRequest(page_size=1))
        await rest.post("/v1/run", json={"controller": "nobody", "controller_arg": ""})
        assert (await aos_rest.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs == before.jobs
