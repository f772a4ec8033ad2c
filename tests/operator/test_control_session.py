"""Runs of controllers on the real runtime: setting up, forks, what is shared, and how a branch that misbehaves ends."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pytest

from aos.operator.control_session import CLOSED, DEAD
from aos.operator.controllers import FORKS, LATE_STEPS, TIMEOUT, TOO_MANY_FORKS, Applied, Choice, Splice, packed
from aos.operator.variables import Write
from tests.operator.wasm_runs import BYTES, END, VOCABULARY, Runs
from tests.operator.wat import IMPORTS, NOOP, STOP, command, controller, module, printed, say

NOTHING = Choice(None, (Splice(0, ()),))
COUNT = "(global $n (mut i32) (i32.const 48))"
COUNTED = """(global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.store (i32.const 512) (global.get $n))
  (call $print (i32.const 512) (i32.const 1))"""
"""Code that writes to the log how often it ran, as a digit; the number is in a global."""
STORED = (
    "(i32.store (i32.const 700) (i32.add (i32.load (i32.const 700)) (i32.const 1))) (call $print (i32.const 700) (i32.const 1))"
)


def forked(run, count: int) -> dict[int, object]:
    """Let branch 0 become so many, and ask them all."""
    run.session.fork(0, list(range(1, count)))
    group = tuple(range(count))
    return run.steps([(branch, Applied(), group) for branch in group])


class TestSetup:
    def test_a_controller_sees_the_prompt(self, runs):
        """It may leave it or replace it; what it logs while it is set up comes with it."""
        seen = controller(init=printed("i"), create=printed("c"), prompt="(call $print_blob (call $process_arg))" + say("{}"))
        setup = runs.begin(seen).setup(5, 6)
        assert (setup.prompt, setup.logs) == ((5, 6), 'ic{"prompt":[5,6]}')
        assert runs.begin(controller(prompt=say('{"prompt":[9]}'))).setup(5, 6).prompt == (9,)

    def test_the_handle_comes_back(self, runs):
        """What `aici_create` gives is what each callback gets."""
        code = "(i32.store (i32.const 512) (local.get $handle)) (call $print (i32.const 512) (i32.const 4))"
        assert runs.first(controller(code + STOP)).logs == "M\0\0\0"

    @pytest.mark.parametrize("part", ["init", "create", "prompt"])
    def test_what_fails_is_told(self, runs, part):
        """Whichever of the three fails, the setup has an error and the log ends with it."""
        setup = runs.begin(controller(**{part: printed("so far") + "(call $stop)"})).session.setup([1])
        assert setup.error == "Error (setup): *** aici_host_stop()"
        assert setup.logs == f"so far\n{setup.error}\n"

    def test_a_prompt_that_is_none_fails(self, runs):
        """Tokens that there are not are refused."""
        setup = runs.begin(controller(prompt=say(f'{{"prompt":[{VOCABULARY}]}}'))).session.setup([1])
        assert setup.error.startswith("Error (setup): prompt has")

    def test_an_endless_one_is_ended(self, runs):
        """After its time it is interrupted, and the word for it is that of late callbacks."""
        setup = runs.begin(controller(create="(call $loop)"), patience=0.05).session.setup([1])
        assert setup.error == f"Error (setup): {TIMEOUT}"

    def test_a_later_run_begins_where_the_first_one_did(self, runs):
        """A run of the same controller with the same argument is a copy; memory, globals and logs are as if it had been set up."""
        data = controller(COUNTED + STORED + NOOP, init=COUNTED, create=STORED, more=COUNT)
        first, second, other = runs.begin(data, "a"), runs.begin(data, "a"), runs.begin(data, "b")
        assert first.setup().logs == second.setup().logs == other.setup().logs == "1\x01"
        assert [run.step().logs for run in (first, second, other, first)] == ["2\x02", "2\x02", "2\x02", "3\x03"]

    def test_a_start_function_runs_once(self, runs):
        """It runs when a controller is set up, not again in copies of it."""
        data = controller(COUNTED + NOOP, more=COUNT + f"(func $begin {COUNTED}) (start $begin)")
        for _ in range(2):
            run = runs.begin(data)
            assert run.setup().logs == "1"
            assert forked(run, 2)[1].logs == "2"

    def test_variables_of_a_setup_belong_to_its_run(self, runs):
        """A controller that writes variables when it is created does so in each run anew."""
        write = "(drop " + command('{"WriteVar":{"name":"a","value":"61","op":"Append"}}') + ")"
        read = "(call $print_blob " + command('{"ReadVar":{"name":"a"}}') + ")"
        data = controller(read + STOP, create=write)
        for _ in range(2):
            run = runs.begin(data)
            assert run.setup().writes == (Write("a", b"a", append=True),)
            assert run.step().logs == '{"ReadVar":{"version":1,"value":"61"}}'


class TestForks:
    def test_each_goes_on_from_where_its_parent_was(self, runs):
        """Memory and globals are copied; from then on each has its own."""
        run = runs.begin(controller(COUNTED + STORED + NOOP, more=COUNT))
        run.setup()
        run.step()
        assert {branch: one.logs for branch, one in forked(run, 3).items()} == dict.fromkeys(range(3), "2\x02")
        assert run.step(branch=1).logs == "3\x03"
        run.session.fork(1, [3])
        logs = {branch: one.logs for branch, one in run.steps([(branch, Applied(), (branch,)) for branch in range(4)]).items()}
        assert logs == {0: "3\x03", 1: "4\x04", 2: "3\x03", 3: "4\x04"}

    def test_memory_that_grew_is_copied(self, runs):
        """A copy is as large as what it was copied from."""
        grow = "(drop (memory.grow (i32.const 20))) (i32.store8 (i32.const 1400000) (i32.const 90))"
        code = "(call $print (i32.const 1400000) (i32.const 1))"
        run = runs.begin(controller(code + NOOP, prompt=grow + say("{}")))
        run.setup()
        assert [one.logs for one in forked(run, 3).values()] == ["Z"] * 3

    def test_large_memories_are_copied_again_and_again(self, runs):
        """However much each writes between forks, and however many forks there are, each has its own."""
        fill = """(memory.fill (i32.const 100000) (i32.add (i32.load8_u (i32.const 100000)) (i32.add (call $self) (i32.const 1)))
          (i32.const 3000000))"""
        shown = f"""(i32.store8 (i32.const 512) (i32.load8_u (i32.const 100000)))
          (i32.store8 (i32.const 513) (i32.load8_u (i32.const 3099999))) (call $print (i32.const 512) (i32.const 2)) {fill}"""
        start = "(memory.fill (i32.const 100000) (i32.const 48) (i32.const 3000000))"
        run = runs.begin(controller(shown + NOOP, create=start, memory="48"))
        run.setup()
        assert [one.logs for one in forked(run, 3).values()] == ["00", "00", "00"]
        run.session.fork(1, [3, 4])
        logs = [one.logs for one in run.steps([(branch, Applied(), (branch,)) for branch in range(5)]).values()]
        assert logs == ["11", "22", "33", "22", "22"]
        run.session.fork(3, [5])
        logs = [one.logs for one in run.steps([(branch, Applied(), (branch,)) for branch in range(6)]).values()]
        assert logs == ["22", "44", "66", "66", "77", "66"]

    def test_each_knows_who_it_is(self, runs):
        """Its number is in the group that it is told, where the parent comes first."""
        me = """(i32.store (i32.const 512) (i32.add (call $self) (i32.const 48))) (call $print (i32.const 512) (i32.const 1))
          (call $print_blob (call $process_arg))"""
        run = runs.begin(controller(me + NOOP))
        run.setup()
        logs = {branch: one.logs for branch, one in forked(run, 2).items()}
        assert logs[1] == '1{"backtrack":0,"tokens":[],"sampled":null,"fork_group":[0,1]}'
        assert logs[0].startswith("0{")

    def test_they_share_variables(self, runs):
        """Callbacks of a step come one after the other, so what one writes the next one reads."""
        write = "(drop " + command('{"WriteVar":{"name":"a","value":"78","op":"Append"}}') + ")"
        read = "(call $print_blob " + command('{"ReadVar":{"name":"a"}}') + ")"
        run = runs.begin(controller(write + read + NOOP))
        run.setup()
        decisions = forked(run, 3)
        assert [one.logs for one in decisions.values()] == [
            '{"ReadVar":{"version":1,"value":"78"}}',
            '{"ReadVar":{"version":2,"value":"7878"}}',
            '{"ReadVar":{"version":3,"value":"787878"}}',
        ]
        other = runs.begin(controller(write + read + NOOP))
        other.setup()
        assert other.step().logs.startswith('{"ReadVar":{"version":1')

    def test_there_are_not_too_many(self, runs):
        """Of more branches than there may be, those that are too many fail, in the words that clients know."""
        run = runs.begin(controller(NOOP))
        run.setup()
        decisions = forked(run, FORKS + 1)
        assert [branch for branch, one in decisions.items() if one.error] == [FORKS]
        assert decisions[FORKS].error == TOO_MANY_FORKS

    def test_they_share_the_memory_of_a_run(self, runs):
        """Sixteen branches have less memory each than one; growing past its share fails as growing past the end does."""
        grow = "(drop (memory.grow (i32.const 500)))"
        size = "(i32.store (i32.const 512) (i32.shr_u (memory.size) (i32.const 3))) (call $print (i32.const 512) (i32.const 1))"
        run = runs.begin(controller(grow + size + NOOP))
        run.setup()
        assert {one.logs for one in forked(run, FORKS).values()} == {chr(502 // 8)}
        assert {one.logs for one in run.steps([(branch, Applied(), (branch,)) for branch in range(FORKS)]).values()} == {
            chr(502 // 8)
        }

    def test_dropped_ones_make_room(self, runs):
        """A branch that has ended no longer counts."""
        run = runs.begin(controller(NOOP))
        run.setup()
        forked(run, FORKS)
        run.session.drop(3)
        run.session.fork(0, [FORKS])
        assert run.step(branch=FORKS).error == ""
        assert run.step(branch=3).error == DEAD


class TestMisbehaviour:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("(unreachable)", "wasm `unreachable` instruction executed"),
            ("(call $deep)", "call stack exhausted"),
            ("(drop (i32.load (i32.const -4)))", "out of bounds memory access"),
            ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer divide by zero"),
            ("(call_indirect (type $none) (i32.const 5))", "undefined element"),
            ("(memory.fill (i32.const 0) (i32.const 0) (i32.const -1))", "out of bounds memory access"),
        ],
    )
    def test_a_trap_ends_its_branch_alone(self, runs, code, reason):
        """The reason is told, with what was logged before; the other branches go on, and so does the next run."""
        trap = f"(if (i32.eq (call $self) (i32.const 1)) (then {printed('last words')} {code}))"
        run = runs.begin(controller(trap + NOOP, more="(type $none (func)) (table 1 funcref)"))
        run.setup()
        decisions = forked(run, 3)
        assert decisions[0].branches == decisions[2].branches == (NOTHING,)
        assert decisions[1].error.startswith("Error (mid): ")
        assert reason in decisions[1].error
        assert decisions[1].logs == f"last words\n{decisions[1].error}\n"
        assert run.step(branch=1).error == DEAD
        assert run.step(branch=2).error == ""

    def test_an_endless_loop_ends_its_branch_alone(self, runs):
        """After ten steps' time it is interrupted; the others of its run are asked all the same."""
        loop = "(if (i32.eq (call $self) (i32.const 1)) (then (call $loop)))"
        run = runs.begin(controller(loop + NOOP), patience=0.1)
        run.setup()
        decisions = forked(run, 3)
        assert [one.error for one in decisions.values()] == ["", TIMEOUT, ""]
        assert decisions[1].late == LATE_STEPS

    def test_a_loop_through_the_host_is_ended_too(self, runs):
        """Time that passes in host functions counts."""
        loop = "(loop $again (drop (call $eos)) (br $again))"
        run = runs.begin(controller(loop), patience=0.1)
        run.setup()
        assert run.step().error == TIMEOUT

    @pytest.mark.parametrize(("patience", "ended"), [(0.2, ""), (0.005, TIMEOUT)])
    def test_a_busy_machine_is_not_its_doing(self, runs, patience, ended):
        """What counts is what its thread computes. Time in which it waits counts only once it is twenty times the limit."""
        waits = replace(BYTES, key="waits", tokenise=lambda _: [65] * threading.Event().wait(0.15))
        run = runs.begin(controller('(drop (call $tokenize "x"))' + NOOP), vocabulary=waits, patience=patience)
        run.setup()
        decision = run.step()
        assert (decision.error, decision.late) == (ended, LATE_STEPS if ended else 0)

    def test_lateness_is_counted(self, runs):
        """How many steps a callback missed is told, whether it decided after all or was interrupted."""
        busy = "(loop $again (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 50000000))))"
        run = runs.begin(controller("(local $n i32)" + busy + NOOP), patience=0.1)
        run.setup()
        decision = run.step()
        assert decision.late >= 1
        assert (decision.error, decision.branches) in (("", (NOTHING,)), (TIMEOUT, ()))
        assert (decision.late == LATE_STEPS) == (decision.error == TIMEOUT)

    def test_memory_has_an_end(self, runs):
        """Growing past 64 MiB fails inside the controller, which goes on with what it has."""
        grow = """(local $n i32) (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
          (i32.store (i32.const 512) (i32.shr_u (memory.size) (i32.const 4))) (call $print (i32.const 512) (i32.const 1))"""
        assert runs.first(controller(grow + STOP)).logs == chr(1024 >> 4)

    def test_reasons_do_not_mix(self, runs):
        """Of many runs that fail at once, on threads of their own, each has its own reason."""
        codes = [f"(call $exit (i32.const {number}))" if number % 3 else "(unreachable)" for number in range(24)]
        opened = [runs.begin(controller(code)) for code in codes]
        answers: SimpleQueue[tuple[int, str]] = SimpleQueue()
        for run in opened:
            run.setup()
        for number, run in enumerate(opened):
            run.session.step([(0, Applied(), (0,))], lambda decided, number=number: answers.put((number, decided[0][1].error)))
        for number, error in [answers.get(timeout=30) for _ in opened]:
            assert error.endswith(f"proc_exit: {number}" if number % 3 else "instruction executed")

    def test_slow_controllers_do_not_wait_for_each_other(self, runs):
        """While one run loops, another is asked and answers."""
        slow, fast = runs.begin(controller("(call $loop)")), runs.begin(controller(NOOP))
        slow.setup()
        fast.setup()
        done = threading.Event()
        slow.session.step([(0, Applied(), (0,))], lambda _: done.set())
        for _ in range(20):
            assert fast.step().error == ""
        assert not done.is_set()
        assert done.wait(30)


