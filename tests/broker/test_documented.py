"""What docs/reference/ledger.md lists is what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from aos.broker.accounts import Reason
from aos.broker.settings import BrokerSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "ledger.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the section's table, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")]


class TestLedgerPage:
    def test_every_limit_stands_there_with_its_default(self):
        """No setting is undocumented, none outlives its row, and each default is the one that holds."""
        listed = {name: cells[1] for cells in rows("Limits") for name in re.findall(r"`(\w+)`", cells[0])}
        said = {one.name: one.default for one in fields(BrokerSettings)}
        assert listed.keys() == said.keys()
        for name, text in listed.items():
            value = 10 ** int(text.removeprefix("10^")) if "^" in text else float(text)
            assert value == said[name], name

    def test_every_reason_stands_there(self):
        """The journal knows these reasons, and no other."""
        assert {cells[0].strip("`") for cells in rows("Journal")} == {one.value for one in Reason}
