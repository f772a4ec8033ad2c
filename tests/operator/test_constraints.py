"""Answers that must have a form, on the real llama.cpp."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from aos.errors import InvalidField
from aos.operator.constraints import COMPILED, Grammars
from aos.operator.engine import Engine
from aos.v1.types_pb2 import Choices, Constraint, FinishReason, Mirostat
from tests.operator.orders import answer, asking, chatting

STOP, LENGTH = FinishReason.FINISH_REASON_STOP, FinishReason.FINISH_REASON_LENGTH
HOT = {"temperature": 1.5, "seed": 11, "max_tokens": 300}

ZIP = {"type": "string", "pattern": "^[0-9]{5}$"}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", None]}, "maxItems": 3},
        "home": {"type": "object", "properties": {"zip": ZIP}, "required": ["zip"], "additionalProperties": False},
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "l": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "l"],
            "additionalProperties": False,
        }
    },
}
ARITHMETIC = """
start: sum
sum: product ("+" product)*
product: NUMBER | "(" sum ")"
NUMBER: /[0-9]{1,3}/
"""
LIST = """
# a list of numbers, at most three
root  ::= "[" item ("," item){0,2} "]"
item  ::= sign? [1-9] [0-9]{0,2} | "\\u0030"
sign  ::= [\\u002d-\\u002D]
"""


def formed(order, **kind):
    """Return the order with a constraint."""
    order.constraint.CopyFrom(Constraint(**kind))
    return order


def depth(tree) -> int:
    """Return how deep a tree of TREE's form is; fails if it has another."""
    assert tree.keys() == {"v", "l"}
    assert isinstance(tree["v"], bool)
    return 1 + (depth(tree["l"]) if tree["l"] is not None else 0)


