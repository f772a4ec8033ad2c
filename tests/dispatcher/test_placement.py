"""Who gets which job, and why not the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.dispatcher.placement import Candidate, Wanted, choose, explain, why_not
from aos.dispatcher.queue import LOOK, Queue
from aos.v1.types_pb2 import Price


def wanted(number: int = 1, *, project: str = "p", avoid: frozenset[str] = frozenset(), **changes) -> Wanted:
    fields = {"model": "m", "model_digest": "aa", "prompt_bound": 10, "completion_bound": 10, "amount": 100} | changes
    return Wanted(number=number, job_id=f"j{number}", project=project, avoid=avoid, **fields)


def candidate(operator: str = "0xa", *, slots: int = 2, running: int = 0, completion: int = 1, **changes) -> Candidate:
    price = Price(prompt_token="1", completion_token=str(completion))
    fields = {"model": "m", "model_digest": "aa"} | changes
    return Candidate(operator=operator, price=price, slots=slots, running=running, **fields)


class TestChoose:
    def test_smallest_share(self):
        """The operator with the smallest share of its places taken gets the job, not the one with the fewest jobs."""
        chosen = choose(wanted(), [candidate("0xa", slots=2, running=1), candidate("0xb", slots=8, running=3)])

        assert chosen is not None
        assert chosen.operator == "0xb"

    def test_ties_go_by_address(self):
        """Among equals the lowest address wins, whatever the order they come in."""
        both = [candidate("0xb"), candidate("0xa")]

        assert choose(wanted(), both) == choose(wanted(), both[::-1]) == both[1]

    def test_failed_one_comes_last(self):
        """An operator that failed the job waits behind the others, even while these are busy, and is taken if alone."""
        failed, busy = candidate("0xa"), candidate("0xb", slots=1, running=1)
        job = wanted(avoid=frozenset({"0xa"}))

        assert choose(job, [failed, busy]) is None
        assert choose(job, [failed]) == failed

    @pytest.mark.parametrize(
        ("one", "why"),
        [
            (candidate(), ""),
            (candidate(model="n"), "offers 'n'"),
            (candidate(model_digest="bb"), "has other weights of 'm'"),
            (candidate(leaving=True), "is going away"),
            (candidate(slots=2, running=2), "has all 2 places taken"),
            (candidate(completion=100), "may cost 1010 neurons, and 100 are held"),
        ],
    )
    def test_why_not(self, one, why):
        """Whoever cannot run the job is told apart by a reason, and is not chosen."""
        assert why_not(wanted(), one) == why
        assert (choose(wanted(), [one]) is None) == bool(why)

    def test_explains_the_wait(self):
        """The explanation names every operator with its reason, or says that there is none."""
        assert explain(wanted(), []) == "It waited: no operator was attached."
        assert explain(wanted(), [candidate(leaving=True)]) == "It waited: 0xa is going away."


class TestQueue:
    def test_projects_take_turns(self):
        """Oldest first within a project; between projects each has its turn."""
        queue = Queue()
        for number, project in enumerate("aaabbc"):
            queue.add(wanted(number, project=project))

        assert drained(queue) == ["j0", "j3", "j5", "j1", "j4", "j2"]

    def test_given_back_goes_to_its_old_place(self):
        """A job that comes back is as old as it was."""
        queue = Queue()
        for number in (1, 2, 3):
            queue.add(wanted(number))
        taken = queue.take([candidate()])
        assert taken is not None
        queue.add(taken[0])

        assert drained(queue) == ["j1", "j2", "j3"]

    def test_misfit_keeps_nobody_waiting(self):
        """A job that no operator may run does not hold up those behind it."""
        queue = Queue()
        queue.add(wanted(1, amount=1))
        queue.add(wanted(2))

        assert drained(queue) == ["j2"]
        assert len(queue) == 1

    def test_looks_at_so_many_only(self):
        """However many misfits wait, one look is bounded."""
        queue = Queue()
        for number in range(LOOK):
            queue.add(wanted(number, amount=1))
        queue.add(wanted(LOOK))

        assert queue.take([candidate()]) is None

    def test_models_do_not_mix(self):
        """Jobs go to operators of their model and weights only."""
        queue = Queue()
        queue.add(wanted(1, model="n"))
        queue.add(wanted(2, model_digest="bb"))

        assert queue.take([candidate()]) is None

    @given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans())))
    def test_holds_what_was_added_and_not_removed(self, moves):
        """After any adding and removing, taking gives each job that is left once."""
        queue, left = Queue(), {}
        for number, project, add in moves:
            job = wanted(number, project=project)
            if add:
                queue.add(job)
                left.setdefault(job.job_id, job)
            else:
                assert queue.remove(job.job_id) == left.pop(job.job_id, None)

        assert len(queue) == len(left)
        assert sorted(drained(queue)) == sorted(left)


def drained(queue: Queue) -> list[str]:
    order = []
    while taken := queue.take([candidate()]):
        order.append(taken[0].job_id)
    return order
