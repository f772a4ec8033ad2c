"""The engine of pictures: its turns, its end, its limits, on a model that can be foreseen."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import numpy as np
import pytest

from aos.errors import Deadline, EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.pool import Pool
from aos.operator.rendering import TENANT_WAITING, RenderEngine, Renderer
from aos.operator.runner import Runner
from aos.operator.stream import End
from aos.operator.waiting import Terms
from aos.pictures import read_picture, write_png
from aos.testing.clock import ManualClock
from aos.testing.painted import PaintedModel
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import Order, Picture, PictureInput, Price, Sampling
from aos.verification.keys import OperatorKey
from tests.pictures import file, hole, pixels


def an_order(prompt: str = "a red circle", *, seed: int = 1, **picture) -> Order:
    wanted = PictureInput(prompt=prompt, **{"width": 96, "height": 64} | picture)
    return Order(model="m", picture=wanted, sampling=Sampling(seed=seed))


@asynccontextmanager
async def engine(model: Renderer, **limits):
    running = RenderEngine("m", model, **limits)
    try:
        yield running
    finally:
        await running.aclose()


async def render(running: RenderEngine, order: Order, **more) -> tuple[list[Picture], End]:
    found: list[Picture] = []
    async with aclosing(running.render(order, **more)) as pieces:
        async for piece in pieces:
            if isinstance(piece, End):
                return found, piece
            found += piece.pictures
    raise AssertionError


class TestPictures:
    async def test_as_many_as_asked(self):
        """Each picture is a PNG of the size that was asked for, from its own seed; the end names them all, without their files."""
        async with engine(PaintedModel()) as running:
            found, end = await render(running, an_order(count=3))
            again, _ = await render(running, an_order(seed=2))

        assert [read_picture(one.data, "x").shape for one in found] == [(64, 96, 3)] * 3
        assert len({one.sha256 for one in found}) == 3
        assert [(one.sha256, one.data) for one in end.pictures] == [(one.sha256, b"") for one in found]
        assert again[0] == found[1]

    async def test_goes_on_behind_others(self):
        """Pictures that were rendered elsewhere are not rendered again, and the end names them with the rest."""
        model = PaintedModel()
        async with engine(model) as running:
            whole, end = await render(running, an_order(count=3))
            begun = len(model.prompts)
            rest, other = await render(running, an_order(count=3), accepted=end.pictures[:2])

        assert (rest, len(model.prompts) - begun) == (whole[2:], 1)
        assert other.pictures == end.pictures

    async def test_edit(self):
        """A masked edit leaves every pixel outside the mask as it was."""
        source = file(pixels())
        order = an_order(sources=[Picture(data=source)], mask=Picture(data=hole()))
        async with engine(PaintedModel()) as running:
            (changed,), _ = await render(running, order)

        here = read_picture(changed.data, "x")
        outside = np.ones((64, 96), np.bool_)
        outside[16:48, 16:48] = False
        assert np.array_equal(here[outside], pixels()[outside])
        assert not np.array_equal(here, pixels())

    async def test_scaled(self):
        """A source of another size is scaled to the new picture's."""
        order = an_order(sources=[Picture(data=file(pixels(300, 200)))])
        async with engine(PaintedModel()) as running:
            (changed,), _ = await render(running, order)
        assert (changed.width, changed.height) == (96, 64)

    async def test_take_turns(self):
        """A long order does not keep a short one waiting: they take turns, a picture each."""
        model = PaintedModel()
        hold = model.hold()
        async with engine(model) as running:
            long = asyncio.create_task(render(running, an_order("long", count=3)))
            await hold.reached()
            short = asyncio.create_task(render(running, an_order("short")))
            while running.waiting < 1:
                await asyncio.sleep(0)
            hold.release()
            await asyncio.gather(long, short)

        assert model.prompts == ["long", "short", "long", "long"]


