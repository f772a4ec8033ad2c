"""The OPML worker's configuration file: flat `key: value` lines, the part of YAML that these files use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aos.offered import ModelFile

FILE_BYTES: Final = 64 << 10
"""Largest file that is read."""
DEFAULT_PORT: Final = 1234
"""Where the OPML worker listens."""
UNUSED: Final = {
    "mongo_uri": "questions are kept in a file of the operator's own",
    "mips_program": "state_root is the receipt's",
}
"""Keys of other workers that are taken and mean nothing here, and why."""
KEYS: Final = ("host", "port", "model_name", "model_path", "dispatcher", *UNUSED)
_LINE: Final = re.compile(r"([A-Za-z_]+)[ \t]*:(?:[ \t]+(.*))?")
_QUOTED: Final = re.compile(r"""("[^"\\]*"|'[^']*')[ \t]*(?:#.*)?""")
# these begin what is more than a plain value in YAML
_SPECIAL: Final = "&*!|>%@`{}[],?\"'"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFile:
    """What such a file says."""

    host: str = "127.0.0.1"
    """Address that REST is served on."""
    port: int = DEFAULT_PORT
    model: ModelFile | None = None
    """None: the bundled one."""
    dispatcher: str = ""
    """The network to attach to, `HOST:PORT` or `unix:PATH`; empty: none."""
    unused: tuple[str, ...] = ()
    """Keys that were given and mean nothing here."""


def load_worker_file(path: Path) -> WorkerFile:
    """Return what the file says. Raises ValueError, naming the file and the key or the line, for what cannot be."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES + 1).decode()
        return read_worker_file(text, path.parent)
    except (OSError, ValueError) as error:  # of decoding, too
        raise ValueError(f"{path}: {error}") from error


def read_worker_file(text: str, folder: Path) -> WorkerFile:
    """Return what the text says; ``folder`` is where a relative model_path begins. Raises ValueError."""
    if len(text) > FILE_BYTES:
        raise ValueError(f"has more than {FILE_BYTES} bytes")
    said = _values(text)
    port = said.get("port", str(DEFAULT_PORT))
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"port: must be a number from 0 to 65535, not {port!r}")
    return WorkerFile(
        host=said.get("host") or "127.0.0.1",
        port=int(port),
        model=_model(said.get("model_name", ""), said.get("model_path", ""), folder),
        dispatcher=_address(said.get("dispatcher", "")),
        unused=tuple(key for key in UNUSED if said.get(key)),
    )


def _values(text: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        parts = _LINE.fullmatch(line.rstrip())
        if parts is None:
            raise ValueError(f"line {number}: must be `key: value`")
        key, value = parts[1], (parts[2] or "").strip()
        if key not in KEYS:
            raise ValueError(f"line {number}: {key} is not known; there are {', '.join(KEYS)}")
        if key in said:
            raise ValueError(f"line {number}: {key} is there twice")
        said[key] = _scalar(value, number)
    return said


def _scalar(value: str, number: int) -> str:
    if quoted := _QUOTED.fullmatch(value):
        return quoted[1][1:-1]
    value = re.sub(r"(^|[ \t])#.*$", "", value).strip()
    if value and value[0] in _SPECIAL:
        raise ValueError(f"line {number}: only plain and quoted values are read")
    return value


def _model(name: str, path: str, folder: Path) -> ModelFile | None:
    if not path:
        if name:
            raise ValueError("model_name: is the name of a model_path, and there is none")
        return None
    file = folder / Path(path).expanduser()
    return ModelFile(name or file.stem, file)


def _address(dispatcher: str) -> str:
    if dispatcher.startswith("https://"):
        raise ValueError("dispatcher: operators attach without TLS; give HOST:PORT")
    address = dispatcher.removeprefix("http://").rstrip("/")
    if address and not address.startswith("unix:") and not re.fullmatch(r"[^/\s]+:[0-9]{1,5}", address):
        raise ValueError(f"dispatcher: must be HOST:PORT, not {dispatcher!r}")
    return address