class TestClosing:
    def test_a_closed_run_answers_still(self, runs):
        """Whoever asks after the end gets an error, once, and nothing hangs."""
        run = runs.begin(controller(NOOP))
        run.setup()
        run.session.close()
        run.session.close()
        assert run.step().error == CLOSED
        assert run.session.setup([]).error == CLOSED

    def test_one_that_works_is_released_when_it_is_done(self, runs):
        """Closing does not wait for a callback that runs; it is answered and then forgotten."""
        run = runs.begin(controller("(call $loop)"), patience=0.2)
        run.setup()
        answered, decided = threading.Event(), []
        run.session.step([(0, Applied(), (0,))], lambda decisions: (decided.extend(decisions), answered.set()))
        run.session.close()
        assert answered.wait(30)
        assert decided[0][1].error in (TIMEOUT, CLOSED)

    def test_programs_that_are_closed_open_no_runs(self, tmp_path):
        """Runs that are open then end with errors."""
        runs = Runs(tmp_path)
        run = runs.begin(controller(NOOP))
        run.setup()
        runs.controllers.close()
        assert run.step().error == CLOSED
        runs.close()


OLDEST = IMPORTS.replace("(func $bias (param i32) (result i32))", "(func $bias (param i32))")


def oldest(pre: str, mid: str = "", post: str = say('{"stop":false}')) -> bytes:
    """A controller of the oldest ABI that logs the name of each callback that it gets."""
    told = "(call $print_blob (call $process_arg))"
    more = f"""(func (export "aici_pre_process") (param i32) {printed("<")} {pre})
      (func (export "aici_post_process") (param i32) {printed(">")} {told} {post}) {COUNT}"""
    return controller(printed("=") + told + mid, imports=OLDEST, more=more)


