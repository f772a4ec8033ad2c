"""Programs in JavaScript: what they await, write, log and share."""

from __future__ import annotations

import pytest

from tests.controllers.driving import BEGIN, END, tokenise

DOCUMENTED = r"""async function main() {
    await $`Ultimate answer is to the life, universe and everything is `
    await gen({ regex: /\d\d/, storeVar: "answer" })
}

start(main)
"""


def program(body: str) -> str:
    names = (
        "Label, NextToken, MidProcessResult, ConstrainedToken, Constraint, TokenSet, getPrompt, getTokens, getPromptLen, checkVars"
    )
    return f'import {{ {names} }} from "aici"\nstart(async () => {{\n{body}\n}})'


class TestDocumentedExample:
    async def test_it_runs_as_written(self, stage):
        """The text is written at once, two digits are drawn, and the variable has them."""
        ran = await stage.run("jsctrl", DOCUMENTED, says="42")

        assert ran.text == "Ultimate answer is to the life, universe and everything is 42"
        assert ran.splices == ["Ultimate answer is to the life, universe and everything is "]
        assert ran.variables == {"answer": b"42"}
        assert ran.ways[0].ended == "stop"

    async def test_its_log_says_what_was_fixed_and_generated(self, stage):
        """The log is that of the documented page, but for the size of our own automaton."""
        ran = await stage.run("jsctrl", DOCUMENTED.replace(', storeVar: "answer"', ""), says="42")

        fixed, options, pattern, size, *rest = ran.logs.splitlines()
        assert fixed == 'FIXED "Ultimate answer is to the life, universe and everything is "'
        assert options == r"GEN-OPT {regex: /\d\d/}"
        assert pattern == r'regex constraint: "\\d\\d"'
        assert size.startswith("dfa: ")
        assert rest == ['GEN "42"', "JsCtrl: done"]

    async def test_a_token_of_two_digits_is_allowed_at_once(self, stage):
        """Both tokens that stand for 42 are allowed, and so are those of one digit."""
        ran = await stage.run("jsctrl", DOCUMENTED, says="42")

        [allowed] = ran.masks
        assert allowed == len({*range(10)}) + len(["4", "2", "42", "00", "42 again"])


class TestFixedText:
    async def test_texts_that_follow_each_other_are_one_splice(self, stage):
        """Three texts, one of them empty, are told to the host once."""
        ran = await stage.run("jsctrl", program("await $`foo${1 + 1}`; await fixed(''); await $`bar`"))

        assert ran.splices == ["foo2bar"]
        assert len(ran.micros) == 2

    async def test_a_text_after_a_label_replaces_what_came_since(self, stage):
        """What was generated after the label goes, and the text stands there."""
        body = "await $`foo`; const here = new Label(); await gen({ options: ['Yes'] }); assert(here.textSince() === 'Yes')\n"
        ran = await stage.run("jsctrl", program(body + "await here.fixedAfter('bar')"), says="Yes")

        assert ran.text == "foobar"
        assert "BACKTRACK 1" in ran.logs

    async def test_a_text_that_was_never_told_can_be_replaced(self, stage):
        """Going back over a text that the host does not know of yet tells it only what stands in the end."""
        ran = await stage.run("jsctrl", program("const here = new Label(); await $`foo`; await here.fixedAfter('bar')"))

        assert ran.splices == ["bar"]

    async def test_a_label_in_the_prompt_replaces_the_prompt(self, stage):
        """Backtracking goes past the beginning of the answer where the label is there."""
        body = "const prompt = await getPrompt(); const here = new Label(); here.ptr = 1; await here.fixedAfter('foo')\n"
        ran = await stage.run(
            "jsctrl", program(body + "console.log(prompt.length, getPromptLen(), getTokens().length)"), prompt="bar"
        )

        assert ran.logs.endswith("2 2 2\nJsCtrl: done\n")


class TestPrompt:
    async def test_it_is_known_once_it_is_awaited(self, stage):
        """The program gets the tokens that the host tells, and the prompt stays as it was."""
        ran = await stage.run("jsctrl", program("console.log(await getPrompt())"), prompt="foo")

        assert ran.prompt == [BEGIN, *tokenise(b"foo")]
        assert f"[{BEGIN}, {tokenise(b'foo')[0]}]" in ran.logs


class TestForks:
    async def test_each_branch_knows_its_number(self, stage):
        """Three branches go on from one place, in the order in which they were made."""
        ran = await stage.run("jsctrl", program("await $`foo`; await fixed(`${await fork(3)}`)"))

        assert [way.text for way in ran.ways.values()] == ["foo0", "foo1", "foo2"]

    async def test_a_list_runs_one_function_in_each(self, stage):
        """Branches run their own functions, then what follows the fork."""
        ran = await stage.run(
            "jsctrl", program("await fork([async () => { await $`foo` }, async () => { await $`bar` }]); await $`\\n`")
        )

        assert [way.text for way in ran.ways.values()] == ["foo\n", "bar\n"]

    async def test_branches_wait_for_each_others_variables(self, stage):
        """A branch that waits goes on with the value once another has set it."""
        body = """if (await fork(2) === 0) { const [x] = await waitVars("x"); await fixed(x.decode()) }
        else { await gen({ regex: "foo", storeVar: "x" }) }"""
        ran = await stage.run("jsctrl", program(body), says=["", "foo"])

        assert [way.text for way in ran.ways.values()] == ["foo", "foo"]

    async def test_a_fork_of_a_fork_has_its_own_memory(self, stage):
        """What a branch does to its objects no other branch sees."""
        body = "const seen = []; seen.push(await fork(2)); seen.push(await fork(2)); await fixed(seen.join(''))"
        ran = await stage.run("jsctrl", program(body))

        assert sorted(way.text for way in ran.ways.values()) == ["00", "01", "10", "11"]

    async def test_more_than_16_ways_are_refused(self, stage):
        """The reason names the limit."""
        ran = await stage.run("jsctrl", program("await fork(17)"))

        assert "a fork has 1 to 16 ways" in ran.logs


