"""The scripts that print our figures run, each with as little as it can be asked for; what they print then means nothing."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

SECONDS = 240

SCRIPTS = {
    "streams": ("--streams 3 --seconds 1", r"ends: \{'whole': 3\}"),
    "dispatch": ("--jobs 8 --callers 2 --rounds 1 --only aos,\N{NO-BREAK SPACE}SQLite", r"aos, SQLite +\d"),
    "job_cost": ("--way grpc chat --at 1 --jobs 3", r"chat +\d"),
    "stored": ("--sizes 50 --calls 3", r"\b50\b"),
    "gateway": ("--at 1 --rounds 1 --requests 10", r"REST"),
}


@pytest.mark.parametrize("script", SCRIPTS)
async def test_prints_its_figures(script):
    """It ends well, with a table."""
    arguments, shown = SCRIPTS[script]
    command = [one.replace("\N{NO-BREAK SPACE}", " ") for one in arguments.split(" ")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.{script}", *command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert re.search(shown, out.decode()), out.decode()
