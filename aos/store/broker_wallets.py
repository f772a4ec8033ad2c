"""Wallets and their nonces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlite_utils import Database, Migrations

from aos.errors import LedgerLimit, RequestReplayed, WalletNotAuthorized
from aos.store.sql import SqlDatabase, Transaction

MIGRATIONS: Final = Migrations("wallets")
_FORGOTTEN: Final = 64
"""Nonces past their expiry that one use clears away at most: more than come in one."""


@MIGRATIONS(name="0001_wallets")
def _wallets(db: Database) -> None:
    for sql in (
        """CREATE TABLE broker_wallets (
            account TEXT NOT NULL,
            wallet TEXT NOT NULL,
            PRIMARY KEY (account, wallet)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE broker_nonces (
            wallet TEXT NOT NULL,
            nonce INTEGER NOT NULL,
            expiry INTEGER NOT NULL,
            PRIMARY KEY (wallet, nonce)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX broker_nonces_expiry ON broker_nonces (expiry)",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_requests")
def _requests(db: Database) -> None:
    for sql in (
        # job is empty until there is one
        """CREATE TABLE broker_requests (
            wallet TEXT NOT NULL,
            nonce INTEGER NOT NULL,
            job TEXT NOT NULL,
            expiry INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (wallet, nonce)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX broker_requests_job ON broker_requests (job)",
        "CREATE INDEX broker_requests_expiry ON broker_requests (expiry)",
    ):
        db.execute(sql)


class SqlWalletStore:
    """A WalletStore in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def authorize(self, account: str, wallet: str, *, most: int) -> Sequence[str]:
        """Keep a wallet of an account, and return all of them. Raises LedgerLimit beyond ``most``."""

        def work(tx: Transaction) -> list[str]:
            tx.advisory(f"broker wallets {account}")  # so that no two make one too many
            tx.execute("INSERT INTO broker_wallets VALUES (?, ?) ON CONFLICT DO NOTHING", [account, wallet])
            found = _found(tx, account)
            if len(found) > most:
                raise LedgerLimit(account, "wallets", most)
            return found

        return await self._database.transact(work)

    async def revoke(self, account: str, wallet: str) -> Sequence[str]:
        """Forget a wallet of an account, and return those that are left."""

        def work(tx: Transaction) -> list[str]:
            tx.execute("DELETE FROM broker_wallets WHERE account = ? AND wallet = ?", [account, wallet])
            return _found(tx, account)

        return await self._database.transact(work)

    async def wallets(self, account: str) -> Sequence[str]:
        """Return an account's wallets, in order."""
        return await self._database.transact(lambda tx: _found(tx, account))

    async def use(self, account: str, wallet: str, nonce: int, *, expiry: int, now: int, body: bytes = b"") -> None:
        """Keep that the wallet used the nonce. Raises WalletNotAuthorized, and RequestReplayed if it did before."""

        def work(tx: Transaction) -> None:
            if wallet not in _found(tx, account):
                raise WalletNotAuthorized(account, wallet)
            # what is past its expiry is refused for that alone
            old = f"SELECT wallet, nonce FROM broker_nonces WHERE expiry < ? LIMIT ?{tx.skip}"  # noqa: S608  # fixed words
            sql = f"DELETE FROM broker_nonces WHERE (wallet, nonce) IN ({old})"  # noqa: S608  # as well
            tx.execute(sql, [now, _FORGOTTEN])
            new = tx.execute("INSERT INTO broker_nonces VALUES (?, ?, ?) ON CONFLICT DO NOTHING", [wallet, nonce, expiry])
            if not new.rowcount:
                raise RequestReplayed(wallet, nonce)
            if body:
                # a wallet may use a nonce again once what it came with has expired
                sql = """INSERT INTO broker_requests (wallet, nonce, job, expiry, body) VALUES (?, ?, '', ?, ?)
                    ON CONFLICT (wallet, nonce) DO NOTHING"""
                tx.execute(sql, [wallet, nonce, expiry, body])

        await self._database.transact(work)

    async def ran(self, wallet: str, nonce: int, job: str) -> None:
        """Keep which job a kept request became."""
        sql = "UPDATE broker_requests SET job = ? WHERE wallet = ? AND nonce = ? AND job = ''"
        await self._database.transact(lambda tx: tx.execute(sql, [job, wallet, nonce]) and None)


def _found(tx: Transaction, account: str) -> list[str]:
    rows = tx.execute("SELECT wallet FROM broker_wallets WHERE account = ? ORDER BY wallet", [account]).fetchall()
    return [row[0] for row in rows]
