"""The code in the documents runs as it stands."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "how-to" / "test-kit.md"


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def documented_tests() -> dict[str, str]:
    """The test functions on the page, by name."""
    found = {}
    for block in blocks(PAGE):
        for node in ast.parse(block).body:
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name] = block
    return found


class TestTestKitPage:
    @pytest.mark.parametrize("name", sorted(documented_tests()))
    async def test_example_tests_pass(self, aos, name):
        """Each example test on the page passes against the kit."""
        scope: dict[str, object] = {}
        exec(compile(documented_tests()[name], str(PAGE), "exec"), scope)
        test = scope[name]
        assert inspect.iscoroutinefunction(test)
        await test(aos)

    async def test_the_script_runs(self, capsys):
        """The page's program without pytest prints the answer and an address."""
        (script,) = [block for block in blocks(PAGE) if "asyncio.run(main())" in block]
        scope: dict[str, object] = {}
        exec(compile(script.replace("asyncio.run(main())", ""), str(PAGE), "exec"), scope)
        await scope["main"]()
        assert capsys.readouterr().out.startswith("Hello. http://127.0.0.1:")


class TestReadme:
    @pytest.mark.parametrize("block", [block for block in blocks(README) if "TOKEN" in block])
    async def test_clients_work_as_written(self, aos_real, block, capsys):
        """Each client on the first page, given this network's address, prints an answer of the bundled model."""
        here = block.replace("127.0.0.1:8080", aos_real.address)
        # in a thread: these are programs of their own, and the network is served on this loop
        await asyncio.to_thread(exec, compile(here, str(README), "exec"), {"TOKEN": aos_real.token})

        assert len(capsys.readouterr().out) > 20
