"""Controllers as small as they can be, for tests that only keep them."""

from __future__ import annotations

import hashlib

from wasmtime import wat2wasm

MEMORY = '(memory (export "memory") 1)'
EXPORTS = {"aici_init": "", "aici_create": "(result i32)", "aici_init_prompt": "(param i32)", "aici_mid_process": "(param i32)"}


def module(mark: str = "", *, padding: int = 0, imports: str = "", memory: str = MEMORY, **other: str) -> bytes:
    """A module that is a controller; another one for each mark, longer by the padding. ``other`` replaces exports' types."""
    exports = EXPORTS | other
    functions = " ".join(f'(func (export "{name}") {kind} unreachable)' for name, kind in exports.items() if kind != "-")
    text = f'(module {imports} {memory} {functions} (@custom "mark" "{mark}{"." * padding}"))'
    return bytes(wat2wasm(text))


def digits(data: bytes) -> str:
    """The 64 hex digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()
