"""The broker's parts put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aos.broker.accounts import Movement
from aos.broker.chain import ChainSettings
from aos.broker.chain_calls import OnChain
from aos.broker.chain_duties import ChainDuties
from aos.broker.chain_metrics import ChainMetrics, ChainPart
from aos.broker.chain_settlement import ChainSettlement
from aos.broker.chain_store import DutyChain
from aos.broker.chain_turns import ChainTurns
from aos.broker.metrics import BrokerMetrics
from aos.broker.requests_servicer import RequestsServicer
from aos.broker.servicer import BrokerServicer
from aos.broker.settings import BrokerSettings
from aos.broker.settlement_calls import BATCH
from aos.clock import Clock
from aos.metrics import CollectorRegistry
from aos.store.beside import Beside
from aos.store.broker import SqlBrokerStore
from aos.store.broker_answers import SqlAnswerStore
from aos.store.broker_chain import SqlChainStore
from aos.store.broker_duties import SqlDutyStore
from aos.store.broker_ledger import SqlLedgerStore
from aos.store.broker_wallets import SqlWalletStore
from aos.store.sql import SqlDatabase
from aos.store.sqlite import SqliteFile
from aos.verification.requests import EMBEDDED
from aos.verification.wallets import Contract

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerNode:
    """A running broker."""

    servicer: BrokerServicer
    requests: RequestsServicer
    beside: Beside | None
    """For a dispatcher of this process that keeps its jobs in the same file; None: it asks ``servicer``."""


@asynccontextmanager
async def running_broker(
    database: SqlDatabase,
    *,
    settings: BrokerSettings | None = None,
    clock: Clock,
    new_id: Callable[[], str],
    metrics: CollectorRegistry | None = None,
    contract: Contract = EMBEDDED,
    chain: DutyChain | None = None,
    chain_settings: ChainSettings | None = None,
    jobs_beside: bool = False,
) -> AsyncGenerator[BrokerNode]:
    """Give a broker that keeps its journal in the database. ``new_id`` names transfers; it never gives the same twice.

    Several brokers may share a database. Each settles and checks the books by itself as often as its settings say, and counts what
    it finds in ``metrics``.
    Wallets sign requests for ``contract``. With a ``chain``, receipts of the accounts that its settings name are settled there.
    ``jobs_beside`` says that the jobs whose money it holds are kept in the same database.
    """
    limits = settings or BrokerSettings()
    await database.migrate("broker", "wallets", "answers")
    registry = metrics or CollectorRegistry()
    counted = BrokerMetrics(registry)
    store, ledgers = SqlBrokerStore(database, jobs_beside=jobs_beside), SqlLedgerStore(database)
    on_chain = None
    if chain is not None and chain_settings is not None:
        await database.migrate("chain", "duties")
        on_chain = OnChain(chain, SqlChainStore(database), chain_settings)
    servicer = BrokerServicer(store, ledgers, settings=limits, clock=clock, new_id=new_id, metrics=counted, on_chain=on_chain)
    wallets, answers = SqlWalletStore(database), SqlAnswerStore(database)
    requests = RequestsServicer(wallets, ledgers, answers, settings=limits, contract=contract, clock=clock)
    async with AsyncExitStack() as stack:
        if limits.settle_seconds:
            await stack.enter_async_context(_again_and_again(lambda: _settle(servicer), clock, limits.settle_seconds))
        if chain is not None and on_chain is not None:
            settling = ChainSettlement(
                on_chain.chain, on_chain.store, store, settings=on_chain.settings, movement=lambda: Movement(new_id(), clock.now())
            )
            duty_store = SqlDutyStore(database)
            duties = ChainDuties(chain, on_chain.store, duty_store)
            watched = ChainMetrics(ChainPart(chain, on_chain.store, on_chain.settings, duty_store), registry)
            # one after the other, and in one turn: both send with one key
            works, turns = (settling.round, duties.round), ChainTurns(on_chain.store)
            await stack.enter_async_context(
                _again_and_again(lambda: _round(turns, works, watched, clock), clock, on_chain.settings.seconds)
            )
        if limits.check_seconds:
            await stack.enter_async_context(_again_and_again(lambda: _check(servicer), clock, limits.check_seconds))
        beside = Beside(database, servicer.decisions) if jobs_beside and isinstance(database, SqliteFile) else None
        yield BrokerNode(servicer, requests, beside)


async def _round(turns: ChainTurns, works: Sequence[Callable[[], Awaitable[None]]], watched: ChainMetrics, clock: Clock) -> None:
    """Do all in this broker's turn, whatever becomes of one, and count. Raises what the last one that failed raised."""
    failed: list[Exception] = []

    async def all_of_them() -> None:
        for work in works:
            try:
                await work()
            except Exception as error:  # the others have their turn
                failed.append(error)

    try:
        had = await turns.take(all_of_them)
    except Exception as error:  # it is counted, too
        had = True
        failed.append(error)
    await watched.looked(clock.now(), done=not failed if had else None)
    if failed:
        raise failed[-1]


async def _settle(servicer: BrokerServicer) -> None:
    while await servicer.seal(BATCH):
        pass


async def _check(servicer: BrokerServicer) -> None:
    found = await servicer.check()
    for one in found.invariants:
        if not one.holds:
            log.error("the books are broken: %s: %s", one.name, ", ".join(one.broken_by))


@asynccontextmanager
async def _again_and_again(work: Callable[[], Awaitable[object]], clock: Clock, seconds: float) -> AsyncGenerator[None]:
    async def forever() -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("the broker will try again in %g s", seconds)
            await clock.sleep(seconds)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
