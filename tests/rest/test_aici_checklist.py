"""What AICI's controllers may do, item by item, as a client sees it; what other tests of this folder show is not repeated."""

from __future__ import annotations

import pytest

from tests.operator.wat import IMPORTS, LIBRARY, NOOP, STOP, command, controller, module, printed, say
from tests.rest.controls import choice, decide, in_branch, in_turn, mask, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLD = "(call $print_blob (call $process_arg))" + printed("\n")


class TestThePrompt:
    async def test_may_be_replaced(self, rest):
        """`aici_init_prompt` sees the prompt, and what it answers is what the model goes on from."""
        code = controller(
            in_turn(decide(choice([65])), mask(b"x") + decide(choice(masked=True))), prompt=TOLD + say('{"prompt":[72,105]}')
        )
        told = await run(rest, code, prompt="ab")
        assert told.all("logs") == '{"prompt":[97,98,257]}\n'
        assert told.all("text") == "Ax"
        assert told.usage["ff_tokens"] == 4

    async def test_may_be_taken_back(self, rest):
        """Backtracking goes into it; past its beginning fails the fork."""
        deep = in_turn(decide(choice([65], backtrack=2)), decide(choice([66], backtrack=2)), decide(choice([67], backtrack=3)))
        told = await run(rest, controller(deep), prompt="ab")
        assert told.ends == ["fail"]
        assert "Worker: backtrack past the beginning (3 of 1 tokens)" in told.all("error")


class TestADecision:
    async def test_a_mask_allows(self, rest):
        """Only what it allows is drawn, though the model would rather say something else."""
        code = in_turn(mask(b"x") + decide(choice(masked=True)), mask(b"y") + decide(choice(masked=True)))
        assert (await run(rest, controller(code), prompt="p")).all("text") == "xy"

    async def test_a_splice_may_depend_on_what_is_drawn(self, rest):
        """Its backtracking counts the token that was drawn: 1 puts its tokens in its place, 0 behind it."""
        one = mask(b"x") + decide(choice([97, 98], 1, masked=True, when=[120]))
        two = mask(b"y") + decide(choice([99], 0, masked=True, when=[121]))
        other = mask(b"z") + decide(choice([99], 0, masked=True, when=[121]))
        told = await run(rest, controller(TOLD + in_turn(one, two, other)), prompt="p")
        assert told.all("text") == "abycz"
        heard = told.all("logs").splitlines()
        assert heard[1] == '{"backtrack":0,"tokens":[97,98],"sampled":120,"fork_group":[0]}'
        assert heard[2] == '{"backtrack":0,"tokens":[121,99],"sampled":121,"fork_group":[0]}'

    async def test_what_was_said_is_taken_back(self, rest):
        """Clients see a mark in place of what is gone, then what came instead."""
        first = mask(b"x") + decide(choice(masked=True))
        told = await run(rest, controller(in_turn(first, decide(choice([], 0)), decide(choice([65, 66], 1)))), prompt="p")
        assert told.all("text") == "x ↩ AB"

    async def test_a_noop_is_a_pass(self, rest):
        """It costs a forward pass and computes nothing."""
        noops = [mask(b"x") + decide(choice(masked=True)), NOOP, NOOP, NOOP]
        told = await run(rest, controller(in_turn(*noops)), prompt="p")
        assert told.usage == {"sampled_tokens": 5, "ff_tokens": 3, "cost": 13}
        assert told.all("text") == "x"

    async def test_its_temperature_counts(self, rest):
        """A controller may set one; one that is none fails the fork."""
        hot = say('{"branches":[{"sample_mask":null,"temperature":101,"splices":[{"ff_tokens":[65]}]}]}')
        assert "temperature must be 0 to 100" in (await run(rest, controller(in_turn(hot)))).all("error")


