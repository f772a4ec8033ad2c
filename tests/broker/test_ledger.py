"""The books under any sequence of moves, through the real store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from functools import cache
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aos.broker.accounts import Line, Pot, Reason, Transfer
from aos.broker.node import running_broker
from aos.errors import AosError, HoldNotFound, HoldSettled, InsufficientBalance, RequestIdReused
from aos.store.opening import opened
from aos.store.sql import SqlDatabase, Transaction
from aos.testing.clock import START, ManualClock
from aos.v1 import broker_pb2 as pb
from aos.v1.receipt_pb2 import Receipt
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import a_receipt

KEYS = [OperatorKey.create() for _ in range(2)]
JOBS = [bytes([number]) * 32 for number in range(4)]
HELD, COMMITTED, RELEASED = pb.HOLD_STATE_HELD, pb.HOLD_STATE_COMMITTED, pb.HOLD_STATE_RELEASED

accounts = st.sampled_from(["accounts/p", "accounts/q"])
jobs = st.sampled_from(JOBS)
amounts = st.one_of(st.integers(0, 30), st.integers(0, 10**30))
prices = st.integers(0, 12)
operators = st.sampled_from([0, 1])
request_ids = st.sampled_from(["r1", "r2", "r3"])


@cache
def receipt(job: bytes, price: int, operator: int) -> Receipt:
    return sign(a_receipt(job=job, price=str(price)), KEYS[operator])


def hold_name(job: bytes) -> str:
    return f"holds/{job.hex()}"


def rows(tx: Transaction, table: str, key: str) -> list[dict[str, Any]]:
    return list(tx.query(f"SELECT * FROM {table} ORDER BY {key}"))


async def journal(database: SqlDatabase) -> list[dict[str, Any]]:
    return await database.transact(lambda tx: rows(tx, "broker_journal", "sequence"))


class Ledger(RuleBasedStateMachine):
    """Plays random moves against the broker and against a few lines of arithmetic."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.available: dict[str, int] = defaultdict(int)
        self.deposits: dict[str, tuple[str, int]] = {}
        self.holds: dict[bytes, pb.Hold] = {}
        self.paid_by: dict[bytes, tuple[int, int]] = {}
        self.runner, self.stack, ids = asyncio.Runner(), AsyncExitStack(), count(1)

        async def start() -> None:
            self.database: SqlDatabase = await self.stack.enter_async_context(opened(address))
            made = running_broker(self.database, clock=ManualClock(), new_id=lambda: f"t{next(ids)}")
            self.broker = (await self.stack.enter_async_context(made)).servicer

        self.runner.run(start())

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    async def attempt(self, method: str, **fields: Any) -> Any:
        """What the broker answers, or the error it refuses with."""
        try:
            return await getattr(self.broker, method)(getattr(pb, f"{method}Request")(**fields), None)
        except AosError as error:
            return error

    def ask(self, method: str, **fields: Any) -> Any:
        return self.runner.run(self.attempt(method, **fields))

    async def tables(self) -> dict[str, list[dict[str, Any]]]:
        asked = {"broker_accounts": "name", "broker_holds": "name", "broker_journal": "sequence"}
        return await self.database.transact(lambda tx: {name: rows(tx, name, key) for name, key in asked.items()})

    @initialize()
    def some_money(self) -> None:
        self.deposit("start", "accounts/p", 100)

    @rule(request_id=request_ids, account=accounts, amount=amounts.filter(bool))
    def deposit(self, request_id: str, account: str, amount: int) -> None:
        answer = self.ask("Deposit", account=account, amount=str(amount), request_id=request_id)
        if request_id not in self.deposits:
            self.deposits[request_id] = (account, amount)
            self.available[account] += amount
        if self.deposits[request_id] == (account, amount):
            assert int(answer.available) == self.available[account]
        else:
            assert isinstance(answer, RequestIdReused)

    @rule(job=jobs, account=accounts, amount=amounts)
    def reserve(self, job: bytes, account: str, amount: int) -> None:
        answer = self.ask("Reserve", hold=hold_name(job), account=account, amount=str(amount))
        hold = self.holds.get(job)
        if hold is not None:
            same = (hold.account, hold.amount) == (account, str(amount))
            assert answer == hold if same else isinstance(answer, RequestIdReused)
        elif amount > self.available[account]:
            assert isinstance(answer, InsufficientBalance)
        else:
            assert (answer.state, answer.amount) == (HELD, str(amount))
            self.holds[job] = answer
            self.available[account] -= amount

    @rule(job=jobs, price=prices, operator=operators)
    def commit(self, job: bytes, price: int, operator: int) -> None:
        answer = self.ask("Settle", hold=hold_name(job), receipt=receipt(job, price, operator))
        hold = self.holds.get(job)
        if hold is None:
            assert isinstance(answer, HoldNotFound)
        elif hold.state == HELD and price > int(hold.amount):
            assert answer.reason == "BAD_RECEIPT"
        elif hold.state == HELD:
            assert (answer.state, answer.paid) == (COMMITTED, str(price))
            self.settled(job, answer, (price, operator))
        elif self.paid_by.get(job) == (price, operator):
            assert answer == hold
        else:
            assert isinstance(answer, HoldSettled)

    @rule(job=jobs)
    def release(self, job: bytes) -> None:
        answer = self.ask("Settle", hold=hold_name(job))
        hold = self.holds.get(job)
        if hold is None:
            assert isinstance(answer, HoldNotFound)
        elif hold.state == COMMITTED:
            assert isinstance(answer, HoldSettled)
        else:
            assert answer.state == RELEASED
            if hold.state == HELD:
                self.settled(job, answer, None)

    @rule(job=jobs, bids=st.lists(st.one_of(st.none(), st.tuples(prices, operators)), min_size=2, max_size=6))
    def race(self, job: bytes, bids: list[tuple[int, int] | None]) -> None:
        """Several end the same hold at the same time: one wins, and only its repetitions succeed with it."""

        async def at_once() -> list[Any]:
            return await asyncio.gather(
                *(self.attempt("Settle", hold=hold_name(job), receipt=bid and receipt(job, *bid)) for bid in bids)
            )

        answers = self.runner.run(at_once())
        won = [(bid, answer) for bid, answer in zip(bids, answers, strict=True) if isinstance(answer, pb.Hold)]
        assert len({bid for bid, _ in won}) <= 1
        hold = self.holds.get(job)
        if hold is not None and hold.state == HELD and won:
            bid, answer = won[0]
            self.settled(job, answer, bid)
        if hold is not None and won:
            assert all(answer == self.holds[job] for _, answer in won)

    def settled(self, job: bytes, hold: pb.Hold, bid: tuple[int, int] | None) -> None:
        self.holds[job] = hold
        paid = 0
        if bid is not None:
            paid, operator = bid
            self.paid_by[job] = bid
            self.available[f"accounts/{KEYS[operator].address.lower()}"] += paid
        self.available[hold.account] += int(hold.amount) - paid

    @invariant()
    def the_books_balance(self) -> None:
        """The lines of each transfer cancel out, every balance is the sum of its lines, and no pot is below 0."""
        tables = self.runner.run(self.tables())
        pots: Counter[tuple[str, str]] = Counter()
        transfers: Counter[str] = Counter()
        for sequence, row in enumerate(tables["broker_journal"], 1):
            assert row["sequence"] == sequence
            pots[row["account"], row["pot"]] += int(row["amount"])
            transfers[row["transfer"]] += int(row["amount"])
        assert not any(transfers.values())
        assert sum(pots.values()) == 0

        for row in tables["broker_accounts"]:
            balance = (int(row["available"]), int(row["held"]))
            assert balance == (pots.pop((row["name"], "available"), 0), pots.pop((row["name"], "held"), 0))
            assert min(balance) >= 0
            bound = sum(int(hold.amount) for hold in self.holds.values() if (hold.account, hold.state) == (row["name"], HELD))
            assert balance == (self.available[row["name"]], bound)
        assert set(pots) <= {("external", "available")}
        assert self.runner.run(self.attempt("CheckInvariants")).hold

    @invariant()
    def each_hold_ends_once(self) -> None:
        """A hold is reserved by at most one transfer and ended by at most one."""
        tables = self.runner.run(self.tables())
        reserved: dict[str, set[str]] = defaultdict(set)
        ended: dict[str, set[str]] = defaultdict(set)
        for row in tables["broker_journal"]:
            if row["reason"] != "deposit":
                (reserved if row["reason"] == "reserve" else ended)[row["cause"]].add(row["transfer"])
        assert all(len(transfers) == 1 for transfers in (*reserved.values(), *ended.values()))
        assert set(ended) <= set(reserved)


