"""What a chat with tools may be: its limits, its digest, and the most that it can cost."""

from __future__ import annotations

import json

import pytest

from aos.conversation import SCHEMA_DEPTH, TOOLS
from aos.dispatcher.admission import prompt_bound
from aos.errors import InvalidField
from aos.operator.chat import ChatTemplate
from aos.order import PROMPT_BYTES, canonical_order, check_order
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Tool, ToolCall, ToolChoice
from tests.operator.test_chat_tools import HERMES, LLAMA, MISTRAL, PLAIN

SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}}'
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Rome"}')
ASKED = ChatMessage(role="user", content="Rome?")
CALLED = ChatMessage(role="assistant", tool_calls=[CALL])
RESULT = ChatMessage(role="tool", content="Sunny.", tool_call_id="call_1")
WEATHER = Tool(name="weather", description="Weather", parameters=SCHEMA)


def order(*messages: ChatMessage, tools=(WEATHER,), **more) -> Order:
    return Order(model="m", chat=Chat(messages=messages or (ASKED,), tools=tools, **more))


def calling(**change) -> ChatMessage:
    call = ToolCall(id="1", name="weather", arguments="{}")
    call.MergeFrom(ToolCall(**change))
    return ChatMessage(role="assistant", tool_calls=[call])


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


REQUIRED, NONE = ToolChoice.TOOL_CHOICE_REQUIRED, ToolChoice.TOOL_CHOICE_NONE

ACCEPTED = {
    "a whole exchange": order(ASKED, CALLED, RESULT),
    "calls without tools on offer": order(ASKED, CALLED, RESULT, tools=()),
    "all tools": order(tools=[Tool(name=f"tool-{number}_") for number in range(TOOLS)]),
    "one must be called": order(tool_choice=REQUIRED, tool_name="weather", single_tool_call=True),
    "deep arguments": order(ASKED, calling(arguments=nested(SCHEMA_DEPTH))),
    "hidden tools": order(tool_choice=NONE),
}
REFUSED = [
    ("tools", order(tools=[Tool(name=f"t{number}") for number in range(TOOLS + 1)])),
    ("tools[0].name", order(tools=[Tool(name="")])),
    ("tools[0].name", order(tools=[Tool(name="x" * 65)])),
    ("tools[0].name", order(tools=[Tool(name="a\nb")])),
    ("tools[1].name", order(tools=[WEATHER, WEATHER])),
    ("tools[0].parameters", order(tools=[Tool(name="x", parameters="[]")])),
    ("tools[0].parameters", order(tools=[Tool(name="x", parameters='{"a": NaN}')])),
    ("tools[0].parameters", order(tools=[Tool(name="x", parameters=nested(SCHEMA_DEPTH + 1))])),
    ("tools[0].parameters", order(tools=[Tool(name="x", parameters=nested(50_000))])),
    ("tool_choice", order(tools=(), tool_choice=REQUIRED)),
    ("tool_name", order(tool_name="weather")),
    ("tool_name", order(tool_choice=REQUIRED, tool_name="other")),
    ("single_tool_call", order(tools=(), single_tool_call=True)),
    ("messages[0].tool_calls", order(ChatMessage(role="user", tool_calls=[CALL]))),
    ("messages[1].tool_calls[0].arguments", order(ASKED, calling(arguments="Rome"))),
    ("messages[1].tool_calls[0].name", order(ASKED, calling(name="a b"))),
    ("messages[1].tool_calls[0].id", order(ASKED, calling(id="x" * 129))),
    ("messages[2].tool_calls[0].id", order(ASKED, CALLED, CALLED)),
    ("messages[0].tool_call_id", order(RESULT)),
    ("messages[1].tool_call_id", order(ASKED, RESULT, CALLED)),
    ("messages[0].tool_call_id", order(ChatMessage(role="user", tool_call_id="call_1"))),
    ("messages", order(tools=[Tool(name="x", description="d" * PROMPT_BYTES)])),
]


class TestLimits:
    @pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
    def test_what_may_be(self, given):
        """Calls and results, tools up to their limits."""
        check_order(given)

    @pytest.mark.parametrize(("field", "given"), REFUSED)
    def test_what_may_not(self, field, given):
        """The refusal has the field's name."""
        with pytest.raises(InvalidField) as caught:
            check_order(given)
        assert caught.value.facts["field"] == f"order.chat.{field}"


class TestDigest:
    def test_every_part_counts(self):
        """Orders that differ in anything of their tools have different canonical bytes; without any there is nothing of them."""
        ways = [
            order(tools=()),
            order(),
            order(tools=[Tool(name="weather", description="Other", parameters=SCHEMA)]),
            order(tools=[Tool(name="weather", description="Weather")]),
            order(tool_choice=NONE),
            order(tool_choice=REQUIRED),
            order(tool_choice=REQUIRED, tool_name="weather"),
            order(single_tool_call=True),
            order(ASKED, CALLED, RESULT),
            order(ASKED, calling(id="2"), ChatMessage(role="tool", content="Sunny.", tool_call_id="12")),
        ]
        said = [canonical_order(one) for one in ways]

        assert len(set(said)) == len(ways)
        assert json.loads(said[0]) == {"messages": [{"content": "Rome?", "role": "user"}], "model": "m", "sampling": {}}


class TestBound:
    @pytest.mark.parametrize("source", [PLAIN, HERMES, LLAMA, MISTRAL])
    def test_no_prompt_has_more_tokens(self, source):
        """However a template shows tools, calls and results, their bytes are within the bound that money is held for."""
        deep = {"type": "object", "properties": {f"p{number}": {"type": "array", "items": [1, [2, [3]]]} for number in range(40)}}
        tools = [Tool(name=f"tool{number}", description='say "it"\n' * 9, parameters=json.dumps(deep)) for number in range(5)]
        calls = ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", name="tool1", arguments=json.dumps({"a": [{}] * 30}))])
        chat = order(ASKED, calls, ChatMessage(role="tool", content='"\\\n\t' * 200, tool_call_id="1"), tools=tools)
        template = ChatTemplate("m", source, bos="<s>", eos="</s>", controls=[])
        size = sum(len(part.encode()) for part, _ in template.render(chat.chat))

        assert size <= prompt_bound(chat, 1 << 30)
