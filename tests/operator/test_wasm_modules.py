"""Modules of strangers: which are controllers, and what is said of the others."""

from __future__ import annotations

import hashlib

import pytest
from wasmtime import wat2wasm

from aos.errors import InvalidField
from aos.wasm_modules import (
    MODULE_BYTES,
    NEW,
    OLD,
    OLDEST,
    TABLE_ELEMENTS,
    check_module,
    compile_here,
    compile_module,
    load_module,
    new_engine,
)

EXPORTS = """(func (export "aici_init")) (func (export "aici_create") (result i32) (i32.const 0))
  (func (export "aici_init_prompt") (param i32)) (func (export "aici_mid_process") (param i32))"""
MEMORY = '(memory (export "memory") 1)'
BIAS = '(import "env" "aici_host_return_logit_bias" (func (param i32) {}))'


def built(*parts: str) -> bytes:
    return bytes(wat2wasm(f"(module {' '.join(parts)})"))


def refused(module: bytes, tmp_path) -> str:
    """Why a module is no controller."""
    with pytest.raises(InvalidField) as failure:
        compile_here(module, tmp_path / "made")
    assert failure.value.violations[0].field == "controller"
    assert not (tmp_path / "made").exists()
    return failure.value.violations[0].description


class TestAbi:
    @pytest.mark.parametrize(
        ("parts", "abi"),
        [
            ([BIAS.format("(result i32)"), MEMORY, EXPORTS], NEW),
            ([MEMORY, EXPORTS], NEW),
            ([BIAS.format(""), MEMORY, EXPORTS], OLD),
            (
                [
                    BIAS.format(""), MEMORY, EXPORTS,
                    '(func (export "aici_pre_process") (param i32)) (func (export "aici_post_process") (param i32))',
                ],
                OLDEST,
            ),
        ],
    )  # fmt: skip
    def test_it_is_told_by_what_a_module_has(self, parts, abi, tmp_path):
        """The callbacks, and whether a mask's place comes back, tell for which runtime a controller was built."""
        assert compile_here(built(*parts), tmp_path / "made").abi == abi

    def test_oldest_callbacks_come_together(self, tmp_path):
        """Who has the one before a draw must have the one after it."""
        module = built(MEMORY, EXPORTS, '(func (export "aici_pre_process") (param i32))')
        assert refused(module, tmp_path) == "export aici_post_process is missing"


class TestRefusals:
    @pytest.mark.parametrize(
        ("module", "reason"),
        [
            (b"", "compile: "),
            (b"no Wasm at all", "compile: "),
            (b"(module)", "compile: "),
            (built(MEMORY, EXPORTS)[:-3], "compile: "),
            (built(MEMORY), "export aici_init is missing"),
            (built(EXPORTS), "memory missing"),
            (built(EXPORTS, '(func (export "memory"))'), "memory missing"),
            (built(EXPORTS, '(memory (export "memory") 1025)'), "its memory is at most 67108864 bytes"),
            (
                built(MEMORY, EXPORTS.replace('_create") (result i32) (i32.const 0)', '_create") (result i64) (i64.const 0)')),
                "export aici_create must be a function () -> (i32)",
            ),
            (built(MEMORY, EXPORTS.replace("(param i32)", "")), "export aici_init_prompt must be a function (i32) -> ()"),
            (built('(import "env" "more" (func))', MEMORY, EXPORTS), "import env.more is unknown"),
            (built('(import "other" "aici_host_stop" (func))', MEMORY, EXPORTS), "import other.aici_host_stop is unknown"),
            (
                built('(import "env" "aici_host_stop" (global i32))', MEMORY, EXPORTS),
                "import env.aici_host_stop must be a function () -> ()",
            ),
            (
                built('(import "env" "aici_host_read_blob" (func (param i32 i32)))', MEMORY, EXPORTS),
                "import env.aici_host_read_blob must be a function (i32 i32 i32) -> (i32)",
            ),
            (
                built('(import "wasi_snapshot_preview1" "fd_write" (func))', MEMORY, EXPORTS),
                "import wasi_snapshot_preview1.fd_write must be a function (i32 i32 i32 i32) -> (i32)",
            ),
            (
                built(MEMORY, EXPORTS, f'(table (export "t") {TABLE_ELEMENTS + 1} funcref)'),
                "its tables have at most 100000 elements",
            ),
            (built(MEMORY, "(memory 1)", EXPORTS), "compile: "),
            (built('(memory (export "memory") 1 2 shared)', EXPORTS), "compile: "),
            (built('(memory (export "memory") i64 1)', EXPORTS), "compile: "),
            (built(MEMORY, EXPORTS, "(global (mut funcref) (ref.null func))"), "compile: a mutable global that is neither"),
            (built(MEMORY, EXPORTS, '(func (export "aos:x"))'), "export aos:x: no name may begin with aos:"),
            (built(MEMORY, EXPORTS, '(func (export "aos:start") (param i32))'), "export aos:start: no name may begin with aos:"),
            (built(MEMORY, EXPORTS, '(func $s (export "aos:start")) (start $s)'), "compile: "),
        ],
    )
    def test_a_reason_is_given(self, module, reason, tmp_path):
        """What is no Wasm, lacks something, has something of another type, or asks for what there is not, is told so."""
        assert refused(module, tmp_path).startswith(reason)

    def test_one_may_be_too_large(self, tmp_path):
        """One byte more than 128 MiB is refused before anything is read."""
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(MODULE_BYTES + 1)
        with pytest.raises(InvalidField, match="at most 134217728 bytes"):
            check_module(path)


