"""Which wallet pays for an account on the chain: its owner and the wallet say so, or the administrator."""

from __future__ import annotations

import time

import pytest

from aos.v1 import broker_pb2 as pb
from aos.verification.requests import HALF_ORDER
from aos.verification.wallets import INFERENCE, Contract, payer_statement
from tests.chain.shop import OTHER, PAYER, a_key, fund, left
from tests.refusals import refused

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def word(shop, *, account: str = "accounts/p", signer: int = OTHER, chain_id: int = 0, seconds: int = 600) -> pb.BindPayerRequest:
    """The OTHER wallet's word that it pays for ``accounts/p``; what is given differs from what is right."""
    site, wallet, expiry = shop.settler.site, a_key(OTHER).address, int(time.time()) + seconds
    contract = Contract(INFERENCE, chain_id or site.chain_id, site.inference)
    said = payer_statement(contract, wallet=wallet, account=account, expiry=expiry)
    return pb.BindPayerRequest(account="accounts/p", wallet=wallet, expiry=expiry, signature=a_key(signer).sign(said))


async def chain(shop) -> pb.ChainState:
    return await shop.broker.GetChain(pb.GetChainRequest(account="accounts/p"))


class TestBinding:
    async def test_the_wallet_pays_from_then_on(self, deployment, shop):
        """What a project's owner and a wallet both say goes before the administrator's word; taken back, that counts again."""
        await fund(deployment, OTHER, 500)
        assert ((await chain(shop)).wallet, (await chain(shop)).bound) == (a_key(PAYER).address, False)
        found = await shop.broker.BindPayer(word(shop))
        assert (found.wallet, found.bound) == (a_key(OTHER).address.lower(), True)
        await shop.pay(10)
        await shop.settlement.round()
        assert (await left(deployment, PAYER), await left(deployment, OTHER)) == (1000, 490)
        found = await shop.broker.UnbindPayer(pb.UnbindPayerRequest(account="accounts/p"))
        assert (found.wallet, found.bound) == (a_key(PAYER).address, False)
        await shop.pay(20, first=2)
        await shop.settlement.round()
        assert (await left(deployment, PAYER), await left(deployment, OTHER)) == (980, 490)

    async def test_what_was_sent_stays_where_it_is(self, deployment, shop):
        """A batch that is under way is paid by the wallet that it names."""
        await shop.pay(10)
        batch = await shop.settlement._next(a_key(3).address.lower())
        await shop.broker.BindPayer(word(shop))
        await shop.settlement._attempt(batch)
        assert await left(deployment, PAYER) == 990

    @pytest.mark.parametrize(
        "wrong", [{"account": "accounts/q"}, {"signer": PAYER}, {"chain_id": 1}], ids=["account", "wallet", "chain"]
    )
    async def test_the_wallet_s_word_for_something_else(self, shop, wrong):
        """It is good for this account, by this wallet, on this chain."""
        with refused("REQUEST_SIGNATURE"):
            await shop.broker.BindPayer(word(shop, **wrong))
        assert not (await chain(shop)).bound

    @pytest.mark.parametrize("seconds", [-1, 86_400 + 60])
    async def test_a_word_of_another_time(self, shop, seconds):
        """It ends, and within a day."""
        with refused("REQUEST_EXPIRED"):
            await shop.broker.BindPayer(word(shop, seconds=seconds))

    async def test_the_other_form_of_a_signature(self, shop):
        """Anyone could compute it, so it is refused."""
        request = word(shop)
        r, s, v = request.signature[:32], int.from_bytes(request.signature[32:64], "big"), request.signature[64]
        assert s <= HALF_ORDER
        request.signature = r + (N - s).to_bytes(32, "big") + bytes([55 - v])
        with refused("SIGNATURE_HIGH_S"):
            await shop.broker.BindPayer(request)

    async def test_no_wallet_at_all(self, shop):
        """An address that is none, a signature that is none, and an account without a ledger are refused."""
        request = word(shop)
        with refused("INVALID_FIELD"):
            await shop.broker.BindPayer(pb.BindPayerRequest(account="accounts/p", wallet="0x1", expiry=request.expiry))
        with refused("REQUEST_SIGNATURE"):
            request.signature = b"x"
            await shop.broker.BindPayer(request)
        other = word(shop, account="accounts/nobody")
        other.account = "accounts/nobody"
        with refused("LEDGER_NOT_FOUND"):
            await shop.broker.BindPayer(other)

    async def test_without_a_chain(self, aos):
        """There is nothing to bind to."""
        with refused("NO_CHAIN"):
            await aos.client.broker.BindPayer(pb.BindPayerRequest(wallet="0x" + "1" * 40))
        with refused("NO_CHAIN"):
            await aos.client.broker.UnbindPayer(pb.UnbindPayerRequest())
