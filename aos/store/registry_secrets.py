"""What challenges are made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aos.registry.challenges import Secret
from aos.store.sql import SqlDatabase, Transaction


class SqlSecretStore:
    """A SecretStore in a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def secrets(self, decide: Callable[[Sequence[Secret]], Sequence[Secret]]) -> Sequence[Secret]:
        """Show ``decide`` those that there are, keep what it returns, and return that."""

        def work(tx: Transaction) -> Sequence[Secret]:
            tx.advisory("registry secrets")  # so that two registries do not both begin one
            before = [Secret(made, value) for made, value in tx.execute("SELECT made, value FROM registry_secrets")]
            after = decide(before)
            for one in set(before) - set(after):
                tx.execute("DELETE FROM registry_secrets WHERE made = ? AND value = ?", [one.made, one.value])
            for one in set(after) - set(before):
                tx.execute("INSERT INTO registry_secrets (made, value) VALUES (?, ?)", [one.made, one.value])
            return after

        return await self._database.transact(work)
