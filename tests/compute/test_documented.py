"""The program in docs/how-to/inference-client.md runs as it stands; the reference names every header and failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aos import request_errors
from aos.verification.requests import HEADERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, REFERENCE = DOCS / "how-to" / "inference-client.md", DOCS / "reference" / "inference.md"


class TestHowTo:
    async def test_the_program_runs(self, aos_real, capsys, tmp_path, monkeypatch):
        """Given this network's address and token, it prints an answer of the bundled model, verified."""
        (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        monkeypatch.chdir(tmp_path)
        scope = {"TOKEN": aos_real.token}
        here = program.replace("127.0.0.1:8080", aos_real.address).replace("asyncio.run(main())", "")
        exec(compile(here, str(PAGE), "exec"), scope)
        await scope["main"]()
        *answer, found = capsys.readouterr().out.splitlines()
        assert len("".join(answer)) > 10
        assert found.startswith("verified - ")
        assert (tmp_path / "wallet.key").stat().st_mode & 0o777 == 0o600


class TestReference:
    def test_every_header_stands_there(self):
        """None is missing from the table, and no other is in it."""
        section = REFERENCE.read_text().split("\n## Headers\n")[1].split("\n## ")[0]
        assert tuple(re.findall(r"^\| `([A-Za-z-]+)` \|", section, re.MULTILINE)) == HEADERS

    @pytest.mark.parametrize("kind", [one for one in vars(request_errors).values() if getattr(one, "reason", "")])
    def test_every_failure_stands_there(self, kind):
        """Each failure of a signed request has its row."""
        assert f"| `{kind.reason.lower()}` |" in REFERENCE.read_text()
