"""Programs of controllers that one operator has: loaded once, compiled once, and set up once for each argument."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from aos.errors import InvalidField, ShuttingDown
from aos.operator.allowance import Allowance
from aos.operator.control_session import Session
from aos.operator.controllers import ARGUMENT_BYTES, Vocabulary
from aos.operator.crew import Crew
from aos.operator.token_trie import LEN_BITS, OLD_LEN_BITS, token_trie
from aos.operator.variables import Variables
from aos.operator.wasm import Instance, Program, Runtime
from aos.operator.wasm_host import Host
from aos.wasm_modules import NEW, compile_module, load_module

WORKERS: Final = 64
"""Most threads for callbacks: each works for one run at a time."""
COMPILERS: Final = 2
"""Most modules that are compiled at a time."""
PROGRAMS: Final = 64
"""Most programs that are kept in memory; the one unused for longest goes first."""
FILES: Final = 256
"""Most compiled modules that are kept on disk."""
TRIES: Final = 4
"""Most tries of tokens that are kept."""
SNAPSHOTS: Final = 16
"""Most instances that are kept as they are after ``aici_create``, to be copied by later runs."""
SNAPSHOT_BYTES: Final = 256 << 20
"""Most memory of those."""


@dataclass(slots=True)
class _Snapshot:
    """An instance after ``aici_create``: what a later run of the same program with the same argument begins with."""

    instance: Instance
    logs: bytes
    lock: threading.Lock = field(default_factory=threading.Lock)


class Controllers:
    """The controllers that one operator runs, whatever its models."""

    def __init__(self, folder: Path) -> None:
        """``folder`` keeps what modules compile to."""
        self._folder, self._crew = folder, Crew("aos-controllers", most=WORKERS)
        self._runtime = Runtime(self._crew.look)
        self._programs: OrderedDict[bytes, Program] = OrderedDict()
        self._loading: dict[bytes, asyncio.Lock] = {}
        self._compiling = asyncio.Semaphore(COMPILERS)
        self._tries: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._snapshots: OrderedDict[tuple[bytes, str, bytes], _Snapshot] = OrderedDict()
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._closed = False

    async def program(self, digest: bytes, read: Callable[[], Awaitable[bytes]]) -> Program:
        """Return the program of a module by its SHA-256; ``read`` gets the module if what it compiles to is not there.

        Raises what ``read`` raises, InvalidField if it gives something else or no controller, ShuttingDown.
        """
        if self._closed:
            raise ShuttingDown
        # one compiles it, the others wait for that one
        async with self._loading.setdefault(digest, asyncio.Lock()):
            try:
                if (kept := self._programs.get(digest)) is None:
                    path = self._folder / f"{digest.hex()}.compiled"
                    kept = await asyncio.to_thread(self._load, path, digest)
                    if kept is None:
                        module = await read()
                        if hashlib.sha256(module).digest() != digest:
                            raise InvalidField("controller", "another module than was asked for")
                        async with self._compiling:
                            await asyncio.to_thread(compile_module, module, path)
                        kept = await asyncio.to_thread(self._load, path, digest)
                    if kept is None:
                        raise InvalidField("controller", "cannot be loaded")
            finally:
                self._loading.pop(digest, None)
        self._programs[digest] = kept
        self._programs.move_to_end(digest)
        while len(self._programs) > PROGRAMS:
            self._programs.popitem(last=False)
        return kept

    async def session(self, program: Program, argument: str, vocabulary: Vocabulary, *, patience: float = 1.0) -> Session:
        """Return a run's session; its callbacks have ``patience`` times as long as the limits say.

        Raises InvalidField, ModelUnsuitable if the vocabulary is too large, ShuttingDown.
        """
        told = argument.encode()
        if len(told) > ARGUMENT_BYTES:
            raise InvalidField("control.argument", f"has at most {ARGUMENT_BYTES} bytes", value=len(told), limit=ARGUMENT_BYTES)
        if self._closed:
            raise ShuttingDown
        trie = await asyncio.to_thread(self._trie, program, vocabulary) if program.tokens else b""
        return Session(partial(self._begin, program, told), self._crew.submit, program.abi, told, vocabulary, trie, patience)

    def close(self) -> None:
        """Let threads and programs go. Idempotent. Sessions that are open end with errors.

        Waits for callbacks that run, at most until they are interrupted: call it beside the event loop.
        """
        self._closed = True
        self._crew.close()
        self._runtime.close()
        with self._lock:
            self._snapshots.clear()
        self._programs.clear()

    def _begin(self, program: Program, argument: bytes, host: Host, allowance: Allowance) -> Instance:
        """Return an instance after ``aici_create``: a copy of one that is kept, or a new one. Raises Ended."""
        key = (program.digest, host.vocabulary.key, hashlib.sha256(argument).digest())
        with self._lock:
            kept = self._snapshots.get(key)
            if kept is not None:
                self._snapshots.move_to_end(key)
        if kept is not None:
            with kept.lock:
                instance = kept.instance.copy(host)
                # what it asked the tokeniser stays readable
                host.blobs |= kept.instance.host.blobs
            host.write_log(kept.logs)
            return instance
        instance = Instance(self._runtime, program, host)
        instance.start(allowance)
        # variables belong to a run: who used them in `aici_create` starts anew each time
        if not host.stored:
            self._keep(key, instance)
        return instance

    def _keep(self, key: tuple[bytes, str, bytes], instance: Instance) -> None:
        host = instance.host
        instance.share()
        snapshot = _Snapshot(instance.copy(host.copy(0, Variables())), bytes(host.log))
        with self._lock:
            self._snapshots[key] = snapshot
            while len(self._snapshots) > SNAPSHOTS or sum(one.instance.size for one in self._snapshots.values()) > SNAPSHOT_BYTES:
                self._snapshots.popitem(last=False)

    def _load(self, path: Path, digest: bytes) -> Program | None:
        module = load_module(self._runtime.engine, path, digest)
        if module is None:
            return None
        with suppress(OSError):  # another process on the same folder
            os.utime(path)
            files = sorted(self._folder.glob("*.compiled"), key=lambda one: one.stat().st_mtime)
            for old in files[:-FILES]:
                old.unlink(missing_ok=True)
        return self._runtime.program(module, digest)

    def _trie(self, program: Program, vocabulary: Vocabulary) -> bytes:
        key = (vocabulary.key, LEN_BITS if program.abi == NEW else OLD_LEN_BITS)
        with self._reading:
            if key not in self._tries:
                pieces = [vocabulary.piece(token) for token in range(vocabulary.size)]
                self._tries[key] = token_trie(vocabulary.key, pieces, vocabulary.end, len_bits=key[1])
            self._tries.move_to_end(key)
            while len(self._tries) > TRIES:
                self._tries.popitem(last=False)
            return self._tries[key]
