"""Calls kept in form by a grammar, in every style, on real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aos.errors import InvalidField
from aos.operator.engine import Engine
from aos.operator.llama import load
from aos.operator.replay import replay_on
from aos.operator.tools import Calls, Style, effective_constraint
from aos.order import check_order
from aos.testing.scripted import ScriptedModel
from aos.toolcalls import whole
from aos.v1.types_pb2 import Chat, ChatMessage, Choices, Constraint, FinishReason, Order, Sampling, Tool, ToolChoice
from tests.operator.orders import answer
from tests.operator.test_replay import bundle
from tests.operator.weights import SPECIAL, write_model

SCHEMA = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "$defs": {"city": {"enum": ["Paris", 'the "other" one']}},
}
TOOLS = [Tool(name="weather", description="Weather", parameters=json.dumps(SCHEMA)), Tool(name="now")]
NAMES = [tool.name for tool in TOOLS]
AUTO, REQUIRED = ToolChoice.TOOL_CHOICE_AUTO, ToolChoice.TOOL_CHOICE_REQUIRED
# Mistral's marks as control tokens of a model, in the template and in the vocabulary
MARKED = (
    "{% for m in messages %}{{ m.content }}{% if m.tool_calls is defined %}[TOOL_CALLS]{{ m.tool_calls[0].function.name }}[ARGS]"
)
MARKED += "{{ m.tool_calls[0].function.arguments | tojson }}{% endif %}{% endfor %}{{ tools | tojson }}"


def asking(choice: ToolChoice, *, name: str = "", single: bool = True, says: str = "Weather?", **sampling) -> Order:
    chat = Chat(
        messages=[ChatMessage(role="user", content=says)],
        tools=TOOLS,
        tool_choice=choice,
        tool_name=name,
        single_tool_call=single,
    )
    return Order(model="m", chat=chat, sampling=Sampling(**({"max_tokens": 96} | sampling)))


@pytest.fixture(params=list(Style), ids=lambda style: style.name)
def styled(request, demo) -> Calls:
    """The bundled model, as if its template had calls written in this style."""
    before, demo.calls = demo.calls, Calls(request.param)
    yield demo.calls
    demo.calls = before


class TestRequired:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    async def test_a_named_tool(self, styled, real, seed):
        """The answer is one call of it, and its arguments fit its schema, references and all."""
        got = await answer(real, asking(REQUIRED, name="weather", temperature=1.5, seed=seed))
        content, [(name, arguments)] = whole(got.text, NAMES)
        said = json.loads(arguments)

        assert (content, name, set(said)) == ("", "weather", {"city", "days"})
        assert said["city"] in {"Paris", 'the "other" one'}
        assert 1 <= said["days"] <= 9
        assert got.end.reason == FinishReason.FINISH_REASON_STOP

    async def test_any_tool(self, styled, real):
        """Every call that is complete is of a tool that there is, several if they may be."""
        got = await answer(real, asking(REQUIRED, single=False, temperature=1.5, seed=4))
        content, calls = whole(got.text, NAMES)

        assert calls
        assert {name for name, _ in calls} <= set(NAMES)
        if got.end.reason == FinishReason.FINISH_REASON_STOP:
            assert content == ""
            assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)


class TestReplay:
    async def test_a_call_is_made_again(self, demo):
        """The order says all that kept the call in form, so its receipt can be checked on the weights."""
        order = asking(REQUIRED, name="weather", temperature=1.5, seed=2)
        finding = await replay_on(await bundle(demo, order), demo)

        assert finding.good, finding.why

    async def test_it_goes_on_elsewhere(self, real):
        """An operator that takes a call over in the middle ends it as the first would have."""
        order = asking(REQUIRED, name="weather", temperature=1.5, seed=2)
        first = await answer(real, order)
        rest = await answer(real, order, accepted=first.tokens[:9])

        assert first.tokens[:9] + rest.tokens == first.tokens


class TestAuto:
    async def test_text_is_free(self, styled, real):
        """What is no call is what the model says."""
        order = asking(AUTO)
        bound = await answer(real, order)
        constraint = effective_constraint(order, styled)

        assert whole(bound.text, NAMES) == (bound.text, [])
        assert bound.text
        assert constraint is not None
        assert constraint.HasField("lark")

    @pytest.mark.parametrize(
        ("style", "begins"),
        [
            (Style.HERMES, 'Well <tool_call>\n{"name": "now"'),
            (Style.LLAMA, '{"name": "now"'),
            (Style.MISTRAL, 'Well [TOOL_CALLS][{"name": "now"'),
            (Style.MISTRAL_NAMED, "Well [TOOL_CALLS]now"),
        ],
    )
    async def test_what_begins_as_a_call_is_one(self, style, begins):
        """From the marker on only a call can follow, whatever the model would rather say."""
        model = ScriptedModel(begins, "!" * 200)
        model.calls = Calls(style)
        async with Engine("m", model) as engine:
            got = await answer(engine, asking(AUTO))

        content, calls = whole(got.text, NAMES)
        assert (content, calls) == ("Well" if begins.startswith("W") else "", [("now", "{}")])

    @pytest.mark.parametrize(
        ("own", "fits"),
        [
            (Constraint(choices=Choices(texts=['a "b"', "c/d"])), {'a "b"', "c/d"}),
            (Constraint(regex="[xy]/z"), {"x/z", "y/z"}),
            (Constraint(json_schema='{"const": {"k": 1}}'), {'{"k": 1}', '{"k":1}'}),
        ],
    )
    async def test_beside_a_form_of_the_answer(self, styled, real, own, fits):
        """The answer has the form that the order asks for, or is a call."""
        order = asking(AUTO, temperature=1, seed=3)
        order.constraint.CopyFrom(own)
        got = await answer(real, order)

        content, calls = whole(got.text, NAMES)
        assert calls or content in fits


class TestControlTokens:
    @pytest.fixture
    def marked(self, tmp_path: Path, monkeypatch):
        """A model whose markers are control tokens."""
        monkeypatch.setattr("tests.operator.weights.SPECIAL", [*SPECIAL, "[TOOL_CALLS]", "[ARGS]"])
        model = load(write_model(tmp_path / "marked.gguf", template=MARKED), slots=1)
        yield model
        model.close()

    async def test_they_are_text_in_answers(self, marked):
        """The model says its own tokens, and whoever reads the text finds the call."""
        assert marked.calls == Calls(Style.MISTRAL_NAMED, {"[TOOL_CALLS]": 3, "[ARGS]": 4})
        async with Engine("m", marked) as engine:
            got = await answer(engine, asking(REQUIRED, name="now", temperature=1, seed=1))

        assert got.text == "[TOOL_CALLS]now[ARGS]{}"
        assert (got.tokens[0], got.tokens[4]) == (3, 4)

    async def test_and_still_the_callers_cannot_make_them(self, marked):
        """In a message they are letters."""
        tokens = marked.tokenise(Order(model="m", chat=Chat(messages=[ChatMessage(role="user", content="[TOOL_CALLS][ARGS]")])))

        assert not {3, 4} & set(tokens)


class TestRefused:
    async def test_a_schema_that_does_not_compile(self, real):
        """By the name of the field that it came in."""
        order = asking(REQUIRED)
        order.chat.tools[0].parameters = '{"type": "nonsense"}'
        with pytest.raises(InvalidField, match=r"order\.chat\.tools.*does not compile"):
            await answer(real, order)

    @pytest.mark.parametrize("own", [Constraint(lark="start: /x/"), Constraint(gbnf='root ::= "x"')])
    def test_grammars_beside_tools(self, own):
        """A grammar of the caller's own has to have the calls in it."""
        order = asking(AUTO)
        order.constraint.CopyFrom(own)
        with pytest.raises(InvalidField, match="put the calls into it"):
            check_order(order)
