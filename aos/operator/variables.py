"""The variables that the branches of one run share: versions, conditions, limits. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from aos.nesting import too_deep

VARIABLES: Final = 1024
"""Most variables of a run."""
NAME_BYTES: Final = 256
"""Most bytes of a variable's name."""
VALUE_BYTES: Final = 256 << 10
"""Most bytes of a variable's value."""
TOTAL_BYTES: Final = 4 << 20
"""Most bytes of all values of a run together."""
WRITES: Final = 256
"""Most writes of a callback."""
WRITTEN_BYTES: Final = 64 << 10
"""Most bytes of the names and values that a callback writes: those of all branches of a step go into one message."""
COMMAND_PARTS: Final = 2 * NAME_BYTES
"""Most brackets of a command, those in names included."""
COMMAND_BYTES: Final = 2 * WRITTEN_BYTES + 8 * NAME_BYTES
"""Most bytes of a command: a value's two hex digits a byte, and room for the rest."""


class BadCommand(Exception):
    """What a controller asked of its variables cannot be done. The text is for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Write:
    """What a controller wrote, or tried to: a version that did not fit changes nothing and is told all the same."""

    name: str
    value: bytes
    append: bool = False
    when_version_is: int | None = None


@dataclass(slots=True)
class Variables:
    """Values by name, each with its version. One caller at a time."""

    values: dict[str, tuple[int, bytes]] = field(default_factory=dict[str, tuple[int, bytes]])
    size: int = 0

    def do(self, command: bytes, writes: list[Write]) -> bytes:
        """Carry out a command of ``aici_host_storage_cmd``; return the answer. A write goes behind ``writes``, this callback's.

        Raises BadCommand, and changes nothing, for what is no command or goes over a limit.
        """
        match _parse(command):
            case {"ReadVar": {"name": str(name)}}:
                return self._read(_name(name))
            case {"WriteVar": {"name": str(name), "value": str(value), "op": "Set" | "Append" as op, **rest}}:
                write = Write(_name(name), _bytes(value), op == "Append", _version(rest.get("when_version_is")))
                if len(writes) >= WRITES:
                    raise BadCommand(f"more than {WRITES} writes in a callback")
                if sum(len(one.name.encode()) + len(one.value) for one in [*writes, write]) > WRITTEN_BYTES:
                    raise BadCommand(f"more than {WRITTEN_BYTES} bytes written in a callback")
                answer = self._write(write)
                writes.append(write)
                return answer
            case _:
                raise BadCommand("it is neither ReadVar nor WriteVar")

    def _read(self, name: str) -> bytes:
        if name not in self.values:
            return _said({"VariableMissing": {}})
        version, value = self.values[name]
        return _said({"ReadVar": {"version": version, "value": value.hex()}})

    def _write(self, write: Write) -> bytes:
        version, before = self.values.get(write.name, (0, b""))
        if write.when_version_is is not None and write.when_version_is != version:
            return self._read(write.name)
        if write.when_version_is is not None and not version:
            return _said({"VariableMissing": {}})
        value = before + write.value if write.append else write.value
        size = self.size + len(value) - len(before)
        if len(value) > VALUE_BYTES:
            raise BadCommand(f"a value of more than {VALUE_BYTES} bytes")
        if size > TOTAL_BYTES:
            raise BadCommand(f"more than {TOTAL_BYTES} bytes in all variables together")
        if not version and len(self.values) >= VARIABLES:
            raise BadCommand(f"more than {VARIABLES} variables")
        self.values[write.name], self.size = (version + 1, value), size
        return _said({"WriteVar": {"version": version + 1}})


def _parse(command: bytes) -> Any:
    if len(command) > COMMAND_BYTES:
        raise BadCommand(f"it has more than {COMMAND_BYTES} bytes")
    try:
        text = command.decode()
        if text.count("{") + text.count("[") > COMMAND_PARTS or too_deep(text):
            raise BadCommand("it is nested too deeply")
        return json.loads(text)
    except ValueError as error:
        raise BadCommand(f"it is no JSON: {error}") from None


def _name(name: str) -> str:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadCommand("the name is no text") from None
    if size > NAME_BYTES:
        raise BadCommand(f"a name of more than {NAME_BYTES} bytes")
    return name


def _bytes(value: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise BadCommand("the value is not in hex") from None


def _version(said: object) -> int | None:
    if said is None or (isinstance(said, int) and not isinstance(said, bool) and 0 <= said < 1 << 64):
        return said
    raise BadCommand("when_version_is must be a version or null")


def _said(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
