"""Constraints that are wrong, or too much: the request ends with its reason, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from threading import Event

import pytest

from aos.errors import EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.constraints import COMPILERS, REASON_CHARS, Grammars
from aos.operator.engine import Engine
from aos.operator.waiting import Terms
from aos.testing.scripted import END, HOLD_SECONDS, ScriptedModel
from aos.v1.types_pb2 import Choices, Constraint
from tests.operator.orders import answer, asking
from tests.operator.test_constraints import formed


def chain(rules: int) -> str:
    """Return a Lark grammar with rules that name each other in a row."""
    return "\n".join(["start: a0", *(f"a{index}: a{index + 1}" for index in range(rules)), f'a{rules}: "x"'])


def references(count: int) -> str:
    """Return a schema whose definitions name each other in a row."""
    defs = {f"d{index}": {"type": "array", "items": {"$ref": f"#/$defs/d{index + 1}"}} for index in range(count)}
    return json.dumps({"$ref": "#/$defs/d0", "$defs": defs | {f"d{count}": {"type": "null"}}}, separators=(",", ":"))


def doubling(levels: int) -> str:
    """Return a Lark grammar whose terminal is twice the next, and so on."""
    return "\n".join(["start: A0", *(f"A{index}: A{index + 1} A{index + 1}" for index in range(levels)), f'A{levels}: "x"'])


WRONG = {
    "a regex with an open group": ("regex", "(a", "unclosed group"),
    "a regex that looks around": ("regex", "(?=a)b", "look-around"),
    "a regex for nothing": ("regex", "[a&&b]", "allows no answer"),
    "a schema that is no JSON": ("json_schema", "{", "does not compile"),
    "a schema of another type": ("json_schema", '"string"', "Expecting object schema"),
    "an unknown type": ("json_schema", '{"type": "objekt"}', "objekt"),
    "a keyword that is not understood": ("json_schema", '{"not": {"type": "null"}}', "not"),
    "a schema from elsewhere": ("json_schema", '{"$ref": "http://localhost:1/x.json"}', "does not fetch"),
    "a schema of a file": ("json_schema", '{"$ref": "file:///etc/hostname"}', "does not fetch"),
    "a schema that is only itself": ("json_schema", '{"allOf": [{"$ref": "#"}]}', "allows no answer"),
    "an empty Lark grammar": ("lark", "", "Empty grammar"),
    "a Lark rule that is not there": ("lark", "start: other", "other"),
    "an empty GBNF grammar": ("gbnf", "", "root"),
    "a GBNF rule that is not there": ("gbnf", "root ::= other", "other"),
    "a GBNF grammar that stops short": ("gbnf", 'root ::= "\\', "ends too early"),
    "a GBNF escape that is no character": ("gbnf", 'root ::= "\\uD800"', "no character"),
}
MUCH = {
    "parentheses in a regex": ("regex", "(" * 30_000 + "a" + ")" * 30_000, "does not compile"),
    "a regex of many alternatives": ("regex", "(a|b*)" * 10_000, "too big"),
    "parentheses in Lark": ("lark", "start: " + "(" * 30_000 + '"a"' + ")" * 30_000, "too deeply nested"),
    "terminals that double": ("lark", doubling(60), "too big"),
    "rules that double in GBNF": ("gbnf", doubling(60).replace("start", "root").replace(":", "::="), "too big"),
    "a schema in a schema": ("json_schema", '{"items":' * 6_000 + "{}" + "}" * 6_000, "levels deep"),
    "alternatives that multiply": (
        "json_schema",
        json.dumps(
            {"allOf": [{"anyOf": [{"properties": {f"{row}{at}": {"type": "null"}}} for at in range(6)]} for row in range(12)]}
        ),
        "too large",
    ),
}


class TestRefused:
    @pytest.mark.parametrize(("kind", "text", "reason"), WRONG.values(), ids=WRONG)
    async def test_what_is_wrong(self, real, kind, text, reason):
        """The error names the field, with llguidance's own reason."""
        await self._refused(real, kind, text, reason)

    @pytest.mark.parametrize(("kind", "text", "reason"), MUCH.values(), ids=MUCH)
    async def test_what_is_too_much(self, real, kind, text, reason):
        """However it explodes, its request alone is refused, with a reason that can be read, while others are answered."""
        other = asyncio.create_task(answer(real, asking("Say it.", max_tokens=5)))
        await self._refused(real, kind, text, reason)
        assert (await other).end.tokens

    async def _refused(self, engine: Engine, kind: str, text: str, reason: str) -> None:
        order = formed(asking("Go:"), **{kind: text})
        with pytest.raises(InvalidField, match=rf"^order\.constraint\.{kind}: ") as refusal:
            await answer(engine, order)
        assert reason in refusal.value.message
        assert len(refusal.value.message) < REASON_CHARS + 100
        assert (await answer(engine, asking("Say it.", max_tokens=3))).end.tokens

    @pytest.mark.parametrize(
        ("constraint", "field"),
        [
            (Constraint(), "order.constraint"),
            (Constraint(json_object=False), "order.constraint.json_object"),
            (Constraint(choices=Choices()), "order.constraint.choices.texts"),
            (Constraint(choices=Choices(texts=["x"] * 1025)), "order.constraint.choices.texts"),
            (Constraint(regex="x" * (64 << 10)), "order.constraint.regex"),
        ],
    )
    async def test_what_no_order_may_have(self, real, constraint, field):
        """Refused before anything is compiled."""
        order = asking("Go:")
        order.constraint.CopyFrom(constraint)
        with pytest.raises(InvalidField) as refusal:
            await answer(real, order)
        assert refusal.value.violations[0].field == field

    async def test_one_that_explodes_under_way(self, real):
        """A constraint whose answer needs too much work ends that answer, and names itself."""
        schema = {"type": "object", "properties": {f"p{index}": {"type": "integer"} for index in range(2000)}}
        order = formed(asking("Go:", max_tokens=40, temperature=2.0, seed=1), json_schema=json.dumps(schema))
        with pytest.raises(InvalidField, match=r"^order\.constraint\.json_schema: cannot be followed: .*items"):
            await answer(real, order)

    async def test_a_model_that_cannot_end(self):
        """No answer could be complete."""
        model = ScriptedModel("x")
        model.ends = frozenset()
        async with Engine("m", model) as engine:
            with pytest.raises(ModelUnsuitable, match="ends an answer"):
                await answer(engine, formed(asking("Go:"), regex="x"))

    async def test_a_text_that_the_model_cannot_write(self):
        """Where no token goes on, the answer ends with that reason, and others live."""
        model = ScriptedModel("ab")
        model.piece = lambda token: b"" if token in (ord("c"), END) else bytes([token]) if token < END else b""
        async with Engine("m", model) as engine:
            with pytest.raises(EngineFailed, match="no token"):
                await answer(engine, formed(asking("Go:"), regex="[a-z]bc|zc"))
            assert (await answer(engine, asking("Go:"))).text == "ab"


