"""The commands that look at this machine, and how `aos up` refuses to start."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from aos.cli.doctor import cpu_flags, lacking
from aos.settings import NetworkSettings, bundled_model
from tests.operator.weights import write_model


def wild(path: Path) -> None:
    """Write a model that says that it has very many layers."""
    data, key = bundled_model().read_bytes(), b"llama.block_count"
    at = data.index(key) + len(key) + 4  # behind it stands the number's type
    path.write_bytes(data[:at] + (65_536).to_bytes(4, "little") + data[at + 4 :])


class TestUp:
    async def test_an_ecvrf_that_there_is_not(self, cli, tmp_path):
        """It is refused before anything starts, with those that there are."""
        result = await cli("--data", str(tmp_path), "up", "--vrf-suite", "none")

        assert result.code == 2
        assert "draft04" in result.err
        with pytest.raises(ValueError, match="vrf-suite: must be one of rfc9381, draft04"):
            NetworkSettings(vrf_suite="none")


class TestDoctor:
    async def test_says_that_all_is_well(self, cli, tmp_path):
        """On a machine that can run a network the status is 0 and every part is named."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]

        result = await cli("--data", str(tmp_path), "doctor", "--port", str(free))

        assert result.code == 0, result.out
        for part in ("Python", "SQLite", "llama.cpp", "model", "memory", "Envoy", "data"):
            assert f"✓ {part}" in result.out
        assert re.search(r"cores: \d+", result.out)
        assert re.search(r"Envoy: \d+\.\d+\.\d+$", result.out, re.MULTILINE)

    async def test_says_how_to_mend_a_model(self, cli, tmp_path):
        """A model that is none fails the check, with what to do."""
        (tmp_path / "model.gguf").write_bytes(b"junk")

        result = await cli("--data", str(tmp_path), "doctor", "--model", str(tmp_path / "model.gguf"))

        assert result.code == 1
        assert "is not a GGUF file" in result.out
        assert "--model" in result.out

    async def test_says_why_a_model_cannot_be_run(self, cli, tmp_path):
        """A model that llama.cpp dies of is looked at in another process, and the reason told."""
        wild(tmp_path / "wild.gguf")

        result = await cli("--data", str(tmp_path), "doctor", "--model", str(tmp_path / "wild.gguf"))

        assert result.code == 1
        assert "llama.cpp dies of wild.gguf" in result.out

    async def test_warns_of_too_little_memory(self, cli, tmp_path):
        """A model that does not fit is a warning, with what it takes and what there is."""
        path = write_model(tmp_path / "long.gguf", context=1 << 24)
        options = ("--model", str(path), "--slots", "256", "--context", str(1 << 24))

        result = await cli("--data", str(tmp_path), "doctor", *options)

        assert result.code == 0
        assert re.search(r"! memory: long\.gguf with 256 slots takes about \d{6} MB of \d+", result.out)

    async def test_warns_of_a_taken_port(self, cli, tmp_path):
        """A port that is taken is a warning: another one will do."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = await cli("--data", str(tmp_path), "doctor", "--port", str(taken.getsockname()[1]))

        assert result.code == 0
        assert "--port 0" in result.out


class TestBuild:
    FAST = ("AVX2", "FMA", "F16C", "OPENMP")

    @pytest.mark.parametrize(
        ("machine", "features", "flags", "missing"),
        [
            ("x86_64", FAST, {"avx2", "fma", "f16c"}, []),
            ("x86_64", FAST, {"avx2", "fma", "f16c", "avx512f"}, ["AVX512"]),
            ("x86_64", ("AVX2", "OPENMP"), {"avx2", "fma", "f16c"}, ["FMA", "F16C"]),
            # a build cannot have what the machine has not
            ("x86_64", ("OPENMP",), {"sse3"}, []),
            ("x86_64", (), frozenset(), ["AVX2", "FMA", "F16C", "OPENMP"]),
            ("aarch64", ("NEON", "OPENMP"), {"asimd", "asimddp", "i8mm"}, ["DOTPROD", "MATMUL_INT8"]),
            ("riscv64", ("OPENMP",), frozenset(), []),
        ],
    )
    def test_what_is_lacking(self, machine, features, flags, missing):
        """A build is slow if it leaves out what this CPU has and llama.cpp can use."""
        assert lacking(machine, features, flags) == missing

    def test_flags(self, tmp_path):
        """What the CPU can is read as Linux writes it, on either kind of machine; where nothing is written nothing is known."""
        (tmp_path / "x86").write_text("processor : 0\nflags\t\t: fpu avx2 fma\nbugs : spectre\n")
        (tmp_path / "arm").write_text("Features\t: fp asimd asimddp\n")

        assert cpu_flags(tmp_path / "x86") == {"fpu", "avx2", "fma"}
        assert cpu_flags(tmp_path / "arm") == {"fp", "asimd", "asimddp"}
        assert cpu_flags(tmp_path / "none") == frozenset()


class TestUpRefuses:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--port", "70000"), "port: must be from 0 to 65535, not 70000"),
            (("--slots", "0"), "slots: must be from 1 to 256, not 0"),
            (("--dev", "--host", "0.0.0.0"), "loopback"),
        ],
    )
    async def test_settings_out_of_range(self, cli, tmp_path, options, said):
        """A setting that cannot be is named with its range, before anything starts."""
        result = await cli("up", "--data", str(tmp_path), *options)

        assert result.code == 2
        assert said in result.err

    async def test_a_model_that_is_not_there(self, cli, tmp_path):
        """A missing file is said to be missing."""
        result = await cli("up", "--data", str(tmp_path), "--port", "0", "--model", str(tmp_path / "none.gguf"))

        assert result.code == 1
        assert "there is no file" in result.err

    async def test_a_model_that_is_junk(self, cli, tmp_path):
        """A file that is no GGUF ends the start with the operator's own words."""
        (tmp_path / "junk.gguf").write_bytes(b"junk" * 100)

        result = await cli("up", "--data", str(tmp_path / "data"), "--port", "0", "--model", str(tmp_path / "junk.gguf"))

        assert result.code == 1
        assert "GGUF" in result.err

    async def test_a_model_that_llama_cpp_dies_of(self, cli, tmp_path):
        """A file whose metadata ends llama.cpp's process ends the start with the reason."""
        wild(tmp_path / "wild.gguf")

        result = await cli("up", "--data", str(tmp_path / "data"), "--port", "0", "--model", str(tmp_path / "wild.gguf"))

        assert result.code == 1
        assert "llama.cpp dies of wild.gguf" in result.err

    async def test_a_context_that_does_not_fit(self, cli, tmp_path):
        """A context that there is no memory for ends the start with what it takes and what there is."""
        path = write_model(tmp_path / "long.gguf", context=1 << 24)
        options = ("--data", str(tmp_path / "data"), "--port", "0", "--model", str(path))

        result = await cli("up", *options, "--context", str(1 << 24), "--slots", "256")

        assert result.code == 1
        assert "memory" in result.err
        assert "long" in result.err

    async def test_a_port_that_is_taken(self, cli, tmp_path):
        """A taken port is named."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = await cli("up", "--data", str(tmp_path), "--port", str(port))

        assert result.code == 1
        assert str(port) in result.err
