"""The code in the documents runs as it stands."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
