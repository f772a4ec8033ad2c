"""The commands that look at this machine, and how `aos up` refuses to start."""

from __future__ import annotations

import re
import socket

import pytest


class TestDoctor:
    async def test_says_that_all_is_well(self, cli, tmp_path):
        """On a machine that can run a network the status is 0 and every part is named."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]

        result = await cli("--data", str(tmp_path), "doctor", "--port", str(free))

        assert result.code == 0, result.out
        for part in ("Python", "SQLite", "llama.cpp", "model", "Envoy", "data"):
            assert f"✓ {part}" in result.out
        assert re.search(r"Envoy: \d+\.\d+\.\d+$", result.out, re.MULTILINE)

    async def test_says_how_to_mend_a_model(self, cli, tmp_path):
        """A model that is none fails the check, with what to do."""
        (tmp_path / "model.gguf").write_bytes(b"junk")

        result = await cli("--data", str(tmp_path), "doctor", "--model", str(tmp_path / "model.gguf"))

        assert result.code == 1
        assert "is not a GGUF file" in result.out
        assert "--model" in result.out

    async def test_warns_of_a_taken_port(self, cli, tmp_path):
        """A port that is taken is a warning: another one will do."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            result = await cli("--data", str(tmp_path), "doctor", "--port", str(taken.getsockname()[1]))

        assert result.code == 0
        assert "--port 0" in result.out


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

    async def test_a_port_that_is_taken(self, cli, tmp_path):
        """A taken port is named."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = await cli("up", "--data", str(tmp_path), "--port", str(port))

        assert result.code == 1
        assert str(port) in result.err
