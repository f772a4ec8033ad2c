"""Wasm modules of controllers (AICI): what is one, and what it compiles to. Blocking; call it beside the event loop.

A module comes from a stranger. It is compiled in a process of its own, which ends when it takes too long or too much memory; what
comes out is machine code for this very version of wasmtime and this kind of processor, kept in a file.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from wasmtime import Config, Engine, FuncType, GlobalType, MemoryType, Module, TableType, WasmtimeError

from aos.errors import InvalidField
from aos.wasm_rewrite import GLOBAL, PREFIX, START, Unsupported, copyable

MODULE_BYTES: Final = 128 << 20
"""Most bytes of a module."""
MEMORY_BYTES: Final = 64 << 20
"""Most memory of an instance."""
TABLE_ELEMENTS: Final = 100_000
"""Most elements of an instance's tables."""
TABLES: Final = 2
"""Most tables of an instance."""
STACK_BYTES: Final = 512 << 10
"""How deep the stack of an instance may go."""
COMPILE_SECONDS: Final = 60
"""Most processor time for compiling, all cores together: 1 MB of module takes 2 s, Python's 14 MB take 35."""
COMPILE_WALL_SECONDS: Final = 120.0
"""How long compiling may take, whatever else the machine does."""
COMPILE_BYTES: Final = 4 << 30
"""Most address space of the process that compiles."""
REASON_CHARS: Final = 500
"""Most characters of wasmtime's own reason that an error repeats."""
PAGE: Final = 65536
"""Bytes of a page of memory."""

OLDEST: Final = "pre_process"
"""The ABI of v0.0.10 and before: three callbacks a step."""
OLD: Final = "mid_process/0.1"
"""The ABI of v0.1.0."""
NEW: Final = "mid_process"
"""The ABI of v0.2.0 and later."""

Signature = tuple[str, str]
"""What a function takes and what it gives back, a letter each: i for i32, l for i64."""

HOST: Final[Mapping[str, Signature]] = {
    "aici_host_read_blob": ("iii", "i"),
    "aici_host_module_arg": ("", "i"),
    "aici_host_process_arg": ("", "i"),
    "aici_host_token_trie": ("", "i"),
    "aici_host_tokens": ("", "i"),
    "aici_host_tokenize": ("ii", "i"),
    "aici_host_return_logit_bias": ("i", "i"),
    "aici_host_self_seq_id": ("", "i"),
    "aici_host_return_process_result": ("ii", ""),
    "aici_host_storage_cmd": ("ii", "i"),
    "aici_host_eos_token": ("", "i"),
    "aici_host_get_config": ("ii", "i"),
    "aici_host_stop": ("", ""),
}
"""What a controller may import from ``env``. In the older ABIs ``aici_host_return_logit_bias`` gives nothing back."""

WASI: Final[Mapping[str, Signature]] = {
    "args_get": ("ii", "i"),
    "args_sizes_get": ("ii", "i"),
    "clock_time_get": ("ili", "i"),
    "environ_get": ("ii", "i"),
    "environ_sizes_get": ("ii", "i"),
    "fd_close": ("i", "i"),
    "fd_fdstat_get": ("ii", "i"),
    "fd_filestat_get": ("ii", "i"),
    "fd_filestat_set_size": ("il", "i"),
    "fd_prestat_dir_name": ("iii", "i"),
    "fd_prestat_get": ("ii", "i"),
    "fd_read": ("iiii", "i"),
    "fd_readdir": ("iiili", "i"),
    "fd_seek": ("ilii", "i"),
    "fd_sync": ("i", "i"),
    "fd_write": ("iiii", "i"),
    "path_create_directory": ("iii", "i"),
    "path_filestat_get": ("iiiii", "i"),
    "path_filestat_set_times": ("iiiilli", "i"),
    "path_link": ("iiiiiii", "i"),
    "path_open": ("iiiiillii", "i"),
    "path_readlink": ("iiiiii", "i"),
    "path_remove_directory": ("iii", "i"),
    "path_rename": ("iiiiii", "i"),
    "path_unlink_file": ("iii", "i"),
    "poll_oneoff": ("iiii", "i"),
    "proc_exit": ("i", ""),
    "random_get": ("ii", "i"),
    "sched_yield": ("", "i"),
}
"""What it may import from ``wasi_snapshot_preview1``."""

