"""Pictures over REST: OpenAI's client and the model interface's, through a real Envoy."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncGenerator
from urllib.parse import parse_qs, urlsplit

import httpx
import openai
import pytest
import pytest_asyncio
from google.protobuf.json_format import Parse

from aos.picture_order import digest_pictures
from aos.pictures import head, read_picture
from aos.rpc.status import answered
from aos.storage.blobs import BlobLimits
from aos.testing.clock import START, ManualClock
from aos.testing.harness import Aos
from aos.testing.painted import PaintedModel
from aos.v1.dispatcher_pb2 import JOB_STATE_CANCELLED, GetJobRequest, ListJobsRequest, ReceiptBundle
from aos.v1.types_pb2 import Order, Picture, PictureInput
from aos.verification.receipts import check_bundle
from tests.cli.conftest import run_aos
from tests.rest.painting import GENERATIONS, MODEL, asking, painting

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network() -> AsyncGenerator[Aos]:
    async with painting() as aos:
        yield aos


@pytest_asyncio.fixture(loop_scope="module")
async def rest(network: Aos) -> AsyncGenerator[httpx.AsyncClient]:
    async with asking(network) as (rest, _):
        yield rest


@pytest_asyncio.fixture(loop_scope="module")
async def client(network: Aos) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with asking(network) as (_, client):
        yield client


def asked(**fields) -> dict[str, object]:
    return {"model": MODEL, "prompt": "a red circle", "size": "96x64"} | fields


class TestAnswer:
    async def test_official_client(self, client):
        """OpenAI's client gets a URL a picture, which anyone can open: a PNG of the size that was asked for."""
        got = await client.images.generate(model=MODEL, prompt="a red circle", n=2, size="256x256")

        assert len(got.data) == 2
        async with httpx.AsyncClient() as anyone:
            files = [(await anyone.get(one.url)).content for one in got.data]
        assert [(head(one, "x").kind, head(one, "x").width, head(one, "x").height) for one in files] == [("PNG", 256, 256)] * 2
        assert files[0] != files[1]

    async def test_base64(self, client):
        """With `b64_json` the same picture comes in the reply itself."""
        more = {"seed": 7}
        linked = await client.images.generate(model=MODEL, prompt="a dog", size="256x256", extra_body=more)
        inside = await client.images.generate(
            model=MODEL, prompt="a dog", size="256x256", response_format="b64_json", extra_body=more
        )

        async with httpx.AsyncClient() as anyone:
            file = (await anyone.get(linked.data[0].url)).content
        assert base64.b64decode(inside.data[0].b64_json) == file

    async def test_shape(self, network, rest):
        """The reply has the documented shape, both keys included, and says which job it was and what it took."""
        reply = await rest.post(GENERATIONS, json=asked(prompt="12345678", n=2))

        body = reply.json()
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
        assert (body["code"], body["message"], body["model"]) == (0, "success", MODEL)
        assert abs(body["created"] - time.time()) < 60
        assert [sorted(one) for one in body["data"]] == [["b64_json", "revised_prompt", "url"]] * 2
        assert [(one["b64_json"], one["revised_prompt"]) for one in body["data"]] == [("", "")] * 2
        assert body["usage"] == {
            "input_tokens": 2,
            "input_tokens_details": {"text_tokens": 2, "image_tokens": 0},
            "output_tokens": 12,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 12},
            "total_tokens": 14,
        }
        outcome = await network.client.outcome(body["aos"]["job"])
        assert outcome.receipt.price == str(2 * 1 + 12 * 2)

    async def test_defaults(self, rest):
        """Whoever says no more than the prompt gets one picture of 1024 x 1024 pixels, by URL."""
        body = (await rest.post(GENERATIONS, json={"model": MODEL, "prompt": "a tree"})).json()

        (one,) = body["data"]
        async with httpx.AsyncClient() as anyone:
            found = head((await anyone.get(one["url"])).content, "x")
        assert (found.width, found.height) == (1024, 1024)

    @pytest.mark.parametrize(
        "fields",
        [
            {"size": "128x64"},
            {"width": 128, "height": 64, "size": None},
            {"width": 128, "height": 64, "size": "128x64"},
            {"width": 128, "height": 64, "size": "auto"},
        ],
    )
    async def test_size(self, rest, fields):
        """Size, width and height say the same in two ways; both may be sent if they agree."""
        body = (await rest.post(GENERATIONS, json=asked(**fields, response_format="b64_json"))).json()
        found = head(base64.b64decode(body["data"][0]["b64_json"]), "x")
        assert (found.width, found.height) == (128, 64)

    async def test_many_large(self, rest):
        """Ten pictures come in one reply, longer than a message may be."""
        fields = asked(size="1536x1024", n=10, response_format="b64_json")
        body = (await rest.post(GENERATIONS, json=fields)).json()
        assert [read_picture(base64.b64decode(one["b64_json"]), "x").shape for one in body["data"]] == [(1024, 1536, 3)] * 10

    async def test_native_client(self, network):
        """The native client gets the files themselves."""
        files = await network.client.paint(MODEL, "a boat", width=96, height=64, count=2)
        assert [head(one, "x").width for one in files] == [96, 96]

    async def test_values_that_ask_for_nothing(self, rest):
        """What clients send unasked, with the value that changes nothing, is taken."""
        fields = {"quality": "auto", "background": "opaque", "moderation": "auto", "output_format": "png", "stream": False}
        assert (await rest.post(GENERATIONS, json=asked(**fields, wallet="0x", signature="", hash=""))).status_code == 200


