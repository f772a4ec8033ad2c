"""Jobs beside their money in one file: what happens to both is one transaction, and comes to the same as asking the broker."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest
import pytest_asyncio

from aos.broker.node import running_broker
from aos.dispatcher import jobs
from aos.dispatcher.admission import Load, Record
from aos.dispatcher.holds import reservation
from aos.dispatcher.jobs import At, Money, State
from aos.dispatcher.listing import JobFilter
from aos.dispatcher.risk import RiskSettings, Tag
from aos.dispatcher.store import Asking, Row
from aos.dispatcher.till import Till
from aos.errors import InsufficientBalance, InvalidField, JobNotFound, QueueFull
from aos.store.beside import Beside, job_store
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.v1 import broker_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.dispatcher.jobs import NOW, a_record
from tests.receipts import a_receipt

AT = At(NOW, "1")
BALANCE = 1000
KEY = OperatorKey.create()
PROVIDER = KEY.address.lower()
TABLES = (
    "jobs", "job_requests", "job_risk", "job_checks", "job_events", "user_standings", "node_clocks", "project_load", "project_kept",
    "broker_accounts", "broker_holds", "broker_journal", "broker_totals", "broker_receipts", "broker_sub_accounts",
)  # fmt: skip


class Network:
    """A broker and jobs in one file: ``together`` in one transaction each, or asking the broker in between."""

    def __init__(self, file, money, paid, *, together: bool) -> None:
        self.file, self.money, self.store, self.together = file, money.servicer, paid, together

    async def take(self, *records: Record) -> list:
        """Take the jobs in; of each the row, or why there is none."""
        if self.together:
            return list(await self.store.take([asking(one) for one in records]))
        return [await self._one(record) for record in records]

    async def _one(self, record: Record):
        await self.store.admit(record.job.project, record.submission.request_id, lambda _, __: record, now=NOW)
        try:
            await self.money.Reserve(reservation(record.job), None)
        except InsufficientBalance as error:
            await self.store.forget(record.job.id)
            return error
        return (await self.store.accept(record.job.id, lambda view: jobs.accept(view, AT)))[1]

    async def end(self, row: Row):
        """End the job, unsettled."""
        change = await self.store.change(row.job.id, lambda view: jobs.cancel(view, AT))
        assert change is not None
        return change.job

    async def pay(self, *ended) -> list[bool]:
        if self.together:
            return list(await self.store.pay(ended))
        for job, receipt in ended:
            await self.money.Settle(pb.SettleRequest(hold=f"holds/{job.id}", receipt=receipt), None)
        await self.store.settled([job.id for job, _ in ended])
        return [True for _ in ended]

    async def balance(self, account: str = "accounts/p") -> tuple[int, int]:
        found = await self.money.GetAccount(pb.GetAccountRequest(name=account), None)
        return int(found.available), int(found.held)

    async def written(self) -> dict[str, list]:
        """All that is kept, table by table, but the names of transfers, which are anything."""

        def read(tx) -> dict[str, list]:
            return {one: [{**row, "transfer": ""} for row in tx.query(f"SELECT * FROM {one} ORDER BY 1, 2")] for one in TABLES}

        return await self.file.transact(read)

    async def forbid(self, what: str, when: str) -> None:
        """Let the database fail at such a write."""
        sql = f"CREATE TRIGGER forbidden BEFORE {what} WHEN {when} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        await self.file.transact(lambda tx: tx.execute(sql) and None)

    async def right(self) -> bool:
        """Whether the books add up."""
        return (await self.money.CheckInvariants(pb.CheckInvariantsRequest(), None)).hold


@asynccontextmanager
async def running(path, *, together: bool = True) -> AsyncGenerator[Network]:
    ids = count(1)
    async with (
        sqlite_file(path) as file,
        running_broker(file, clock=ManualClock(), new_id=lambda: f"t{next(ids)}", jobs_beside=True) as money,
    ):
        await file.migrate("jobs")
        store, paid = job_store(file, money.beside, node="1", risk=RiskSettings(), alone=lambda: True)
        assert paid is store
        await money.servicer.Deposit(pb.DepositRequest(account="accounts/p", amount=str(BALANCE), request_id="r"), None)
        yield Network(file, money, paid, together=together)


@pytest_asyncio.fixture
async def network(tmp_path) -> AsyncGenerator[Network]:
    async with running(tmp_path / "aos.db") as one:
        yield one


def a_job(number: int = 1, *, amount: int = 300, user: str = "ann", tag: Tag = Tag.NONE, **changes) -> Record:
    record = a_record(number, amount=amount, **changes)
    return replace(record, submission=replace(record.submission, user=user, tag=tag))


def asking(record: Record, *, most: int = 999) -> Asking:
    def admit(existing: Record | None, load: Load) -> Record:
        if existing is None and load.project >= most:
            raise QueueFull("jobs", most)
        return existing or record

    return Asking(record, admit, reservation(record.job), lambda view: jobs.accept(view, AT))


def receipt(job, price: int = 40):
    return sign(a_receipt(job=bytes.fromhex(job.id), price=str(price)), KEY)


class TestTaking:
    async def test_job_and_hold_come_together(self, network):
        """A job that is taken in waits for an operator, and its money is held."""
        (row,) = await network.take(a_job(request_id="r"))

        assert (row.job.state, row.job.money) == (State.QUEUED, Money.HELD)
        assert await network.store.get(row.job.id, project="projects/p") == row
        assert [one.job for one in await network.store.waiting()] == [row.job]
        assert await network.balance() == (BALANCE - 300, 300)

    async def test_refused_for_want_of_money(self, network):
        """A job that its project cannot pay for leaves nothing behind, and the next one is job number 1."""
        before = await network.written()

        (refusal,) = await network.take(a_job(amount=BALANCE + 1))

        assert isinstance(refusal, InsufficientBalance)
        assert await network.written() == before
        assert (await network.take(a_job(2)))[0].number == 1

    async def test_each_finds_what_the_ones_before_left(self, network):
        """Of jobs that come together, those are refused for which the ones before them left no money; the others are taken in."""
        found = await network.take(a_job(1, amount=600), a_job(2, amount=600), a_job(3, amount=400), a_job(4, amount=1))

        assert [type(one) for one in found] == [Row, InsufficientBalance, Row, InsufficientBalance]
        assert [one.number for one in found if isinstance(one, Row)] == [1, 2]
        assert await network.balance() == (0, BALANCE)
        assert await network.right()

    async def test_each_counts_in_the_queue(self, network):
        """Jobs that come together count against their project's limit one by one, as those that came before."""
        await network.take(a_job(1))

        found = await network.store.take([asking(a_job(number, amount=1), most=3) for number in (2, 3, 4)])

        assert [type(one) for one in found] == [Row, Row, QueueFull]

    async def test_same_request_together(self, network):
        """Of two with the same request_id the second is given the first one's job, and is held for nothing."""
        first, second = await network.take(a_job(1, request_id="r"), a_job(2, request_id="r"))

        assert second == first.job
        assert await network.balance() == (BALANCE - 300, 300)

    async def test_same_request_later(self, network):
        """A request_id that made a job gives that one, as it is by now."""
        (first,) = await network.take(a_job(1, request_id="r"))
        ended = await network.end(first)

        assert await network.take(a_job(2, request_id="r")) == [ended]

    async def test_pending_from_before(self, network):
        """A job that was cut off while its broker was elsewhere is shown as it is: it is not this way's to accept."""
        old = a_job(1, request_id="r")
        await network.store.admit("projects/p", "r", lambda _, __: old, now=NOW)

        assert await network.take(a_job(2, request_id="r")) == [old.job]
        assert await network.balance() == (BALANCE, 0)

    async def test_amount_beyond_the_brokers_limit(self, network):
        """What the broker would not take is refused alone."""
        found = await network.take(a_job(1, amount=10**80), a_job(2))

        assert [type(one) for one in found] == [InvalidField, Row]


