"""Lists of steps in JSON: what each step writes, chooses, draws, keeps, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest


def text(words: str) -> dict[str, Any]:
    return {"String": {"str": words}}


def listed(*words: str) -> dict[str, Any]:
    return {"Concat": {"parts": [text(word) for word in words], "list": True}}


def fixed(words: str | dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"Fixed": {"text": text(words) if isinstance(words, str) else words, **rest}}


def gen(**fields: Any) -> dict[str, Any]:
    return {"Gen": fields}


def keep(name: str) -> list[Any]:
    return [{"Set": {"var": name, "expr": {"Current": {}}}}]


async def run(stage, *steps: dict[str, Any], says: str | list[str] = ""):
    return await stage.run("declctrl", json.dumps({"steps": list(steps)}), says=says)


class TestSteps:
    async def test_text_is_written_and_generated_text_is_kept(self, stage):
        """Steps come one after the other; a variable has what a step wrote, and later text may use it."""
        results = {"Concat": {"parts": [text("Results: "), {"Var": {"var": "word"}}]}}
        ran = await run(stage, fixed("foo"), gen(rx=r" '[^']*'", stmts=keep("word")), fixed(results), says=" 'ab'")

        assert ran.text == "foo 'ab'Results:  'ab'"
        assert ran.variables == {"word": b" 'ab'"}
        assert ran.ways[0].ended == "stop"

    async def test_one_of_a_list_is_chosen(self, stage):
        """Only the list's texts may be written."""
        ran = await run(stage, {"Choose": {"options": listed("Yes", "No")}}, says="No")

        assert (ran.text, ran.masks) == ("No", [2])

    async def test_text_following_a_label_replaces_what_came_after_that_step(self, stage):
        """The labelled step stays; what followed it goes."""
        ran = await run(stage, fixed("foo", label="here"), gen(rx="Yes"), fixed("bar", following="here"), says="Yes")

        assert ran.text == "foobar"

    async def test_branches_run_their_steps_and_then_the_rest(self, stage):
        """One branch stops, one waits for a variable of the third."""
        branches = [
            [fixed("a"), {"Stop": {}}],
            [{"Wait": {"vars": ["x"]}}, fixed({"Var": {"var": "x"}})],
            [gen(rx="Yes", stmts=keep("x"))],
        ]
        ran = await run(stage, {"Fork": {"branches": branches}}, fixed("!"), says=["", "", "Yes"])

        assert [way.text for way in ran.ways.values()] == ["a", "Yes!", "Yes!"]

    @pytest.mark.parametrize(
        ("fields", "says", "expected"),
        [
            ({"max_tokens": 2}, "foobarfoo", "foobar"),
            ({"stop_at": " wor"}, "Hello world foo", "Hello world"),
            ({"max_words": 2}, "Hello world foo", "Hello world"),
            ({"max_bytes": 4}, "foobar", "foob"),
            ({"rx": r"\d+"}, "42", "42"),
            ({"yacc": "%%\na : 'foo' | 'foo' a ;"}, "foofoo", "foofoo"),
        ],
    )
    async def test_limits_and_forms_of_generated_text(self, stage, fields, says, expected):
        """Tokens, a text to stop at, words, bytes, a pattern, a grammar."""
        assert (await run(stage, gen(**fields), says=says)).text == expected

    async def test_options_after_a_text(self, stage):
        """Where the text has just been generated, one of the options comes next."""
        inner = [{"after": "foo", "options": listed("Yes", "No")}]
        ran = await run(stage, gen(inner=inner, stop_at="\n"), says="abfooNobar\n")

        assert ran.text == "abfooNobar\n"
        assert min(ran.masks) == 2


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ({"IfEq": {"a": text("x"), "b": text("x"), "eq": text("foo"), "neq": text("bar")}}, "foo"),
            ({"IfEq": {"a": text("x"), "b": {"Var": {"var": "none"}}, "eq": text("foo"), "neq": text("bar")}}, "bar"),
            ({"Extract": {"from": text("a=1, b=2"), "rx": r"(\w)=(\d)", "template": "$2$1"}}, "1a"),
            ({"Extract": {"from": text("a=1, b=2"), "rx": r"(\w)=", "list": True}}, "a\uff0cb"),
            ({"Extract": {"from": text("a"), "rx": "(b)"}}, ""),
            (listed("a", "b"), "a\uff0cb"),
        ],
    )
    async def test_values(self, stage, expression, expected):
        """Comparing, extracting by a pattern and a template, lists."""
        assert (await run(stage, fixed(expression), fixed("."))).text == expected + "."

    async def test_a_separator_within_an_element_becomes_a_comma(self, stage):
        """A list of what was extracted has as many elements as were found."""
        found = {"Extract": {"from": text("[a\uff0cb][c]"), "rx": r"\[(.*?)\]", "list": True}}

        assert (await run(stage, fixed(found))).text == "a, b\uff0cc"


class TestRefusals:
    @pytest.mark.parametrize(
        ("steps", "reason"),
        [
            ([{"Nap": {}}], "there is no Nap; there are Fixed, Choose, Gen, Fork, Wait, Stop"),
            ([{"Gen": {"regex": "a"}}], "Gen: there is no field regex"),
            ([{"Fork": {"branches": [[{"Gen": {"oops": 1}}]]}}], "Gen: there is no field oops"),
            ([gen(mask_tags=["x"])], "mask_tags: no part of the text can be hidden"),
            ({}, "steps: a list"),
        ],
    )
    async def test_what_is_no_step_is_refused_before_the_run_begins(self, stage, steps, reason):
        """Setting up fails, and the log names what there is."""
        ran = await stage.run("declctrl", json.dumps({"steps": steps}))

        assert ran.error.startswith("Error (setup)")
        assert reason in ran.logs

    @pytest.mark.parametrize(
        ("step", "reason"),
        [
            (fixed("a", following="nowhere"), "no step before has the label nowhere"),
            (gen(rx="a", max_words=2), "one of rx, max_words, not several"),
            (gen(max_bytes=1001), "max_bytes: 1 to 1000"),
            (fixed({"Current": {}}), "Current: only in stmts"),
            ({"Choose": {"options": text("")}}, "there is nothing to choose from"),
        ],
    )
    async def test_what_cannot_be_done_fails_with_a_reason(self, stage, step, reason):
        """The branch ends as failed."""
        ran = await run(stage, step)

        assert ran.ways[0].ended.startswith("Error (mid)")
        assert reason in ran.logs

    async def test_what_is_no_json_is_refused(self, stage):
        """Setting up fails."""
        assert (await stage.run("declctrl", "{")).error.startswith("Error (setup)")
