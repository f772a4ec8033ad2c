"""`aos controllers run`: a controller over a prompt, its forks in the terminal."""

from __future__ import annotations

import io
import json

from rich.console import Console

from aos.cli.forks import Forks, lines
from aos.v1.types_pb2 import BranchEnd, BranchStep, RunStep, VariableWrite
from tests.operator.wat import STOP, controller, printed

STEPS = (
    RunStep(branches=[BranchStep(text="One [b]", logs="begun\n")], sampled_tokens=1, ff_tokens=4),
    RunStep(
        branches=[
            BranchStep(text=" two", writes=[VariableWrite(name="v", value=b"x")], end=BranchEnd.BRANCH_END_STOP),
            BranchStep(index=1, text="One [b]", forked_from=0, error="boom", end=BranchEnd.BRANCH_END_FAIL),
        ],
        sampled_tokens=2,
        ff_tokens=5,
    ),
)


class TestForks:
    def test_each_has_a_panel(self):
        """A panel has the fork's number, where it came from, how it ended, its text as it is, and what went wrong."""
        forks, out = Forks(), io.StringIO()
        for step in STEPS:
            forks.take(step)
        Console(file=out, width=40).print(forks.panels())
        shown = out.getvalue()
        assert "fork 0 stop" in shown
        assert "One [b] two" in shown
        assert "fork 1 of 0 fail" in shown
        assert "boom" in shown
        assert forks.summary() == "2 forks, 2 forward passes, 5 tokens computed, cost 9"

    def test_each_thing_is_a_line_where_there_is_no_terminal(self):
        """A line has the fork, what happened, and that as JSON, so that no text breaks it."""
        assert [line for step in STEPS for line in lines(step)] == [
            '0\tlog\t"begun\\n"',
            '0\ttext\t"One [b]"',
            '0\ttext\t" two"',
            '0\tset\tv\t"x"',
            "0\tend\tstop",
            "1\tfork\t0",
            '1\ttext\t"One [b]"',
            '1\terror\t"boom"',
            "1\tend\tfail",
        ]


class TestTheCommand:
    async def test_runs_a_controller(self, aos, on, tmp_path):
        """What happens goes to standard output, what it took to standard error; with --json, each event is a line."""
        module, told = tmp_path / "hello.wasm", tmp_path / "told.txt"
        module.write_bytes(controller(mid="(call $print_blob (call $module_arg))" + printed("!") + STOP))
        told.write_text("the file")
        assert (await on("controllers", "upload", str(module), "--tag", "hello")).code == 0

        plain = await on("controllers", "run", "hello", "--arg", f"@{told}", "--prompt", "Hi")
        asjson = await on("controllers", "run", "hello", "--arg", "a text", "--json")

        assert (plain.code, plain.out) == (0, '0\tlog\t"the file!"\n0\tend\tstop\n'), plain.err
        assert "1 forks, 0 forward passes" in plain.err
        assert "neurons" in plain.err
        events = [json.loads(line) for line in asjson.out.splitlines()]
        assert list(events[0]) == ["job"]
        assert events[-1]["job_event"]["outcome"]["state"] == "JOB_STATE_COMPLETED"

    async def test_says_what_is_wrong(self, on, tmp_path):
        """A controller that is not there, or an argument that cannot be read, is a line on standard error."""
        missing = await on("controllers", "run", "nobody")
        assert (missing.code, missing.err) == (1, "Error: There is no controller 'nobody'.\n")
        unread = await on("controllers", "run", "nobody", "--arg", f"@{tmp_path / 'none'}")
        assert unread.code == 2
        assert "cannot be read" in unread.err