class TestForks:
    async def test_know_each_other(self, rest):
        """All of a group hear of it, the parent first; a fork's first text is all that there is behind the prompt."""
        begin = decide(choice([65, 66]))
        split = decide(choice([48]), choice([49]), choice([50]))
        told = await run(rest, controller(TOLD + in_turn(begin, split, NOOP)), prompt="p")
        assert [told.all("text", index) for index in range(3)] == ["AB0", "AB1", "AB2"]
        assert told.ends == ["aici-stop"] * 3
        for index in range(3):
            assert '"fork_group":[0,1,2]}' in told.all("logs", index)

    async def test_are_at_most_sixteen(self, rest):
        """Each step every fork makes another: there are 16, then all who want one more fail."""
        told = await run(rest, controller(decide(choice([65]), choice([66]))), prompt="p", max_tokens=50)
        assert told.ends == ["fail"] * 16
        assert all("Worker: too many forks (max=16)" in told.all("error", index) for index in range(16))

    async def test_one_that_traps_in_the_middle_is_alone(self, rest):
        """The fork that traps right after it was made ends; its parent and the others go on."""
        code = in_turn(decide(choice([48]), choice([49]), choice([50])), in_branch(1, "(unreachable)") + decide(choice([33])))
        told = await run(rest, controller(code), prompt="p")
        assert told.ends == ["aici-stop", "fail", "aici-stop"]
        assert [told.all("text", index) for index in range(3)] == ["0!", "1", "2!"]
        assert "unreachable" in told.all("error", 1)


class TestVariables:
    async def test_have_versions_and_are_reported(self, rest):
        """Each write is shown in the step of its callback, with its operation, even one whose version check refused it."""
        commands = [
            '{"WriteVar":{"name":"a","value":"61","op":"Set","when_version_is":null}}',
            '{"WriteVar":{"name":"a","value":"62","op":"Append","when_version_is":1}}',
            '{"WriteVar":{"name":"a","value":"63","op":"Set","when_version_is":7}}',
            '{"ReadVar":{"name":"a"}}',
            '{"ReadVar":{"name":"b"}}',
        ]
        code = in_turn(*(f"(call $print_blob {command(one)}) {printed(';')} {NOOP}" for one in commands))
        told = await run(rest, controller(code), prompt="p")
        seen = '{"ReadVar":{"version":2,"value":"6162"}}'
        assert told.all("logs").split(";")[:5] == [
            '{"WriteVar":{"version":1}}', '{"WriteVar":{"version":2}}', seen, seen, '{"VariableMissing":{}}'
        ]  # fmt: skip
        stored = [[write["WriteVar"] for write in fork["storage"]] for fork in told.forks(0)]
        assert [(one[0]["op"], one[0]["value"], one[0]["when_version_is"]) for one in stored if one] == [
            ("Set", "61", None), ("Append", "62", 1), ("Set", "63", 7)
        ]  # fmt: skip


class TestLogs:
    async def test_are_shown_in_their_step(self, rest):
        """What each callback prints, its setup's with the first; of more than 64 KiB the end."""
        long = "(call $print (i32.const 50000) (i32.const 70000))"
        told = await run(
            rest, controller(in_turn(printed("one") + NOOP, long + printed("two") + NOOP), init=printed("init ")), prompt="p"
        )
        logs = [fork["logs"] for fork in told.forks(0)]
        assert logs[0] == "init one"
        assert logs[1].endswith("two")
        assert 48 << 10 <= len(logs[1]) <= 64 << 10


WRITE = "(drop " + command('{"WriteVar":{"name":"a","value":"61","op":"Set"}}') + ")"
WRONG = [
    ("(unreachable)", "wasm `unreachable` instruction executed"),
    ("(call $deep)", "call stack exhausted"),
    ("(call $loop)", "Worker: timeout"),
    ("(loop $again (drop (call $eos)) (br $again))", "Worker: timeout"),
    ("(call $stop)", "*** aici_host_stop()"),
    ("(call $exit (i32.const 3))", "proc_exit: 3"),
    ("(drop (call $read_blob (i32.const 9) (i32.const 0) (i32.const 1)))", "invalid blob_id 9"),
    ("(call $print (i32.const -8) (i32.const 64))", "outside"),
    ("(drop (call $bias (i32.const 131060)))", "outside"),
    (say('{"branches":[{"sample_mask":36,"splices":[]}]}'), "sample_mask 36 was not handed out in this callback"),
    (mask(b"") + decide(choice(masked=True)), "Worker: the mask allows no token"),
    (decide(choice([258])), "'258', which is no token"),
    (decide(*[choice([65])] * 17), "Worker: too many forks (max=16)"),
    (say("{"), "the result is no JSON"),
    ("", "aici_host_return_process_result not called"),
    (f"(loop $again {WRITE} (br $again))", "writes"),
    ("(drop " + command('{"Drop":{}}') + ")", "storage_cmd error"),
]