class TestDeep:
    @pytest.mark.parametrize(
        ("kind", "text", "expected"),
        [("lark", chain(4_000), "x"), ("json_schema", references(1_150), "[]")],
        ids=["rules", "references"],
    )
    async def test_rules_that_name_each_other_in_a_row(self, real, kind, text, expected):
        """As many as fit into a constraint are followed: the compiler's stack is deep enough."""
        assert (await answer(real, formed(asking("Go:"), **{kind: text}))).text.startswith(expected[:1])


class Gated(ScriptedModel):
    """A model whose tokeniser waits: llguidance asks it what to make of text that is certain to come."""

    def __init__(self, *reply: str) -> None:
        super().__init__(*reply)
        self.asked, self.gate = Event(), Event()

    def tokens_of(self, text: bytes) -> list[int]:
        if text.startswith(b"ab"):
            self.asked.set()
            if not self.gate.wait(HOLD_SECONDS):
                raise TimeoutError
        return super().tokens_of(text)


class TestLate:
    async def test_a_late_mask_holds_up_nobody(self):
        """While what may follow is worked out for one answer, the others go on, also through a step that fails."""
        model = Gated("zabc")
        async with Engine("m", model) as engine:
            slow = asyncio.create_task(answer(engine, formed(asking("Slow"), regex="[yz]ab[cd]")))
            assert await asyncio.to_thread(model.asked.wait, HOLD_SECONDS)
            assert (await answer(engine, asking("Quick"))).text == "zabc"
            model.fail()
            with pytest.raises(EngineFailed):
                await answer(engine, asking("Fails"))
            assert (await answer(engine, asking("Quick again"))).text == "zabc"
            assert not slow.done()
            model.gate.set()
            assert (await slow).text == "zabc"

    async def test_one_that_leaves_meanwhile(self):
        """A reader who goes while its mask is worked out leaves nothing behind."""
        model = Gated("zabc")
        async with Engine("m", model) as engine:
            slow = asyncio.create_task(answer(engine, formed(asking("Slow"), regex="[yz]ab[cd]")))
            assert await asyncio.to_thread(model.asked.wait, HOLD_SECONDS)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            model.gate.set()
            assert (await answer(engine, asking("Quick"))).text == "zabc"

    async def test_closing_meanwhile(self):
        """An engine that closes ends it with that reason."""
        model = Gated("zabc")
        async with Engine("m", model) as engine:
            slow = asyncio.create_task(answer(engine, formed(asking("Slow"), regex="[yz]ab[cd]"), terms=Terms(seconds=60)))
            assert await asyncio.to_thread(model.asked.wait, HOLD_SECONDS)
            await engine.aclose()
            with pytest.raises(ShuttingDown):
                await slow
            model.gate.set()

    async def test_compiling_takes_too_long(self, monkeypatch):
        """The request whose constraint it is is refused for it; one that waited behind it may come again."""
        monkeypatch.setattr("aos.operator.constraints.COMPILE_SECONDS", 0.5)
        model = Gated("abc")
        async with Engine("m", model) as engine:
            slow = [
                asyncio.create_task(answer(engine, formed(asking("Slow"), regex=f"ab[cd]{{{n + 1}}}"))) for n in range(COMPILERS)
            ]
            assert await asyncio.to_thread(model.asked.wait, HOLD_SECONDS)
            with pytest.raises(QueueFull):
                await answer(engine, formed(asking("Behind"), regex="[yz]"))
            for one in slow:
                with pytest.raises(InvalidField, match=r"^order.constraint.regex: takes more than"):
                    await one
            model.gate.set()
            assert (await answer(engine, formed(asking("Again"), regex="ab[cd]"))).text == "abc"

    async def test_compiling_for_a_closed_engine(self, demo):
        """Refused with that reason, as what waits to be compiled is."""
        grammars = Grammars("m", demo)
        waiting = [asyncio.create_task(grammars.compiled(Constraint(regex=f"{text}+"))) for text in "abcdef"]
        await asyncio.sleep(0)
        grammars.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(result, ShuttingDown) for result in results)
        with pytest.raises(ShuttingDown):
            await grammars.compiled(Constraint(regex="d"))
