"""Generate, lint and compare the protobuf code: ``python -m tools.protos generate|check``."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import google.api
import grpc_tools

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGES = ("aos/v1", "gateway/v1")
WHEEL = Path(next(iter(google.api.__path__))).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
RELEASED = PROTOS / "released.binpb"


def generate(into: Path) -> None:
    """Write the stubs of every package below ``into``, in the places where they are committed."""
    files = sorted(path for package in PACKAGES for path in (PROTOS / package).glob("*.proto"))
    builtin = Path(next(iter(grpc_tools.__path__))) / "_proto"
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc",
            f"-I{PROTOS}", f"-I{WHEEL.parent}", f"-I{builtin}",
            f"--python_out={into}", f"--pyi_out={into}", f"--grpc_python_out={into}", f"--mypy_grpc_out={into}",
            *map(str, files),
        ],
        check=True,
        env=os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}"},  # protoc finds its plugins there
    )  # fmt: skip
    for package in PACKAGES:
        (into / package / "__init__.py").write_text(f'"""Generated from protos/{package} by tools/protos.py; do not edit."""\n')


def differences() -> list[str]:
    """Name every generated file that is not what the protos give."""
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        wanted = {path.relative_to(fresh) for path in fresh.rglob("*.py*") if path.is_file()}
        there = {path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).glob("*.py*")}
        return sorted(
            str(path)
            for path in wanted | there
            if not (path in wanted and path in there and filecmp.cmp(fresh / path, ROOT / path, shallow=False))
        )


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run buf on the protos, with the googleapis wheel linked in where buf.yaml expects it."""
    link = ROOT / "third_party" / "google"
    link.parent.mkdir(exist_ok=True)
    if link.resolve() != WHEEL.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(WHEEL, target_is_directory=True)
    return subprocess.run([SCRIPTS / "buf", *arguments], cwd=ROOT, text=True, capture_output=True, check=False)


def breaking() -> subprocess.CompletedProcess[str]:
    """Compare with the last released API, kept as an image in ``protos/released.binpb``."""
    return buf("breaking", "protos", "--against", str(RELEASED), "--exclude-imports")


def release() -> None:
    """Make the API as it stands the one that later ones must not break."""
    result = buf("build", "protos", "-o", str(RELEASED))
    if result.returncode:
        sys.exit(result.stderr)


def main() -> None:
    match sys.argv[1:]:
        case ["generate"]:
            for package in PACKAGES:
                shutil.rmtree(ROOT / package, ignore_errors=True)
            generate(ROOT)
        case ["release"]:
            release()
        case ["check"]:
            results = [buf("lint"), buf("format", "--diff", "--exit-code", "protos"), breaking()]
            failed = [result.stdout + result.stderr for result in results if result.returncode] + differences()
            sys.exit("\n".join(failed) or None)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