class TestOldest:
    def test_a_step_has_three_callbacks(self, runs):
        """Before a draw, the draw, and what came of it with the step that follows."""
        draw = "(i32.store (i32.const 512) (i32.const 4)) (call $bias (i32.const 512))" + say('{"SampleWithBias":{}}')
        run = runs.begin(oldest(say('{"num_forks":1,"suspend":false,"ff_tokens":[]}'), draw))
        run.setup()
        first, second = run.step(), run.step(Applied(0, (2,), 2))
        assert first.branches[0].mask is not None
        assert np.array_equal(first.branches[0].mask, packed([2], VOCABULARY))
        assert first.logs == '<={"fork_group":[0]}'
        assert second.logs == '>{"tokens":[2],"backtrack":0}<={"fork_group":[0]}'

    def test_it_may_stop_at_either_end(self, runs):
        """No forks before a draw, or a stop after one, ends the branch; a stop in between draws the end."""
        assert runs.first(oldest(say('{"num_forks":0}'))).branches == ()
        (choice,) = runs.first(oldest(say("{}"), say('"Stop"'))).branches
        assert choice.mask is not None
        assert np.array_equal(choice.mask, packed([END], VOCABULARY))
        run = runs.begin(oldest(say("{}"), say('{"Splice":{"backtrack":0,"ff_tokens":[7]}}'), say('{"stop":true}')))
        run.setup()
        assert run.step().branches == (Choice(None, (Splice(0, (7,)),)),)
        assert run.step(Applied(0, (7,))).branches == ()

    def test_tokens_before_a_draw_are_put_there(self, runs):
        """They are a splice, and the controller is told of it afterwards; a branch that waits does nothing."""
        assert runs.first(oldest(say('{"ff_tokens":[7,8]}'))).branches == (Choice(None, (Splice(0, (7, 8)),)),)
        assert runs.first(oldest(say('{"suspend":true}'))).branches == (NOTHING,)
        both = runs.first(oldest(say('{"num_forks":2,"ff_tokens":[7,8]}')))
        assert both.error == "Error (mid): num_forks and ff_tokens at once"

    def test_forks_draw_in_the_next_step(self, runs):
        """The branches come to be, and then each draws knowing its group."""
        run = runs.begin(oldest(say('{"num_forks":2}'), say('"Stop"')))
        run.setup()
        assert run.step().branches == (NOTHING, NOTHING)
        assert {one.logs for one in forked(run, 2).values()} == {'={"fork_group":[0,1]}'}


class TestModules:
    def test_segments_and_tables_are_there_in_copies(self, runs):
        """A function of a table can be called in a copy as in the first instance."""
        more = f"(type $none (func)) (table 1 funcref) (elem (i32.const 0) $said) (func $said {printed('called')})"
        run = runs.begin(controller("(call_indirect (type $none) (i32.const 0))" + NOOP, more=more))
        run.setup()
        assert [one.logs for one in forked(run, 2).values()] == ["called", "called"]

    def test_segments_that_do_not_fit_are_told(self, runs):
        """A module whose data lies outside its memory fails when it is set up."""
        code = """(memory (export "memory") 1) (data (i32.const 65535) "too long") (func (export "aici_init"))
          (func (export "aici_create") (result i32) (i32.const 0)) (func (export "aici_init_prompt") (param i32))
          (func (export "aici_mid_process") (param i32))"""
        assert "out of bounds memory access" in runs.begin(module(f"(module {code})")).session.setup([]).error