_BIAS: Final = "aici_host_return_logit_bias"
_OLDER_BIAS: Final[Signature] = ("i", "")
_ALWAYS: Final[Mapping[str, Signature]] = {
    "aici_init": ("", ""), "aici_create": ("", "i"), "aici_init_prompt": ("i", ""), "aici_mid_process": ("i", ""),
}  # fmt: skip
_OLDEST_ONLY: Final[Mapping[str, Signature]] = {"aici_pre_process": ("i", ""), "aici_post_process": ("i", "")}
_LETTERS: Final = {"i32": "i", "i64": "l", "f32": "f", "f64": "d"}
_MARK: Final = b"aos-wasm-1\n"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module that is a controller."""

    digest: bytes
    """SHA-256 of the module."""
    abi: str
    """What it is built against: ``OLDEST``, ``OLD`` or ``NEW``."""
    wasm_size: int
    """Bytes of the module."""
    compiled_size: int
    """Bytes of what it compiled to."""


def new_engine() -> Engine:
    """Return what compiles and runs modules. What one has compiled another can run."""
    config = Config()
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.cranelift_nan_canonicalization = True  # the same numbers on every machine
    config.wasm_reference_types = True  # compilers of today write calls in its way, whether or not they need it
    config.gc_support = False
    config.memory_may_move = False  # its host keeps the address
    for feature in (
        "threads", "tail_call", "multi_memory", "memory64", "relaxed_simd", "exceptions", "function_references", "gc",
        "wide_arithmetic", "custom_page_sizes", "stack_switching",
    ):  # fmt: skip
        setattr(config, f"wasm_{feature}", False)
    return Engine(config)


def signatures(abi: str) -> Mapping[str, Signature]:
    """Return what a controller of that ABI may import from ``env``."""
    return HOST if abi == NEW else {**HOST, _BIAS: _OLDER_BIAS}


def check_module(module: bytes | Path) -> Compiled:
    """Compile a module and forget what came out. Raises InvalidField, field `controller`, unless it is a controller."""
    with tempfile.TemporaryDirectory(prefix="aos-wasm-") as folder:
        return compile_module(module, Path(folder) / "module")


def compile_module(module: bytes | Path, into: Path, *, seconds: float = COMPILE_WALL_SECONDS) -> Compiled:
    """Compile a module into a file, all of it or nothing, in at most so many seconds.

    Raises InvalidField, field `controller`, unless it is a controller.
    """
    size = module.stat().st_size if isinstance(module, Path) else len(module)
    if size > MODULE_BYTES:
        raise InvalidField("controller", f"a module has at most {MODULE_BYTES} bytes", value=size, limit=MODULE_BYTES)
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wasm-", dir=into.parent) as folder:
        source, made = Path(folder) / "source", Path(folder) / "made"
        if isinstance(module, bytes):
            source.write_bytes(module)
        said = _elsewhere(module if isinstance(module, Path) else source, made, seconds)
        if "error" in said:
            raise InvalidField("controller", str(said["error"]))
        made.replace(into)
    return Compiled(bytes.fromhex(said["digest"]), said["abi"], said["wasm_size"], said["compiled_size"])


def compile_here(module: bytes, into: Path) -> Compiled:
    """Compile a module in this process, with no limit of time or memory. Raises as ``compile_module`` does."""
    engine = new_engine()
    try:
        Module.validate(engine, module)
        made = Module(engine, copyable(module))
    except WasmtimeError as error:
        raise InvalidField("controller", f"compile: {' '.join(str(error).split())[:REASON_CHARS]}") from error
    except Unsupported as error:
        raise InvalidField("controller", f"compile: {error}") from error
    abi = abi_of(made)
    body = bytes(made.serialize())
    digest = hashlib.sha256(module).digest()
    into.write_bytes(_MARK + digest + hashlib.sha256(body).digest() + body)
    return Compiled(digest, abi, len(module), len(body))


def load_module(engine: Engine, compiled: Path, digest: bytes) -> Module | None:
    """Return what ``compile_module`` left there for the module of this digest; None: nothing that can be used here and now."""
    try:
        data = compiled.read_bytes()
    except OSError:
        return None
    start = len(_MARK) + 64
    if data[:start] != _MARK + digest + hashlib.sha256(data[start:]).digest():
        return None
    try:
        return Module.deserialize(engine, data[start:])
    except WasmtimeError:  # of another version, or for another processor
        return None


def abi_of(module: Module) -> str:
    """Return what a module is built against. Raises InvalidField, field `controller`, if it is no controller."""
    exports = {one.name: one.type for one in module.exports}
    abi = OLDEST if "aici_pre_process" in exports else NEW
    imports = [(one.module, one.name or "", one.type) for one in module.imports]
    for _, name, kind in imports:
        if abi == NEW and name == _BIAS and isinstance(kind, FuncType) and not kind.results:
            abi = OLD
    known = {"env": signatures(abi), "wasi_snapshot_preview1": WASI}
    for source, name, kind in imports:
        _check(known.get(source, {}).get(name), kind, f"import {source}.{name}", "is unknown")
    for name, signature in {**_ALWAYS, **(_OLDEST_ONLY if abi == OLDEST else {})}.items():
        _check(signature, exports.get(name), f"export {name}", "is missing")
    _check_added(exports)
    memory = exports.get("memory")
    if not isinstance(memory, MemoryType):
        raise InvalidField("controller", "memory missing")
    if memory.limits.min * PAGE > MEMORY_BYTES:
        raise InvalidField("controller", f"its memory is at most {MEMORY_BYTES} bytes", limit=MEMORY_BYTES)
    for kind in exports.values():
        if isinstance(kind, TableType) and kind.limits.min > TABLE_ELEMENTS:
            raise InvalidField("controller", f"its tables have at most {TABLE_ELEMENTS} elements", limit=TABLE_ELEMENTS)
    return abi


def _check_added(exports: Mapping[str, object]) -> None:
    """See that no module brings names of its own where ours belong."""
    for name, kind in exports.items():
        ours = not name.startswith(PREFIX)
        ours |= name == START and isinstance(kind, FuncType) and _signature(kind) == ("", "")
        ours |= name.startswith(GLOBAL) and isinstance(kind, GlobalType) and kind.mutable and str(kind.content) in _LETTERS
        if not ours:
            raise InvalidField("controller", f"export {name}: no name may begin with {PREFIX}")


def _check(wanted: Signature | None, kind: object, what: str, missing: str) -> None:
    if wanted is None or kind is None:
        raise InvalidField("controller", f"{what} {missing}")
    found = _signature(kind) if isinstance(kind, FuncType) else None
    if found != wanted:
        raise InvalidField("controller", f"{what} must be a function ({_spelt(wanted[0])}) -> ({_spelt(wanted[1])})")


def _signature(kind: FuncType) -> Signature:
    return tuple("".join(_LETTERS.get(str(one), "?") for one in side) for side in (kind.params, kind.results))  # pyright: ignore[reportReturnType]


def _spelt(letters: str) -> str:
    return " ".join("i32" if letter == "i" else "i64" for letter in letters)


def _elsewhere(source: Path, made: Path, seconds: float) -> dict[str, Any]:
    """Compile in a process of its own; return what it said."""
    try:
        said = subprocess.run(  # noqa: S603  # this very Python and this very module
            [sys.executable, "-m", "aos.wasm_modules", str(source), str(made)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"takes more than {seconds:g} s to compile"}
    with suppress(ValueError):
        return cast("dict[str, Any]", json.loads(said.stdout))
    limits = f"{COMPILE_SECONDS} s of processor time or {COMPILE_BYTES} bytes of memory"
    return {"error": f"takes more than {limits} to compile"}


def main(source: str, made: str) -> None:
    """Compile the file ``source`` into the file ``made``; print what came of it."""
    resource.setrlimit(resource.RLIMIT_CPU, (COMPILE_SECONDS, COMPILE_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (COMPILE_BYTES, COMPILE_BYTES))
    try:
        compiled = compile_here(Path(source).read_bytes(), Path(made))
        said = {**asdict(compiled), "digest": compiled.digest.hex()}
    except InvalidField as error:
        said = {"error": error.violations[0].description}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
