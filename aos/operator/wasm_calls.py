"""Calls into Wasm and out of it, by wasmtime's C interface.

wasmtime's own Python wrapper takes ten times as long for each, more than a controller takes for a step; and it keeps what a host
function raised in one place for all threads, where another thread finds it. The names below are those of the C header, which is
stable; only the module of the wheel that has them, ``wasmtime._bindings``, is not promised.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from wasmtime import Func, FuncType, Linker, Memory, Store, Trap, ValType, WasmtimeError
from wasmtime import _bindings as c

_UNSIGNED: Final = 0xFFFF_FFFF
_SLOTS: Final = 12
"""Most parameters of anything that is called."""
_NO_FINALISER: Final = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
_REFUSED: Final = b"the host refused"
_OVER: Final = b"its time is over"
_CONTINUE: Final = 0

move: Final = ctypes.CDLL(None).memmove
"""C's; unlike that of ctypes it lets other threads run, and memories have megabytes."""
move.argtypes, move.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p

_OVERSEER: Final = c._wasmtime_store_epoch_deadline_callback.argtypes[1]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
Callback = Any
"""A function as C calls it. It must live for as long as anything that may call it."""


def callback(act: Callable[..., int | None], takes: str) -> Callback:
    """Return a host function for C. ``act`` gets i32 as unsigned; whatever it raises traps the caller, and is to be kept by it."""
    wide = tuple(letter == "l" for letter in takes)

    def call(_data: object, _caller: object, values: Any, _count: int) -> int:
        try:
            given = [values[n].i64 if is_wide else values[n].i32 & _UNSIGNED for n, is_wide in enumerate(wide)]
            gives = act(*given)
            if gives is not None:
                values[0].i32 = gives
        except BaseException:  # nothing can be raised through C
            return ctypes.cast(c.wasmtime_trap_new(_REFUSED, len(_REFUSED)), ctypes.c_void_p).value or 0
        return 0

    return c.wasmtime_func_unchecked_callback_t(call)


def overseer(ticks: Callable[[], int]) -> Callback:
    """Return what says, for C, how many ticks of the epoch a call may go on for; none, or an exception, end it."""

    def ask(_context: object, _data: object, delta: Any, kind: Any) -> int:
        try:
            left = ticks()
        except BaseException:  # nothing can be raised through C
            left = 0
        if left <= 0:
            return ctypes.cast(c.wasmtime_error_new(_OVER), ctypes.c_void_p).value or 0
        delta[0], kind[0] = left, _CONTINUE
        return 0

    return _OVERSEER(ask)


def define(linker: Linker, source: str, name: str, made: Callback, takes: str, gives: str) -> None:
    """Let modules import a callback. Raises WasmtimeError."""
    sides = [[ValType.i32() if letter == "i" else ValType.i64() for letter in side] for side in (takes, gives)]
    kind, where, what = FuncType(*sides), source.encode(), name.encode()
    error = c.wasmtime_linker_define_func_unchecked(
        linker.ptr(), where, len(where), what, len(what), kind.ptr(), made, None, _NO_FINALISER
    )
    if error:
        raise WasmtimeError._from_ptr(error)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def overseen(store: Store, made: Callback) -> None:
    """Let an overseer be asked each time the store's epoch deadline is reached."""
    c.wasmtime_store_epoch_deadline_callback(store.ptr(), made, None, _NO_FINALISER)


def call(store: Store, function: Func, *given: int) -> int:
    """Call a function of integers; return the integer that it gives back, if it does. Raises Trap, WasmtimeError.

    The caller answers for the number of parameters.
    """
    values, trap = (c.wasmtime_val_raw_t * _SLOTS)(), ctypes.POINTER(c.wasm_trap_t)()
    for n, one in enumerate(given):
        values[n].i32 = one
    error = c.wasmtime_func_call_unchecked(
        store._context(),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        ctypes.byref(function._func),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        values,
        _SLOTS,
        ctypes.byref(trap),
    )
    if error:
        raise WasmtimeError._from_ptr(error)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if trap:
        raise Trap._from_ptr(trap)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return values[0].i32


def address(memory: Memory, store: Store) -> int:
    """Return where a memory begins. It never moves."""
    return ctypes.cast(memory.data_ptr(store), ctypes.c_void_p).value or 0