class TestForms:
    @pytest.mark.parametrize("seed", range(3))
    async def test_a_schema(self, real, seed):
        """However hot the draw, what is required is there, in its type and range, and nothing else."""
        order = formed(asking("A person:", **HOT | {"seed": seed}), json_schema=json.dumps(PERSON))
        result = await answer(real, order)
        assert result.end.reason == STOP
        person = json.loads(result.text)
        assert person.keys() == set(PERSON["properties"])
        assert len(person["name"]) <= 12
        assert 0 <= person["age"] <= 150
        assert set(person["tags"]) <= {"red", "green", None}
        assert re.fullmatch("[0-9]{5}", person["home"]["zip"])

    async def test_a_schema_that_names_itself(self, real):
        """A recursive schema gives trees of any depth that end where the model ends them."""
        orders = [formed(asking("A tree:", **HOT | {"seed": seed}), json_schema=json.dumps(TREE)) for seed in range(4)]
        results = await asyncio.gather(*(answer(real, order) for order in orders))
        depths = [depth(json.loads(result.text)) for result in results if result.end.reason == STOP]
        assert depths

    async def test_any_object(self, real):
        """JSON mode gives an object, or its beginning if `max_tokens` cuts it off."""
        result = await answer(real, formed(chatting("Who are you?", max_tokens=200), json_object=True))
        assert result.text.startswith("{")
        if result.end.reason == STOP:
            assert isinstance(json.loads(result.text), dict)
        cut = await answer(real, formed(chatting("Who are you?", max_tokens=2), json_object=True))
        assert cut.end.reason == LENGTH
        assert result.text.startswith(cut.text)

    async def test_a_regex(self, real):
        """The whole answer matches."""
        result = await answer(real, formed(asking("A date:", **HOT), regex="20[0-9]{2}-(0[1-9]|1[0-2])-[é☃]/x"))
        assert result.end.reason == STOP
        assert re.fullmatch("20[0-9]{2}-(0[1-9]|1[0-2])-[é☃]/x", result.text)

    async def test_a_choice(self, real):
        """The answer is one of the texts, whatever characters they have; a text that begins another one is no less possible."""
        texts = ["yes", "yes, but", "no (a+b)*", 'naïve\n"quoted" \\d ☃']
        answers = set[str]()
        for seed in range(12):
            order = formed(asking("Well?", temperature=2.0, seed=seed), choices=Choices(texts=texts))
            answers.add((await answer(real, order)).text)
        assert answers <= set(texts)
        assert len(answers) > 1

    async def test_a_lark_grammar(self, real):
        """The answer is derived from `start`."""
        result = await answer(real, formed(asking("Sum:", **HOT | {"max_tokens": 60}), lark=ARITHMETIC))
        assert re.fullmatch(r"[0-9+()]+", result.text)
        if result.end.reason == STOP:
            assert result.text.count("(") == result.text.count(")")

    async def test_a_schema_within_a_lark_grammar(self, real):
        """A grammar may have a schema in it, behind free text."""
        schema = {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"], "additionalProperties": False}
        lark = f'start: "call " %json {json.dumps(schema)}'
        result = await answer(real, formed(asking("Go:", **HOT), lark=lark))
        assert json.loads(result.text.removeprefix("call "))["x"] in (1, 2)

    async def test_a_gbnf_grammar(self, real):
        """The answer is derived from `root`, comments, groups, counts and escapes included."""
        for seed in range(4):
            result = await answer(real, formed(asking("List:", **HOT | {"seed": seed}), gbnf=LIST))
            assert 1 <= len(json.loads(result.text)) <= 3

    async def test_control_tokens_have_names(self, real, demo):
        """A grammar calls a control token by its name; it stands for no text."""
        result = await answer(real, formed(asking("Go:"), lark='start: "a" <|im_start|> "b"'))
        assert result.text == "ab"
        assert [token for token in result.tokens if token in demo.controls] == [1]


class TestDrawing:
    @pytest.mark.parametrize(
        "sampling",
        [
            {"top_k": 1},
            {"top_p": 0.01},
            {"typical_p": 0.01},
            {"min_p": 1.0},
            {"repetition_penalty": 10.0, "presence_penalty": 2.0, "frequency_penalty": -2.0},
            {"mirostat": Mirostat(tau=0.1)},
        ],
        ids="+".join,
    )
    async def test_with_every_parameter(self, real, sampling):
        """Whatever else chooses among the tokens chooses among those that the form leaves."""
        result = await answer(real, formed(asking("Digits:", temperature=1.0, seed=3, **sampling), regex="[0-9]{12}"))
        assert re.fullmatch("[0-9]{12}", result.text)

    async def test_bias_brings_no_forbidden_token(self, real, demo):
        """A bias moves tokens among those that are possible, and no others."""
        digit, letter = (demo.tokens_of(text)[0] for text in (b"7", b"x"))
        order = formed(asking("Digits:", logit_bias={digit: 100.0, letter: 100.0}), regex="[0-9]{6}")
        assert (await answer(real, order)).text == "777777"

    async def test_logprobs_are_the_models_own(self, real):
        """A token that the form forced is reported as unlikely as the model took it to be."""
        order = formed(asking("Inference is", logprobs=True, top_logprobs=1), regex="☃☃")
        result = await answer(real, order)
        first = next(piece.logprobs[0] for piece in result.pieces if piece.logprobs)
        assert first.logprob < first.top[0][1]
        assert first.token != first.top[0][0]

    async def test_stop_strings_end_it_before_the_form_does(self, real):
        """The answer is then the beginning of one that has the form."""
        result = await answer(real, formed(asking("Go:", stop=["c"]), regex="abcd"))
        assert (result.text, result.end.stop, result.end.reason) == ("ab", "c", STOP)


class TestDeterminism:
    async def test_alone_and_among_others(self, real):
        """The same request gives the same bytes alone, repeated, and among others with forms and without."""
        order = formed(asking("A person:", **HOT), json_schema=json.dumps(PERSON))
        alone = (await answer(real, order)).tokens
        others = [formed(asking("Digits:", **HOT), regex="[0-9a-f]{40}") for _ in range(3)]
        others += [asking("Say it.", **HOT | {"max_tokens": 60}) for _ in range(3)]
        results = await asyncio.gather(*(answer(real, one) for one in (others[0], order, *others[1:], order)))
        assert results[1].tokens == results[-1].tokens == alone

    @pytest.mark.parametrize("mirostat", [{}, {"mirostat": Mirostat(tau=3)}], ids=["plain", "mirostat"])
    async def test_resumed_anywhere(self, real, mirostat):
        """An answer taken up behind any of its tokens goes on as it did."""
        order = formed(asking("A person:", **HOT | mirostat), json_schema=json.dumps(PERSON))
        whole = await answer(real, order)
        for count in (1, len(whole.tokens) // 2, len(whole.tokens)):
            rest = await answer(real, order, accepted=whole.tokens[:count])
            assert rest.end == whole.end

    async def test_accepted_tokens_that_break_the_form_are_refused(self, real, demo):
        """They cannot be of this order's answer."""
        with pytest.raises(InvalidField, match=r"^accepted_tokens: token 2 breaks order.constraint.regex$"):
            await answer(real, formed(asking("Go:"), regex="[0-9]+"), accepted=[*demo.tokens_of(b"1x")])

    async def test_the_same_on_another_engine(self, demo, real):
        """A constraint compiled anew and one that was kept allow the same."""
        order = formed(asking("A person:", **HOT), json_schema=json.dumps(PERSON))
        kept = [(await answer(real, order)).tokens for _ in range(2)]
        async with Engine("m", demo) as other:
            assert [(await answer(other, order)).tokens] * 2 == kept


class TestKeeping:
    async def test_the_oldest_are_let_go(self, demo):
        """So many compiled constraints are kept, those used last."""
        grammars = Grammars("m", demo)
        for number in range(COMPILED + 5):
            await grammars.compiled(Constraint(regex=f"x{number}"))
            await grammars.compiled(Constraint(regex="kept"))
        kept = {number for number in range(COMPILED + 5) if grammars.keeps(Constraint(regex=f"x{number}"))}
        assert kept == set(range(6, COMPILED + 5))
        assert grammars.keeps(Constraint(regex="kept"))
        grammars.close()
