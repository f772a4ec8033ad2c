"""The command as a user types it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

import pytest

SECONDS = 60


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


async def run_aos(*arguments: str, given: str = "", environment: dict[str, str] | None = None) -> Result:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aos", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"COLUMNS": "200"} | (environment or {}),
    )
    out, err = await asyncio.wait_for(process.communicate(given.encode()), SECONDS)
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


@pytest.fixture
def cli():
    """Run `aos` with these arguments."""
    return run_aos


@pytest.fixture
def on(aos, tmp_path):
    """Run `aos` against this test's network."""
    options = ("--data", str(tmp_path), "--connect", aos.address, "--token", aos.token)

    async def run(*arguments: str, given: str = "", columns: int = 200) -> Result:
        return await run_aos(*options, *arguments, given=given, environment={"COLUMNS": str(columns)})

    return run
