"""What strangers send where pictures are asked for: wrong fields, bombs, large bodies, and URLs that lead inside."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator

import httpx
import openai
import pytest
import pytest_asyncio

from aos.addresses import read_networks
from aos.testing.harness import Aos, running_aos
from aos.testing.painted import PaintedModel
from aos.testing.scripted import ScriptedModel
from tests.pictures import file, hole, moving, pixels, png_that_says
from tests.rest.painting import EDITS, GENERATIONS, MODEL, asking, painting, reply, web

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = {"model": MODEL, "prompt": "p", "size": "96x64"}
# made before the network runs in this process, which it would hold up
LARGE = file(pixels(2500, 2640))
LARGE_BODY = json.dumps(FORM | {"image": f"data:;base64,{base64.b64encode(LARGE).decode()}"})
TOO_LARGE_BODY = json.dumps(FORM | {"image": "x" * 30_000_000})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with painting() as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    async with asking(network) as (rest, _):
        yield rest


def asked(**fields) -> dict[str, object]:
    return {"model": MODEL, "prompt": "a red circle", "size": "96x64"} | fields


class TestFields:
    @pytest.mark.parametrize(
        ("fields", "param", "says"),
        [
            ({"prompt": None}, "prompt", "is missing"),
            ({"prompt": ""}, "prompt", "must not be empty"),
            ({"prompt": "x" * 40_000}, "prompt", "at most 32768"),
            ({"model": None}, "model", "is missing"),
            ({"n": 0}, "n", "must be at least 1"),
            ({"n": 11}, "n", "must be at most 10"),
            ({"n": 1.5}, "n", "must be an integer"),
            ({"size": "1024"}, "size", "must be like 1024x1024"),
            ({"size": "32x32"}, "size", "must have sides from 64 to 2048"),
            ({"size": "2048x2048"}, "size", "asks for 4194304 pixels; at most 1572864"),
            ({"size": None, "width": 2048, "height": 2048}, "width", "asks for 4194304 pixels"),
            ({"size": None, "width": 63, "height": 64}, "width", "must be at least 64"),
            ({"size": None, "width": 128}, "height", "is missing beside width"),
            ({"width": 128, "height": 64}, "size", "contradicts width and height, 128x64"),
            ({"response_format": "png"}, "response_format", "must be 'url' or 'b64_json'"),
            ({"output_format": "webp"}, "output_format", "must be 'png'"),
            ({"background": "transparent"}, "background", "must be"),
            ({"stream": True}, "stream", "must be"),
            ({"style": "vivid"}, "style", "is not known here"),
        ],
    )
    async def test_generations(self, rest, fields, param, says):
        """What cannot be made is refused with 400, the field's name and the limit, in both dialects at once."""
        got = await rest.post(GENERATIONS, json=asked(**fields))
        body = got.json()
        assert (got.status_code, body["code"], body["error"]["param"]) == (400, 1001, param), got.text
        assert says in body["error"]["message"]
        assert body["error"]["type"] == "invalid_request_error"

    async def test_models(self, network, rest):
        """An unknown model is not found; one that makes no pictures cannot; and OpenAI's client knows both."""
        async with asking(network) as (_, client):
            with pytest.raises(openai.NotFoundError) as unknown:
                await client.images.generate(model="nobody", prompt="p")
            with pytest.raises(openai.BadRequestError, match="chat template"):
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        assert unknown.value.code == "model_not_found"
        async with running_aos(ScriptedModel(), name=MODEL, envoy=True) as text, asking(text) as (_, client):
            with pytest.raises(openai.BadRequestError, match="no pictures"):
                await client.images.generate(model=MODEL, prompt="p")

    async def test_no_token(self, network):
        """Without a token nothing is made."""
        async with httpx.AsyncClient(base_url=network.url) as bare:
            got = await bare.post(GENERATIONS, json=asked())
        assert (got.status_code, got.json()["error"]["code"], got.json()["code"]) == (401, "invalid_api_key", 1010)

    async def test_model_that_fails(self):
        """A model that fails is a failure of the server, which says so."""
        model = PaintedModel()
        async with painting(model) as aos, asking(aos) as (rest, _):
            for _ in range(5):
                model.fail()
            got = await rest.post(GENERATIONS, json=asked())
        assert (got.status_code, got.json()["error"]["type"]) == (502, "server_error")


