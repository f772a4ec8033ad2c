"""Operators that offer something else while they are attached, and models that nobody has the weights of."""

from __future__ import annotations

import pytest

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import FINISH_REASON_STOP, Usage
from aos.verification.upstream import name_digest
from tests.dispatcher.hand import Hand, an_offer

NAMED = name_digest("named").hex()


async def offer(aos, operator: Hand, *offers, register: bool = True) -> None:
    """Let the operator offer these, registered before unless told otherwise."""
    if register:
        aos.clock.advance(seconds=1)
        operator.offers = list(offers)
        await operator.register(aos.registry, now=int(aos.clock.now().timestamp()))
    operator.send(offers=pb.OffersChanged(offers=offers))


async def knows(aos, operator: Hand, *models: str) -> None:
    """Wait until the dispatcher knows the operator's offers to be these."""
    session = aos.node._relay._sessions[operator.address]
    await aos.eventually(lambda: _models(session), lambda found: found == sorted(models))


async def _models(session) -> list[str]:
    return sorted(session.offers)


class TestChanged:
    async def test_more(self, aos):
        """A model that is offered later gets jobs over the stream that there is."""
        operator = await aos.operator()
        await offer(aos, operator, an_offer(), an_offer("other"))
        await knows(aos, operator, "m", "other")
        await aos.submit(model="other")

        assert (await operator.lease()).order.model == "other"

    async def test_less(self, aos):
        """A model that is taken back gets no new jobs; the lease that runs goes on to its end."""
        operator = await aos.operator(an_offer(), an_offer("other"))
        job = await aos.submit(model="other")
        lease = await operator.lease()
        await offer(aos, operator, an_offer(), register=False)
        await knows(aos, operator, "m")
        waiting = await aos.submit(model="other")
        await aos.submit()

        assert (await operator.lease()).order.model == "m"
        operator.start(lease)
        operator.say(lease, "Yes.", [1])
        operator.finish(lease, "Yes.", [1])
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED
        assert (await aos.job(waiting)).state == pb.JOB_STATE_QUEUED

    async def test_back_again(self, aos):
        """Jobs that wait for a model are leased when it is offered again."""
        operator = await aos.operator(an_offer(), an_offer("other"))
        await offer(aos, operator, an_offer(), register=False)
        await knows(aos, operator, "m")
        job = await aos.submit(model="other")
        await offer(aos, operator, *operator.offers, register=False)

        assert f"jobs/{(await operator.lease()).job.hex()}" == job.name

    async def test_nothing_for_now(self, aos):
        """An operator may offer nothing for a while, and stays attached."""
        operator = await aos.operator()
        await offer(aos, operator, register=False)
        await knows(aos, operator)
        operator.heartbeat()
        await offer(aos, operator, an_offer(), register=False)
        await aos.submit()

        assert await operator.lease()

    async def test_fewer_places(self, aos):
        """An offer may have fewer places than were registered, and then gets no more jobs at once."""
        operator = await aos.operator(an_offer(slots=2))
        await offer(aos, operator, an_offer(slots=1), register=False)
        session = aos.node._relay._sessions[operator.address]
        await aos.eventually(lambda: _slots(session), lambda slots: slots == 1)
        one, other = await aos.submit(), await aos.submit()
        lease = await operator.lease()

        assert f"jobs/{lease.job.hex()}" == one.name
        assert (await aos.job(other)).state == pb.JOB_STATE_QUEUED

    @pytest.mark.parametrize("change", [{"digest": "bb" * 32}, {"prompt": 99}, {"slots": 3}])
    async def test_not_registered(self, aos, change):
        """An offer that is not registered as it is is left out; the others count."""
        operator = await aos.operator(an_offer(), an_offer("other"))
        await offer(aos, operator, an_offer(**change), an_offer("other"), register=False)

        await knows(aos, operator, "other")


async def _slots(session) -> int:
    return session.offers["m"].slots


class TestNamed:
    """A model server's answers: no tokens, counts as stated."""

    async def answered(
        self, aos, operator: Hand, *, usage: Usage, tokens=(), profile: str = "upstream/1 usage=stated", **more
    ) -> pb.Job:
        """Let the operator answer as one that hosts a model server does, and once more in vain if that is not taken."""
        job = await aos.submit(model=operator.offers[0].model)
        lease = await operator.lease()
        operator.start(lease)
        operator.say(lease, "Yes.", tokens)
        receipt = operator.receipt(lease, "Yes.", tokens, profile=profile, usage=usage, state_root=bytes(32), **more)
        operator.send(finished=pb.LeaseFinished(lease=lease.id, finish=Finish(reason=FINISH_REASON_STOP, receipt=receipt)))
        return job

    async def test_taken(self, aos):
        """A receipt without tokens is taken for a model that only its name stands for."""
        operator = await aos.operator(an_offer("named", digest=NAMED))
        job = await self.answered(aos, operator, usage=Usage(completion_tokens=7), price=str(3 + 2 * 7))
        done = await aos.ends(job)

        assert (done.state, done.outcome.usage.completion_tokens) == (pb.JOB_STATE_COMPLETED, 7)

    @pytest.mark.parametrize(
        ("digest", "profile", "tokens", "counted"),
        [
            ("aa" * 32, "upstream/1 usage=stated", (), 7),  # weights that the network knows
            (NAMED, "by hand", (1,), 1),  # as if there were some
            (NAMED, "upstream/1 usage=stated", (1,), 1),  # tokens that nobody can have told
            (NAMED, "upstream/1 usage=stated", (), 101),  # more than was asked for
        ],
    )
    async def test_not_taken(self, aos, digest, profile, tokens, counted):
        """Whether a receipt may have no tokens the model decides, and how many there can be the order."""
        operator = await aos.operator(an_offer("named", digest=digest))
        usage = Usage(completion_tokens=counted - len(tokens))
        job = await self.answered(aos, operator, usage=usage, tokens=tokens, profile=profile, price=str(3 + 2 * counted))
        again = await operator.lease()
        operator.fail(again, "INVALID_FIELD", retryable=False)

        done = await aos.ends(job)
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
        assert done.attempts == 2

    async def test_broken_answer(self, aos):
        """An answer that nobody can go on with ends the job with the text that came; no other operator is asked."""
        operator = await aos.operator(an_offer("named", digest=NAMED))
        job = await aos.submit(model="named")
        lease = await operator.lease()
        operator.say(lease, "Ye", [])
        operator.fail(lease, "ANSWER_BROKEN", retryable=False, message="it broke off")
        done = await aos.ends(job)

        assert (done.state, done.attempts, done.outcome.text) == (pb.JOB_STATE_FAILED, 1, "Ye")
        assert done.outcome.error.reason == ErrorReason.ERROR_REASON_ANSWER_BROKEN
