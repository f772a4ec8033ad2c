"""Instances of controllers in Wasm: what is loaded, how one starts, is called, is copied, and is ended when it takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from wasmtime import Func, Global, InstancePre, Linker, Memory, Module, Store, Trap, WasmtimeError

from aos.operator.allowance import Allowance
from aos.operator.controllers import TIMEOUT
from aos.operator.wasm_calls import address, call, overseen, overseer
from aos.operator.wasm_host import Ended, Host, linker, running
from aos.operator.wasm_memory import Frozen, copy, frozen, written_bytes
from aos.wasm_modules import MEMORY_BYTES, NEW, OLDEST, PAGE, TABLE_ELEMENTS, TABLES, abi_of, new_engine
from aos.wasm_rewrite import GLOBAL, START

TICK_SECONDS: Final = 0.01
"""How often the time of those that run is looked at. A machine that is busy looks less often, and they get longer."""
IDLE_TICKS: Final = 20
"""For how many ticks this goes on while nothing runs."""
SHARED_BYTES: Final = 1 << 20
"""How much an instance writes before its memory is shared anew."""
ERROR_CHARS: Final = 2000
"""Most characters of what went wrong."""

_CALLBACKS: Final = (
    "aici_init",
    "aici_create",
    "aici_init_prompt",
    "aici_pre_process",
    "aici_mid_process",
    "aici_post_process",
    START,
)


@dataclass(frozen=True, slots=True)
class Program:
    """A controller's module, ready to be instantiated."""

    digest: bytes
    abi: str
    tokens: bool
    """Whether it may ask for the trie of tokens."""
    made: InstancePre


class Runtime:
    """wasmtime, and the thread that counts the time of all that runs in it."""

    def __init__(self, look: Callable[[], None]) -> None:
        """``look`` is called now and then while anything runs."""
        self.engine, self._look = new_engine(), look
        self._linkers: dict[bool, Linker] = {}
        self._busy, self._closed, self._asleep = 0, False, False
        self._news = threading.Condition()
        self._ticking = threading.Thread(target=self._tick, name="aos-wasm-ticks", daemon=True)
        self._ticking.start()

    def program(self, module: Module, digest: bytes) -> Program:
        """Return the program in a module. Raises InvalidField if it is no controller."""
        abi = abi_of(module)
        if (new := abi == NEW) not in self._linkers:
            self._linkers[new] = linker(self.engine, NEW if new else OLDEST)
        tokens = any(one.name == "aici_host_token_trie" for one in module.imports)
        return Program(digest, abi, tokens, self._linkers[new].instantiate_pre(module))

    def enter(self) -> None:
        """Count time until ``leave``."""
        with self._news:
            self._busy += 1
            if self._asleep:
                self._news.notify()

    def leave(self) -> None:
        """Count it no longer."""
        with self._news:
            self._busy -= 1

    def close(self) -> None:
        """End the thread. Idempotent."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._ticking.join()

    def _tick(self) -> None:
        idle = 0
        while True:
            with self._news:
                idle = 0 if self._busy else idle + 1
                if idle > IDLE_TICKS:  # not at once: to be woken for each callback costs those that call
                    self._asleep = True
                    self._news.wait_for(lambda: self._busy or self._closed)
                    self._asleep, idle = False, 0
                if self._closed:
                    return
            time.sleep(TICK_SECONDS)
            self.engine.increment_epoch()
            self._look()


class Instance:
    """One controller at work. One thread at a time; ``copy`` of one that nobody calls, on any."""

    def __init__(self, runtime: Runtime, program: Program, host: Host) -> None:
        """Raises Ended if it does not fit into the limits."""
        self._runtime, self.program, self.host = runtime, program, host
        self.handle = 0
        self._base: Frozen | None = None
        """What its memory goes on from, if it shares pages with other instances."""
        self.store = Store(runtime.engine)
        overseen(self.store, _OVERSEER)
        self.limit(MEMORY_BYTES)
        # segments of the module are copied into its memory now, and may be as large as it
        self.store.set_epoch_deadline(1 << 30)
        try:
            exports = program.made.instantiate(self.store).exports(self.store)
        except (WasmtimeError, Trap) as error:
            raise Ended(_reason(error)) from error
        self._memory = cast("Memory", exports["memory"])
        self._functions = {name: cast("Func", exports[name]) for name in _CALLBACKS if name in exports}
        self._globals = [cast("Global", exports[name]) for name in exports if name.startswith(GLOBAL)]
        host.store, host.memory, host.address = self.store, self._memory, address(self._memory, self.store)

    def limit(self, memory: int) -> None:
        """Let the memory have so many bytes, or as many as it has."""
        self.store.set_limits(memory, TABLE_ELEMENTS, 1, TABLES, 1)

    @property
    def size(self) -> int:
        """How many bytes its memory has."""
        return self._memory.data_len(self.store)

    def start(self, allowance: Allowance) -> None:
        """Set it up. Raises Ended; so does ``call``."""
        if START in self._functions:
            self.call(START, allowance=allowance)
        self.call("aici_init", allowance=allowance)
        self.handle = self.call("aici_create", allowance=allowance)

    def tell(self, name: str, argument: bytes, allowance: Allowance) -> bytes:
        """Call a callback that is told something; return what it answers."""
        self.host.begin(argument)
        self.call(name, self.handle, allowance=allowance)
        if self.host.result is None:
            raise Ended("aici_host_return_process_result not called")
        return self.host.result

    def call(self, name: str, *given: int, allowance: Allowance) -> int:
        """Call an export; return what it gives back. It is ended when ``allowance``, which this thread made, is used up."""
        host = self.host
        host.failure, host.allowance = "", allowance
        if (left := allowance.left) <= 0:
            raise Ended(TIMEOUT)
        running.host = host
        self.store.set_epoch_deadline(int(left / TICK_SECONDS) + 1)
        self._runtime.enter()
        try:
            return call(self.store, self._functions[name], *given)
        except (Trap, WasmtimeError) as error:
            if host.failure:
                raise Ended(host.failure) from None
            raise Ended(_reason(error)) from None
        finally:
            self._runtime.leave()
            running.host = None

    def share(self) -> None:
        """Let copies share its memory, as it is now, until they write. It is worth while for more than one copy."""
        with suppress(OSError):
            if self._base is None or written_bytes(self.host.address, self.size, self._base) > SHARED_BYTES:
                self._base = frozen(self.host.address, self.size) or self._base

    def copy(self, host: Host) -> Instance:
        """Return an instance that goes on from here, with that host. Raises Ended."""
        other = Instance(self._runtime, self.program, host)
        other.handle = self.handle
        size = self.size
        if (more := size - other.size) > 0:
            try:
                other._memory.grow(other.store, more // PAGE)
            except WasmtimeError as error:
                raise Ended(_reason(error)) from error
        if copy(self.host.address, host.address, size, self._base):
            other._base = self._base
        for mine, its in zip(self._globals, other._globals, strict=True):
            its.set_value(other.store, mine.value(self.store))
        return other

    def close(self) -> None:
        """Give its memory back. Idempotent."""
        self.store.close()


def _ticks() -> int:
    """Return after how many ticks to look again at the call on this thread; 0: its time is over."""
    host: Host = running.host
    if (left := host.allowance.left) > 0:
        return int(left / TICK_SECONDS) + 1
    host.failure = TIMEOUT
    return 0


_OVERSEER: Final = overseer(_ticks)
"""It lives as long as the process, as stores do that ask it."""


def _reason(error: Exception) -> str:
    return str(error).strip()[:ERROR_CHARS]
