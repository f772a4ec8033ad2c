"""Servers of pictures: what they are asked, what is taken of what they give, and how they fail."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import asynccontextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from aos.errors import AnswerBroken, Deadline, InvalidField, ModelUnsuitable, QueueFull
from aos.operator.probing import Prober
from aos.operator.upstream import upstream_client
from aos.operator.upstream_group import Group, Member
from aos.operator.upstream_pictures import REPLY_BYTES, open_pictures
from aos.operator.upstream_server import Fault, TookTooLong
from aos.operator.upstream_settings import UpstreamSettings
from aos.order import with_defaults
from aos.pictures import read_picture, write_png
from aos.testing.clock import ManualClock
from aos.v1.types_pb2 import Order, Picture, PictureInput, Sampling
from tests.operator.model_server import model_server, replies, sends, stops_after
from tests.operator.picture_server import form_of, gives, links, painted, paints

SECONDS = 10
SIZE = (96, 64)


def drawing(*, seed: int = 5, count: int = 1, sources: tuple[bytes, ...] = (), mask: bytes = b"", size=SIZE) -> Order:
    picture = PictureInput(prompt="a red circle", width=size[0], height=size[1], count=count)
    picture.sources.extend(Picture(data=one) for one in sources)
    if mask:
        picture.mask.data = mask
    return with_defaults(Order(model="m", picture=picture, sampling=Sampling(seed=seed)), job=bytes(32))


@asynccontextmanager
async def upstream(server, *, edits: bool = False, **settings):
    async with upstream_client() as client:
        url = f"http://127.0.0.1:{server.port}/v1/images/{'edits' if edits else 'generations'}"
        yield await open_pictures(client, "m", url, UpstreamSettings(**settings), edits=edits)


@asynccontextmanager
async def group(*servers):
    """The servers' group, each of them let in."""
    async with upstream_client() as client:
        settings, clock, members = UpstreamSettings(), ManualClock(), []
        for number, server in enumerate(servers):
            one = await open_pictures(client, "m", f"http://127.0.0.1:{server.port}", settings, edits=False)
            prober = Prober(one, settings=settings, clock=clock, random=lambda: 0.0, changed=lambda: None)
            looking = asyncio.create_task(prober.run())
            async with asyncio.timeout(SECONDS):
                while not prober.health.usable:
                    await asyncio.sleep(0.01)
            looking.cancel()
            members.append(Member(str(number), one, prober))
        yield Group("m", members)


async def all_of(one: Group, order: Order) -> list[Picture]:
    async with asyncio.timeout(SECONDS):
        return [picture async for picture in one.draw(order)]


class TestWhatIsAsked:
    async def test_generation(self):
        """A picture is asked for as OpenAI's servers are asked, and under the other names that servers have for size and seed."""
        async with model_server(pictures=paints) as server, upstream(server) as one:
            await one.draw(drawing(), 2)

        (asked,) = server.asked
        assert (asked.method, asked.path) == ("POST", "/v1/images/generations")
        assert asked.headers["host"] == f"127.0.0.1:{server.port}"
        assert asked.body == {
            "model": "m",
            "prompt": "a red circle",
            "n": 1,
            "size": "96x64",
            "response_format": "b64_json",
            "width": 96,
            "height": 64,
            "seed": 7,
        }

    async def test_edit(self):
        """A change is asked for by a form, with the source in the new picture's size and the mask transparent where to paint."""
        mask = np.zeros((64, 96), np.bool_)
        mask[:, :48] = True
        order = drawing(sources=(painted(192, 128, kind="JPEG"),), mask=write_png(mask))
        async with model_server(edits=paints) as server, upstream(server, edits=True) as one:
            await one.draw(order, 0)

        (asked,) = server.asked
        form = form_of(asked)
        source, shown = (Image.open(BytesIO(form[name])) for name in ("image", "mask"))
        assert asked.path == "/v1/images/edits"
        assert {name: form[name] for name in ("model", "prompt", "n", "size")} == {
            "model": b"m",
            "prompt": b"a red circle",
            "n": b"1",
            "size": b"96x64",
        }
        assert (source.format, source.size) == ("PNG", SIZE)
        assert (np.asarray(shown)[..., 3] == 0).tolist() == mask.tolist()

    async def test_several_sources(self):
        """All are sent, as OpenAI's client sends several: the first in the new picture's size, the others in their own."""
        order = drawing(sources=(painted(192, 128), painted(50, 70), painted(30, 20)))
        async with model_server(edits=paints) as server, upstream(server, edits=True) as one:
            await one.draw(order, 0)

        (asked,) = server.asked
        names = re.findall(rb'name="(image[^"]*)"; filename="([^"]+)"', asked.data)
        assert names == [(b"image[]", b"image.png"), (b"image[]", b"image1.png"), (b"image[]", b"image2.png")]
        found = [Image.open(BytesIO(b"\x89PNG" + part)).size for part in asked.data.split(b"\x89PNG")[1:]]
        assert found == [SIZE, (50, 70), (30, 20)]

    async def test_a_place_of_its_own(self):
        """A URL that ends in nothing known is asked as it is."""
        async with model_server(completions=paints) as server, upstream_client() as client:
            url = f"http://127.0.0.1:{server.port}/draw?fast=1"
            one = await open_pictures(client, "m", url, UpstreamSettings(), edits=False)
            await one.draw(drawing(), 0)

        assert server.asked[0].path == "/draw?fast=1"

    async def test_texts(self):
        """What is no order for pictures is refused before anybody is asked."""
        async with model_server() as server, upstream(server) as one:
            with pytest.raises(ModelUnsuitable, match="text"):
                await one.draw(Order(model="m", prompt="What is AI?"), 0)

        assert server.asked == []