class TestLedger:
    @pytest.mark.parametrize(("kind", "examples"), [("sqlite", 30), ("postgres", 5)])
    def test_any_sequence_of_moves(self, request, kind, examples):
        """Whatever is asked, in whatever order, as often as may be: the books balance and each hold is settled once."""
        fresh = request.getfixturevalue("postgres").fresh if kind == "postgres" else lambda: ":memory:"
        run_state_machine_as_test(
            lambda: Ledger(fresh()),
            settings=settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
                derandomize=False,
            ),
        )


class TestTransfers:
    def test_lines_that_do_not_cancel_out_are_no_transfer(self):
        """Money cannot be made by a mistake in the code: such a transfer cannot even be written down."""
        with pytest.raises(ValueError, match="do not add up to 0"):
            Transfer("t", START, "cause", (Line("accounts/p", Pot.AVAILABLE, 1, Reason.DEPOSIT),))


class TestJournalTable:
    """What the database itself refuses, whoever writes."""

    LINE = "'t', 0, 'external', 'available', '1', 'deposit', 'r'"
    COLUMNS = "transfer, time, account, pot, amount, reason, cause"

    @pytest.mark.parametrize(
        ("sql", "why"),
        [
            ("UPDATE broker_journal SET amount = '0'", "only added to"),
            ("DELETE FROM broker_journal", "only added to"),
            (f"INSERT INTO broker_journal VALUES (1, {LINE})", "only added to"),
            (f"INSERT INTO broker_journal VALUES (9, {LINE})", "no gaps"),
            (f"INSERT INTO broker_journal VALUES (0, {LINE})", "no gaps|only added to"),
            ("UPDATE broker_accounts SET available = '-1'", "(?i)check"),
            ("UPDATE broker_accounts SET held = ''", "(?i)check"),
            ("UPDATE broker_holds SET state = 'held'", "settled once"),
        ],
    )
    async def test_history_cannot_be_changed(self, database_address, sql, why):
        """Lines cannot be changed, deleted, replaced or left out; pots cannot be negative; settled holds stay settled."""
        async with opened(database_address) as database:
            async with running_broker(database, clock=ManualClock(), new_id=lambda: "t") as node:
                await node.servicer.Deposit(pb.DepositRequest(account="accounts/p", amount="5", request_id="r"), None)
                name = hold_name(JOBS[0])
                await node.servicer.Reserve(pb.ReserveRequest(hold=name, account="accounts/p", amount="5"), None)
                await node.servicer.Settle(pb.SettleRequest(hold=name), None)
            before = await journal(database)

            with pytest.raises(Exception, match=why):
                await database.transact(lambda tx: tx.execute(sql) and None)
            assert await journal(database) == before
            assert len(before) == 6

    async def test_sqlite_replaces_no_line(self, tmp_path):
        """Not even by the statement that deletes without saying so."""
        async with (
            opened(tmp_path / "aos.db") as database,
            running_broker(database, clock=ManualClock(), new_id=lambda: "t") as node,
        ):
            await node.servicer.Deposit(pb.DepositRequest(account="accounts/p", amount="5", request_id="r"), None)
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                await database.transact(lambda tx: tx.execute(f"INSERT OR REPLACE INTO broker_journal VALUES (1, {self.LINE})"))

    async def test_a_refused_move_leaves_no_gap(self, database_address):
        """Refusals between moves do not use up sequence numbers."""
        async with (
            opened(database_address) as database,
            running_broker(database, clock=ManualClock(), new_id=lambda: "t") as node,
        ):
            for number in range(3):
                await node.servicer.Deposit(pb.DepositRequest(account="accounts/p", amount="5", request_id=f"r{number}"), None)
                with pytest.raises(InsufficientBalance):
                    await node.servicer.Reserve(pb.ReserveRequest(hold=hold_name(JOBS[0]), account="accounts/p", amount="99"), None)
            lines = await journal(database)
        assert [row["sequence"] for row in lines] == [1, 2, 3, 4, 5, 6]
