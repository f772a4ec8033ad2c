"""A dispatcher's own event count, which never goes back, and all that it has heard of the others'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from threading import Lock
from typing import Final

from aos.store.sql import Transaction
from aos.store.sqlite import SqliteTransaction
from aos.verification.clock import merge

BLOCK: Final = 256
"""How many counts a process takes from PostgreSQL at a time; those that it does not use are never used. The sequence's step."""


class NodeClock:
    """Reads and keeps the clock of one node, in the transactions that count its events.

    SQLite keeps one row, since transactions come one behind the other; it is read once, and written once for all that share a
    commit. On PostgreSQL they run side by side, and would wait for each
    other at that row until each is on disk: counts are taken from a sequence, many at once, and each connection has a row of its
    own, which together are the clock. There, what was heard in a transaction that was undone counts as heard: it was.
    """

    def __init__(self, node: str) -> None:
        self._node, self._key = node, ("node_clock", node)
        self._lock = Lock()
        self._next = self._end = 0
        self._heard: Mapping[str, int] | None = None

    def count(self, tx: Transaction) -> int:
        """Return how many events there were; call it when the job is locked, so that later events of the job count higher."""
        if isinstance(tx, SqliteTransaction):
            if self._key not in tx.remembered:
                tx.remembered[self._key] = self._kept(tx) or self._counted(tx)
            return tx.remembered[self._key].get(self._node, 0)
        with self._lock:
            if self._next == self._end:
                self._next = tx.execute("SELECT nextval('node_counts')").fetchone()[0]
                self._end = self._next + BLOCK
            self._next += 1
            return self._next - 1

    def known(self, tx: Transaction) -> Mapping[str, int]:
        """Return all that the node has heard, over all jobs and restarts; call it behind ``count``."""
        if isinstance(tx, SqliteTransaction):
            return tx.remembered[self._key]
        with self._lock:
            if self._heard is None:
                self._heard = self._others(self._kept(tx))
            return self._heard

    def ticked(self, tx: Transaction, clock: Mapping[str, int]) -> None:
        """Keep the clock of an event that was counted: it holds all that was known."""
        if isinstance(tx, SqliteTransaction):
            tx.remembered[self._key] = clock
            tx.last[self._key] = partial(self._write, tx, clock, key="node")
            return
        with self._lock:
            self._heard = merge(self._heard or {}, self._others(clock))
        self._write(tx, clock, key="node, slot")

    def _write(self, tx: Transaction, clock: Mapping[str, int], *, key: str) -> None:
        sql = f"""INSERT INTO node_clocks (node, clock) VALUES (?, ?)
            ON CONFLICT ({key}) DO UPDATE SET clock = excluded.clock"""  # noqa: S608  # constants
        tx.execute(sql, [self._node, json.dumps(dict(clock))])

    def _kept(self, tx: Transaction) -> Mapping[str, int]:
        rows = tx.execute("SELECT clock FROM node_clocks WHERE node = ?", [self._node])
        return merge(*(json.loads(clock) for (clock,) in rows))

    def _counted(self, tx: Transaction) -> Mapping[str, int]:
        """Return what a dispatcher counted before there were clocks: its own events only."""
        row = tx.execute("SELECT count FROM node_counts WHERE node = ?", [self._node]).fetchone()
        return {} if row is None else {self._node: row[0]}

    def _others(self, clock: Mapping[str, int]) -> Mapping[str, int]:
        # its own count is another transaction's that runs beside this one
        return {node: count for node, count in clock.items() if node != self._node}