class TestBeside:
    async def test_text_goes_on(self):
        """While a picture is rendered, the operator's other models answer."""
        painted, scripted = PaintedModel(), ScriptedModel("Hello.")
        hold = painted.hold()
        async with Pool({"m": painted, "text": scripted}) as pool:
            runner = Runner(OperatorKey.create(), pool, price=Price(prompt_token="1", completion_token="1"), clock=ManualClock())
            async with aclosing(runner.run(an_order(), job=bytes(32))) as events:
                painting = asyncio.ensure_future(anext(events))
                await hold.reached()
                text = [event async for event in runner.run(Order(model="text", prompt="Hi"), job=bytes(32))]
                assert not painting.done()
                hold.release()
                assert len((await painting).pictures) == 1
        assert "".join(event.text for event in text[:-1]) == "Hello."

    async def test_a_model_for_each(self):
        """Text is not asked of a model of pictures, nor pictures of one of text."""
        async with Pool({"m": PaintedModel(), "text": ScriptedModel()}) as pool:
            runner = Runner(OperatorKey.create(), pool, price=Price(prompt_token="1", completion_token="1"), clock=ManualClock())
            picture = an_order()
            picture.model = "text"
            for order in (picture, Order(model="m", prompt="Hi")):
                with pytest.raises(ModelUnsuitable):
                    await anext(runner.run(order, job=bytes(32)))


class TestEnds:
    async def test_leaving(self):
        """Who leaves ends the picture between two steps, and the next order begins."""
        model = PaintedModel()
        hold = model.hold()
        async with engine(model) as running:
            leaving = asyncio.create_task(render(running, an_order()))
            await hold.reached()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            hold.release()
            await render(running, an_order())

        assert (model.cancelled, model.steps) == (1, 4)

    async def test_closing(self):
        """An engine that closes ends what is rendered, and takes nothing more."""
        model = PaintedModel()
        hold = model.hold()
        running = RenderEngine("m", model)
        one = asyncio.create_task(render(running, an_order()))
        await hold.reached()
        closing = asyncio.create_task(running.aclose())
        await asyncio.sleep(0)
        hold.release()
        await closing

        with pytest.raises(ShuttingDown):
            await one
        with pytest.raises(ShuttingDown):
            await render(running, an_order())

    async def test_too_late(self):
        """An order whose time is over ends, and the picture with it."""
        model = PaintedModel()
        hold = model.hold()
        async with engine(model) as running:
            with pytest.raises(Deadline):
                await render(running, an_order(), terms=Terms("t", 0, 0.05))
            hold.release()
            await render(running, an_order())
        assert model.cancelled == 1

    async def test_failing(self):
        """A model that fails ends the order that it fails on, and no other."""
        model = PaintedModel()
        model.fail(RuntimeError("out of paint"))
        async with engine(model) as running:
            with pytest.raises(EngineFailed, match="out of paint"):
                await render(running, an_order())
            assert len((await render(running, an_order()))[0]) == 1

    async def test_another_size(self):
        """A model that gives another size than was asked for has failed."""

        class Square(PaintedModel):
            def render(self, prompt, *, seed, width, height, source, mask, cancelled):
                return np.zeros((32, 32, 3), np.uint8)

        async with engine(Square()) as running:
            with pytest.raises(EngineFailed, match="asked for"):
                await render(running, an_order())


class TestRefused:
    async def test_full(self):
        """More orders than may wait are refused at once, those of one tenant before all."""
        model = PaintedModel()
        hold = model.hold()
        async with engine(model) as running:
            waiting = [asyncio.create_task(render(running, an_order(), terms=Terms("one", 0, None))) for _ in range(TENANT_WAITING)]
            await hold.reached()
            with pytest.raises(QueueFull, match="one tenant"):
                await render(running, an_order(), terms=Terms("one", 0, None))
            another = asyncio.create_task(render(running, an_order(), terms=Terms("two", 0, None)))
            hold.release()
            await asyncio.gather(*waiting, another)

    @pytest.mark.parametrize(
        ("picture", "says"),
        [
            ({"sources": [Picture(data=b"junk")]}, r"sources\[0\]: must be a PNG"),
            ({"sources": [Picture(sha256=bytes(32))]}, r"sources\[0\]: the file is not kept any more"),
            ({"sources": [Picture(data=write_png(pixels()))], "mask": Picture(data=b"junk")}, "mask: must be a PNG"),
            ({"width": 1}, "width: must be from 64"),
        ],
    )
    async def test_files(self, picture, says):
        """Files that are none, or not there, are refused by the field's name."""
        async with engine(PaintedModel()) as running:
            with pytest.raises(InvalidField, match=says):
                await render(running, an_order(**picture))
