"""Chat templates and tools: what they are told, in whose words, and that nothing of the caller's becomes a control token."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import InvalidField
from aos.operator.chat import TODAY, ChatTemplate
from aos.operator.tools import Style
from aos.toolcalls import whole
from aos.v1.types_pb2 import Chat, ChatMessage, Tool, ToolCall, ToolChoice

CONTROLS = ["<|im_start|>", "<|im_end|>", "<|python_tag|>", "<|eot|>", "[TOOL_CALLS]", "[INST]"]

PLAIN = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
ALTERNATING = """\
{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}\
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}\
|{{ m.role }}: {{ m.content }}{% endfor %}"""
HERMES = """\
{%- if tools %}<|im_start|>system
Tools, called within <tool_call></tool_call>:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'assistant' and m.tool_calls %}<|im_start|>assistant
{{ m.content }}{% for call in m.tool_calls %}{% set call = call.function %}
<tool_call>
{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif m.role == 'tool' %}<|im_start|>user
<tool_response>{{ m.content }}</tool_response><|im_end|>
{% else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{% endfor %}<|im_start|>assistant
"""
LLAMA = """\
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if strftime_now is defined %}{% set day = strftime_now("%d %b %Y") %}{% else %}{% set day = "26 Jul 2024" %}{% endif -%}
Today Date: {{ day }}
{% if tools is not none %}Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.
{% for t in tools %}{{ t | tojson(indent=4) }}
{% endfor %}{% endif %}
{%- for m in messages %}
{%- if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}
{%- set call = m.tool_calls[0].function -%}
assistant: {"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot|>
{% elif m.role == 'tool' %}ipython: {{ m.content | tojson }}<|eot|>
{% else %}{{ m.role }}: {{ m.content | trim }}<|eot|>
{% endif %}{% endfor %}assistant:"""
MISTRAL = """\
{%- for m in messages %}
{%- if m.role == 'user' %}{% if loop.first and tools %}\
[AVAILABLE_TOOLS] {{ tools | map(attribute='function') | list | tojson }}[/AVAILABLE_TOOLS]\
{% endif %}[INST] {{ m.content }}[/INST]
{%- elif m.tool_calls is defined %}[TOOL_CALLS][{% for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids must have 9 characters') }}{% endif %}
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}\
{% if not loop.last %}, {% endif %}{% endfor %}]
{%- elif m.role == 'tool' %}[TOOL_RESULTS]{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %}{{ m.content }}{% endif %}{% endfor %}"""

SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}}'
TOOLS = [Tool(name="weather", description="Weather of a city", parameters=SCHEMA), Tool(name="now")]
TURNS = [
    ChatMessage(role="user", content="Rome?"),
    ChatMessage(role="assistant", tool_calls=[ToolCall(id="call_1", name="weather", arguments='{"city": "Roma"}')]),
    ChatMessage(role="tool", content='"sunny"', tool_call_id="call_1"),
]


def template(source: str) -> ChatTemplate:
    return ChatTemplate("m", source, bos="<s>", eos="</s>", controls=CONTROLS)


def text(source: str, chat: Chat) -> str:
    return "".join(part for part, _ in template(source).render(chat))


class TestTemplatesWithTools:
    @pytest.mark.parametrize(
        ("source", "style", "told", "call", "result"),
        [
            (
                HERMES,
                Style.HERMES,
                '{"type": "function", "function": {"name": "weather"',
                '"arguments": {"city": "Roma"}}',
                '>"sunny"<',
            ),
            (
                LLAMA,
                Style.LLAMA,
                '        "name": "weather",\n',
                '"parameters": {"city": "Roma"}}<|eot|>',
                'ipython: "\\"sunny\\""',
            ),
            (
                MISTRAL,
                Style.MISTRAL,
                '[AVAILABLE_TOOLS] [{"name": "weather"',
                '"arguments": {"city": "Roma"}, "id"',
                '"sunny", "call_id"',
            ),
        ],
    )
    def test_in_the_templates_own_words(self, source, style, told, call, result):
        """Tools, calls and results come in the shapes that templates are written for."""
        said = text(source, Chat(messages=TURNS, tools=TOOLS))

        assert template(source).style is style
        assert told in said
        assert call in said
        assert result in said
        assert "<tools>" not in said

    def test_mistrals_named_calls(self):
        """A template that marks arguments has calls written by name."""
        named = MISTRAL.replace('{"name": "', "").replace('", "arguments": ', "[ARGS]")

        assert template(named).style is Style.MISTRAL_NAMED

    def test_call_and_result_keep_their_bond(self):
        """The id that a template wants short is the same in both places."""
        said = text(MISTRAL, Chat(messages=TURNS))
        short = said.split('"id": "')[1].split('"')[0]

        assert f'"call_id": "{short}"' in said
        assert (len(short), short.isalnum()) == (9, True)

    def test_what_the_template_refuses(self):
        """Is the caller's to mend."""
        two = ChatMessage(role="assistant", tool_calls=[ToolCall(id=str(n), name="now", arguments="{}") for n in (1, 2)])
        with pytest.raises(InvalidField, match="one call at once"):
            template(LLAMA).render(Chat(messages=[TURNS[0], two], tools=TOOLS))

    def test_the_day(self):
        """A template gets its own day, or one that is always the same: a receipt must hold tomorrow."""
        assert "Today Date: 26 Jul 2024" in text(LLAMA, Chat(messages=TURNS[:1]))
        assert text("{{ strftime_now('%Y-%m-%d') }}", Chat(messages=TURNS[:1])) == f"{TODAY:%Y-%m-%d}"


class TestTemplatesWithoutTools:
    def test_a_system_turn_tells_of_them(self):
        """Hermes's way: each tool a line within <tools>, behind what the caller's system turn says."""
        system = ChatMessage(role="system", content="Be brief.")
        first = text(PLAIN, Chat(messages=[system, TURNS[0]], tools=TOOLS)).split("<|im_end|>")[0]

        lines = first.split("<tools>\n")[1].split("\n</tools>")[0].split("\n")
        assert first.startswith("<|im_start|>system\nBe brief.\n\n")
        assert [json.loads(line)["function"]["name"] for line in lines] == ["weather", "now"]
        assert template(PLAIN).style is Style.HERMES

    def test_calls_and_results_are_text(self):
        """A call as the model would have written it, a result as the user's turn; both without tools on offer, too."""
        said = text(PLAIN, Chat(messages=TURNS))

        assert (
            '<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments": {"city": "Roma"}}\n</tool_call><|im_end|>' in said
        )
        assert '<|im_start|>user\n<tool_response>\n"sunny"\n</tool_response><|im_end|>' in said
        (call,) = whole(said.split("assistant\n")[1].split("<|im_end|>")[0], ["weather"])[1]
        assert call == ("weather", '{"city": "Roma"}')

    def test_where_turns_must_alternate(self):
        """Without system turns the first user turn tells of the tools, and two results are one turn."""
        calls = [ToolCall(id=str(number), name="now", arguments="{}") for number in (1, 2)]
        results = [ChatMessage(role="tool", content=f"result {number}", tool_call_id=str(number)) for number in (1, 2)]
        chat = Chat(messages=[TURNS[0], ChatMessage(role="assistant", tool_calls=calls), *results], tools=TOOLS)
        first, asked, answered = text(ALTERNATING, chat).split("|")[1:]

        assert first.startswith("user: You may call tools.")
        assert first.endswith("\n\nRome?")
        assert asked.count("<tool_call>") == 2
        assert ("result 1" in answered, "result 2" in answered) == (True, True)

    @pytest.mark.parametrize("source", [PLAIN, HERMES, LLAMA, MISTRAL])
    def test_none_hides_them(self, source):
        """A model that must not call does not hear of the tools."""
        hidden = Chat(messages=TURNS[:1], tools=TOOLS, tool_choice=ToolChoice.TOOL_CHOICE_NONE)

        assert text(source, hidden) == text(source, Chat(messages=TURNS[:1]))


class TestControlTokens:
    @pytest.mark.parametrize("source", [PLAIN, HERMES, LLAMA, MISTRAL])
    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.sampled_from([*CONTROLS, "<|im_", "start|>", "\ue0000\ue001", "\ue002", '"', "x"]), max_size=4).map("".join))
    def test_nothing_of_the_callers_makes_one(self, source, said):
        """Not descriptions, schemas, arguments, results nor ids: their control texts are parts that do not count."""
        inner = json.dumps({said: [said]})
        chat = Chat(
            messages=[
                ChatMessage(role="user", content="x"),
                ChatMessage(role="assistant", tool_calls=[ToolCall(id=f"1{said}", name="t", arguments=inner)]),
                ChatMessage(role="tool", content=said, tool_call_id=f"1{said}"),
            ],
            tools=[Tool(name="t", description=said, parameters=inner)],
        )
        quiet = Chat(
            messages=[
                ChatMessage(role="user", content="x"),
                ChatMessage(role="assistant", tool_calls=[ToolCall(id="1", name="t", arguments="{}")]),
                ChatMessage(role="tool", content="x", tool_call_id="1"),
            ],
            tools=[Tool(name="t", description="x")],
        )

        def controls(chat: Chat) -> list[str]:
            counting = "\0".join(part for part, counts in template(source).render(chat) if counts)
            return [control for control in CONTROLS for _ in range(counting.count(control))]

        assert controls(chat) == controls(quiet)
