"""What gen's options let through: patterns, grammars, words of a text, options."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CHECK = """
const { form, source, flags, texts } = %s
const made = { regex: () => helpers.regex_constraint(source, flags), yacc: () => helpers.cfg_constraint(source),
               substring: () => helpers.substr_constraint(source, flags) }
function says(text) {
    const constraint = made[form]()
    for (const token of tokenize(text)) {
        const set = new TokenSet()
        constraint.allowTokens(set)
        if (set.has(token) !== constraint.tokenAllowed(token)) throw new Error(`the mask and the token differ: ${text}`)
        if (!set.has(token)) return "-"
        constraint.appendToken(token)
    }
    return constraint.eosAllowed() ? "!" : "."
}
import { helpers, TokenSet, setLogLevel, start, tokenize } from "aici"
setLogLevel(0)
start(async () => { console.log("=" + texts.map(says).join("")) })
"""
"""Says of each text whether it is a whole one (!), the beginning of one (.), or neither (-)."""

EXPRESSIONS = r"""
%start expr
%%
SKIP : "/ +/" | "/#[^\n]*\n/" ;   // blanks and comments
expr : term | expr "+" term | "if" expr "then" expr ;
term : factor | term "*" factor ;
factor : NUMBER | NAME | '(' expr ')' | "[" list "]" ;
list : | items ;
items : expr | items "," expr ;
NUMBER : "/[0-9]+(\.[0-9]+)?/" ;
NAME : "/[a-z]+/" ;
%%
"""
AMBIGUOUS = '%%\nsum : sum "+" sum | "a" ;'
PALINDROMES = '%%\np : "a" p "a" | "b" p "b" | "c" ;'


async def said(stage, form: str, source: str, texts: list[str], flags: str = "") -> str:
    told = {"form": form, "source": source, "flags": flags, "texts": texts}
    ran = await stage.run("jsctrl", CHECK % json.dumps(told))
    assert ran.ways[0].ended == "stop", ran.logs
    return ran.logs.partition("=")[2].strip()


def patterns() -> st.SearchStrategy[str]:
    """Patterns that Python reads as JavaScript does."""
    atoms = st.sampled_from(["a", "b", "4", ".", r"\d", r"\w", r"\S", "[ab]", "[^a]", "[0-4b-]", r"\.", "(?:ab|4)", "Yes", "é"])
    several = st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{0,1}", "{2,}", "*?"])
    pieces = st.builds(lambda atom, times: f"(?:{atom}){times}", atoms, several)
    rows = st.lists(pieces, min_size=1, max_size=4).map("".join)
    return st.lists(rows, min_size=1, max_size=2).map("|".join)


class TestRegex:
    # each example is a run of its own, and the machine may be busy
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(pattern=patterns(), texts=st.lists(st.text("ab4. Yesé", max_size=6), min_size=5, max_size=30))
    async def test_whole_texts_are_those_that_python_matches(self, stage, pattern, texts):
        """A text is whole exactly when re.fullmatch takes its bytes, whatever tokens it is made of."""
        found = await said(stage, "regex", pattern, texts)

        matches = [re.fullmatch(pattern.encode(), text.encode(), re.ASCII) is not None for text in texts]
        assert [one == "!" for one in found] == matches

    @pytest.mark.parametrize(
        ("pattern", "flags", "texts", "expected"),
        [
            (r"^\d\d$", "", ["42", "4", "421", "x"], "!.--"),
            ("a|^b$", "", ["a", "b", "ab"], "!!-"),
            ("yes", "i", ["YES", "Yes", "no"], "!!-"),
            ("a.b", "", ["a\nb"], "-"),
            ("a.b", "s", ["a\nb"], "!"),
            (r"[\u00e0-\u00fc🙂]+", "", ["é", "éé🙂", "e"], "!!-"),
            (r"\u{1F642}\x41\t", "", ["🙂A\t", "🙂"], "!."),
            (r"[^a-z]", "", ["A", "b"], "!-"),
            (r"(?<year>\d{4})-{1}", "", ["2024-", "2024"], "!."),
            ("x{1000}", "", ["x" * 1000, "x" * 999, "x" * 1001], "!.-"),
            ("a{,2}", "", ["a{,2}"], "!"),
            ("a+\x00", "", ["aa\x00", "a"], "!."),
            ("", "", ["", "a"], "!-"),
        ],
    )
    async def test_what_javascript_has(self, stage, pattern, flags, texts, expected):
        """Anchors at the ends, flags, characters above ASCII, escapes, names of groups, counts."""
        assert await said(stage, "regex", pattern, texts, flags) == expected

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("a(?=b)", "looking around cannot be had: (?= at 2"),
            (r"(a)\1", r"\1 cannot be had"),
            (r"\bfoo", r"\b cannot be had"),
            ("a$b", "$ stands inside the pattern"),
            ("[^é]", "takes single bytes only"),
            ("(a", "a ( is never closed"),
            ("a)", "a ) closes nothing"),
            ("[a", "a [ is never closed"),
            ("*a", "there is nothing to repeat"),
            ("a{3,2}", "the most repeats are fewer than the least"),
            ("a{1001}", "more than 1000 repeats"),
            ("(?:a{1000}){1000}", "the pattern is too large"),
            ("(" * 101 + ")" * 101, "nested more than 100 deep"),
            ("a**", "a repeat is repeated"),
            ("\\", "ends with a backslash"),
            ("[b-a]", "a range ends before it begins"),
        ],
    )
    async def test_what_cannot_be_had_is_refused_with_a_reason(self, stage, pattern, reason):
        """The branch fails; the reason names the place or the limit."""
        source = f"start(async () => {{ await gen({{ regex: {json.dumps(pattern)}, maxTokens: 60 }}) }})"
        ran = await stage.run("jsctrl", source, says="ab" * 60)

        assert ran.ways[0].ended.startswith("Error (mid)")
        assert reason in ran.logs

    async def test_the_last_token_ends_it_where_nothing_can_follow(self, stage):
        """No token is drawn to say that it is the end; where more could come, the end must be drawn."""
        closed = await stage.run("jsctrl", "start(async () => { await gen({ regex: /Yes/ }); await $`No` })", says="Yes")
        open_ended = await stage.run("jsctrl", "start(async () => { await gen({ regex: /(Yes)+/ }); await $`No` })", says="Yes")

        assert (closed.text, len(closed.masks)) == ("YesNo", 1)
        assert (open_ended.text, len(open_ended.masks)) == ("YesNo", 2)


class TestGrammar:
    async def test_expressions(self, stage):
        """Whole texts, beginnings, and what is neither, with blanks, comments, words and empty lists."""
        whole = ["1", "1+2*3", " ( a + 4.5 ) ", "if a then b", "[]", "[1,[2],(3)]", "a # b\n + 4", "iff"]
        begun = ["1+", "(", "((1)", "if", "if a", "[1,", "4.", "a # b"]
        neither = ["+", "1 2", ")", "(1))", "1++", "[,", "A", "1..", "4.a"]

        assert await said(stage, "yacc", EXPRESSIONS, whole) == "!" * len(whole)
        assert await said(stage, "yacc", EXPRESSIONS, begun) == "." * len(begun)
        assert await said(stage, "yacc", EXPRESSIONS, neither) == "-" * len(neither)

    async def test_more_than_one_word_ahead(self, stage):
        """Grammars that no table of one word ahead decides are followed in all their ways."""
        assert await said(stage, "yacc", PALINDROMES, ["abcba", "abc", "abcab", "c"]) == "!.-!"
        assert await said(stage, "yacc", AMBIGUOUS, ["a+a+a+a+a", "a+", "aa"]) == "!.-"

    async def test_a_word_is_one_only_where_it_may_come(self, stage):
        """Where the grammar takes a name and not the word, the word is a name; where it takes both, the word."""
        assert await said(stage, "yacc", EXPRESSIONS, ["if then then b", "then", "if"]) == "!!."

    async def test_it_steers_the_model(self, stage):
        """What does not fit is not drawn, and the answer is of the grammar."""
        source = f"start(async () => {{ await gen({{ yacc: {json.dumps(EXPRESSIONS)}, maxTokens: 12 }}) }})"
        ran = await stage.run("jsctrl", source, says="(4+42) *7")

        assert ran.text == "(4+42) *7"

    @pytest.mark.parametrize(
        ("grammar", "reason"),
        [
            ("%%", "there is no rule to start with"),
            ("a : 'x' ;", "%start NAME and %% come before the rules"),
            ("%%\na : b ;", "b has no rule"),
            ("%%\na : 'x'", "the last rule has no semicolon"),
            ("%%\na 'x' ;", "line 2: a rule begins with NAME and a colon"),
            ('%%\na : "x ;', "a string is never closed"),
            ("%token X\n%%\na : 'x' ;", "%start NAME and %% come before the rules"),
            ("%%\na : '/(/' ;", "/(/: a ( is never closed"),
            ("%%\na : '/x*/' ;", "a pattern matches nothing at all"),
            ("%%\na : a 'x' ;", "no text has this form"),
            ("%%\na : '' ;", "a word is empty"),
        ],
    )
    async def test_what_is_no_grammar_is_refused_with_a_reason(self, stage, grammar, reason):
        """The branch fails, and the log says where."""
        ran = await stage.run("jsctrl", f"start(async () => {{ await gen({{ yacc: {json.dumps(grammar)} }}) }})")

        assert ran.ways[0].ended.startswith("Error (mid)")
        assert reason in ran.logs


class TestOtherForms:
    async def test_words_of_a_text(self, stage):
        """Runs of whole words, as they stand there, and then the end."""
        texts = ['answer is"', "answer", 'nswer"', 'ultimate is"', 'The ultimate answer is yellow"', 'answ"']
        assert await said(stage, "substring", "The ultimate answer is yellow", texts, '"') == "!.--!-"

    async def test_options_are_taken_token_by_token(self, stage):
        """One that begins another can be ended by the end of the answer."""
        source = "start(async () => { console.log(await gen({ options: ['foo', 'foobar', 'No'] })) })"
        short, long = [await stage.run("jsctrl", source, says=says) for says in ("foo", "foobar")]

        assert (short.text, long.text) == ("foo", "foobar")
        assert short.masks == [2, 2]

    async def test_it_stops_at_a_text(self, stage):
        """The text at which it stops is in the result."""
        ran = await stage.run("jsctrl", "start(async () => { console.log(await gen({ stopAt: ' wor' })) })", says="Hello world foo")

        assert ran.text == "Hello world"

    async def test_twenty_tokens_are_the_most_unless_it_says_more(self, stage):
        """The number of tokens ends it, and nothing else need be drawn."""
        ran = await stage.run(
            "jsctrl", "start(async () => { await gen(); await $`\\n`; await gen({ maxTokens: 3 }) })", says="4" * 40
        )

        assert ran.text == "4" * 20 + "\n" + "444"

    async def test_the_end_of_the_answer_ends_it(self, stage):
        """The token is told and stands for nothing."""
        ran = await stage.run(
            "jsctrl", "start(async () => { console.log((await genTokens()).length, await gen({ maxTokens: 1 })) })", says=""
        )

        assert ran.logs.endswith("1 \nJsCtrl: done\n")

    async def test_where_no_token_fits_the_end_does(self, stage):
        """A form that no token of the vocabulary can go on with ends."""
        source = """import { Constraint, ConstrainedToken } from "aici"
        class Nothing extends Constraint { allowTokens(set) { set.clear() } }
        start(async () => { await new ConstrainedToken(() => new Nothing()).run() })"""
        ran = await stage.run("jsctrl", source)

        assert ran.masks == [1]
        assert "no token is allowed: EOS" in ran.logs