def wrongs() -> bytes:
    """A controller that forks, and whose second branch then does what the letter that it is told says."""
    letter = "(drop (call $read_blob (call $module_arg) (i32.const 800) (i32.const 1)))"
    codes = [f"(if (i32.eq (i32.load8_u (i32.const 800)) (i32.const {65 + n})) (then {code}))" for n, (code, _) in enumerate(WRONG)]
    first = "(if (i32.eqz (i32.load (i32.const 904))) (then (i32.store (i32.const 904) (i32.const 1)) {} (return)))"
    split = decide(choice([48]), choice([49]))
    return controller(first.format(split) + in_branch(0, decide()) + in_branch(1, letter + "".join(codes)))


class TestMisbehaviour:
    async def test_ends_with_its_reason_in_its_own_fork(self, rest):
        """The fork that misbehaves fails and says why; the other one is done with what it does."""
        data = wrongs()
        for number, (code, said) in enumerate(WRONG):
            told = await run(rest, data, chr(65 + number), prompt="p")
            assert told.ends == ["aici-stop", "fail"], (code, told.steps)
            assert said in told.all("error", 1)
            assert said in told.all("logs", 1)
            assert told.all("error", 1).endswith("\nAbnormal finish: Failed")
            assert told.all("error", 0) == ""

    async def test_memory_has_an_end(self, rest):
        """Who grows without end gets 64 MiB, and goes on."""
        grow = "(loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))"
        size = "(i32.store (i32.const 512) (i32.shr_u (memory.size) (i32.const 4))) (call $print (i32.const 512) (i32.const 1))"
        assert (await run(rest, controller(grow + size + STOP), prompt="p")).all("logs") == chr(1024 >> 4)

    async def test_a_splice_over_the_context_fails(self, rest):
        """What does not fit into the model's context is no answer."""
        told = await run(rest, controller(in_turn(decide(choice([65] * 16_384)))), prompt="p")
        assert told.ends == ["fail"]
        assert "Worker: splice over the context" in told.all("error")

    @pytest.mark.parametrize("part", ["init", "create", "prompt"])
    async def test_a_setup_that_never_returns_fails(self, rest, part):
        """Whichever of its callbacks it is, it ends after a second of the processor, and the stream says so."""
        told = await run(rest, controller(**{part: "(call $loop)"}))
        (fork,) = told.steps[0]["forks"]
        assert (fork["finish_reason"], told.usage["cost"]) == ("fail", 0)
        assert fork["error"].startswith("Error (setup): Worker: timeout")


class TestOlderControllers:
    async def test_of_three_callbacks_a_step(self, rest):
        """A module of v0.0.10: what it puts before a draw, the draw, and its own end."""
        code = f"""(module {IMPORTS} (memory (export "memory") 2) {LIBRARY}
          (func (export "aici_init")) (func (export "aici_create") (result i32) (i32.const 1))
          (func (export "aici_init_prompt") (param i32) {say("{}")})
          (func (export "aici_pre_process") (param i32) {say('{"num_forks":1,"suspend":false,"ff_tokens":[]}')})
          (func (export "aici_mid_process") (param i32) {mask(b"q")} {say('{"SampleWithBias":{}}')})
          (func (export "aici_post_process") (param i32) {TOLD} {say('{"stop":true}')}))"""
        old = code.replace(
            'return_logit_bias" (func $bias (param i32) (result i32))', 'return_logit_bias" (func $bias (param i32))'
        )
        told = await run(rest, module(old.replace("(drop (call $bias (i32.const 40960)))", "(call $bias (i32.const 40960))")))
        assert told.all("text") == "q"
        assert told.ends == ["aici-stop"]
        assert told.all("logs") == '{"tokens":[113],"backtrack":0}\n'

    async def test_of_one_mask_a_step(self, rest):
        """A module of v0.1.0, whose mask has no place."""
        code = in_turn(mask(b"q") + decide(choice(masked=True))).replace(
            "(drop (call $bias (i32.const 40960)))", "(call $bias (i32.const 40960))"
        )
        imports = IMPORTS.replace(
            'return_logit_bias" (func $bias (param i32) (result i32))', 'return_logit_bias" (func $bias (param i32))'
        )
        assert (await run(rest, controller(code, imports=imports))).all("text") == "q"
