"""`aos operator --config`: an OPML worker from its configuration file."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from aos.cli.worker_file import WorkerFile, load_worker_file, read_worker_file
from aos.offered import ModelFile
from aos.settings import bundled_model
from tests.operator.receiver import receiving

HERE = Path("/etc/aos")
WHOLE = """---
# an OPML worker
port: 1234
host: "0.0.0.0"
model_name: llama-2-7b
model_path: './models/llama 7b.gguf'   # beside this file
mongo_uri: mongodb://localhost:27017
mips_program: ./mips/mips.bin
dispatcher: http://127.0.0.1:8080/
"""
SECONDS = 60


@asynccontextmanager
async def running_worker(folder: Path, *options: str, token: str = ""):
    """Run the command; gives the URL that it names, and the process."""
    config = folder / "config.yml"
    config.write_text(f"host: 127.0.0.1\nport: 0\nmodel_name: demo\nmodel_path: {bundled_model()}\nmongo_uri: mongodb://x\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aos", "--data", str(folder), "operator", "--config", str(config), *options),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"AOS_OPERATOR_TOKEN": token},
    )
    assert process.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(SECONDS):
            while not (found := re.search(r"operator 0x\w{40} offers demo at (http://\S+)", said)):
                line = (await process.stderr.readline()).decode()
                assert line, said
                said += line
        yield found[1], said, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), SECONDS)


class TestWorker:
    async def test_it_serves_the_file(self, tmp_path):
        """The file's model answers over REST on the file's host, with no network; what has no effect is said."""
        async with (
            receiving() as receiver,
            running_worker(tmp_path, "--allow-callback", "127.0.0.0/8", token="secret") as (url, said, process),
            httpx.AsyncClient(base_url=url, headers={"authorization": "Bearer secret"}, timeout=20) as client,
        ):
            question = {"model": "demo", "prompt": "What is AI?", "callback": receiver.url}
            status = (await client.get("/api/v1/status")).json()
            asked = (await client.post("/api/v1/question", json=question)).json()
            (called,) = await receiver.calls(1)
            closed = await client.get("/api/v1/status", headers={"authorization": ""})
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), SECONDS) == 0

        assert "mongo_uri in" in said
        assert status["data"]["status"] == 0
        assert called["req_id"] == asked["data"]["req_id"]
        assert len(called["answer"]) > 20
        assert closed.status_code == 401

    async def test_a_killed_one_goes_on(self, tmp_path):
        """Killed with a callback due, it makes it after the next start: what was accepted is on disk."""
        async with receiving() as receiver:
            receiver.reply(503, 503, 503, 503, 503)
            async with (
                running_worker(tmp_path, "--dev") as (url, _, process),
                httpx.AsyncClient(base_url=url, timeout=20) as client,
            ):
                question = {"model": "demo", "prompt": "What is AI?", "callback": receiver.url, "req_id": "kept"}
                await client.post("/api/v1/question", json=question)
                process.kill()
            before = len(receiver.heard)
            receiver.replies.clear()
            async with running_worker(tmp_path, "--dev"):
                calls = await receiver.calls(before + 1)

        assert calls[-1]["req_id"] == "kept"
        assert len(calls[-1]["answer"]) > 20

    @pytest.mark.parametrize(
        ("text", "options", "words"),
        [
            ("host: 0.0.0.0", ("--dev",), "host must be a loopback address"),
            ("port: 1234", (), "AOS_OPERATOR_TOKEN must be set"),
            ("prot: 1234", ("--dev",), "line 1: prot is not known"),
            ("port: 1234", ("--dev", "--listen", "0.0.0.0:1"), "listen must be a loopback address"),
            ("port: 1234", ("--dev", "--allow-callback", "home"), "allow-callback: must be a network"),
        ],
    )
    async def test_refused(self, cli, tmp_path, text, options, words):
        """What cannot be is refused before a model is loaded, with its name."""
        config = tmp_path / "config.yml"
        config.write_text(text)
        result = await cli("--data", str(tmp_path), "operator", "--config", str(config), *options)

        assert result.code == 2
        assert words in " ".join(result.err.split())

    async def test_without_a_file_a_network_is_needed(self, cli):
        """Without --config, --connect and --key are needed as ever."""
        result = await cli("operator", "--connect", "127.0.0.1:1")
        assert (result.code, "--connect and --key are needed" in result.err) == (2, True)


class TestWorkerFile:
    def test_all_keys(self):
        """All documented keys are read; those that mean nothing here are named."""
        assert read_worker_file(WHOLE, HERE) == WorkerFile(
            host="0.0.0.0",
            port=1234,
            model=ModelFile("llama-2-7b", HERE / "models/llama 7b.gguf"),
            dispatcher="127.0.0.1:8080",
            unused=("mongo_uri", "mips_program"),
        )

    def test_nothing_is_needed(self):
        """An empty file is the bundled model on this machine, in no network; so is one with empty values."""
        empty = "mongo_uri:\ndispatcher: ''\nhost: \"\" # none\n"
        assert read_worker_file("", HERE) == read_worker_file(empty, HERE) == WorkerFile()

    def test_a_model_without_a_name(self):
        """It is offered under its file's."""
        assert read_worker_file("model_path: /models/a.gguf", HERE).model == ModelFile("a", Path("/models/a.gguf"))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("port: many", "port: must be a number"),
            ("port: 123456", "port: must be a number"),
            ("port: 1\nport: 2", "line 2: port is there twice"),
            ("  port: 1", "line 1: must be `key: value`"),
            ("port:1", "line 1: must be `key: value`"),
            ("- port: 1", "line 1: must be `key: value`"),
            ("host: [a, b]", "line 1: only plain and quoted values"),
            ("host: 'a", "line 1: only plain and quoted values"),
            ("host: |", "line 1: only plain and quoted values"),
            ("model_name: a", "model_name: is the name of a model_path"),
            ("dispatcher: https://a:1", "dispatcher: operators attach without TLS"),
            ("dispatcher: nowhere", "dispatcher: must be HOST:PORT"),
            ("#" * 70_000, "has more than 65536 bytes"),
        ],
        ids=range(13),
    )
    def test_refused(self, text, words):
        """A typo never becomes a default: the line or the key is named."""
        with pytest.raises(ValueError, match=re.escape(words)):
            read_worker_file(text, HERE)

    def test_a_file_that_cannot_be_read(self, tmp_path):
        """The file is named."""
        (tmp_path / "c.yml").write_bytes(b"port: \xff")
        for name in ("c.yml", "none.yml"):
            with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
                load_worker_file(tmp_path / name)
