"""Wallets that sign for an account, and the nonces that they used."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aos.broker.requests_servicer import WALLETS
from aos.client import told
from aos.errors import InvalidField, LedgerLimit, LedgerNotFound, PermissionDenied, RequestReplayed, WalletNotAuthorized
from aos.rpc.channel import channel
from aos.store.broker_wallets import SqlWalletStore
from aos.store.opening import opened
from aos.v1.broker_pb2 import DeleteLedgerRequest
from aos.v1.requests_pb2 import AuthorizeWalletRequest, ListWalletsRequest, RevokeWalletRequest, SignedRequest
from aos.v1.requests_pb2_grpc import RequestsStub

ACCOUNT, WALLET = "accounts/p", "0x" + 40 * "a"


class TestAuthorizing:
    async def test_an_account_says_who_signs(self, aos):
        """Again changes nothing, in whichever case the address is written; revoked it is gone."""
        async with channel(aos.address, aos.token) as opened:
            requests = RequestsStub(opened)
            for wallet in (WALLET, WALLET.upper().replace("0X", "0x")):
                found = await requests.AuthorizeWallet(AuthorizeWalletRequest(wallet=wallet))
                assert (found.account, list(found.wallets)) == ("accounts/demo", [WALLET])
            assert list((await requests.ListWallets(ListWalletsRequest())).wallets) == [WALLET]
            assert not (await requests.RevokeWallet(RevokeWalletRequest(wallet=WALLET))).wallets

    async def test_only_for_ones_own(self, aos):
        """A project speaks for no other, and takes no request itself: that is the network's."""
        async with channel(aos.address, aos.token) as opened:
            requests = RequestsStub(opened)
            for call in (
                requests.AuthorizeWallet(AuthorizeWalletRequest(account="accounts/other", wallet=WALLET)),
                requests.ListWallets(ListWalletsRequest(account="accounts/other")),
                requests.AdmitRequest(SignedRequest()),
            ):
                with pytest.raises(PermissionDenied), told():
                    await call
            for wallet in ("", "0x" + 40 * "0", "x"):
                with pytest.raises(InvalidField, match="wallet"), told():
                    await requests.AuthorizeWallet(AuthorizeWalletRequest(wallet=wallet))

    async def test_there_is_something_to_spend(self, aos):
        """An account without a ledger has no wallets."""
        await aos.broker.DeleteLedger(DeleteLedgerRequest())
        async with channel(aos.address, aos.token) as opened:
            with pytest.raises(LedgerNotFound), told():
                await RequestsStub(opened).AuthorizeWallet(AuthorizeWalletRequest(wallet=WALLET))


class TestNonces:
    async def test_each_is_good_once(self, database_address):
        """Of a thousand uses at once one passes, also after the file was closed."""
        async with opened(database_address) as database:
            await database.migrate("wallets")
            store = SqlWalletStore(database)
            await store.authorize(ACCOUNT, WALLET, most=1)
            uses = [store.use(ACCOUNT, WALLET, 7, expiry=100, now=1) for _ in range(1000)]
            found = await asyncio.gather(*uses, return_exceptions=True)
            assert [one for one in found if not isinstance(one, RequestReplayed)] == [None]
        async with opened(database_address) as database:
            await database.migrate("wallets")
            with pytest.raises(RequestReplayed):
                await SqlWalletStore(database).use(ACCOUNT, WALLET, 7, expiry=100, now=1)

    async def test_a_refusal_uses_none(self, database_address):
        """A wallet that is not the account's leaves no nonce behind, and its account's limit holds."""
        async with opened(database_address) as database:
            await database.migrate("wallets")
            store = SqlWalletStore(database)
            with pytest.raises(WalletNotAuthorized):
                await store.use(ACCOUNT, WALLET, 7, expiry=100, now=1)
            await store.authorize(ACCOUNT, WALLET, most=1)
            with pytest.raises(LedgerLimit):
                await store.authorize(ACCOUNT, "0x" + 40 * "b", most=1)
            assert await store.wallets(ACCOUNT) == [WALLET]
            await store.use(ACCOUNT, WALLET, 7, expiry=100, now=1)
            assert WALLETS > 1

    async def test_they_do_not_pile_up(self, database_address):
        """Those of requests that have expired go, as new ones come."""
        async with opened(database_address) as database:
            await database.migrate("wallets")
            store = SqlWalletStore(database)
            await store.authorize(ACCOUNT, WALLET, most=1)
            for nonce in range(50):
                await store.use(ACCOUNT, WALLET, nonce, expiry=100, now=1)
            later = 100 + int(timedelta(days=1).total_seconds())
            await store.use(ACCOUNT, WALLET, 99, expiry=later + 1, now=later)
            # past its expiry a request is refused before its nonce is looked at
            await store.use(ACCOUNT, WALLET, 0, expiry=later + 1, now=later)
            count = await database.transact(lambda tx: tx.execute("SELECT COUNT(*) FROM broker_nonces").fetchone()[0])
            assert count == 2
