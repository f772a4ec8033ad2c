"""Compile the contracts to aos/chain/artifacts: ``python -m tools.contracts build|check``. Needs the test requirements."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "aos" / "chain" / "contracts"
ARTIFACTS = ROOT / "aos" / "chain" / "artifacts"
CONTRACTS = ("FineTuningServing", "InferenceServing", "Ledger")
"""Those that are deployed; the other sources are modules of these."""
COMPILE = [sys.executable, "-m", "vyper.cli.vyper_compile", "--no-bytecode-metadata", "-f", "abi,bytecode"]
COMPILE_SECONDS = 300


def compile_contract(name: str) -> dict[str, Any]:
    """Return the artifact: the compiler's version, ABI and creation code. Raises CalledProcessError, its stderr saying why."""
    done = subprocess.run(
        [*COMPILE, str(SOURCES / f"{name}.vy")], capture_output=True, text=True, check=True, timeout=COMPILE_SECONDS, cwd=SOURCES
    )
    abi, bytecode = done.stdout.split("\n")[:2]
    return {"contract": name, "compiler": f"vyper {version('vyper')}", "abi": json.loads(abi), "bytecode": bytecode}


def written(artifact: dict[str, Any]) -> str:
    """Return the artifact as it stands in its file."""
    entries = ",\n".join(f"  {json.dumps(entry, sort_keys=True)}" for entry in artifact["abi"])
    rest = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in artifact.items() if key != "abi")
    return f'{{\n{rest},\n "abi": [\n{entries}\n ]\n}}\n'


def main() -> None:
    for name in CONTRACTS:
        file, text = ARTIFACTS / f"{name}.json", written(compile_contract(name))
        if sys.argv[1] == "build":
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"{file.relative_to(ROOT)} is not what its sources make: python -m tools.contracts build")


if __name__ == "__main__":
    main()
