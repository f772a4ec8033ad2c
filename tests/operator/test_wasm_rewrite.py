"""Modules that are rewritten so that their instances can be copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import Engine, Instance, Module, Store, wat2wasm

from aos.wasm_rewrite import GLOBAL, START, Unsupported, copyable

CONSTANTS = {
    "i32": "(i32.const -5)",
    "i64": "(i64.const 1234567890123)",
    "f32": "(f32.const 1.5)",
    "f64": "(f64.const -2.25)",
    "v128": "(v128.const i32x4 1 2 3 4)",
    "funcref": "(ref.null func)",
}
VALUES = {"i32": -5, "i64": 1234567890123, "f32": 1.5, "f64": -2.25}


def built(*parts: str) -> bytes:
    return bytes(wat2wasm(f"(module {' '.join(parts)})"))


def exports(module: bytes) -> set[str]:
    return {one.name for one in Module(Engine(), module).exports}


class TestGlobals:
    @given(st.lists(st.tuples(st.sampled_from(sorted(CONSTANTS)), st.booleans()), max_size=20), st.booleans(), st.booleans())
    def test_those_that_change_get_names(self, kinds, start, named):
        """Mutable numbers can be read from outside under their index, behind imported ones; others stay without a name."""
        kinds = [(kind, changes and kind in VALUES) for kind, changes in kinds]
        globals_ = [f"(global {f'(mut {kind})' if changes else kind} {CONSTANTS[kind]})" for kind, changes in kinds]
        parts = ['(import "env" "f" (func))', '(import "env" "g" (global i32))', *globals_, "(memory 1) (func $s)"]
        parts += ["(start $s)"] if start else []
        parts += ['(export "memory" (memory 0)) (data (i32.const 0) "text")'] if named else []
        added = {f"{GLOBAL}{number}" for number, (_, changes) in enumerate(kinds, 1) if changes} | ({START} if start else set())
        module = built(*parts)
        changed = copyable(module)
        assert exports(changed) == added | ({"memory"} if named else set())
        if not added:
            assert changed == module

    def test_they_are_those_of_the_module(self):
        """What is read by such a name is the global, with what it was at first."""
        engine = Engine()
        store = Store(engine)
        module = copyable(built(*(f"(global (mut {kind}) {CONSTANTS[kind]})" for kind in VALUES)))
        found = Instance(store, Module(engine, module), []).exports(store)
        assert [found[f"{GLOBAL}{number}"].value(store) for number in range(len(VALUES))] == list(VALUES.values())

    @pytest.mark.parametrize("kind", ["v128", "funcref"])
    def test_some_cannot_be_copied(self, kind):
        """A mutable global that is no number is refused."""
        with pytest.raises(Unsupported):
            copyable(built(f"(global (mut {kind}) {CONSTANTS[kind]})"))


class TestStart:
    def test_it_no_longer_runs_by_itself(self):
        """The start function has a name and runs when it is called, and only then."""
        engine = Engine()
        store = Store(engine)
        module = built("(global $g (mut i32) (i32.const 1)) (func $s (global.set $g (i32.const 2))) (start $s)")
        found = Instance(store, Module(engine, copyable(module)), []).exports(store)
        assert found[f"{GLOBAL}0"].value(store) == 1
        found[START](store)
        assert found[f"{GLOBAL}0"].value(store) == 2
