"""Projects share what operators do: by weight, in tokens, and whoever comes has the next turn."""

from __future__ import annotations

import sqlite3
from collections import Counter

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.dispatcher.queue import LOOK, Queue
from aos.dispatcher.ranked import BLOCK, Ranked
from tests.dispatcher.conftest import BALANCE, running
from tests.dispatcher.hand import an_offer
from tests.dispatcher.test_limits import limited
from tests.dispatcher.test_placement import candidate, wanted

FLOOD = 100_000
WEIGHTS = {"a": 100, "b": 200, "c": 700}


def next_of(queue: Queue) -> str:
    """The project that has the next turn; its job is taken."""
    taken = queue.take([candidate()])
    assert taken is not None
    return taken[0].project


class TestShares:
    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000)), max_size=40), st.randoms())
    def test_by_weight(self, early, random):
        """While all have jobs that wait, what two projects got over their weights never differs by more than two jobs' work."""
        queue, got = Queue(WEIGHTS.__getitem__), Counter(dict.fromkeys(WEIGHTS, 0))
        number = 0
        for project in WEIGHTS:
            for _ in range(60):
                number += 1
                queue.add(wanted(number, project=project, completion_bound=random.randint(1, 1000), amount=10_000))
        for project, tokens in early:
            number += 1
            queue.add(wanted(number, project=project, completion_bound=tokens, amount=10_000))
        for _ in range(60):
            taken = queue.take([candidate()])
            assert taken is not None
            got[taken[0].project] += 10 + taken[0].completion_bound
            shares = [tokens / WEIGHTS[project] for project, tokens in got.items()]
            assert max(shares) - min(shares) <= 2 * 1010 / min(WEIGHTS.values())

    def test_what_was_used_counts(self):
        """Promises count until a job ends, then what it used: who asks for much and takes little is not held to the much."""
        queue, got = Queue(), Counter[str]()
        for number in range(400):
            queue.add(wanted(number, project="modest", completion_bound=990, amount=10_000))
            queue.add(wanted(1000 + number, project="exact", completion_bound=90))
        for _ in range(400):
            taken = queue.take([candidate()])
            assert taken is not None
            got[taken[0].project] += 100
            queue.settle(taken[0].job_id, 100)

        assert abs(got["modest"] - got["exact"]) <= 1000

    def test_what_came_to_nothing_does_not_count(self):
        """A job whose operator was lost waits again, and its project has its turn as before."""
        queue = Queue()
        for number in range(4):
            queue.add(wanted(number, project="ab"[number % 2]))
        for project in "abaaa":
            taken = queue.take([candidate()])
            assert taken is not None
            assert taken[0].project == project
            if project == "a":
                queue.add(taken[0])

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 500), st.integers(-9, 9)), min_size=1, max_size=60))
    def test_nobody_starves_and_nobody_is_idle(self, jobs):
        """Whatever waits, a free operator gets one that fits as long as there is any; in the end each had its turn, once."""
        queue = Queue(lambda project: 1 + 3000 * int(project))
        for number, (project, tokens, priority) in enumerate(jobs):
            queue.add(wanted(number, project=str(project), completion_bound=tokens, priority=priority, amount=10_000))
        taken: list[str] = []
        while len(queue):
            found = queue.take([candidate("0xa", running=2), candidate("0xb")])
            assert found is not None
            taken.append(found[0].job_id)
            if found[0].number % 3 == 0:
                queue.settle(found[0].job_id, 1)

        assert sorted(taken) == sorted(f"j{number}" for number in range(len(jobs)))

    def test_what_fits_nobody_now_keeps_nobody_idle(self):
        """However many of a project's jobs wait for one provider that is busy, the next for any operator goes to a free one."""
        queue, busy, free = Queue(), candidate("0xa", slots=1, running=1), candidate("0xb")
        for number in range(2 * LOOK):
            queue.add(wanted(number, provider="0xa"))
        queue.add(wanted(1000))
        taken = queue.take([busy, free])

        assert taken is not None
        assert (taken[0].job_id, taken[1]) == ("j1000", free)
        assert queue.take([busy, free]) is None


