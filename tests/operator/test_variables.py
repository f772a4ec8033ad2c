"""The variables that the branches of a run share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.operator.variables import (
    NAME_BYTES,
    TOTAL_BYTES,
    VALUE_BYTES,
    VARIABLES,
    WRITES,
    WRITTEN_BYTES,
    BadCommand,
    Variables,
    Write,
)


def ask(variables: Variables, command: object, writes: list[Write] | None = None) -> object:
    return json.loads(variables.do(json.dumps(command).encode(), [] if writes is None else writes))


def read(name: str) -> object:
    return {"ReadVar": {"name": name}}


def write(name: str, value: bytes, op: str = "Set", version: int | None = None) -> object:
    return {"WriteVar": {"name": name, "value": value.hex(), "op": op, "when_version_is": version}}


def fill(variables: Variables, name: str) -> None:
    """Let a variable have as many bytes as one may have, callback by callback."""
    piece = b"v" * (VALUE_BYTES // 8)
    for _ in range(8):
        ask(variables, write(name, piece, "Append"))


class TestVersions:
    def test_they_count_writes(self):
        """The first write makes version 1, and each later one the next."""
        variables = Variables()
        assert ask(variables, read("a")) == {"VariableMissing": {}}
        assert ask(variables, write("a", b"one")) == {"WriteVar": {"version": 1}}
        assert ask(variables, write("a", b"two", "Append")) == {"WriteVar": {"version": 2}}
        assert ask(variables, read("a")) == {"ReadVar": {"version": 2, "value": b"onetwo".hex()}}

    def test_a_write_may_depend_on_one(self):
        """With another version nothing is written, and the answer is what is there."""
        variables = Variables()
        assert ask(variables, write("a", b"x", version=1)) == {"VariableMissing": {}}
        assert ask(variables, write("a", b"x", version=0)) == {"VariableMissing": {}}
        ask(variables, write("a", b"x"))
        assert ask(variables, write("a", b"y", version=7)) == {"ReadVar": {"version": 1, "value": b"x".hex()}}
        assert ask(variables, write("a", b"y", version=1)) == {"WriteVar": {"version": 2}}

    def test_an_append_makes_what_is_missing(self):
        """Putting something behind nothing is as good as setting it."""
        variables = Variables()
        assert ask(variables, write("a", b"x", "Append")) == {"WriteVar": {"version": 1}}

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.binary(max_size=9), st.booleans(), st.none() | st.integers(0, 4))))
    def test_they_are_what_a_simple_model_says(self, moves):
        """Whatever is written in whatever order, value and version are those of a list of all values that ever were."""
        variables, model, told = Variables(), dict[str, list[bytes]](), list[Write]()
        for name, value, append, version in moves:
            ask(variables, write(name, value, "Append" if append else "Set", version), told)
            past = model.setdefault(name, [])
            if version is None or (past and version == len(past)):
                past.append((past[-1] if append and past else b"") + value)
        for name, past in model.items():
            assert variables.values.get(name, (0, b"")) == (len(past), past[-1] if past else b"")
        assert variables.size == sum(len(past[-1]) for past in model.values() if past)
        assert [(one.name, one.value, one.append, one.when_version_is) for one in told] == moves


class TestWhatIsTold:
    def test_refused_writes_are_told_too(self):
        """A write that found another version is told like one that was done; reading is not."""
        variables, writes = Variables(), list[Write]()
        ask(variables, write("a", b"x"), writes)
        ask(variables, write("a", b"y", version=9), writes)
        ask(variables, read("a"), writes)
        assert writes == [Write("a", b"x"), Write("a", b"y", when_version_is=9)]


class TestLimits:
    @pytest.mark.parametrize(
        "command",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"[" * 100 + b"]" * 100,
            b'{"ReadVar":{"name":1}}',
            b'{"ReadVar":{"name":"\\ud800"}}',
            b'{"WriteVar":{"name":"a","value":"zz","op":"Set"}}',
            b'{"WriteVar":{"name":"a","value":"00","op":"Other"}}',
            b'{"WriteVar":{"name":"a","value":"00","op":"Set","when_version_is":-1}}',
            b'{"WriteVar":{"name":"a","value":"00","op":"Set","when_version_is":true}}',
            b" " * (1 << 20),
        ],
    )
    def test_what_is_no_command_is_refused(self, command):
        """Nothing that is malformed changes anything."""
        variables = Variables()
        with pytest.raises(BadCommand):
            variables.do(command, [])
        assert variables == Variables()

    def test_each_is_refused_one_past_it(self):
        """Names, values, their number, all together, and writes of a callback."""
        variables = Variables()
        fill(variables, "n" * NAME_BYTES)
        with pytest.raises(BadCommand, match="name of more"):
            ask(variables, write("n" * (NAME_BYTES + 1), b""))
        with pytest.raises(BadCommand, match="value of more"):
            ask(variables, write("n" * NAME_BYTES, b"v", "Append"))
        with pytest.raises(BadCommand, match="writes in a callback"):
            ask(variables, write("a", b""), [Write("a", b"")] * WRITES)
        with pytest.raises(BadCommand, match="bytes written in a callback"):
            ask(variables, write("a", b"v"), [Write("a", b"v" * (WRITTEN_BYTES - 2))])
        for number in range(1, TOTAL_BYTES // VALUE_BYTES):
            fill(variables, str(number))
        with pytest.raises(BadCommand, match="together"):
            ask(variables, write("one more", b"v"))

    def test_there_are_not_too_many(self):
        """A new one is refused when there are as many as there may be; an old one can still be written."""
        variables = Variables({str(number): (1, b"") for number in range(VARIABLES)})
        ask(variables, write("7", b"x"))
        with pytest.raises(BadCommand, match="variables"):
            ask(variables, write("new", b""))
