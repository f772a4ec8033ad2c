"""Tool calls through REST, with the bundled model kept in form and with scripted answers."""

from __future__ import annotations

import json

import openai
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import running_aos
from aos.v1.dispatcher_pb2 import GetJobRequest, GetReceiptRequest, ListJobsRequest
from aos.v1.types_pb2 import ToolChoice
from aos.verification.receipts import check_bundle

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
                "unit": {"enum": ["C", "F", None]},
            },
            "required": ["city", "days"],
        },
    },
}
UNKNOWN_TYPE = {"type": "function", "function": {"name": "x", "parameters": {"type": "nonsense"}}}
NOW = {"type": "function", "function": {"name": "now"}}
TOOLS = [WEATHER, NOW]
ASK = [{"role": "user", "content": "What is the weather?"}]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>'


def fits(arguments: str) -> bool:
    """Whether these are arguments of ``WEATHER``."""
    said = json.loads(arguments)
    return (
        set(said) in ({"city", "days"}, {"city", "days", "unit"})
        and said["city"] in {"Paris", "Rome"}
        and said["days"] in range(1, 10)
        and said.get("unit") in {"C", "F", None}
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with loaded(bundled_model()) as model, running_aos(model, name="demo", envoy=True, clock=SystemClock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(network):
    async with openai.AsyncOpenAI(base_url=f"{network.url}/v1", api_key=network.token, max_retries=0) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def scripted(aos_rest):
    async with openai.AsyncOpenAI(base_url=f"{aos_rest.url}/v1", api_key=aos_rest.token, max_retries=0) as opened:
        yield opened


class TestTheModel:
    """What a model of 4 MB cannot do by itself, its grammar does."""

    @pytest.mark.parametrize("temperature", [0, 1.5])
    async def test_a_named_call(self, client, temperature):
        """It is the answer, its arguments fit the schema, and the finish says what it is."""
        named = {"type": "function", "function": {"name": "get_weather"}}
        answer = await client.chat.completions.create(
            model="demo", messages=ASK, tools=TOOLS, tool_choice=named, temperature=temperature, seed=7, parallel_tool_calls=False
        )
        (choice,) = answer.choices
        (call,) = choice.message.tool_calls
        assert (call.type, call.function.name, fits(call.function.arguments)) == ("function", "get_weather", True)
        assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")

    async def test_any_call(self, client, network):
        """`required`: at least one, of any of the tools; the native outcome has it, the text is what the receipt is for."""
        answer = await client.chat.completions.create(
            model="demo", messages=ASK, tools=[NOW], tool_choice="required", parallel_tool_calls=False
        )
        job = await network.dispatcher.GetJob(GetJobRequest(name=f"jobs/{answer.id.removeprefix('cmpl-')}"))
        (call,) = job.outcome.tool_calls
        assert (call.name, call.arguments, job.outcome.content) == ("now", "{}", "")
        assert call.id == answer.choices[0].message.tool_calls[0].id
        assert job.outcome.text == '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
        bundle = await network.dispatcher.GetReceipt(GetReceiptRequest(name=job.name))
        assert bundle.output == job.outcome.text
        assert all(finding.good for finding in check_bundle(bundle))

    async def test_streamed(self, client):
        """OpenAI's accumulator makes the same call of the fragments, ids and all, that the job has as a whole."""
        named = {"type": "function", "function": {"name": "get_weather"}}
        asked = {"model": "demo", "messages": ASK, "tools": TOOLS, "tool_choice": named, "parallel_tool_calls": False}
        async with client.chat.completions.stream(**asked) as stream:
            final = await stream.get_final_completion()
        whole = await client.chat.completions.create(**asked)
        (call,), (same,) = final.choices[0].message.tool_calls, whole.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == (same.function.name, same.function.arguments)
        assert fits(call.function.arguments)
        assert final.choices[0].finish_reason == "tool_calls"
        assert not final.choices[0].message.content

    async def test_it_may_also_answer(self, client):
        """With `auto`, text stays text; with `none`, the model does not even hear of the tools."""
        texts, prompts = [], []
        for choice in ("auto", "none"):
            answer = await client.chat.completions.create(
                model="demo", messages=ASK, tools=TOOLS, tool_choice=choice, max_tokens=40
            )
            texts.append(answer.choices[0].message.content)
            prompts.append(answer.usage.prompt_tokens)
            assert answer.choices[0].message.tool_calls is None
        assert all(texts)
        assert prompts[0] > prompts[1] + 50


class TestTheWholeWay:
    async def test_call_and_result(self, aos_rest, scripted):
        """The answer's message goes back as it is, with the result behind it; the order has both."""
        aos_rest.model.say("Let me look.\n", CALL, to="user: What is the weather?\n")
        first = await scripted.chat.completions.create(model="scripted", messages=ASK, tools=TOOLS)
        message = first.choices[0].message
        assert (message.content, first.choices[0].finish_reason) == ("Let me look.", "tool_calls")
        (call,) = message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
        last = await scripted.chat.completions.create(
            model="scripted", messages=[*ASK, message.model_dump(), result], tools=TOOLS, parallel_tool_calls=False
        )
        assert last.choices[0].message.content == "Scripted."
        job = (await aos_rest.dispatcher.ListJobs(ListJobsRequest(page_size=1))).jobs[0]
        _, asked, answered = job.order.chat.messages
        assert (asked.role, asked.content, answered.role, answered.content) == ("assistant", "Let me look.", "tool", "Sunny.")
        assert asked.tool_calls[0].id == answered.tool_call_id == call.id
        assert [tool.name for tool in job.order.chat.tools] == ["get_weather", "now"]
        assert json.loads(job.order.chat.tools[0].parameters) == WEATHER["function"]["parameters"]
        assert (job.order.chat.tool_choice, job.order.chat.single_tool_call) == (ToolChoice.TOOL_CHOICE_UNSPECIFIED, True)

    async def test_fragments(self, aos_rest, rest):
        """First id, type and name, then pieces of the arguments; two calls have two indexes and ids; no marker is shown."""
        aos_rest.model.say("Two: ", CALL, "\n", CALL, to="fragments")
        asked = {"model": "scripted", "messages": [{"role": "user", "content": "fragments"}], "tools": TOOLS, "stream": True}
        reply = await rest.post("/v1/chat/completions", json=asked)
        events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line.startswith("data: {")]
        deltas = [event["choices"][0]["delta"] for event in events]
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert "".join(delta.get("content") or "" for delta in deltas) == "Two:"
        heads = [call for call in calls if "id" in call]
        assert [(head["index"], head["type"], head["function"]) for head in heads] == [
            (0, "function", {"name": "get_weather", "arguments": ""}),
            (1, "function", {"name": "get_weather", "arguments": ""}),
        ]
        assert heads[0]["id"] != heads[1]["id"]
        for index in (0, 1):
            pieces = [call["function"]["arguments"] for call in calls if call["index"] == index]
            assert fits("".join(pieces))
        last = events[-1]["choices"][0]
        assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")
        job = await aos_rest.dispatcher.GetJob(GetJobRequest(name=f"jobs/{events[0]['id'].removeprefix('cmpl-')}"))
        assert [call.id for call in job.outcome.tool_calls] == [head["id"] for head in heads]

    async def test_with_log_probabilities(self, aos_rest, rest):
        """Every token of the answer has its entry, those of calls too."""
        aos_rest.model.say(CALL, to="probable")
        message = {"role": "user", "content": "probable"}
        asked = {"model": "scripted", "messages": [message], "tools": TOOLS, "stream": True, "logprobs": True}
        reply = await rest.post("/v1/chat/completions", json=asked)
        events = [json.loads(line.removeprefix("data: ")) for line in reply.text.split("\n\n") if line.startswith("data: {")]
        said = [event["choices"][0]["logprobs"] for event in events]
        assert "".join(one["token"] for entry in said if entry for one in entry["content"]) == CALL


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "param", "says"),
        [
            ({"functions": [{"name": "x"}]}, "functions", "send `tools`"),
            ({"function_call": "auto"}, "function_call", "send `tools`"),
            ({"tools": []} | {"tool_choice": "required"}, "tool_choice", "only for chats with tools"),
            ({"tools": []} | {"parallel_tool_calls": True}, "parallel_tool_calls", "only for chats with tools"),
            ({"tool_choice": "always"}, "tool_choice", "'none', 'auto', 'required'"),
            ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_name", "none of the tools"),
            ({"tools": [{"type": "retrieval"}]}, "tools[0].type", "function"),
            ({"tools": [NOW, NOW]}, "tools[1].name", "earlier tool"),
            ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].name", "letters"),
            ({"tools": [NOW | {"extra": 1}]}, "tools[0].extra", "not known"),
            ({"tools": [UNKNOWN_TYPE]}, "tools", "compile"),
            ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format", "has to call"),
            (
                {"messages": [*ASK, {"role": "tool", "tool_call_id": "x", "content": "y"}]},
                "messages[1].tool_call_id",
                "earlier turn",
            ),
            ({"messages": [{"role": "assistant"}]}, "messages[0].content", "missing"),
        ],
    )
    async def test_what_cannot_be_meant(self, rest, change, param, says):
        """400, with the field's name and what to do."""
        reply = await rest.post("/v1/chat/completions", json={"model": "scripted", "messages": ASK, "tools": TOOLS} | change)
        body = reply.json()
        assert (reply.status_code, body["error"]["param"]) == (400, param), body
        assert says in body["message"]
