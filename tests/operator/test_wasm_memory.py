"""Copies of memories that share pages until somebody writes."""

from __future__ import annotations

import ctypes
import mmap

from hypothesis import given
from hypothesis import strategies as st

from aos.operator.wasm_memory import PAGE, copy, frozen, written_bytes

PAGES = 8


class Memory:
    """Memory as an instance has it: zeros in a mapping of its own."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._first = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._first)

    @property
    def data(self) -> bytes:
        return self.map[:]


writes = st.lists(st.tuples(st.integers(0, PAGES * PAGE - 9), st.binary(min_size=1, max_size=9)), max_size=6)


def written(memory: Memory, moves: list[tuple[int, bytes]]) -> None:
    for place, data in moves:
        memory.map[place : place + len(data)] = data


class TestCopies:
    @given(writes, writes, writes, writes, st.integers(0, PAGES))
    def test_each_is_what_the_original_was(self, before, after, own, later, pages):
        """Whatever was written before and after pages were first shared is there, and nobody sees what another writes later."""
        original, first, second = Memory(), Memory(), Memory()
        written(original, before)
        base = frozen(original.address, pages * PAGE)
        written(original, after)
        data = original.data
        assert copy(original.address, first.address, len(data), base) == (base is not None)
        assert first.data == original.data == data
        written(first, own)
        mine = first.data
        assert original.data == data
        copy(first.address, second.address, len(data), base)
        written(original, later)
        assert second.data == first.data == mine

    def test_only_what_was_written_is_a_memory_s_own(self):
        """Freezing a memory leaves nothing of its own; a byte that is written brings its page back."""
        memory = Memory()
        memory.map[:] = b"a" * len(memory.map)
        base = frozen(memory.address, len(memory.map))
        assert base is not None
        assert written_bytes(memory.address, len(memory.map), base) == 0
        memory.map[5 * PAGE + 7] = 98
        memory.map[6 * PAGE] = 98
        memory.map[-1] = 98
        assert written_bytes(memory.address, len(memory.map), base) == 3 * PAGE
        assert base.size == len(memory.map)

    def test_an_empty_one_has_nothing_to_share(self):
        """Without a byte there is nothing to freeze, and copying does nothing."""
        memory = Memory()
        assert frozen(memory.address, 0) is None
        assert not copy(memory.address, memory.address, 0, None)
