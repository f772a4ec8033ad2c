"""What a controller in Wasm can ask of its host, each asked by a real one."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from aos.operator.control_session import Session
from aos.operator.controllers import MASKS, RESULT_BYTES, Choice, Splice, packed
from aos.operator.token_trie import LEN_BITS, OLD_LEN_BITS, token_trie
from aos.operator.variables import Write
from aos.operator.wasm_host import LOG_BYTES, LOG_DROP, TOKENISE_BYTES
from tests.operator.wasm_runs import BYTES, END, VOCABULARY, Runs, piece
from tests.operator.wat import IMPORTS, NOOP, STOP, controller, module, printed, quoted, say

DRAW = say('{"branches":[{"sample_mask":0,"splices":[]}]}')
PIECES = [piece(token) for token in range(VOCABULARY)]


def logged(runs: Runs, code: str, argument: str = "", **more: str) -> str:
    """What a callback logs that goes well."""
    decision = runs.first(controller(code + STOP, **more), argument)
    assert decision.error == ""
    return decision.logs


def failure(runs: Runs, code: str, **more: str) -> str:
    """Why a callback failed. The log ends with the same."""
    decision = runs.first(controller(code, **more))
    assert decision.branches == ()
    assert decision.logs.endswith(f"{decision.error}\n")
    return decision.error.removeprefix("Error (mid): ")


def number(code: str) -> str:
    """Code that writes four bytes to the log."""
    return f"(i32.store (i32.const 512) {code}) (call $print (i32.const 512) (i32.const 4))"


def numbers(logs: str) -> list[int]:
    data = logs.encode()
    return list(struct.unpack(f"<{len(data) // 4}I", data))


class TestBlobs:
    def test_the_argument_is_there(self, runs):
        """What the controller is told when it begins, byte for byte."""
        assert logged(runs, "(call $print_blob (call $module_arg))", "for this run: é") == "for this run: é"

    def test_what_the_callback_is_told_is_there(self, runs):
        """Before each callback, as JSON."""
        told = json.loads(logged(runs, "(call $print_blob (call $process_arg))"))
        assert told == {"backtrack": 0, "tokens": [], "sampled": None, "fork_group": [0]}

    def test_one_is_copied_as_far_as_there_is_room(self, runs):
        """The whole length comes back, however little was asked for; nothing behind that is written."""
        code = """(drop (call $read_blob (call $module_arg) (i32.const 600) (i32.const 3)))
          (call $print (i32.const 600) (i32.const 4))"""
        assert (
            logged(runs, code + number("(call $read_blob (call $module_arg) (i32.const 0) (i32.const 0))"), "abcdefgh")
            == "abc\0\x08\0\0\0"
        )

    def test_others_are_refused(self, runs):
        """A number that stands for no blob ends the branch."""
        assert failure(runs, "(call $print_blob (i32.const 50))") == "invalid blob_id 50"

    def test_an_unused_one_is_empty(self, runs):
        """`aici_host_tokens` is there, and gives nothing."""
        assert logged(runs, "(call $print_blob (call $tokens))") == ""

    @pytest.mark.parametrize("place", ["(i32.const -1)", "(i32.const 131071)", "(i32.const 0x7fffffff)"])
    def test_none_is_written_outside_the_memory(self, runs, place):
        """A place outside, or partly outside, ends the branch."""
        reason = failure(runs, f"(drop (call $read_blob (call $process_arg) {place} (i32.const 16)))")
        assert "outside the memory of 131072 bytes" in reason


class TestTokens:
    def test_the_trie_is_there(self, runs):
        """Its bytes are those of the format, with ten bits for lengths."""
        blob = token_trie("bytes", PIECES, END, len_bits=LEN_BITS)
        code = f"""(local $size i32) (local.set $size (call $read_blob (call $token_trie) (i32.const 65536) (i32.const 65536)))
          {number(f"(i32.eq (local.get $size) (i32.const {len(blob)}))")}
          (i32.store (i32.const 600) (i32.load (i32.sub (i32.add (i32.const 65536) (local.get $size)) (i32.const 4))))
          (call $print (i32.const 600) (i32.const 4))"""
        logs = logged(runs, code).encode()
        assert logs[:4] == struct.pack("<I", 1)
        assert logs[4:] == blob[-4:]

    def test_text_is_tokenised(self, runs):
        """The tokens are there as 32-bit numbers, until the next text."""
        assert numbers(logged(runs, '(call $print_blob (call $tokenize "abc"))')) == [97, 98, 99]
        assert logged(runs, '(call $print_blob (call $tokenize ""))') == ""

    def test_a_text_that_has_no_tokens_is_a_warning(self, runs):
        """What the tokeniser refuses gives no tokens, and a line in the log."""
        assert logged(runs, '(call $print_blob (call $tokenize "oh!"))') == "warning: cannot tokenise: no exclamation marks\n"

    def test_a_long_one_is_refused(self, runs):
        """More text than the limit ends the branch."""
        size = TOKENISE_BYTES + 1
        reason = failure(runs, f"(drop (call $tokenize (i32.const 0) (i32.const {size})))", memory="4")
        assert reason == f"text for aici_host_tokenize has more than {TOKENISE_BYTES} bytes"

    def test_the_end_has_a_number(self, runs):
        """`aici_host_eos_token` is the token that ends an answer."""
        assert numbers(logged(runs, number("(i32.sub (call $eos) (i32.const 200))"))) == [END - 200]

    def test_what_the_host_can_do(self, runs):
        """Forks, backtracking and tokens at once are there; nothing else is."""
        asked = [f"(call $config {quoted(name)})" for name in ("fork", "backtrack", "ff_tokens", "magic")]
        assert numbers(logged(runs, "".join(map(number, asked)))) == [1, 1, 1, 0]


class TestMasks:
    def test_one_is_copied(self, runs):
        """What it allows is what was in memory when it was handed over, and bits behind the vocabulary do not count."""
        code = f"""(i32.store (i32.const 512) (i32.const 6)) (i32.store (i32.const 548) (i32.const -1))
          (drop (call $bias (i32.const 512))) (i32.store (i32.const 512) (i32.const 1)) {DRAW}"""
        (choice,) = runs.first(controller(code)).branches
        assert choice.mask is not None
        assert np.array_equal(choice.mask, packed([1, 2, *range(288, VOCABULARY)], VOCABULARY))

    def test_each_has_its_place(self, runs):
        """Two masks in one callback have places of their own."""
        size = 4 * ((VOCABULARY + 31) // 32)
        code = f"""(drop (call $bias (i32.const 512))) (i32.store (i32.const 512) (i32.const 8)) (drop (call $bias (i32.const 512)))
          {say(f'{{"branches":[{{"sample_mask":{size},"splices":[]}},{{"sample_mask":0,"splices":[]}}]}}')}"""
        first, second = runs.first(controller(code)).branches
        assert first.mask is not None
        assert second.mask is not None
        assert (int(first.mask[0]), int(second.mask[0])) == (8, 0)

    def test_a_place_that_was_not_handed_out_is_refused(self, runs):
        """The place of a mask that never came ends the branch; so does one of the callback before."""
        assert failure(runs, DRAW) == "sample_mask 0 was not handed out in this callback"
        once = "(global $first (mut i32) (i32.const 1))"
        code = f"(if (global.get $first) (then (global.set $first (i32.const 0)) (drop (call $bias (i32.const 512))))) {DRAW}"
        run = runs.begin(controller(code, more=once))
        run.setup()
        assert run.step().error == ""
        assert run.step().error.endswith("sample_mask 0 was not handed out in this callback")

    def test_one_outside_the_memory_is_refused(self, runs):
        """A mask that is partly outside ends the branch."""
        assert "outside the memory" in failure(runs, f"(drop (call $bias (i32.const 131060))) {DRAW}")

    def test_there_are_not_too_many(self, runs):
        """One more than the limit ends the branch."""
        assert failure(runs, "(drop (call $bias (i32.const 0)))" * (MASKS + 1) + STOP) == f"more than {MASKS} masks in a callback"


class TestResults:
    def test_the_last_one_counts(self, runs):
        """A controller may change its mind."""
        assert runs.first(controller(NOOP + STOP)).branches == ()
        assert runs.first(controller(STOP + NOOP)).branches == (Choice(None, (Splice(0, ()),)),)

    def test_there_must_be_one(self, runs):
        """A callback that answers nothing ends the branch."""
        assert failure(runs, "") == "aici_host_return_process_result not called"

    def test_it_may_be_too_long(self, runs):
        """More bytes than the limit are refused before they are read."""
        reason = failure(runs, f"(call $say (i32.const 0) (i32.const {RESULT_BYTES + 1}))", memory="32")
        assert reason == f"the result has more than {RESULT_BYTES} bytes"

    def test_it_must_be_json(self, runs):
        """Anything else is told with the reason."""
        assert failure(runs, say("nonsense")).startswith("the result is no JSON: ")


class TestVariables:
    def test_a_write_is_told_with_its_step(self, runs):
        """What was written is in the decision, and can be read back."""
        write = '(drop (call $storage "{\\"WriteVar\\":{\\"name\\":\\"a\\",\\"value\\":\\"6869\\",\\"op\\":\\"Set\\"}}"))'
        read = '(call $print_blob (call $storage "{\\"ReadVar\\":{\\"name\\":\\"a\\"}}"))'
        decision = runs.first(controller(read + write + read + STOP))
        assert decision.writes == (Write("a", b"hi"),)
        assert decision.logs == '{"VariableMissing":{}}{"ReadVar":{"version":1,"value":"6869"}}'

    def test_a_bad_command_ends_the_branch(self, runs):
        """The log says that it was fatal."""
        decision = runs.first(controller('(drop (call $storage "[]"))' + STOP))
        assert decision.logs.startswith("FATAL ERROR: storage_cmd error: ")
        assert decision.error == "Error (mid): storage_cmd error: it is neither ReadVar nor WriteVar"


class TestEnding:
    def test_a_controller_may_give_up(self, runs):
        """`aici_host_stop` and `proc_exit` end the branch in their words."""
        assert failure(runs, "(call $stop)" + STOP) == "*** aici_host_stop()"
        assert failure(runs, "(call $exit (i32.const 3))" + STOP) == "proc_exit: 3"


class TestLogs:
    def test_both_outputs_go_there(self, runs):
        """What is written to the first two descriptors; there are no others."""
        code = """(i32.store (i32.const 0) (i32.const 600)) (i32.store (i32.const 4) (i32.const 2))
          (i32.store (i32.const 8) (i32.const 601)) (i32.store (i32.const 12) (i32.const 1))
          (i32.store16 (i32.const 600) (i32.const 0x6261))"""
        two = "(drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 2) (i32.const 16)))"
        assert logged(runs, code + two + number("(i32.load (i32.const 16))")) == "abb\x03\0\0\0"
        other = number("(call $fd_write (i32.const 3) (i32.const 0) (i32.const 2) (i32.const 16))")
        assert numbers(logged(runs, code + other)) == [8]
        many = number("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 5000) (i32.const 16))")
        assert numbers(logged(runs, many)) == [28]

    def test_the_oldest_goes_first(self, runs):
        """A full log loses its oldest bytes, and the newest are always there."""
        fill = f"""(local $n i32) (loop $again (call $print (i32.const 40000) (i32.const 1024))
          (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {LOG_BYTES // 1024}))))"""
        logs = logged(runs, fill + printed("the end"))
        assert len(logs) == LOG_BYTES - LOG_DROP + len("the end")
        assert logs.endswith("\0the end")

    def test_one_write_may_be_longer_than_the_log(self, runs):
        """Its end is kept."""
        code = (
            "(memory.fill (i32.const 20000) (i32.const 97) (i32.const 100000)) (call $print (i32.const 20000) (i32.const 100000))"
        )
        logs = logged(runs, code + printed("z"))
        assert len(logs) == LOG_BYTES - LOG_DROP + 1
        assert logs.strip("a") == "z"

    def test_a_part_outside_the_memory_ends_the_branch(self, runs):
        """However long it is said to be."""
        assert "outside the memory" in failure(runs, "(call $print (i32.const 100) (i32.const -1))" + STOP)


class TestNoWorld:
    def test_the_clock_stands_still(self, runs):
        """It says 0, and other clocks are not there."""
        code = """(i64.store (i32.const 600) (i64.const -1)) (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 600)))
          (call $print (i32.const 600) (i32.const 8))"""
        assert logged(runs, code) == "\0" * 8
        assert numbers(logged(runs, number("(call $clock (i32.const 0) (i64.const 0) (i32.const 600))"))) == [63]

    def test_nothing_is_random(self, runs):
        """`random_get` says that it worked, and leaves the memory as it is."""
        code = "(i32.store (i32.const 600) (i32.const 7))"
        asked = number("(call $random (i32.const 600) (i32.const 4))") + "(call $print (i32.const 600) (i32.const 4))"
        assert numbers(logged(runs, code + asked)) == [0, 7]

    def test_there_is_no_environment_and_no_file(self, runs):
        """Counts are 0; descriptors other than the three of a terminal are bad."""
        sizes = "(i64.store (i32.const 600) (i64.const -1)) (drop (call $environ_sizes (i32.const 600) (i32.const 604)))"
        assert logged(runs, sizes + "(call $print (i32.const 600) (i32.const 8))") == "\0" * 8
        asked = ["(call $fd_close (i32.const 1))", *(f"(call $fd_fdstat_get (i32.const {n}) (i32.const 600))" for n in (2, 3))]
        assert numbers(logged(runs, "".join(map(number, asked)))) == [8, 0, 8]


OLD_IMPORTS = IMPORTS.replace(
    '"aici_host_return_logit_bias" (func $bias (param i32) (result i32))', '"aici_host_return_logit_bias" (func $bias (param i32))'
)


class TestOlderAbis:
    def test_the_mask_of_v0_1_is_0(self, runs):
        """No place comes back: a callback has one mask, the last, and its place is 0; lengths of tokens have eight bits."""
        code = f"""(i32.store (i32.const 512) (i32.const 2)) (call $bias (i32.const 512)) (i32.store (i32.const 512) (i32.const 4))
          (call $bias (i32.const 512)) (drop (call $read_blob (call $token_trie) (i32.const 65536) (i32.const 65536))) {DRAW}
          (call $print (i32.add (i32.const 65536) (i32.add (i32.const 28) (i32.load (i32.const 65544)))) (i32.const 12))"""
        decision = runs.first(controller(code, imports=OLD_IMPORTS))
        assert decision.error == ""
        (choice,) = decision.branches
        assert choice.mask is not None
        assert int(choice.mask[0]) == 4
        assert numbers(decision.logs) == [place << OLD_LEN_BITS | 1 for place in range(3)]

    def test_of_two_masks_the_last_counts(self, runs):
        """It may hand over as many as it likes."""
        decision = runs.first(controller("(call $bias (i32.const 512))" * (MASKS + 5) + DRAW, imports=OLD_IMPORTS))
        assert decision.error == ""

    def test_a_module_without_imports_works(self, runs):
        """Nothing need be imported; without an answer it fails in its own words."""
        code = """(memory (export "memory") 0) (func (export "aici_init")) (func (export "aici_create") (result i32) (i32.const 0))
          (func (export "aici_init_prompt") (param i32)) (func (export "aici_mid_process") (param i32))"""
        run = runs.begin(module(f"(module {code})"))
        assert isinstance(run.session, Session)
        assert run.session.setup([]).error == "Error (setup): aici_host_return_process_result not called"
        assert BYTES.size == VOCABULARY
