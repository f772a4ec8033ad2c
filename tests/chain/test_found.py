"""Contracts that are on a chain already."""

from __future__ import annotations

import json

import pytest

from aos.broker.chain import Site
from aos.chain.found import first_used, found
from aos.errors import InvalidField
from aos.settings import NetworkSettings, StartError
from aos.testing.anvil import KEYS
from aos.up_chain import KEY, running_chain


class TestFound:
    async def test_by_the_ledger_s_address(self, deployment):
        """It leads to the others, in any case of its digits."""
        assert await found(deployment.chain, deployment.addresses.ledger.lower()) == deployment.addresses

    async def test_by_a_file(self, deployment, tmp_path):
        """A file that was written for them, or names the ledger alone."""
        file = tmp_path / "contracts.json"
        await first_used(deployment.chain, deployment.addresses, file, 7)
        assert await found(deployment.chain, str(file)) == deployment.addresses
        file.write_text(json.dumps({"ledger": deployment.addresses.ledger}))
        assert await found(deployment.chain, str(file)) == deployment.addresses

    @pytest.mark.parametrize("named", ["0x" + "12" * 20, "inference", "fine_tuning"])
    async def test_what_is_no_ledger(self, deployment, named):
        """An address without a contract, or of another one, is refused before anything is sent."""
        with pytest.raises(InvalidField, match="no ledger of ours"):
            await found(deployment.chain, getattr(deployment.addresses, named, named))

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ({"chain_id": 1}, "are on chain 1"),
            ({"inference": "0x" + "1" * 40}, "the ledger's inference is"),
            ({"ledger": "0x1"}, "hex"),
        ],
    )
    async def test_a_file_that_says_otherwise(self, deployment, tmp_path, said, why):
        """What it says is compared with what is there."""
        file = tmp_path / "contracts.json"
        file.write_text(json.dumps({"ledger": deployment.addresses.ledger} | said))
        with pytest.raises(InvalidField, match=why):
            await found(deployment.chain, str(file))

    @pytest.mark.parametrize("text", ["", "[]", "{}", "x"])
    async def test_a_file_that_names_none(self, deployment, tmp_path, text):
        """It is refused by its name; so is one that is not there."""
        file = tmp_path / "contracts.json"
        file.write_text(text)
        with pytest.raises(InvalidField, match=r"contracts\.json"):
            await found(deployment.chain, str(file))
        with pytest.raises(InvalidField, match=r"gone\.json"):
            await found(deployment.chain, str(tmp_path / "gone.json"))


@pytest.fixture
def as_settler(monkeypatch):
    """Transactions are paid for by a key that has money."""
    monkeypatch.setenv(KEY, KEYS[8])


async def begun(anvil, data, **options) -> Site:
    """Where the contracts are, of a network that uses the node."""
    settings = NetworkSettings(data=data, chain=True, chain_rpc=anvil.url, **options)
    async with running_chain(settings, data, []) as side:
        return side.site


@pytest.mark.usefixtures("as_settler")
class TestNode:
    async def test_deploys_only_when_asked(self, anvil, deployment, tmp_path):
        """Without a word where contracts are, nothing is sent; with one, they are deployed once, and found again without it."""
        with pytest.raises(StartError, match="chain-rpc needs contracts"):
            await begun(anvil, tmp_path)
        made = await begun(anvil, tmp_path, chain_deploy=True)
        height = await deployment.chain.height()
        assert await begun(anvil, tmp_path) == await begun(anvil, tmp_path, chain_deploy=True) == made
        assert await deployment.chain.height() == height

    async def test_uses_those_that_are_there(self, anvil, deployment, tmp_path):
        """By an address or a file: nothing is deployed, and events are read from now on only."""
        height = await deployment.chain.height()
        site = await begun(anvil, tmp_path, chain_contracts=deployment.addresses.ledger)
        assert (site.ledger, site.inference) == (deployment.addresses.ledger, deployment.addresses.inference)
        file = tmp_path / "chain" / f"contracts-{deployment.chain.chain_id}.json"
        assert json.loads(file.read_text())["block"] == height
        await deployment.rpc("anvil_mine", 5)
        assert await begun(anvil, tmp_path) == await begun(anvil, tmp_path / "other", chain_contracts=str(file)) == site
        assert json.loads(file.read_text())["block"] == height

    @pytest.mark.parametrize(
        "options",
        [{"chain_deploy": True}, {"chain_contracts": "x"}, {"chain_rpc": "http://x", "chain_deploy": True, "chain_contracts": "x"}],
    )
    def test_settings_that_cannot_be(self, options):
        """Each names the option."""
        with pytest.raises(ValueError, match="chain-contracts"):
            NetworkSettings(chain=True, **options)