class TestLinks:
    async def test_headers(self, rest):
        """A picture's link gives it as what it is, to be run by nobody, for as long as the link is good."""
        body = (await rest.post(GENERATIONS, json=asked())).json()
        async with httpx.AsyncClient() as anyone:
            got = await anyone.get(body["data"][0]["url"])

        assert got.headers["content-type"] == "image/png"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in got.headers["content-security-policy"]
        assert 0 < int(got.headers["cache-control"].rpartition("=")[2]) <= 3600

    async def test_named_by_what_it_holds(self, network, rest):
        """The name in a link is the file's SHA-256, and the receipt is for those names."""
        body = (await rest.post(GENERATIONS, json=asked(n=2))).json()
        urls = [one["url"] for one in body["data"]]
        async with httpx.AsyncClient() as anyone:
            files = [(await anyone.get(url)).content for url in urls]

        names = [urlsplit(url).path.rpartition("/")[2] for url in urls]
        assert names == [hashlib.sha256(one).hexdigest() for one in files]
        receipt = (await network.client.outcome(body["aos"]["job"])).receipt
        assert receipt.output_digest == digest_pictures(Picture(data=one) for one in files)

    @pytest.mark.parametrize("changed", ["signature", "owner", "expires"])
    async def test_forged(self, rest, changed):
        """A link that was changed gives nothing, and says why."""
        url = (await rest.post(GENERATIONS, json=asked())).json()["data"][0]["url"]
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        query[changed] = {"signature": "0" * 64, "owner": "0" * 32, "expires": "4000000000"}[changed]
        async with httpx.AsyncClient() as anyone:
            got = await anyone.get(url.partition("?")[0], params=query)
            bare = await anyone.get(url.partition("?")[0])

        assert got.status_code == bare.status_code == 401
        assert "not as it was made" in got.json()["message"]

    async def test_out_of_date(self):
        """A link ends in time, and so does the file."""
        clock = ManualClock(START)
        async with painting(clock=clock, blobs=BlobLimits(link_seconds=60, keep_seconds=100)) as aos, asking(aos) as (rest, _):
            body = (await rest.post(GENERATIONS, json=asked())).json()
            url = body["data"][0]["url"]
            async with httpx.AsyncClient() as anyone:
                clock.advance(seconds=59)
                good = await anyone.get(url)
                clock.advance(seconds=1)
                late = await anyone.get(url)
                assert (good.status_code, late.status_code) == (200, 401)
                assert "out of date" in late.json()["message"]
            clock.advance(seconds=40)
            gone = await rest.post("/v1/images/edits", json=asked(image=url))
            assert (gone.status_code, gone.json()["error"]["code"]) == (404, "blob_not_found")

    @pytest.mark.parametrize("form", ["url", "b64_json"])
    async def test_gone_too_soon(self, form):
        """Where less is kept than was made, the reply says so, and is not half of one."""
        async with painting(blobs=BlobLimits(owner_files=1)) as aos, asking(aos) as (rest, _):
            got = await rest.post(GENERATIONS, json=asked(n=2, response_format=form))
        assert (got.status_code, got.json()["error"]["code"]) == (404, "blob_not_found")

    async def test_no_name_of_a_file(self, network):
        """Paths that name no file are not found."""
        async with httpx.AsyncClient(base_url=network.url) as anyone:
            for path in ("/v1/blobs/nothing", f"/v1/blobs/{'A' * 64}"):
                assert (await anyone.get(path)).status_code == 404


class TestReceipt:
    async def test_verified_offline(self, rest, tmp_path):
        """`aos verify` checks names, prompt, counts and price; a picture that was exchanged is found."""
        body = (await rest.post(GENERATIONS, json=asked(n=2))).json()
        text = (await rest.get(f"/v1/{body['aos']['job']}/receipt")).text
        file = tmp_path / "receipt.json"
        file.write_text(text)

        held = await run_aos("verify", str(file))
        assert "the pictures are the ones that were signed for" in held.out
        assert held.code == 0

        bundle = Parse(text, ReceiptBundle())
        bundle.pictures[0].CopyFrom(bundle.pictures[1])
        assert [one.what for one in check_bundle(bundle) if one.good is False] == ["the pictures are the ones that were signed for"]


class TestGoingAway:
    async def test_cancels_the_job(self):
        """A caller who goes away ends the job between two steps."""
        model = PaintedModel()
        async with painting(model) as aos, asking(aos) as (rest, _):
            hold = model.hold()
            asking_ = asyncio.create_task(rest.post(GENERATIONS, json=asked()))
            await hold.reached()
            asking_.cancel()
            await asyncio.gather(asking_, return_exceptions=True)
            jobs = (await answered(aos.dispatcher.ListJobs(ListJobsRequest()))).jobs
            async with asyncio.timeout(20):
                while (await answered(aos.dispatcher.GetJob(GetJobRequest(name=jobs[0].name)))).state != JOB_STATE_CANCELLED:
                    await asyncio.sleep(0.02)
            hold.release()
            async with asyncio.timeout(20):
                while not model.cancelled:
                    await asyncio.sleep(0.02)
            assert model.steps == 0
            assert (await rest.post(GENERATIONS, json=asked())).status_code == 200

    async def test_by_name_through_the_jobs_dialect(self, network, rest):
        """A job for a picture is shown with its prompt where jobs are listed."""
        job = await network.client.submit(Order(model=MODEL, picture=PictureInput(prompt="a lone tree", width=64, height=64)))
        await network.client.outcome(job)
        reply = await rest.post("/api/job/detail", json={"job_id": job.name.removeprefix("jobs/")})
        assert "a lone tree" in reply.text
