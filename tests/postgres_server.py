"""A real PostgreSQL, started by the tests on a socket in a folder of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from aos.store.opening import migrate_all, opened

USERS = ("postgres", "nobody")
"""PostgreSQL refuses to run as root: then it runs as the first of these that there is."""
STARTS_IN = 60
PLAIN = "aos_plain"
"""The template of databases whose tables are up to date."""


class NoPostgres(RuntimeError):
    """There is no PostgreSQL to test against."""


def programs() -> Path:
    """Return the folder of the newest PostgreSQL that Debian, or the PATH, has."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    if there is None:
        raise NoPostgres("PostgreSQL is missing. On Debian, as root: python tools/install.py postgres")
    return Path(there).resolve().parent


class PostgresServer:
    """One server; each of its databases is a test's own."""

    def __init__(self, folder: Path, *settings: str, within: Sequence[str] = (), let_in: str = "") -> None:
        """``within`` is a command, run as root, that runs the server's elsewhere; ``let_in`` is a network to trust."""
        self.folder, self._settings, self._within, self._let_in = folder, settings, within, let_in
        self._programs, self._numbers = programs(), count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def _as_user(self) -> dict[str, str]:
        if os.geteuid():
            return {}
        known = [one for one in USERS if subprocess.run(["id", one], capture_output=True, check=False).returncode == 0]
        return {"user": known[0]}

    def make(self) -> None:
        """Make the folder of its files."""
        as_user = self._as_user()
        if as_user:
            shutil.chown(self.folder, as_user["user"])
        made = subprocess.run(
            [self._programs / "initdb", "--pgdata", self.folder / "data", "--username", "aos", "--auth", "trust", "--no-sync",
             "--encoding", "UTF8", "--locale", "C.UTF-8"],
            capture_output=True, text=True, check=False, cwd="/", **as_user,
        )  # fmt: skip
        if made.returncode:
            raise NoPostgres(made.stderr)
        if self._let_in:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {self._let_in} trust\n")

    def start(self) -> None:
        """Start it, and return once it answers."""
        flags = [f"--{one}" for one in ("listen_addresses=", f"unix_socket_directories={self.folder}", *self._settings)]
        as_user = self._as_user()
        command: list[str | Path] = [self._programs / "postgres", "-D", self.folder / "data", *flags]
        if self._within:
            user = as_user.pop("user")
            command = [*self._within, "setpriv", f"--reuid={user}", "--clear-groups", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **as_user)
        ready = [self._programs / "pg_isready", "--quiet", "--host", str(self.folder), "--dbname", "postgres"]
        for _ in range(STARTS_IN * 20):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)  # polling another process: there is no event to wait for
        raise NoPostgres((self.folder / "log").read_text()[-2000:])

    @property
    def pid(self) -> int:
        """Its first process, which all others are below."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill all of its processes at once, as a loss of the machine's power would."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it at once. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STARTS_IN)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://aos@/{database}?host={self.folder}"

    def fresh(self, template: str = PLAIN) -> str:
        """Make a database, its tables up to date (of `template0`: without any), and return its address."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that ``fresh`` made, whoever is still connected."""
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def prepare(self) -> None:
        """Make the template of databases whose tables are up to date."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {PLAIN}")

        async def bring_up() -> None:
            async with opened(self.url(PLAIN)) as database:
                await migrate_all(database)

        asyncio.run(bring_up())


@contextmanager
def running_postgres(*settings: str, within: Sequence[str] = (), let_in: str = "") -> Iterator[PostgresServer]:
    """Start a server, as PostgresServer says, and stop it with the block. Raises NoPostgres with the reason where there is none."""
    # a path of a socket has at most 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="aos-pg-"))
    server = PostgresServer(folder, *settings, within=within, let_in=let_in)
    try:
        server.make()
        server.start()
        server.prepare()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
