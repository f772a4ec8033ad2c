"""Orders for pictures on their way through the dispatcher: names in the log, files in a folder, whoever renders them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from aos.errors import BlobNotFound, InvalidField, ModelUnsuitable
from aos.order import cost
from aos.picture_order import digest_input, digest_pictures, picture_tokens
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Chunk
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Order, Picture, PictureInput, Usage
from aos.verification.receipts import check_bundle
from tests.dispatcher.checking import checking
from tests.dispatcher.conftest import running
from tests.dispatcher.hand import Hand, an_offer
from tests.pictures import file, hole, pixels

FILES = [file(pixels(seed=number)) for number in range(3)]


def a_painter(*, edits: bool = True, **changes) -> Offer:
    offer = an_offer(**changes)
    offer.chat, offer.images, offer.image_edits = False, True, edits
    return offer


def wanting(count: int = 1, **picture) -> Order:
    return Order(model="m", picture=PictureInput(**{"prompt": "a circle", "width": 96, "height": 64, "count": count} | picture))


async def submit(aos, order: Order, by=None) -> pb.Job:
    return await answered((by or aos.project).CreateJob(pb.CreateJobRequest(order=order)))


def say(operator: Hand, lease: pb.Lease, *files: bytes) -> None:
    for data in files:
        operator.send(chunk=pb.LeaseChunk(lease=lease.id, chunk=Chunk(pictures=[Picture(data=data)])))


def named(*files: bytes) -> list[Picture]:
    return [Picture(sha256=hashlib.sha256(data).digest(), width=96, height=64, size=len(data)) for data in files]


def finish(operator: Hand, lease: pb.Lease, files: Sequence[bytes], **changes) -> None:
    picture = lease.order.picture
    prompt, completion = picture_tokens(picture)
    price = cost(operator.offers[0].price, prompt_tokens=prompt, completion_tokens=completion)
    stated = {
        "usage": Usage(prompt_tokens=prompt, completion_tokens=completion),
        "price": str(price),
        "prompt_digest": digest_input(picture),
        "output_digest": digest_pictures(named(*files)),
    }
    operator.finish(lease, "", [], **stated | changes)


async def given(aos, job: pb.Job) -> list[Picture]:
    return [one for event in await aos.watch(job) for one in event.chunk.pictures]


class TestThrough:
    async def test_by_name(self, aos):
        """Watchers, the outcome and the receipt's bundle have the pictures' names in order, without files; the receipt holds."""
        operator = await aos.operator(a_painter())
        job = await submit(aos, wanting(3))
        lease = await operator.lease()
        say(operator, lease, *FILES)
        finish(operator, lease, FILES)

        done = await aos.ends(job)
        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

        assert done.state == pb.JOB_STATE_COMPLETED, done.outcome.error
        assert await given(aos, job) == list(done.outcome.pictures) == list(bundle.pictures) == named(*FILES)
        assert [finding.why for finding in check_bundle(bundle) if finding.good is not True] == []

    async def test_money(self, aos):
        """Held is what the pictures cost, and that is what is paid."""
        before, _ = await aos.balance()
        operator = await aos.operator(a_painter())
        job = await submit(aos, wanting(3))
        lease = await operator.lease()
        say(operator, lease, *FILES)
        _, held = await aos.balance()
        finish(operator, lease, FILES)
        await aos.ends(job)

        # 8 bytes of prompt, and 3 times 96 x 64 pixels
        assert held == 2 * 1 + 3 * 6 * 2
        assert before - await aos.settles() == held

    async def test_sources(self, aos):
        """An order's files go to the operator, and no further: jobs are shown with their names; the receipt comes with them."""
        operator = await aos.operator(a_painter())
        order = wanting(sources=[Picture(data=FILES[0])], mask=Picture(data=hole()))
        job = await submit(aos, order)
        lease = await operator.lease()

        assert (lease.order.picture.sources[0].data, lease.order.picture.mask.data) == (FILES[0], hole())
        assert list(job.order.picture.sources) == named(FILES[0])
        say(operator, lease, FILES[1])
        finish(operator, lease, [FILES[1]])
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED
        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))
        assert bundle.order.picture.sources[0].data == FILES[0]
        assert [finding.why for finding in check_bundle(bundle) if finding.good is not True] == []
        bundle.order.picture.sources[0].data = FILES[2]
        assert "the file of sources[0] is the one that its name says" in [
            one.what for one in check_bundle(bundle) if one.good is False
        ]

    async def test_a_source_by_name(self, aos):
        """What a job made is a source by its name, for the same project alone."""
        operator = await aos.operator(a_painter())
        first = await submit(aos, wanting())
        lease = await operator.lease()
        say(operator, lease, FILES[0])
        finish(operator, lease, FILES[:1])
        made = (await aos.ends(first)).outcome.pictures[0].sha256

        await submit(aos, wanting(sources=[Picture(sha256=made)]))
        assert (await operator.lease()).order.picture.sources[0].data == FILES[0]
        await aos.deposit(10**6, "q")
        with pytest.raises(BlobNotFound):
            await submit(aos, wanting(sources=[Picture(sha256=made)]), by=aos.other)

    async def test_taken_up_by_another(self, aos):
        """When an operator is lost, the next one is told which pictures there are, and none is lost or doubled."""
        first = await aos.operator(a_painter())
        job = await submit(aos, wanting(3))
        say(first, await first.lease(), *FILES[:2])
        await aos.eventually(lambda: aos.job(job), lambda job: job.state == pb.JOB_STATE_RUNNING)
        first.drop()

        second = await aos.operator(a_painter())
        lease = await second.lease()
        assert list(lease.accepted_pictures) == named(*FILES[:2])
        say(second, lease, FILES[2])
        finish(second, lease, FILES)

        done = await aos.ends(job)
        assert list(done.outcome.pictures) == await given(aos, job) == named(*FILES)

    async def test_after_a_crash(self, aos):
        """A dispatcher that was killed goes on with the files that it had."""
        operator = await aos.operator(a_painter())
        job = await submit(aos, wanting(sources=[Picture(data=FILES[0])]))
        await operator.lease()
        await aos.crash()

        await operator.attach(aos.nobody)
        lease = await operator.lease()

        assert lease.order.picture.sources[0].data == FILES[0]
        say(operator, lease, FILES[1])
        finish(operator, lease, FILES[1:2])
        assert (await aos.ends(job)).state == pb.JOB_STATE_COMPLETED

    async def test_checked(self, tmp_path):
        """A second operator that renders the same pictures confirms them; its files go nowhere."""
        async with checking(tmp_path) as aos:
            main, other = await aos.many(1, 2)
            for one in (main, other):
                one.offers[0].images, one.offers[0].chat = True, False
                await one.register(aos.registry, now=int(aos.clock.now().timestamp()))
            aos.clock.advance(seconds=2)
            await main.attach(aos.nobody)
            job = await answered(aos.project.CreateJob(pb.CreateJobRequest(order=wanting(2), redundancy=2)))
            lease = await main.lease()
            main.start(lease)
            await other.attach(aos.nobody)
            say(main, lease, *FILES[:2])
            finish(main, lease, FILES[:2])
            await aos.ends(job)
            other.send(claimed=other.claim(await other.asked()))
            lease = await other.lease()
            other.start(lease)
            say(other, lease, *FILES[:2])
            finish(other, lease, FILES[:2])

            assert (await aos.concluded(job)).verdict == pb.VERDICT_CHECKED