class TestWhatIsTaken:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    async def test_written_anew(self, kind):
        """Whatever kind of file comes, and whatever stands behind the picture in it, the network gets a PNG of its pixels."""
        data = painted(*SIZE, kind=kind)
        async with model_server(pictures=gives(data + b"<script>")) as server, upstream(server) as one:
            picture = await one.draw(drawing(), 0)

        assert picture.data == write_png(read_picture(data, "x"))
        assert (picture.width, picture.height, picture.size) == (*SIZE, len(picture.data))

    async def test_inline_url(self):
        """A URL that is the file itself is taken."""
        url = f"data:image/png;base64,{base64.b64encode(painted(*SIZE)).decode()}"
        async with model_server(pictures=links(url)) as server, upstream(server) as one:
            assert (await one.draw(drawing(), 0)).data == write_png(read_picture(painted(*SIZE), "x"))

    @pytest.mark.parametrize(
        "place", ["http://127.0.0.1:{port}/files/a.png", "http://localhost:{port}/files/a.png", "/files/a.png"]
    )
    async def test_url(self, place):
        """A picture that the server names by a URL of its own is fetched there."""
        file = replies("200 OK", kind="image/png")
        async with model_server(files=file) as server, upstream(server) as one:
            data = painted(*SIZE)
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            server.files, server.pictures = sends(head + data), links(place.format(port=server.port))
            picture = await one.draw(drawing(), 0)

        assert picture.data == write_png(read_picture(data, "x"))
        assert (server.asked[-1].method, server.asked[-1].path) == ("GET", "/files/a.png")

    @pytest.mark.parametrize(
        "url", ["http://169.254.169.254/a", "http://127.0.0.1:{other}/a", "https://127.0.0.1:{port}/a", "ftp://x/a", "http://[::1"]
    )
    async def test_others_urls(self, url):
        """A URL that leads anywhere else, another port of this machine too, is not called."""
        async with model_server() as other, model_server() as server, upstream(server) as one:
            server.pictures = links(url.format(port=server.port, other=other.port))
            with pytest.raises(Fault, match=r"URL that is not called|not at its own address"):
                await one.draw(drawing(), 0)

        assert other.asked == []
        assert len(server.asked) == 1

    async def test_another_size(self):
        """A server that gives another size than asked for is no model for that order; it is the caller who hears of it."""
        async with model_server(pictures=gives(painted(32, 32))) as server, upstream(server) as one:
            with pytest.raises(ModelUnsuitable, match="96 x 64 pixels: its server gives 32 x 32"):
                await one.draw(drawing(), 0)

    async def test_on_its_side(self):
        """A picture whose sides are the wrong way round has another size, too."""
        async with model_server(pictures=gives(painted(64, 96))) as server, upstream(server) as one:
            with pytest.raises(ModelUnsuitable, match="its server gives 64 x 96"):
                await one.draw(drawing(), 0)


