"""What a controller in Wasm can ask of its host: the functions of ``env`` and ``wasi_snapshot_preview1``.

Nothing of it depends on the machine or the hour: clocks stand still, there is no randomness, no file and no environment. Each call
is bounded in what it copies, and ends the controller if its time is over.
"""

from __future__ import annotations

import ctypes
import logging
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final

from wasmtime import Engine, Linker, Memory, Store

from aos.errors import AosError
from aos.operator.allowance import Allowance
from aos.operator.controllers import CHOSEN, MASKS, RESULT_BYTES, TIMEOUT, Mask, Vocabulary, read_mask, words
from aos.operator.variables import COMMAND_BYTES, BadCommand, Variables, Write
from aos.operator.wasm_calls import callback, define, move
from aos.wasm_modules import HOST, OLD, WASI, signatures

LOG_BYTES: Final = 64 << 10
"""Most bytes of what a callback logs; when there are more, the oldest ``LOG_DROP`` go."""
LOG_DROP: Final = 16 << 10
"""How many bytes of a full log make room."""
TOKENISE_BYTES: Final = 128 << 10
"""Most bytes of text for one call of ``aici_host_tokenize``."""
CONFIG_BYTES: Final = 256
"""Most bytes of a name for ``aici_host_get_config``."""
PARTS: Final = 1024
"""Most parts of one write to the log."""

_ARGUMENT, _TOKENS, _UNUSED, _PROCESS, _STORAGE, _TRIE = 1, 2, 3, 4, 5, 100
_OK, _BADF, _INVAL, _NOSYS_CLOCK = 0, 8, 28, 63
_TERMINAL: Final = bytes([2]) + bytes(23)
"""What ``fd_fdstat_get`` says of the three descriptors that there are."""
_UNSIGNED: Final = 0xFFFF_FFFF

log = logging.getLogger(__name__)


class Ended(Exception):
    """A controller has ended itself, or was ended. The text says why."""


