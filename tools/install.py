"""Install the pinned packages into this interpreter's environment: ``python tools/install.py run|test``; ``browser`` for Chromium,
``anvil`` for the chain that tests run on, ``postgres`` for its database, ``hosts`` for what makes its hosts.

llama.cpp comes as source and compiles once, for this machine's own instruction set: about 4 minutes on 2 cores. pip says nothing
meanwhile, so the compiler's own count of files is shown as a progress bar.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILED = "llama_cpp_python"
PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
CHROMIUM = Path("/usr/bin/chromium")
APT = ["apt-get", "install", "--yes", "--no-install-recommends"]
POSTGRES = "postgresql-15"
HOSTS = {"iproute2": ("ip", "ss"), "util-linux": ("nsenter", "setpriv", "unshare")}
"""Debian's packages with the programs that make hosts of network namespaces."""
APT_SECONDS = 300
"""How long each of its steps may take."""
STEP = re.compile(r"\[(\d+)/(\d+)\]")


def pins(name: str) -> list[str]:
    """Return the ``package==version`` lines of requirements/NAME.txt, those it includes too."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    included = [pin for line in lines if line.startswith("-r ") for pin in pins(Path(line[3:]).stem)]
    return included + [line for line in lines if line and line[0] not in "#-"]


def steps(lines: Iterator[str]) -> Iterator[tuple[int, int]]:
    """Yield (files compiled, files in all) from what ninja or make prints; the larger of its several builds counts."""
    for line in lines:
        if match := STEP.search(line):
            yield int(match[1]), int(match[2])


def compile_llama(pin: str) -> None:
    """Build llama.cpp with a progress bar. On failure, show the end of what the compiler said."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # installed one step before

    count = TextColumn("{task.completed}/{task.total} files")
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn())
    usual = {
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 2),
        "CMAKE_ARGS": "-DLLAVA_BUILD=OFF",  # a quarter of the files are for images and sound, which no operator takes
    }
    environment = usual | os.environ
    said: list[str] = []
    with (
        Progress(*columns) as progress,
        subprocess.Popen(
            [*PIP, "--verbose", pin], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        ) as pip,
    ):
        task = progress.add_task("compiling llama.cpp", total=None)
        assert pip.stdout is not None

        def heard() -> Iterator[str]:
            for line in pip.stdout or ():
                said.append(line)
                del said[:-60]
                yield line

        for done, total in steps(heard()):
            progress.update(task, completed=done, total=total)
        code = pip.wait()
    if code:
        needs = "It needs a C and a C++ compiler; on Debian: apt-get install build-essential."
        sys.exit(f"{''.join(said)}\nllama.cpp did not compile. {needs}")


def browser() -> None:
    """Install Debian's Chromium unless it is there. Where that cannot be, say what to do: the tests of the page fail without it."""
    if CHROMIUM.exists():
        return
    print("installing Chromium, in which the status page is tested ...", flush=True)
    if not debian("chromium", CHROMIUM.exists):
        command = " ".join([*APT, "chromium"])
        print(f"{CHROMIUM} is missing. Without it the tests in tests/browser fail. On Debian, as root: {command}", flush=True)


def debian(package: str, there: Callable[[], bool]) -> bool:
    """Install a package of Debian's, as root and where there is apt-get. Returns whether it is ``there`` then."""
    if os.geteuid() == 0 and shutil.which(APT[0]):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = [*APT, package]
        with suppress(subprocess.TimeoutExpired):
            for command in (install, ["apt-get", "update"], install):  # a list of packages that is old or missing is got once
                subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, timeout=APT_SECONDS, check=False)
                if there():
                    return True
    return there()


def postgres() -> None:
    """Install Debian's PostgreSQL unless there is one. Where that cannot be, say what to do: its tests fail without it."""

    def there() -> bool:
        return any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb") is not None

    if there():
        return
    print("installing PostgreSQL, on which the stores are tested ...", flush=True)
    if not debian(POSTGRES, there):
        command = " ".join([*APT, POSTGRES])
        print(f"PostgreSQL is missing. Without it its tests in tests/ fail. On Debian, as root: {command}", flush=True)


def hosts() -> None:
    """Install what makes hosts of network namespaces unless it is there. Where that cannot be, say what to do: its tests fail."""
    for package, programs in HOSTS.items():

        def there(programs: tuple[str, ...] = programs) -> bool:
            return all(map(shutil.which, programs))

        if there():
            continue
        print(f"installing {package}, with which hosts are made that faults are tested on ...", flush=True)
        if not debian(package, there):
            command = " ".join([*APT, package])
            print(f"{', '.join(programs)} are missing. Without them tests/hosts fails. On Debian, as root: {command}", flush=True)


def anvil() -> None:
    """Fetch the development chain with npm unless it is there. Where that cannot be, say why: tests of contracts fail then."""
    from aos.testing.anvil_binary import NoAnvil, fetch  # the project was installed one step before

    try:
        fetch()
    except NoAnvil as error:
        print(f"{error} Without it the tests in tests/contracts and tests/chain fail.", flush=True)


def packages() -> None:
    """Install what requirements/NAME.txt pins, llama.cpp last, and the project itself."""
    wanted = pins(sys.argv[1])
    wheels = [pin for pin in wanted if not pin.startswith(COMPILED)]
    print(f"installing {len(wheels)} pinned packages ...", flush=True)
    subprocess.run([*PIP, "--quiet", *wheels], check=True)
    if find_spec("llama_cpp") is None:
        compile_llama(next(pin for pin in wanted if pin.startswith(COMPILED)))
    subprocess.run([*PIP, "--quiet", "--no-deps", "--editable", str(ROOT)], check=True)


def main() -> None:
    if sys.argv[1] == "browser":
        browser()
    elif sys.argv[1] == "anvil":
        anvil()
    elif sys.argv[1] == "postgres":
        postgres()
    elif sys.argv[1] == "hosts":
        hosts()
    else:
        packages()


if __name__ == "__main__":
    main()