def animated() -> bytes:
    file, frames = BytesIO(), [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


BAD = {
    "no JSON": (replies("200 OK", "{"), "no JSON object"),
    "nothing": (replies("200 OK", {"data": []}), "no list of the one picture"),
    "two": (replies("200 OK", {"data": [{"b64_json": "eA=="}] * 2}), "no list of the one picture"),
    "an empty one": (replies("200 OK", {"data": [{}]}), "neither b64_json nor url"),
    "no base64": (replies("200 OK", {"data": [{"b64_json": "!"}]}), "not base64"),
    "no picture": (gives(b"<svg onload=x>"), "must be a PNG, JPEG or WebP"),
    "a broken one": (gives(painted(*SIZE)[:60]), "cannot be read"),
    "a film": (gives(animated()), "has 2 frames"),
    "an error as a 200": (replies("200 OK", {"error": {"message": "out of memory"}}), "out of memory"),
    "a failure": (replies("500 Oops", {"error": {"message": "out of memory"}}), "answers 500: out of memory"),
    "a redirect": (replies("307 Temporary Redirect", more="location: http://169.254.169.254/\r\n"), "307"),
    "packed": (replies("200 OK", "x", more="content-encoding: gzip\r\n"), "packed"),
    "half a reply": (sends(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), "connection broke"),
    "too much": (sends(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * (1 << 20)] * ((REPLY_BYTES >> 20) + 1)), "more than"),
}


class TestFaults:
    @pytest.mark.parametrize(("behaviour", "words"), BAD.values(), ids=BAD)
    async def test_says_what_is_wrong(self, behaviour, words):
        """What a server does wrong is its fault, said in words."""
        async with model_server(pictures=behaviour) as server, upstream(server) as one:
            with pytest.raises(Fault, match=words):
                await one.draw(drawing(), 0)

            assert one.running == 0

    async def test_refused(self):
        """What the server refuses the caller hears, in the server's words."""
        behaviour = replies("400 Bad Request", {"error": {"message": "not that", "param": "prompt"}})
        async with model_server(pictures=behaviour) as server, upstream(server) as one:
            with pytest.raises(InvalidField, match="not that"):
                await one.draw(drawing(), 0)

    async def test_busy(self):
        """A server that has enough to do is asked later."""
        async with model_server(pictures=replies("429 Too Many Requests")) as server, upstream(server) as one:
            with pytest.raises(QueueFull):
                await one.draw(drawing(), 0)

    async def test_silence(self):
        """A server that says nothing, or stops in the middle, is not waited for."""
        head = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"
        async with model_server(pictures=stops_after()) as server, upstream(server, picture_seconds=0.1) as one:
            with pytest.raises(TookTooLong, match=r"said nothing for 0\.1 s"):
                await one.draw(drawing(), 0)
        async with model_server(pictures=stops_after(head)) as server, upstream(server, idle_seconds=0.1) as one:
            with pytest.raises(TookTooLong):
                await one.draw(drawing(), 0)

    async def test_deadline(self):
        """When the order is due, nothing is waited for either, and that is nobody's fault."""
        async with model_server(pictures=stops_after()) as server, upstream(server) as one:
            with pytest.raises(Deadline):
                await one.draw(drawing(), 0, due=asyncio.get_running_loop().time() + 0.1, seconds=0.1)

    async def test_caller_leaves(self):
        """Leaving closes the connection."""
        async with model_server(pictures=stops_after()) as server, upstream(server) as one:
            work = asyncio.create_task(one.draw(drawing(), 0))
            asked = await server.until(1)
            work.cancel()
            await asked.gone()

            assert one.running == 0


class TestGroup:
    async def test_one_by_one(self):
        """Each picture of an order is asked for by itself, with the next seed."""
        async with model_server(pictures=paints) as server, group(server) as servers:
            pictures = await all_of(servers, drawing(count=3))

        asked = [one.body["seed"] for one in server.asked if one.method == "POST"]
        assert asked == [5, 6, 7]
        assert len({one.data for one in pictures}) == 3

    async def test_another_server(self):
        """Where one server fails, the next one is asked for that picture, and nobody hears of it."""
        failing = replies("500 Oops")
        async with (
            model_server(pictures=failing) as bad,
            model_server(pictures=paints) as good,
            group(bad, good) as servers,
        ):
            pictures = await all_of(servers, drawing(count=2))

        assert len(pictures) == 2
        assert sum(one.method == "POST" for one in good.asked) == 2

    async def test_all_fail(self):
        """With nobody left the first picture's failure is a fault; a later one's breaks the answer off."""
        async with model_server(pictures=replies("500 Oops")) as server, group(server) as servers:
            with pytest.raises(Fault, match="answers 500"):
                await all_of(servers, drawing())
        async with model_server(pictures=paints) as server, group(server) as servers:
            drawn = servers.draw(drawing(count=2))
            await anext(drawn)
            server.pictures = replies("500 Oops")
            with pytest.raises(AnswerBroken, match="answers 500"):
                await anext(drawn)

    async def test_edits(self):
        """Servers that only make pictures change none."""
        async with model_server(pictures=paints) as server, group(server) as servers:
            with pytest.raises(ModelUnsuitable, match="edits of pictures"):
                await all_of(servers, drawing(sources=(painted(*SIZE),)))
