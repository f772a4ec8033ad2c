"""Rendering a receipt's pictures again: what the same model says, and what another proves."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest_asyncio

from aos.operator.replay_pictures import replay_pictures
from aos.rpc.status import answered
from aos.testing.harness import running_aos
from aos.testing.painted import PaintedModel
from aos.v1.dispatcher_pb2 import GetReceiptRequest, ReceiptBundle
from aos.v1.types_pb2 import Order, Picture, PictureInput
from tests.pictures import file, hole, pixels


@asynccontextmanager
async def network(model: PaintedModel):
    async with running_aos(model, name="m") as aos:
        yield aos


@pytest_asyncio.fixture
async def bundle() -> ReceiptBundle:
    """Of an edit of two pictures."""
    picture = PictureInput(prompt="a boat", width=96, height=64, count=2)
    picture.sources.append(Picture(data=file(pixels())))
    picture.mask.CopyFrom(Picture(data=hole()))
    async with network(PaintedModel()) as aos:
        job = await aos.client.submit(Order(model="m", picture=picture))
        await aos.client.outcome(job)
        return await answered(aos.dispatcher.GetReceipt(GetReceiptRequest(name=job.name)))


class TestReplay:
    async def test_the_same(self, bundle):
        """The same model makes the same files, byte by byte."""
        found = await replay_pictures(bundle, PaintedModel())
        assert (found.good, found.what) == (True, "the model makes these pictures: 2, rendered again, are the same")

    async def test_a_lie(self, bundle):
        """A picture that the model does not make is named."""
        bundle.pictures[1].sha256 = bytes(32)
        found = await replay_pictures(bundle, PaintedModel())
        assert (found.good, found.why) == (False, "picture 2 is another")

    async def test_too_few(self, bundle):
        """So is one that is missing."""
        del bundle.pictures[1]
        found = await replay_pictures(bundle, PaintedModel())
        assert (found.good, found.why) == (False, "there are 1 pictures, and 2 come")

    async def test_another_build(self, bundle):
        """Where something else runs, a difference proves nothing."""
        bundle.pictures[1].sha256 = bytes(32)
        model = PaintedModel()
        model.profile = "painted/2"
        found = await replay_pictures(bundle, model)
        assert found.good is None
        assert "here runs painted/2" in found.why

    async def test_another_model(self, bundle):
        """Another model proves nothing."""
        found = await replay_pictures(bundle, PaintedModel("another"))
        assert found.good is None
        assert "the receipt names" in found.why

    async def test_without_the_source(self, bundle):
        """A picture whose source is gone cannot be rendered again, which is said."""
        bundle.order.picture.sources[0].ClearField("data")
        found = await replay_pictures(bundle, PaintedModel())
        assert found.good is None
        assert "the file of sources[0] is not in the receipt" in found.why

    async def test_a_model_that_fails(self, bundle):
        """A model that cannot render the order again speaks against the receipt."""
        model = PaintedModel()
        model.fail(RuntimeError("out of paint"))
        found = await replay_pictures(bundle, model)
        assert found.good is False
        assert "out of paint" in found.why
