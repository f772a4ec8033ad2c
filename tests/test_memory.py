"""How much memory a process can still take."""

from __future__ import annotations

import pytest

from aos.memory import available_memory, default_memory


class TestMemory:
    @pytest.mark.parametrize(
        ("limit", "taken", "available"),
        [("max", "5", 1 << 30), ("1000000", "400000", 600_000), ("9" * 18, "5", 1 << 30), ("5", "6", 0), (None, None, 1 << 30)],
    )
    def test_the_tighter_of_machine_and_container(self, tmp_path, limit, taken, available):
        """What Linux calls available, or what the container's limit leaves if that is less."""
        (tmp_path / "meminfo").write_text("MemTotal:  2097152 kB\nMemAvailable:  1048576 kB\n")
        for name, text in (("memory.max", limit), ("memory.current", taken)):
            if text is not None:
                (tmp_path / name).write_text(f"{text}\n")

        assert available_memory(tmp_path / "meminfo", tmp_path) == available

    def test_without_linux(self, tmp_path):
        """Where nothing says what is available, it is half of what there is."""
        assert available_memory(tmp_path / "none", tmp_path) > 1 << 20

    def test_shared(self):
        """Operators on one machine share three quarters of it."""
        assert 0 < default_memory(4) < default_memory()
