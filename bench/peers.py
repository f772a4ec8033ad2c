"""The peers to be measured against, made from the very sources that the installed llama-cpp-python was made from.

    python -m bench.peers [--folder build/peers]

builds llama.cpp's own `llama-server` and `llama-batched-bench` (ten minutes on 2 cores, once; needs cmake and a compiler), and puts
what `llama_cpp.server` needs beside them. The other benches do so by themselves when they need it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("build/peers")
TARGETS = ("llama-server", "llama-batched-bench")
OPTIONS = ("LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_APP", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL")
"""What neither target needs."""
PYTHON_PARTS = ("fastapi", "uvicorn", "sse-starlette", "starlette-context", "pydantic-settings")
READY_SECONDS = 120.0


def binary(name: str, folder: Path = FOLDER) -> Path:
    """Return one of TARGETS, built if it is not there."""
    path = folder / "build" / "bin" / name
    if not path.exists():
        build(folder)
    return path


def build(folder: Path) -> None:
    """Fetch the sources of the installed llama-cpp-python from the package registry, and build TARGETS."""
    release = version("llama-cpp-python")
    sources = folder / f"llama_cpp_python-{release}"
    if not sources.exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = ("--no-deps", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={release}", "-d", str(folder))
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted)
        with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
    off = [f"-D{option}=OFF" for option in OPTIONS]
    _run(
        "cmake",
        "-S",
        sources / "vendor" / "llama.cpp",
        "-B",
        folder / "build",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DGGML_NATIVE=ON",
        *off,
    )
    _run("cmake", "--build", folder / "build", "-j", str(os.cpu_count()), "--target", *TARGETS)


def python_parts(folder: Path = FOLDER) -> Path:
    """Return a folder with what `llama_cpp.server` imports besides what the project has."""
    path = folder / "python"
    if not path.exists():
        _run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", path, *PYTHON_PARTS)
    return path


@asynccontextmanager
async def llama_server(model: Path, *, slots: int, context: int, threads: int) -> AsyncGenerator[int]:
    """Run llama-server with that many slots of ``context`` tokens each; yield its port."""
    port = _free_port()
    command = [binary("llama-server"), "-m", model, "-np", slots, "-c", slots * context, "-t", threads, "-tb", threads, "-fa", "on",
               "--port", port, "--log-disable"]  # fmt: skip
    async with _serving(command, port):
        yield port


@asynccontextmanager
async def llama_cpp_server(model: Path, *, context: int, threads: int) -> AsyncGenerator[int]:
    """Run `python -m llama_cpp.server`; yield its port. It computes one request at a time."""
    port = _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--n_ctx", context, "--n_threads", threads,
               "--n_threads_batch", threads, "--interrupt_requests", "false", "--verbose", "false", "--port", port]  # fmt: skip
    async with _serving(command, port, {"PYTHONPATH": str(python_parts())}):
        yield port


@asynccontextmanager
async def _serving(command: Sequence[object], port: int, environment: dict[str, str] | None = None) -> AsyncGenerator[None]:
    words = [str(word) for word in command]
    quiet = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(*words, env={**os.environ, **(environment or {})}, stdout=quiet, stderr=quiet)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _answers(port):
                if child.returncode is not None:
                    raise SystemExit(f"{words[0]} ended at once: {' '.join(words)}")
                await asyncio.sleep(0.1)
        yield
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in status


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    build(given.folder)
    python_parts(given.folder)