class TestRefused:
    @pytest.mark.parametrize(
        ("order", "says"),
        [
            (wanting(sources=[Picture(data=b"<svg/>")]), r"order\.picture\.sources\[0\]\.data: must be a PNG"),
            (wanting(sources=[Picture(data=FILES[0])], mask=Picture(data=b"GIF89a")), r"order\.picture\.mask\.data: must be a PNG"),
            (
                wanting(sources=[Picture(data=FILES[0], sha256=bytes(32))]),
                r"order\.picture\.sources\[0\]\.sha256: is not the file's",
            ),
            (wanting(11), r"order\.picture\.count: must be at most 10"),
        ],
        ids=["no picture", "no mask", "false name", "too many"],
    )
    async def test_orders(self, aos, order, says):
        """What cannot be rendered is refused before anything is held, by the field's name."""
        await aos.operator(a_painter())
        with pytest.raises(InvalidField, match=says):
            await submit(aos, order)
        assert (await aos.balance())[1] == 0

    @pytest.mark.parametrize(
        ("offer", "order", "needs"),
        [
            (an_offer(), wanting(), "pictures"),
            (a_painter(edits=False), wanting(sources=[Picture(data=FILES[0])]), "edits of pictures"),
            (a_painter(), wanting(sources=[Picture(data=FILES[0])] * 2), "it changes 1 picture at a time"),
            (a_painter(), Order(model="m", prompt="hello"), "text"),
        ],
        ids=["text model", "no edits", "one source", "image model"],
    )
    async def test_models(self, aos, offer, order, needs):
        """A model is asked for nothing that it cannot do."""
        await aos.operator(offer)
        with pytest.raises(ModelUnsuitable, match=needs):
            await submit(aos, order)

    @pytest.mark.parametrize(
        "said",
        [
            [FILES[0], FILES[1]],
            [b"no picture"],
            [file(pixels(), "JPEG")],
            [file(pixels(64, 64))],
            [FILES[0] + bytes(6 << 20)],
        ],
        ids=["too many", "none", "another kind", "another size", "too large"],
    )
    async def test_what_no_answer_can_be(self, tmp_path, said):
        """A chunk with something else than the next picture ends the attempt, and is not kept."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(a_painter())
            job = await submit(aos, wanting())
            say(operator, await operator.lease(), *said)

            done = await aos.ends(job)

            assert done.state == pb.JOB_STATE_FAILED
            assert done.outcome.error.metadata["field"] == "pictures"

    async def test_for_text(self, tmp_path):
        """An order for text gets no pictures."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(an_offer())
            job = await submit(aos, Order(model="m", prompt="p"))
            say(operator, await operator.lease(), FILES[0])
            assert (await aos.ends(job)).outcome.error.metadata["field"] == "pictures"

    @pytest.mark.parametrize(
        ("said", "changes", "field"),
        [
            (FILES[:1], {}, "pictures"),
            (FILES[:2], {"output_digest": digest_pictures(named(FILES[1], FILES[0]))}, "output_digest"),
            (FILES[:2], {"prompt_digest": bytes(31) + b"x"}, "prompt_digest"),
            (FILES[:2], {"usage": Usage(prompt_tokens=2, completion_tokens=999)}, "usage.completion_tokens"),
            (FILES[:2], {"usage": Usage(prompt_tokens=1, completion_tokens=12)}, "usage.prompt_tokens"),
            (FILES[:2], {"price": "1"}, "price"),
            (FILES[:2], {"state_root": b"x" * 32}, "state_root"),
        ],
        ids=["too few", "another order", "another prompt", "more tokens", "fewer tokens", "price", "steps"],
    )
    async def test_receipt_for_something_else(self, tmp_path, said, changes, field):
        """A job is done only with a receipt for the pictures that came, at what they cost."""
        async with running(tmp_path, max_attempts=1) as aos:
            operator = await aos.operator(a_painter())
            job = await submit(aos, wanting(2))
            lease = await operator.lease()
            say(operator, lease, *said)
            finish(operator, lease, FILES[:2], **changes)

            assert (await aos.ends(job)).outcome.error.metadata["field"] == field