class TestWhoComes:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 200), st.lists(st.integers(0, 20), max_size=200), st.integers(1, 10_000))
    def test_has_the_next_turn(self, before, ends, weight):
        """Whatever a flood was given, is doing and gives back: a project without jobs gets the next free place."""
        queue, doing = Queue({"flood": weight, "new": 1}.__getitem__), list[str]()
        for number in range(300):
            queue.add(wanted(number, project="flood"))
        for _ in range(before):
            taken = queue.take([candidate()])
            assert taken is not None
            doing.append(taken[0].job_id)
        for used in ends[: len(ends) // 2]:
            if doing:
                queue.settle(doing.pop(), used)
        queue.add(wanted(1000, project="new"))
        for used in ends[len(ends) // 2 :]:
            if doing:
                queue.settle(doing.pop(), used)

        assert next_of(queue) == "new"

    def test_coming_again_is_no_trick(self):
        """Who has one job waiting at a time gets its share, and no more."""
        queue, got = Queue(), Counter[str]()
        for number in range(200):
            queue.add(wanted(number, project="flood"))
        for number in range(100):
            queue.add(wanted(1000 + number, project="one"))
            got[next_of(queue)] += 1
            if queue.get(f"j{1000 + number}") is not None:
                got[next_of(queue)] += 1

        assert got["one"] <= got["flood"] + 1

    def test_before_a_hundred_thousand(self):
        """A flood of so many keeps the first job of another waiting for one place, and its last is there to be taken."""
        queue = Queue()
        for number in range(FLOOD):
            queue.add(wanted(number, project="flood", priority=9))
        assert next_of(queue) == "flood"
        queue.add(wanted(FLOOD, project="other", priority=-9))

        assert (next_of(queue), queue.ahead(f"j{FLOOD - 1}"), len(queue)) == ("other", FLOOD - 2, FLOOD - 1)


class TestRanked:
    @settings(deadline=None, max_examples=40)
    @given(st.sets(st.integers(-5, 5 * BLOCK)), st.sets(st.integers(-5, 5 * BLOCK)))
    def test_keys_in_order(self, added, removed):
        """Whatever is added and taken out again, the rest is in order, and each knows how many are before it."""
        keys = Ranked()
        for key in added | set(range(0, 4 * BLOCK, 3)):
            keys.add((0, key))
        left = sorted((added | set(range(0, 4 * BLOCK, 3))) - removed)
        for key in (added | set(range(0, 4 * BLOCK, 3))) & removed:
            keys.remove((0, key))

        assert [key for _, key in keys] == left
        assert bool(keys) == bool(left)
        assert [keys.before((0, key)) for key in left[::97]] == list(range(len(left)))[::97]


class TestDispatcher:
    async def test_a_flood_and_another(self, tmp_path):
        """Another project's first job gets the first place that a flood's job leaves, of one operator or two."""
        async with running(tmp_path) as aos:
            await aos.deposit(100 * BALANCE)
            await aos.deposit(BALANCE, "q")
            one, two = await aos.operator(an_offer(slots=1)), await aos.operator(an_offer(slots=1))
            flood = [await aos.submit(f"job {number}") for number in range(200)]
            leases = [(one, await one.lease()), (two, await two.lease())]
            other = await aos.submit("the other", by=aos.other)
            for operator, lease in leases:
                assert lease.job.hex() in {job.name.removeprefix("jobs/") for job in flood}
                operator.start(lease)
                operator.say(lease, "Yes", [1])
                operator.finish(lease, "Yes", [1])

            assert other.name.removeprefix("jobs/") in {(await one.lease()).job.hex(), (await two.lease()).job.hex()}

    @pytest.mark.parametrize(("weight", "most"), [(100, 4), (300, 6)])
    async def test_weights(self, tmp_path, weight, most):
        """The administrator's weight is in force at once, for jobs that wait, too, and after a restart."""
        async with running(tmp_path) as aos:
            await aos.deposit(BALANCE, "q")
            hand = await aos.operator(an_offer(slots=8), attach=False)
            mine = [(await aos.submit(f"job {number}")).name for number in range(8)]
            for number in range(8):
                await aos.submit(f"job {number}", by=aos.other)
            await limited(aos, weight=weight)
            await aos.stop()
            await aos.start()
            await hand.attach(aos.nobody)
            leased = [f"jobs/{(await hand.lease()).job.hex()}" for _ in range(8)]

            assert sum(name in mine for name in leased) == most

    async def test_weights_that_were_set_elsewhere(self, aos):
        """Limits that another dispatcher of the same store set hold here within seconds."""
        await aos.deposit(BALANCE, "q")
        hand = await aos.operator(an_offer(slots=8), attach=False)
        mine = [(await aos.submit(f"job {number}")).name for number in range(8)]
        for number in range(8):
            await aos.submit(f"job {number}", by=aos.other)
        with sqlite3.connect(aos.path) as db:
            db.execute("UPDATE projects SET weight = 300, requests_per_minute = 1 WHERE id = 'p'")
        db.close()
        assert (await refusal(aos)).startswith("'projects/p' has used up its requests per minute (1)")
        await hand.attach(aos.nobody)
        leased = [f"jobs/{(await hand.lease()).job.hex()}" for _ in range(8)]

        assert sum(name in mine for name in leased) == 6


async def refusal(aos) -> str:
    """Ask for one job again and again until that is refused; return why."""

    async def look() -> str:
        try:
            await aos.submit(request_id="again", priority=-9)
        except grpc.aio.AioRpcError as error:
            return error.details() or ""
        return ""

    return await aos.eventually(look, bool, step=1)
