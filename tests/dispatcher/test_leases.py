"""One lease on a real store: what is written together, and what is not kept waiting for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aos.dispatcher import jobs
from aos.dispatcher.files import Files
from aos.dispatcher.handing import lease_of
from aos.dispatcher.jobs import At, State
from aos.dispatcher.leases import LeaseRun
from aos.dispatcher.log import CROWD, EventLog
from aos.dispatcher.risk import RiskSettings
from aos.dispatcher.settings import DispatcherSettings
from aos.errors import JobNotFound
from aos.order import canonical_sampling, digest_order
from aos.storage.blobs import Blobs
from aos.store.checks import SqlCheckStore
from aos.store.jobs import SqlJobStore
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Chunk, Finish
from tests.dispatcher.hand import WAIT, Hand
from tests.dispatcher.jobs import NOW, PRICE, a_record
from tests.receipts import a_trace

AT = At(NOW, "1")


class Leased:
    """A job that a hand has, and what is written of it."""

    def __init__(self, file, tmp_path) -> None:
        self.store = SqlJobStore(file, node="1")
        self.ended = []
        self.log = EventLog(self.store, ended=lambda job, _: self.ended.append(job.state))
        self.hand = Hand()
        self._checks, self._blobs = SqlCheckStore(file, risk=RiskSettings()), Blobs(tmp_path / "blobs", None)

    async def begin(self) -> LeaseRun:
        order = a_record().submission.order
        asked = {"request_digest": digest_order(order), "parameters": canonical_sampling(order.sampling), "seed": 0}
        record = a_record(**asked)
        self.job_id = record.job.id
        await self.store.admit("projects/p", "", lambda _, __: record, now=NOW)
        await self.store.change(self.job_id, lambda view: jobs.accept(view, AT))
        leased = await self.store.lease(self.job_id, lambda view: jobs.assign(view, AT, operator=self.hand.address, price=PRICE))
        self.lease = lease_of(leased, order, left=60.0, draw=None)
        return LeaseRun(
            leased,
            self.hand.address,
            log=self.log,
            files=Files(self._blobs, ManualClock()),
            checks=self._checks,
            clock=ManualClock(),
            settings=DispatcherSettings(),
            checkable=lambda _: False,
            proves=None,
        )

    def finish(self, text: str, tokens: list[int], **changes) -> pb.LeaseFinished:
        receipt = self.hand.receipt(self.lease, text, tokens, **changes)
        finish = Finish(reason=receipt.finish_reason, receipt=receipt, trace=a_trace(tokens))
        return pb.LeaseFinished(lease=self.lease.id, finish=finish)

    async def events(self) -> list[str]:
        _, events = await self.store.behind(self.job_id, project=None, after=2, limit=9)
        assert [event.sequence for event in events] == list(range(3, 3 + len(events)))
        return [what(event) for event in events]


def what(event: pb.JobEvent) -> str:
    kind = event.WhichOneof("event")
    return {"state": lambda: State(event.state).name, "chunk": lambda: event.chunk.text, "outcome": lambda: "the end"}[kind]()


@pytest.fixture
async def file(tmp_path):
    async with sqlite_file(tmp_path / "aos.db") as opened:
        await opened.migrate("jobs")
        yield opened


@pytest.fixture
def leased(file, tmp_path) -> Leased:
    return Leased(file, tmp_path)


class TestTogether:
    async def test_a_whole_answer(self, leased):
        """That it began, its text and its end, if they wait together, are one change: the log has each of them, in order."""
        run = await leased.begin()
        for said in (None, Chunk(text="Yes", tokens=[1]), Chunk(text=".", tokens=[2]), leased.finish("Yes.", [1, 2])):
            run.hear(said, {leased.hand.address: 1})

        change = await run.run()

        assert [what(event) for event in change.events] == ["RUNNING", "Yes.", "the end"]
        assert await leased.events() == ["RUNNING", "Yes.", "the end"]
        assert change.events[-1].outcome.text == "Yes."
        assert leased.ended == [State.COMPLETED]

    async def test_text_before(self, leased):
        """What was written before is a part of the answer that the end is checked against."""
        run = await leased.begin()
        run.hear(Chunk(text="So ", tokens=[1]), {})
        running = asyncio.create_task(run.run())
        await until(leased, ["RUNNING", "So "])
        for said in (Chunk(text="be it.", tokens=[2]), leased.finish("So be it.", [1, 2])):
            run.hear(said, {})

        assert [what(event) for event in (await running).events] == ["be it.", "the end"]

    async def test_a_bad_end(self, leased):
        """Text before an end that is not taken is kept: who has the job next goes on behind it."""
        run = await leased.begin()
        for said in (Chunk(text="So ", tokens=[1]), leased.finish("So ", [1], price="9999")):
            run.hear(said, {})

        await run.run()

        assert await leased.events() == ["RUNNING", "So ", "QUEUED"]
        assert run.blamed

    async def test_an_end_that_takes_time(self, leased):
        """Text does not wait for a long trace to be looked at."""
        run = await leased.begin()
        tokens = list(range(1, 41))
        for said in (Chunk(text="long", tokens=tokens), leased.finish("long", tokens)):
            run.hear(said, {})

        assert [what(event) for event in (await run.run()).events] == ["the end"]
        assert await leased.events() == ["RUNNING", "long", "the end"]

    async def test_a_start_alone(self, leased):
        """That it began is written though nothing follows, and once, however often it is said."""
        run = await leased.begin()
        running = asyncio.create_task(run.run())
        run.hear(None, {})
        run.hear(None, {})

        await until(leased, ["RUNNING"])
        run.hear(leased.finish("", []), {})

        assert [what(event) for event in (await running).events] == ["the end"]


class TestCrowd:
    async def test_output_waits_its_turn(self, file, leased):
        """While many changes are being written, who has output waits until one of them is; with fewer nobody does."""
        begun, go_on = threading.Event(), threading.Event()

        def busy(_) -> None:
            begun.set()
            go_on.wait(WAIT)

        holding = asyncio.create_task(file.transact(busy))
        await asyncio.to_thread(begun.wait, WAIT)
        changes = [asyncio.create_task(leased.log.change("none", lambda _: None)) for _ in range(CROWD - 1)]
        await asyncio.sleep(0)
        async with asyncio.timeout(WAIT):
            await leased.log.turn()
        changes.append(asyncio.create_task(leased.log.change("none", lambda _: None)))
        await asyncio.sleep(0)
        turn = asyncio.create_task(leased.log.turn())
        await asyncio.sleep(0)
        assert not turn.done()
        go_on.set()

        async with asyncio.timeout(WAIT):
            await turn
        assert {type(one) for one in await asyncio.gather(*changes, return_exceptions=True)} == {JobNotFound}
        await holding


async def until(leased: Leased, wanted: list[str]) -> None:
    async with asyncio.timeout(WAIT):
        while await leased.events() != wanted:
            await asyncio.sleep(0.001)
