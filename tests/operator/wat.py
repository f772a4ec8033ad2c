"""Small controllers in Wasm's text, for tests: each says what one callback does, and the rest is there."""

from __future__ import annotations

import re

from wasmtime import wat2wasm

IMPORTS = """
(import "env" "aici_host_read_blob" (func $read_blob (param i32 i32 i32) (result i32)))
(import "env" "aici_host_module_arg" (func $module_arg (result i32)))
(import "env" "aici_host_process_arg" (func $process_arg (result i32)))
(import "env" "aici_host_token_trie" (func $token_trie (result i32)))
(import "env" "aici_host_tokens" (func $tokens (result i32)))
(import "env" "aici_host_tokenize" (func $tokenize (param i32 i32) (result i32)))
(import "env" "aici_host_return_logit_bias" (func $bias (param i32) (result i32)))
(import "env" "aici_host_self_seq_id" (func $self (result i32)))
(import "env" "aici_host_return_process_result" (func $say (param i32 i32)))
(import "env" "aici_host_storage_cmd" (func $storage (param i32 i32) (result i32)))
(import "env" "aici_host_eos_token" (func $eos (result i32)))
(import "env" "aici_host_get_config" (func $config (param i32 i32) (result i32)))
(import "env" "aici_host_stop" (func $stop))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"""
TEXTS = 1024
"""Where texts begin in memory; before them is room for what a callback writes."""


def splice(*tokens: int, backtrack: int = 0) -> str:
    """Code that puts tokens behind a branch, or in the place of its last ones."""
    listed = ",".join(map(str, tokens))
    return say(
        f'{{"branches":[{{"sample_mask":null,"splices":[{{"backtrack":{backtrack},"ff_tokens":[{listed}],"when_sampled":[]}}]}}]}}'
    )


def say(text: str) -> str:
    """Code that answers with a text."""
    return f"(call $say {quoted(text)})"


def quoted(text: str) -> str:
    """A text as code writes it: where it is, and how many bytes it has."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def printed(text: str) -> str:
    """Code that writes a text to the log."""
    return f"(call $print {quoted(text)})"


STOP = say('{"branches":[]}')
"""Code that ends the branch."""
NOOP = splice()
"""Code that lets the branch do nothing for a step."""


def command(text: str) -> str:
    """Code that asks the host's variables something; its value is the blob of the answer."""
    return f"(call $storage {quoted(text)})"


LIBRARY = """
(func $print (param i32 i32)
  (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
  (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
(func $print_blob (param i32) (local i32)
  (local.set 1 (call $read_blob (local.get 0) (i32.const 32768) (i32.const 16384)))
  (call $print (i32.const 32768) (local.get 1)))
(func $loop (loop $again (br $again)))
(func $deep (call $deep))
"""


def controller(
    mid: str = STOP,
    *,
    init: str = "",
    create: str = "",
    prompt: str = '(call $say "{}")',
    more: str = "",
    memory: str = "2",
    imports: str = IMPORTS,
) -> bytes:
    """Return the module of a controller of the newest ABI. Texts in code are written as "…" and stand for place and length."""
    code = f"""(module {imports} (memory (export "memory") {memory}) {LIBRARY if imports else ""} {more}
      (func (export "aici_init") {init}) (func (export "aici_create") (result i32) {create} (i32.const 77))
      (func (export "aici_init_prompt") (param $handle i32) {prompt})
      (func (export "aici_mid_process") (param $handle i32) {mid}))"""
    return module(code)


def module(code: str) -> bytes:
    """Return the module of this text."""
    at, texts = TEXTS, list[str]()

    def place(found: re.Match[str]) -> str:
        nonlocal at
        raw = found[2].replace('\\"', '"').replace("\\\\", "\\").encode()
        texts.append(_data(at, raw))
        at += len(raw)
        return f"{found[1]}(i32.const {at - len(raw)}) (i32.const {len(raw)})"

    # after a call come texts; names of imports and exports stay
    changed = re.sub(r'(\$(?:say|print|config|storage|tokenize) )"((?:[^"\\]|\\.)*)"', place, code)
    return bytes(wat2wasm(changed.rstrip()[:-1] + "".join(texts) + ")"))


def _data(at: int, raw: bytes) -> str:
    return f'(data (i32.const {at}) "' + "".join(f"\\{byte:02x}" for byte in raw) + '")'