class TestFailing:
    async def test_neither_without_the_other(self, network):
        """When the database fails behind the hold, there is no hold, and no job."""
        await network.forbid("INSERT ON job_requests", "true")
        before = await network.written()

        with pytest.raises(sqlite3.IntegrityError):
            await network.take(a_job())

        assert await network.written() == before

    async def test_spoils_no_other(self, network):
        """One whose write fails spoils no other that came with it, and is told of it."""
        await network.forbid("INSERT ON job_requests", "NEW.user = 'bad'")
        till = Till(network.store)
        asked = [asking(a_job(number, amount=1, user=user)) for number, user in enumerate(("ann", "bad", "ben"))]

        found = await asyncio.gather(*map(till.take, asked), return_exceptions=True)

        assert [type(one) for one in found] == [Row, sqlite3.IntegrityError, Row]
        assert await network.balance() == (BALANCE - 2, 2)

    async def test_caller_gone(self, network):
        """A job whose caller left while it was written is there, and held for."""
        till, record = Till(network.store), a_job()
        call = asyncio.ensure_future(till.take(asking(record)))
        await asyncio.sleep(0)
        call.cancel()

        other = await till.take(asking(a_job(2)))

        assert other.number == 2
        assert (await network.store.get(record.job.id, project=None)).job.money is Money.HELD
        assert await network.balance() == (BALANCE - 600, 600)

    async def test_more_than_one_transaction_takes(self, network):
        """However many come at once, all are taken in, in their order."""
        till = Till(network.store)

        rows = await asyncio.gather(*(till.take(asking(a_job(number, amount=1))) for number in range(150)))

        assert [row.number for row in rows] == list(range(1, 151))
        assert await network.balance() == (BALANCE - 150, 150)
        assert await network.right()

    async def test_money_in_another_file(self, tmp_path, network):
        """A broker that keeps its money elsewhere cannot be paid in the jobs' transactions, and nobody tries."""
        async with sqlite_file(tmp_path / "other.db") as other:
            beside = Beside(other, network.money.decisions)
            with pytest.raises(ValueError, match="another file"):
                job_store(network.file, beside, node="1", risk=RiskSettings(), alone=lambda: True)


