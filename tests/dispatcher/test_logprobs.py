"""Log-probabilities on their way through the dispatcher: one for each token, none invented, none doubled."""

from __future__ import annotations

import math

import pytest

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import TokenLogprob
from aos.v1.types_pb2 import Order, Sampling
from tests.dispatcher.conftest import running


def said(token: int, *top: TokenLogprob, logprob: float = -0.5, piece: bytes = b"x") -> TokenLogprob:
    return TokenLogprob(token=token, logprob=logprob, piece=piece, top=top)


def wanting(*, top: int = 1, logprobs: bool = True) -> Order:
    return Order(model="m", prompt="p", sampling=Sampling(max_tokens=100, logprobs=logprobs, top_logprobs=top))


async def submit(aos, order: Order) -> pb.Job:
    return await aos.project.CreateJob(pb.CreateJobRequest(order=order))


class TestThrough:
    async def test_as_they_were_said(self, aos):
        """Whoever watches gets the log-probabilities with their tokens, however chunks are put together on the way."""
        operator, tokens = await aos.operator(), list(range(60))
        sent = [said(token, said(token + 1), logprob=-token) for token in tokens]
        job = await submit(aos, wanting())
        lease = await operator.lease()
        operator.start(lease)
        for token in tokens:
            operator.say(lease, "x", [token], [sent[token]])
        operator.finish(lease, "x" * 60, tokens)

        chunks = [event.chunk for event in await aos.watch(job) if event.HasField("chunk")]

        assert [one for chunk in chunks for one in chunk.logprobs] == sent
        assert all([one.token for one in chunk.logprobs] == list(chunk.tokens) for chunk in chunks)

    async def test_not_doubled_by_a_loss(self, aos):
        """When the job goes to another operator, the log-probabilities go on where they were."""
        first = await aos.operator()
        job = await submit(aos, wanting())
        lease = await first.lease()
        first.say(lease, "a", [1], [said(1)])
        await aos.eventually(lambda: aos.job(job), lambda job: job.state == pb.JOB_STATE_RUNNING)
        first.drop()

        second = await aos.operator()
        lease = await second.lease()
        assert list(lease.accepted_tokens) == [1]
        second.say(lease, "b", [2], [said(2)])
        second.finish(lease, "ab", [1, 2])

        chunks = [event.chunk for event in await aos.watch(job) if event.HasField("chunk")]
        assert [one.token for chunk in chunks for one in chunk.logprobs] == [1, 2]


class TestRefused:
    @pytest.mark.parametrize(
        ("order", "logprobs"),
        [
            (wanting(), []),
            (wanting(), [said(2)]),
            (wanting(), [said(1), said(1)]),
            (wanting(), [said(1, said(1), said(2))]),
            (wanting(), [said(1, said(1, said(1)))]),
            (wanting(), [said(1, logprob=math.nan)]),
            (wanting(), [said(1, logprob=0.1)]),
            (wanting(), [said(1, said(2, logprob=-math.inf))]),
            (wanting(), [said(1, piece=b"x" * 513)]),
            (wanting(top=0, logprobs=False), [said(1)]),
        ],
        ids=["none", "another's", "two", "too many", "nested", "nan", "above 0", "infinite", "long", "unasked"],
    )
    async def test_what_was_not_asked_for(self, tmp_path, order, logprobs):
        """A chunk without the log-probabilities that it must have, or with others, ends the attempt and is not kept."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator()
            job = await submit(aos, order)
            operator.say(await operator.lease(), "No.", [1], logprobs)

            done = await aos.ends(job)

            assert done.state == pb.JOB_STATE_FAILED
            assert done.outcome.error.metadata["field"] == "logprobs"
            assert done.outcome.text == ""
