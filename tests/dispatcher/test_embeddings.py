"""Orders for embeddings on their way through the dispatcher: each vector once, in order, whoever computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from aos.errors import ModelUnsuitable
from aos.order import EMBEDDING_VALUES, TEXTS
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Chunk
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Embedding, EmbeddingInput, Order
from aos.verification.receipts import embeddings_digest
from tests.dispatcher.conftest import running
from tests.dispatcher.hand import Hand, an_offer


def an_embedder(model: str = "m", **changes) -> Offer:
    offer = an_offer(model, **changes)
    offer.embeddings = True
    return offer


def vector(degrees: float) -> Embedding:
    return Embedding(values=[math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def wanting(count: int) -> Order:
    return Order(model="m", embedding=EmbeddingInput(texts=[f"text {number}" for number in range(count)]))


async def submit(aos, order: Order) -> pb.Job:
    return await answered(aos.project.CreateJob(pb.CreateJobRequest(order=order)))


def say(operator: Hand, lease: pb.Lease, *vectors: Embedding) -> None:
    operator.send(chunk=pb.LeaseChunk(lease=lease.id, chunk=Chunk(embeddings=vectors)))


def finish(operator: Hand, lease: pb.Lease, vectors: Sequence[Embedding]) -> None:
    operator.finish(lease, "", [], output_digest=embeddings_digest(vectors))


async def given(aos, job: pb.Job) -> list[Embedding]:
    return [one for event in await aos.watch(job) for one in event.chunk.embeddings]


class TestThrough:
    async def test_in_order(self, aos):
        """Whoever watches gets each vector once, in the order of the texts; so have the outcome and the receipt's bundle."""
        vectors = [vector(number) for number in range(40)]
        operator = await aos.operator(an_embedder())
        job = await submit(aos, wanting(40))
        lease = await operator.lease()
        for start in range(0, 40, 10):
            say(operator, lease, *vectors[start : start + 10])
        finish(operator, lease, vectors)

        done = await aos.ends(job)
        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

        assert done.state == pb.JOB_STATE_COMPLETED
        assert await given(aos, job) == list(done.outcome.embeddings) == list(bundle.embeddings) == vectors
        assert (done.outcome.usage.prompt_tokens, done.outcome.usage.completion_tokens) == (3, 0)

    async def test_a_chunk_keeps_its_size(self, aos):
        """Chunks are not made one on the way: all vectors together may be more than a good message."""
        operator = await aos.operator(an_embedder())
        job = await submit(aos, wanting(6))
        lease = await operator.lease()
        for number in range(6):
            say(operator, lease, vector(number))
        finish(operator, lease, [vector(number) for number in range(6)])

        await aos.ends(job)

        chunks = [event.chunk for event in await aos.watch(job) if event.HasField("chunk")]
        assert [len(chunk.embeddings) for chunk in chunks] == [1] * 6

    async def test_the_most(self, aos):
        """The most numbers that one order may have get through whole, to watchers, in the outcome, and with the receipt."""
        size = EMBEDDING_VALUES // TEXTS
        one = Embedding(values=[1.0] + [0.0] * (size - 1))
        operator = await aos.operator(an_embedder())
        job = await submit(aos, wanting(TEXTS))
        lease = await operator.lease()
        for _ in range(TEXTS // 16):
            say(operator, lease, *[one] * 16)
        finish(operator, lease, [one] * TEXTS)

        done = await aos.ends(job)
        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

        assert done.state == pb.JOB_STATE_COMPLETED
        assert list(bundle.embeddings) == await given(aos, job) == [one] * TEXTS

    async def test_taken_up_by_another(self, aos):
        """When an operator is lost, the next one is told what there is, and none is lost or doubled."""
        vectors = [vector(number) for number in range(5)]
        first = await aos.operator(an_embedder())
        job = await submit(aos, wanting(5))
        lease = await first.lease()
        say(first, lease, *vectors[:2])
        await aos.eventually(lambda: aos.job(job), lambda job: job.state == pb.JOB_STATE_RUNNING)
        first.drop()

        second = await aos.operator(an_embedder())
        lease = await second.lease()
        assert list(lease.accepted_embeddings) == vectors[:2]
        say(second, lease, *vectors[2:])
        finish(second, lease, vectors)

        done = await aos.ends(job)
        assert list(done.outcome.embeddings) == await given(aos, job) == vectors


class TestPlacement:
    async def test_only_who_can(self, aos):
        """Of two operators that offer the model, the job goes to the one that turns texts into vectors, however busy it is."""
        other = await aos.operator(an_offer())
        able = await aos.operator(an_embedder())
        for _ in range(2):
            await submit(aos, wanting(1))
            assert (await able.lease()).order.HasField("embedding")
        await aos.project.CreateJob(pb.CreateJobRequest(order=Order(model="m", prompt="p")))

        assert (await other.lease()).order.prompt == "p"

    async def test_nobody_can(self, aos):
        """Where no operator can, the order is refused before anything is held."""
        await aos.operator(an_offer())
        with pytest.raises(ModelUnsuitable, match="embeddings"):
            await submit(aos, wanting(1))


class TestRefused:
    @pytest.mark.parametrize(
        "vectors",
        [
            [vector(1), vector(2), vector(3)],
            [vector(1), Embedding(values=[1])],
            [Embedding(values=[1, 1])],
            [Embedding(values=[math.nan, 1])],
            [Embedding(values=[math.inf, 0])],
            [Embedding()],
            [Embedding(values=[1] + [0] * (1 << 19))],
        ],
        ids=["too many", "another size", "long", "nan", "infinite", "empty", "larger than may be"],
    )
    async def test_what_no_vector_can_be(self, tmp_path, vectors):
        """A chunk with vectors that cannot be ends the attempt, and is not kept."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(an_embedder())
            job = await submit(aos, wanting(2))
            say(operator, await operator.lease(), *vectors)

            done = await aos.ends(job)

            assert done.state == pb.JOB_STATE_FAILED
            assert done.outcome.error.metadata["field"] == "embeddings"
            assert await given(aos, job) == []

    async def test_for_text(self, tmp_path):
        """An order for text gets no vectors."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(an_embedder())
            job = await submit(aos, Order(model="m", prompt="p"))
            say(operator, await operator.lease(), vector(1))

            assert (await aos.ends(job)).outcome.error.metadata["field"] == "embeddings"

    @pytest.mark.parametrize(
        ("said", "signed", "field"),
        [([1], [1], "embeddings"), ([1, 2], [2, 1], "output_digest"), ([1, 2], [1], "output_digest")],
        ids=["too few", "in another order", "for fewer"],
    )
    async def test_receipt_for_something_else(self, tmp_path, said, signed, field):
        """A job is done only with a vector for each text, and a receipt for those that came."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(an_embedder())
            job = await submit(aos, wanting(2))
            lease = await operator.lease()
            say(operator, lease, *map(vector, said))
            finish(operator, lease, list(map(vector, signed)))

            assert (await aos.ends(job)).outcome.error.metadata["field"] == field