class TestBodies:
    @pytest.mark.parametrize(
        ("content", "kind", "says"),
        [
            (b"", "application/json", "is empty"),
            (b"{", "application/json", "is not JSON"),
            (b"[]", "application/json", "must be a JSON object"),
            (b"--x\r\n", "multipart/form-data", "with a boundary"),
            (b"junk", "multipart/form-data; boundary=x", "is no"),
            (
                b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\np',
                "multipart/form-data; boundary=x",
                "boundary is missing",
            ),
            (b"--x\r\ncontent-disposition: form-data\r\n\r\np\r\n--x--\r\n", "multipart/form-data; boundary=x", "without a name"),
            (
                b'--x\r\ncontent-disposition: form-data; name="n"\r\n\r\n1\r\n' * 65 + b"--x--\r\n",
                "multipart/form-data; boundary=x",
                "64",
            ),
        ],
        ids=["empty", "half", "list", "no boundary", "no form", "cut", "no name", "many"],
    )
    async def test_malformed(self, rest, content, kind, says):
        """A body that cannot be read is refused as one."""
        got = await rest.post(EDITS, content=content, headers={"content-type": kind})
        assert (got.status_code, got.json()["code"]) == (400, 1002), got.text
        assert says in got.json()["message"]

    async def test_twice(self, rest):
        """A field that comes twice is not guessed."""
        content = b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\np\r\n' * 2 + b"--x--\r\n"
        got = await rest.post(EDITS, content=content, headers={"content-type": "multipart/form-data; boundary=x"})
        assert "twice" in got.json()["message"]

    @pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
    async def test_too_large(self, rest, form):
        """A body of 30 MB is refused with 413, in the dialect, after it was sent: its sender hears it."""
        data = bytes(30_000_000)
        sent = {"data": FORM, "files": {"image": data}} if form else {"content": TOO_LARGE_BODY}
        got = await rest.post(EDITS, **sent)
        assert (got.status_code, got.json()["code"], got.json()["error"]["code"]) == (413, 5000, "request_too_large")

    async def test_largest(self, rest):
        """A picture of nearly 20 MB gets through as a form, and as base64."""
        assert 19_000_000 < len(LARGE) < 20_000_000
        form = await rest.post(EDITS, data=FORM, files={"image": LARGE})
        base = await rest.post(EDITS, content=LARGE_BODY)
        assert (form.status_code, base.status_code) == (200, 200), form.text

    async def test_larger_than_a_picture_may_be(self, rest):
        """A picture of more than 20 MB is refused by its own limit."""
        got = await rest.post(EDITS, data=FORM, files={"image": file(pixels()) + bytes(20_000_000)})
        assert (got.status_code, got.json()["error"]["param"]) == (400, "image")
        assert "at most 20000000" in got.json()["message"]


class TestPictures:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (png_that_says(60_000, 60_000), "image: "),
            (png_that_says(5000, 10), "at most 4096 x 4096"),
            (moving("PNG"), "has 3 frames"),
            (moving("WEBP"), "has 3 frames"),
            (moving("GIF"), "must be a PNG, JPEG or WebP"),
            (file(pixels())[:200], "cannot be read"),
            (b"%PDF-1.7", "must be a PNG, JPEG or WebP"),
        ],
        ids=["bomb", "long", "animated png", "animated webp", "gif", "half", "pdf"],
    )
    async def test_refused(self, rest, data, says):
        """Bombs, animations, halves and other kinds are refused before they cost anything."""
        got = await rest.post(EDITS, data=FORM, files={"image": ("a.png", data, "image/png")})
        assert (got.status_code, got.json()["code"], got.json()["error"]["param"]) == (400, 1001, "image"), got.text
        assert says in got.json()["message"]


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:127.0.0.1]/a.png",
            "http://[::1]/a.png",
            "http://127.0.0.1:1/a.png",
            "http://localhost/a.png",
            "http://10.0.0.1/a.png",
            "http://user:secret@example.com/a.png",
            "http://0/a.png",
        ],
    )
    async def test_inside(self, url):
        """A URL that leads to this machine or its network is not called."""
        async with painting(picture_networks=()) as aos, asking(aos) as (rest, _):
            got = await rest.post(EDITS, json=asked(image=url))
        assert (got.status_code, got.json()["code"], got.json()["error"]["param"]) == (400, 1001, "image"), got.text

    async def test_redirects_are_checked(self):
        """A server that may be called cannot send us to one that may not."""
        async with (
            web({"/": reply(b"", status="302 Found", location="http://169.254.169.254/")}) as trap,
            painting(picture_networks=read_networks(["127.0.0.1"], "networks")) as aos,
            asking(aos) as (rest, _),
        ):
            got = await rest.post(EDITS, json=asked(image=f"{trap}/"))
        assert (got.status_code, got.json()["error"]["param"]) == (400, "image")
        assert "169.254.169.254" in got.json()["message"]

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (reply(b"", status="404 Not Found"), "status 404"),
            (reply(b"", status="302 Found", location="/here"), "leads elsewhere more than 3 times"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "cannot be got"),
            (b"not http at all\r\n\r\n", "cannot be got"),
            (reply(bytes(20_000_001)), "more than 20000000 bytes"),
        ],
        ids=["missing", "loop", "half", "no http", "too large"],
    )
    async def test_nothing_came(self, rest, answer, says):
        """A URL that gives no picture is a failure of its server: 502, and why."""
        async with web({"/here": answer}) as other:
            got = await rest.post(EDITS, json=asked(image=f"{other}/here"))
        body = got.json()
        assert (got.status_code, body["code"], body["error"]["code"], body["error"]["param"]) == (
            502,
            1008,
            "download_failed",
            "image",
        )
        assert says in body["message"]

    async def test_something_else_came(self, rest):
        """What is no picture is refused whatever its content type says."""
        async with web({"/a.png": reply(b"<html>", **{"content-type": "image/png"})}) as other:
            got = await rest.post(EDITS, json=asked(image=f"{other}/a.png"))
        assert (got.status_code, got.json()["error"]["param"]) == (400, "image")

    async def test_nobody_there(self, rest):
        """A URL that nobody answers is not waited for longer than it takes to hear so."""
        got = await rest.post(EDITS, json=asked(image="http://127.0.0.1:1/a.png"))
        assert (got.status_code, got.json()["code"]) == (502, 1008)

    async def test_a_mask_from_a_url(self, rest):
        """Masks are got as pictures are."""
        async with web({"/mask": reply(hole()), "/a": reply(file(pixels()))}) as other:
            got = await rest.post(EDITS, json=asked(image=f"{other}/a", mask=f"{other}/mask"))
        assert got.status_code == 200, got.text