class TestPaying:
    async def test_paid_and_marked_together(self, network):
        """An ended job is paid for by its receipt, the rest given back, and nothing is left to settle."""
        paid, released = [await network.end(row) for row in await network.take(a_job(1), a_job(2))]

        assert await network.pay((paid, receipt(paid)), (released, None)) == [True, True]

        assert await network.store.unsettled(limit=9) == []
        assert await network.balance() == (BALANCE - 40, 0)
        assert await network.balance(f"accounts/{PROVIDER}") == (40, 0)
        assert await network.right()

    async def test_again(self, network):
        """The same once more, as after a crash, pays nothing."""
        (row,) = await network.take(a_job())
        ended = await network.end(row)
        await network.pay((ended, receipt(ended)))
        before = await network.written()

        assert await network.pay((ended, receipt(ended))) == [True]
        assert await network.written() == before

    @pytest.mark.parametrize("trouble", ["unsigned", "dear", "released", "unknown"])
    async def test_left_to_the_broker(self, network, trouble):
        """What cannot be settled so is left as it was, for the broker to say why; the others are settled."""
        bad, good = [await network.end(row) for row in await network.take(a_job(1), a_job(2))]
        shown = receipt(bad, price=301 if trouble == "dear" else 40)
        if trouble == "unsigned":
            shown.signature = bytes(65)
        if trouble == "released":
            await network.money.Settle(pb.SettleRequest(hold=f"holds/{bad.id}"), None)
        if trouble == "unknown":
            await network.file.transact(lambda tx: tx.execute("DELETE FROM broker_holds WHERE name = ?", [f"holds/{bad.id}"]))

        assert await network.pay((bad, shown), (good, receipt(good))) == [False, True]

        assert [row.job.id for row in await network.store.unsettled(limit=9)] == [bad.id]
        assert await network.balance(f"accounts/{PROVIDER}") == (40, 0)

    async def test_neither_without_the_other(self, network):
        """When the mark cannot be written, nothing is paid; once it can, all is, once."""
        (row,) = await network.take(a_job())
        ended = await network.end(row)
        await network.forbid("UPDATE OF money ON jobs", f"NEW.money = {int(Money.SETTLED)}")
        before = await network.written()

        with pytest.raises(sqlite3.IntegrityError):
            await network.pay((ended, receipt(ended)))

        assert await network.written() == before
        await network.file.transact(lambda tx: tx.execute("DROP TRIGGER forbidden") and None)
        assert await network.pay((ended, receipt(ended))) == [True]
        assert await network.balance(f"accounts/{PROVIDER}") == (40, 0)

    async def test_forgotten_job(self, network):
        """A job that is not there any more keeps no money."""
        (row,) = await network.take(a_job())
        ended = await network.end(row)
        await network.file.transact(lambda tx: tx.execute("DELETE FROM jobs WHERE id = ?", [ended.id]) and None)

        assert await network.pay((ended, None)) == [True]
        assert await network.balance() == (BALANCE, 0)
        with pytest.raises(JobNotFound):
            await network.store.get(ended.id, project=None)


