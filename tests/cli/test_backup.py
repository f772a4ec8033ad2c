"""`aos backup` while a network runs, and `aos restore` somewhere else: all that was accepted is there, and goes on."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import pytest

from aos.clock import SystemClock
from aos.storage import archive
from aos.store.snapshot import check
from aos.testing.harness import Aos, running_aos
from aos.testing.scripted import ScriptedModel
from aos.v1.broker_pb2 import CheckInvariantsRequest
from aos.v1.dispatcher_pb2 import CreateJobRequest, GetReceiptRequest, Job, JobState
from aos.v1.types_pb2 import Order
from tests.cli.conftest import run_aos

TALE = "Once upon a time there was a network."


async def submitted(aos: Aos, prompt: str) -> Job:
    return await aos.dispatcher.CreateJob(CreateJobRequest(order=Order(model="scripted", prompt=prompt), request_id=prompt))


class Flood:
    """Jobs that are handed in one after the other, until it is told to stop."""

    def __init__(self, aos: Aos) -> None:
        self.accepted: list[Job] = []
        self._task = asyncio.create_task(self._run(aos))
        self._news = asyncio.Event()

    async def _run(self, aos: Aos) -> None:
        number = 0
        while True:
            number += 1
            self.accepted.append(await submitted(aos, f"job {number}"))
            self._news.set()

    async def grows(self) -> None:
        self._news.clear()
        async with asyncio.timeout(20):
            await self._news.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class TestRestored:
    async def test_under_load(self, tmp_path):
        """Every job accepted before the backup is there and ends; those that ran go on; the books are right."""
        data, other, file = tmp_path / "data", tmp_path / "other", tmp_path / "kept.tar"
        data.mkdir()
        async with running_aos(clock=SystemClock(), database=data / "aos.db") as aos:
            aos.model.say(TALE, to="tell")
            done = await submitted(aos, "done")
            await aos.client.outcome(done.name)
            receipt = (await aos.dispatcher.GetReceipt(GetReceiptRequest(name=done.name))).receipt
            hold = aos.model.hold(after="Once")
            running = await submitted(aos, "tell")
            await hold.reached()
            flood = Flood(aos)
            await flood.grows()
            before = list(flood.accepted)
            made = await run_aos("--data", str(data), "backup", str(file))
            await flood.grows()
            await flood.stop()
            hold.release()
        assert made.code == 0, made.err
        assert (await run_aos("--data", str(other), "restore", str(file))).code == 0

        model = ScriptedModel()
        model.say(TALE, to="tell")
        async with running_aos(model, clock=SystemClock(), database=other / "aos.db") as aos:
            for job in before:
                assert (await aos.client.outcome(job.name)).state == JobState.JOB_STATE_COMPLETED
            assert (await aos.client.outcome(running.name)).text == TALE
            kept = await aos.dispatcher.GetReceipt(GetReceiptRequest(name=done.name))
            books = await aos.admin.broker.CheckInvariants(CheckInvariantsRequest())
            assert (await submitted(aos, "done")).name == done.name

        assert kept.receipt == receipt
        assert [one.name for one in books.invariants if not one.holds] == []

    async def test_what_is_in_the_folder(self, tmp_path):
        """Keys keep their modes; databases are whole; locks, logs and halves stay behind; linked folders come along."""
        data, file = tmp_path / "data", tmp_path / "kept.tar"
        async with running_aos(clock=SystemClock(), database=_folder(data) / "aos.db"):
            pass
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "picture").write_bytes(b"a picture")
        (data / "aos.blobs" / "linked").symlink_to(tmp_path / "elsewhere")
        for name in ("lock", "envoy.log", "credentials.json.new"):
            (data / name).write_text("of no use")
        key = data / "operator-1.key"
        key.write_text("a key")
        key.chmod(0o600)
        await run_aos("--data", str(data), "backup", str(file))
        await run_aos("--data", str(tmp_path / "other"), "restore", str(file))
        found = {path.relative_to(tmp_path / "other").as_posix() for path in (tmp_path / "other").rglob("*") if path.is_file()}

        assert {"aos.db", "aos.answers.key", "operator-1.key", "aos.blobs/link.key", "aos.blobs/linked/picture"} <= found
        assert not [name for name in found if name.endswith(("lock", ".log", ".new", "-wal", "-shm"))]
        assert (tmp_path / "other" / "operator-1.key").stat().st_mode & 0o777 == 0o600
        assert file.stat().st_mode & 0o777 == 0o600
        assert check(tmp_path / "other" / "aos.db") == ""


class TestRefused:
    async def test_nothing_is_overwritten(self, tmp_path):
        """Neither a backup, nor a folder with something in it; and without a database there is nothing to back up."""
        data, file = tmp_path / "data", tmp_path / "kept.tar"
        none = await run_aos("--data", str(data), "backup", str(file))
        async with running_aos(clock=SystemClock(), database=_folder(data) / "aos.db"):
            pass
        first = await run_aos("--data", str(data), "backup", str(file))
        again = await run_aos("--data", str(data), "backup", str(file))
        full = await run_aos("--data", str(data), "restore", str(file))

        assert [one.code for one in (none, first, again, full)] == [1, 0, 1, 1]
        assert "no database" in none.err
        assert "is there already" in again.err
        assert "is not empty" in full.err
        assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".aos-backup-*"))

    @pytest.mark.parametrize("how", ["cut", "changed", "more", "outside", "link", "text"])
    async def test_what_is_not_as_it_was_written(self, tmp_path, how):
        """A backup that was cut, changed or made up is refused, and leaves nothing behind."""
        (tmp_path / "some.txt").write_text("some text, long enough to be changed somewhere")
        file, folder = tmp_path / "kept.tar", tmp_path / "other"
        archive.write(file, [("some.txt", tmp_path / "some.txt")], facts={})
        _spoil(file, how)
        told = await run_aos("--data", str(folder), "restore", str(file))

        assert (told.code, "is no good backup" in told.err) == (1, True), told.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.tar", "some.txt"]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _spoil(file: Path, how: str) -> None:
    data = file.read_bytes()
    match how:
        case "cut":
            file.write_bytes(data[:1024])
        case "changed":
            file.write_bytes(data.replace(b"long enough", b"long enougH", 1))
        case "text":
            file.write_bytes(b"no archive at all")
        case _:
            info = tarfile.TarInfo({"more": "another.txt", "outside": "../outside.txt", "link": "a link"}[how])
            if how == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/"
            with tarfile.open(file, "a") as tar:
                tar.addfile(info, io.BytesIO())