class TestVariables:
    async def test_appending_and_reading(self, stage):
        """A variable that nobody set is undefined; bytes and text can be written and appended."""
        body = """const { getVar, setVar, appendVar } = globalThis
        assert(getVar("x") === undefined); setVar("x", "a"); appendVar("x", new Uint8Array([98, 255]))
        assert(getVar("x").length === 3)
        checkVars({ x: "ab\\uFFFD" })"""
        ran = await stage.run("jsctrl", program(body))

        assert ran.variables == {"x": b"ab\xff"}
        assert ran.ways[0].ended == "stop"

    async def test_a_check_that_fails_says_what_was_found(self, stage):
        """Both values stand in the log."""
        ran = await stage.run("jsctrl", program("checkVars({ x: 'a' })"))

        assert 'x: undefined is not "a"' in ran.logs


class TestOwnTokens:
    async def test_a_subclass_decides_what_may_come(self, stage):
        """midProcess's set is the mask, and postProcess hears what came."""
        body = """class Two extends NextToken {
            midProcess() { const set = new TokenSet(); for (const [t] of [tokenize("Yes"), tokenize("No")]) set.add(t);
                console.log(String(set), set.has(tokenize("No")[0])); return MidProcessResult.bias(set) }
            postProcess(backtrack, tokens) { this.heard = detokenize(tokens).decode() }
        }
        const two = new Two(); await two.run(); console.log(two.heard)"""
        ran = await stage.run("jsctrl", program(body), says="No")

        assert ran.masks == [2]
        assert "TokenSet: 2/" in ran.logs
        assert "true\nNo\n" in ran.logs

    async def test_a_subclass_may_take_tokens_back(self, stage):
        """A splice of its own takes back and writes."""
        body = """class Replace extends NextToken { midProcess() { return MidProcessResult.splice(1, tokenize("bar")) } }
        await $`foo`; await gen({ options: ["Yes"] }); await new Replace().run()"""
        ran = await stage.run("jsctrl", program(body), says="Yes")

        assert ran.text == "foobar"

    async def test_two_awaited_at_once_are_refused(self, stage):
        """The reason says what to do instead."""
        ran = await stage.run("jsctrl", program("await Promise.all([gen(), gen()])"))

        assert "await one thing at a time" in ran.logs


class TestMistakes:
    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("boom(", "SyntaxError"),
            ("console.log(1)", "the program has not called start()"),
            ("start(async () => {}); start(async () => {})", "start() was called twice"),
            ('import "fs"', 'a program can import "aici" only'),
            ("start(async () => { for (;;) await undefined })", "awaits without end"),
            ("", "the program has not called start()"),
        ],
    )
    async def test_a_program_that_cannot_begin_says_why(self, stage, source, reason):
        """Setting it up fails, with the reason in the log."""
        ran = await stage.run("jsctrl", source)

        assert ran.error.startswith("Error (setup)")
        assert reason in ran.logs

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("throw new Error('boom')", "Error: boom"),
            ("const again = () => again() + 1; again()", "Maximum call stack size exceeded"),
            ("await new Promise(() => {})", "awaits something that never comes"),
            ("await gen({ regex: /a/, options: ['b'] })", "one of regex, options, not several"),
            ("await gen({ maxToken: 1 })", "there is no option maxToken"),
            ("await fixed('x'.repeat(131073))", "a text of more than 131072 bytes"),
            ("const all = []; for (;;) all.push(new Uint8Array(1 << 22))", "out of memory"),
        ],
    )
    async def test_one_that_fails_says_why(self, stage, body, reason):
        """Its branch ends as failed, with the reason in the log."""
        ran = await stage.run("jsctrl", program(body))

        assert ran.ways[0].ended.startswith("Error (mid)")
        assert reason in ran.logs

    async def test_it_can_do_nothing_outside(self, stage):
        """There is no host object, no timer, no file; the clock stands still, and so does chance."""
        body = "console.log(typeof __host, typeof setTimeout, typeof require, typeof std, Date.now() - Date.now(), Math.random())"
        first, second = [await stage.run("jsctrl", program(body)) for _ in range(2)]

        assert first.logs.startswith("undefined undefined undefined undefined 0 0.")
        assert first.logs == second.logs


class TestText:
    async def test_values_are_shown_as_people_read_them(self, stage):
        """Strings, lists, objects, bytes, patterns, loops of references."""
        body = "const a = [1]; a.push(a); console.log('x', ['y'], { z: { w: null } }, 'ab'.toBuffer(), /r/g, a, undefined)"
        ran = await stage.run("jsctrl", program(body))

        assert ran.logs.startswith('x ["y"] {z: {w: null}} b"ab" /r/g [1, ...] undefined\n')

    async def test_bytes_and_text_become_each_other(self, stage):
        """What is no UTF-8 becomes a replacement character; control tokens have no bytes."""
        body = f"""assert("é".toBuffer().length === 2); assert(String.fromBuffer("é".toBuffer()) === "é")
        assert(new Uint8Array([255]).decode() === "\\uFFFD"); assert(detokenize([{END}]).length === 0)
        assert(detokenize(tokenize("Yes 🙂")).decode() === "Yes 🙂"); console.log(tokensRepr(tokenize("YesNo")), eosToken())"""
        ran = await stage.run("jsctrl", program(body))

        assert ran.logs.startswith(f'"Yes‧No" {END}\n')