class TestBothWays:
    @pytest.mark.parametrize(
        "records",
        [
            [a_job(1)],
            [a_job(number, amount=number) for number in range(1, 8)],
            [a_job(1, request_id="r", amount=0), a_job(2), a_job(3, amount=BALANCE)],
            [a_job(1, amount=1), a_job(2, amount=1, tag=Tag.SUSPICION), a_job(3, amount=1), a_job(4, amount=1, user="ben")],
            [a_job(1, amount=1, provider=PROVIDER), a_job(2, amount=1), a_job(3, amount=100, provider=PROVIDER)],
        ],
        ids=["one", "several", "refused", "tagged", "sub-account"],
    )
    async def test_the_same_is_kept(self, tmp_path, records):
        """Job, hold, journal, sums, risk and events are, row by row, what they are where the broker is asked over a call."""
        kept = []
        for together in (True, False):
            async with running(tmp_path / f"{together}.db", together=together) as network:
                await with_sub_account(network)
                found = await network.take(*records)
                rows = [one for one in found if isinstance(one, Row)]
                taken = await network.written()
                await settle(network, [await network.end(row) for row in rows])
                assert await network.right()
                page = await network.store.page(JobFilter(), before=None, limit=99, size=10**9)
                kept.append(([(row.number, row.job, row.risk) for row in rows], taken, await network.written(), page))
        assert kept[0] == kept[1]


async def with_sub_account(network: Network) -> None:
    request = pb.TransferFundRequest(account="accounts/p", provider=PROVIDER, service="inference", amount="50")
    await network.money.TransferFund(request, None)
    signer = pb.AcknowledgeSignerRequest(account="accounts/p", provider=PROVIDER, service="inference", signer=PROVIDER)
    await network.money.AcknowledgeSigner(signer, None)


async def settle(network: Network, ended) -> None:
    """Settle every second one by a receipt; those of sub-accounts the broker settles either way, and last."""
    last = sorted(ended, key=lambda job: bool(job.provider))
    asked = [(job, receipt(job, price=min(40, job.amount)) if at % 2 else None) for at, job in enumerate(last)]
    done = await network.pay(*asked)
    left = [one for one, good in zip(asked, done, strict=True) if not good]
    assert all(job.provider for job, _ in left)
    for job, shown in left:
        await network.money.Settle(pb.SettleRequest(hold=f"holds/{job.id}", receipt=shown), None)
    await network.store.settled([job.id for job, _ in left])