class Host:
    """What belongs to one instance beside its memory. One thread at a time."""

    def __init__(self, branch: int, vocabulary: Vocabulary, trie: bytes, argument: bytes, variables: Variables) -> None:
        self.branch, self.vocabulary, self.variables = branch, vocabulary, variables
        self.blobs = {_ARGUMENT: argument, _TOKENS: b"", _UNUSED: b"", _PROCESS: b"", _STORAGE: b"", _TRIE: trie}
        self.log, self.writes = bytearray(), list[Write]()
        self.stored = False
        """Whether a variable was ever asked for."""
        self.masks: dict[int, Mask] = {}
        self.result: bytes | None = None
        self.failure = ""
        self.allowance: Allowance
        """The time of the callback that runs."""
        self.store: Store
        self.memory: Memory
        self.address = 0
        """Where the memory begins."""

    def copy(self, branch: int, variables: Variables) -> Host:
        """Return the host of a copy of the instance, for another branch."""
        other = Host(branch, self.vocabulary, b"", b"", variables)
        other.blobs = dict(self.blobs)
        return other

    def begin(self, argument: bytes) -> None:
        """Make ready for a callback that is told this."""
        self.blobs[_PROCESS], self.result = argument, None
        self.masks.clear()

    def told(self) -> tuple[str, tuple[Write, ...]]:
        """Return what was logged and written since the last time."""
        said = self.log.decode(errors="replace"), tuple(self.writes)
        self.log.clear()
        self.writes.clear()
        return said

    def check_time(self) -> None:
        """Raise Ended if the time of the callback is over."""
        if self.allowance.over:
            raise Ended(TIMEOUT)

    def write_log(self, data: bytes) -> None:
        """Put something into the log."""
        self.log += data[-LOG_BYTES:]
        if len(self.log) > LOG_BYTES:
            over = len(self.log) - LOG_BYTES
            del self.log[: -(-over // LOG_DROP) * LOG_DROP]

    def read(self, start: int, size: int, *, most: int, what: str) -> bytes:
        """Return bytes of the instance's memory. Raises Ended for more than ``most`` and for what is outside."""
        if size > most:
            raise Ended(f"{what} has more than {most} bytes")
        self._check(start, size)
        return ctypes.string_at(self.address + start, size) if size else b""

    def write(self, start: int, data: bytes, size: int | None = None) -> None:
        """Put bytes into the instance's memory. Raises Ended for a place outside."""
        size = len(data) if size is None else size
        self._check(start, size)
        if size:
            move(self.address + start, data, size)

    def _check(self, start: int, size: int) -> None:
        if start + size > (room := self.memory.data_len(self.store)):
            raise Ended(f"bytes {start} to {start + size} are outside the memory of {room} bytes")


running = threading.local()
"""``running.host`` is the host of the instance that runs on this thread."""


def linker(engine: Engine, abi: str) -> Linker:
    """Return all that a controller of that ABI may import."""
    made = Linker(engine)
    for source, names in (("env", signatures(abi)), ("wasi_snapshot_preview1", WASI)):
        for name, (takes, gives) in names.items():
            define(made, source, name, _CALLBACKS[f"{name}/{gives}"], takes, gives)
    return made


def _guarded(act: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return the function for the instance that runs on this thread. What it raises ends the instance; the host keeps why."""

    def call(*given: int) -> int | None:
        host: Host = running.host
        try:
            host.check_time()
            return act(host, *given)
        except Ended as error:
            host.failure = str(error)
            raise
        except Exception:
            log.exception("a host function failed")
            host.failure = "Worker: internal error"
            raise

    return call


def _blob(number: int) -> Callable[[Host], int]:
    def number_of(_host: Host) -> int:
        return number

    return number_of


def _branch(host: Host) -> int:
    return host.branch


def _end(host: Host) -> int:
    return host.vocabulary.end


def _read_blob(host: Host, blob: int, start: int, size: int) -> int:
    data = host.blobs.get(blob)
    if data is None:
        raise Ended(f"invalid blob_id {blob}")
    host.write(start, data, min(size, len(data)))
    return len(data)


def _tokenise(host: Host, start: int, size: int) -> int:
    text = host.read(start, size, most=TOKENISE_BYTES, what="text for aici_host_tokenize")
    try:
        tokens = host.vocabulary.tokenise(text)
    except (ValueError, AosError) as error:
        host.write_log(f"warning: cannot tokenise: {error}\n".encode())
        tokens = ()
    host.blobs[_TOKENS] = struct.pack(f"<{len(tokens)}I", *tokens)
    return _TOKENS


def _return_bias(host: Host, start: int) -> int:
    size = 4 * words(host.vocabulary.size)
    if len(host.masks) >= MASKS:
        raise Ended(f"more than {MASKS} masks in a callback")
    offset = len(host.masks) * size
    host.masks[offset] = read_mask(host.read(start, size, most=size, what="a mask"), host.vocabulary.size)
    return offset


def _return_older_bias(host: Host, start: int) -> None:
    host.masks.clear()
    _return_bias(host, start)


def _return_result(host: Host, start: int, size: int) -> None:
    host.result = host.read(start, size, most=RESULT_BYTES, what="the result")


def _storage(host: Host, start: int, size: int) -> int:
    host.stored = True
    try:
        host.blobs[_STORAGE] = host.variables.do(
            host.read(start, size, most=COMMAND_BYTES, what="a command of aici_host_storage_cmd"), host.writes
        )
    except BadCommand as error:
        host.write_log(f"FATAL ERROR: storage_cmd error: {error}\n".encode())
        raise Ended(f"storage_cmd error: {error}") from error
    return _STORAGE


def _config(host: Host, start: int, size: int) -> int:
    return CHOSEN.get(host.read(start, size, most=CONFIG_BYTES, what="a name of aici_host_get_config").decode(errors="replace"), 0)


def _stop(_host: Host) -> None:
    raise Ended("*** aici_host_stop()")


def _exit(_host: Host, code: int) -> None:
    raise Ended(f"proc_exit: {code}")


def _two_zeros(host: Host, first: int, second: int) -> int:
    host.write(first, bytes(4))
    host.write(second, bytes(4))
    return _OK


def _fdstat(host: Host, descriptor: int, start: int) -> int:
    if descriptor > 2:  # noqa: PLR2004  # input, output, errors
        return _BADF
    host.write(start, _TERMINAL)
    return _OK


def _fd_write(host: Host, descriptor: int, parts: int, count: int, written: int) -> int:
    if descriptor not in (1, 2):
        return _BADF
    if count > PARTS:
        return _INVAL
    total = 0
    for start, size in struct.iter_unpack("<II", host.read(parts, 8 * count, most=8 * PARTS, what="a write")):
        host.read(start + size, 0, most=0, what="a write")
        kept = min(size, LOG_BYTES)
        host.write_log(host.read(start + size - kept, kept, most=LOG_BYTES, what="a write"))
        total += size
    host.write(written, struct.pack("<I", total & _UNSIGNED))
    return _OK


def _clock(host: Host, clock: int, _precision: int, start: int) -> int:
    if clock != 1:
        return _NOSYS_CLOCK
    host.write(start, bytes(8))
    return _OK


def _fine(_host: Host, *_given: int) -> int:
    return _OK


def _closed(_host: Host, *_given: int) -> int:
    """There are no files."""
    return _BADF


_ACTS: Final[Mapping[str, Callable[..., int | None]]] = {
    "aici_host_read_blob": _read_blob,
    "aici_host_module_arg": _blob(_ARGUMENT),
    "aici_host_process_arg": _blob(_PROCESS),
    "aici_host_token_trie": _blob(_TRIE),
    "aici_host_tokens": _blob(_UNUSED),
    "aici_host_tokenize": _tokenise,
    "aici_host_return_logit_bias": _return_bias,
    "aici_host_self_seq_id": _branch,
    "aici_host_return_process_result": _return_result,
    "aici_host_storage_cmd": _storage,
    "aici_host_eos_token": _end,
    "aici_host_get_config": _config,
    "aici_host_stop": _stop,
    "args_get": _fine,
    "args_sizes_get": _two_zeros,
    "environ_sizes_get": _two_zeros,
    "clock_time_get": _clock,
    "fd_fdstat_get": _fdstat,
    "fd_sync": _fine,
    "fd_write": _fd_write,
    "proc_exit": _exit,
    "random_get": _fine,
    "sched_yield": _fine,
}
"""What each does; those that are not here say that there is no such file."""

_BIAS: Final = "aici_host_return_logit_bias"
_CALLBACKS: Final = {
    f"{name}/{gives}": callback(_guarded(_return_older_bias if name == _BIAS and not gives else _ACTS.get(name, _closed)), takes)
    for names in (HOST, WASI, signatures(OLD))
    for name, (takes, gives) in names.items()
}
"""They live as long as the process: there is no saying when the last module that may call them goes."""