class TestCompiling:
    def test_it_is_done_elsewhere(self, tmp_path):
        """In a process of its own a module, given as bytes or as a file, comes to the same; reasons come back."""
        module, path = built(MEMORY, EXPORTS), tmp_path / "module.wasm"
        path.write_bytes(module)
        compiled = check_module(path)
        assert compiled == compile_module(module, tmp_path / "made")
        assert (compiled.digest, compiled.abi, compiled.wasm_size) == (hashlib.sha256(module).digest(), NEW, len(module))
        assert compiled.compiled_size > 0
        with pytest.raises(InvalidField, match="memory missing"):
            compile_module(built(EXPORTS), tmp_path / "other")
        assert sorted(one.name for one in tmp_path.iterdir()) == ["made", "module.wasm"]

    def test_one_that_takes_too_long_is_stopped(self, tmp_path):
        """The process that compiles ends when its time is over, the reason names the limit, and nothing is left."""
        with pytest.raises(InvalidField, match=r"takes more than 0\.01 s"):
            compile_module(built(MEMORY, EXPORTS), tmp_path / "made", seconds=0.01)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_kept_is_checked(self, tmp_path):
        """A file that is missing, damaged, cut off, of another module or of another version gives nothing."""
        module, path, engine = built(MEMORY, EXPORTS), tmp_path / "made", new_engine()
        digest = compile_here(module, path).digest
        assert load_module(engine, path, digest) is not None
        assert load_module(engine, path, bytes(32)) is None
        assert load_module(engine, tmp_path / "none", digest) is None
        data = path.read_bytes()
        for damaged in (data[:-1], data[:200], b"", data[:500] + bytes([data[500] ^ 1]) + data[501:]):
            path.write_bytes(damaged)
            assert load_module(engine, path, digest) is None
        body = b"another version's"
        path.write_bytes(data[: data.index(digest) + len(digest)] + hashlib.sha256(body).digest() + body)
        assert load_module(engine, path, digest) is None

    def test_calls_as_new_compilers_write_them(self, tmp_path):
        """An indirect call with the table's number in five bytes, as linkers leave it, is one."""
        module = built(MEMORY, EXPORTS, "(type $t (func)) (table 1 funcref) (func (call_indirect (type $t) (i32.const 0)))")
        short, long = b"\x07\x00\x41\x00\x11\x00\x00\x0b", b"\x0b\x00\x41\x00\x11\x00\x80\x80\x80\x80\x00\x0b"
        before, found, after = module.partition(short)
        assert found
        at = before.rindex(b"\x0a")
        module = before[: at + 1] + bytes([before[at + 1] + 4]) + before[at + 2 :] + long + after
        assert compile_here(module, tmp_path / "made").abi == NEW
