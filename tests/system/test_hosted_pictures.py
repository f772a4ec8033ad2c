"""Registered servers of pictures in a whole network: offered, asked, paid, signed for, checked, counted."""

from __future__ import annotations

import pytest

from aos.errors import ModelUnsuitable, OperatorLost
from aos.pictures import head, read_picture
from aos.testing.harness import PRICE
from aos.v1 import registry_pb2 as pb
from aos.v1.dispatcher_pb2 import GetReceiptRequest
from aos.v1.operator_pb2 import DescribeOperatorRequest, GetMetricsRequest
from aos.v1.types_pb2 import Order, Picture, PictureInput, Sampling
from aos.verification.receipts import check_bundle
from aos.verification.upstream import name_digest
from tests.operator.model_server import Asked, model_server, replies
from tests.operator.picture_server import form_of, painted, paints
from tests.system.test_hosting import ask, chatting, network, register, replica, until

MODEL, SIZE = "painter", (96, 64)
IMAGE, EDIT = pb.MODEL_KIND_IMAGE, pb.MODEL_KIND_IMAGE_EDIT


def drawing(*, count: int = 1, source: bytes = b"", model: str = MODEL) -> Order:
    picture = PictureInput(prompt="a red circle", width=SIZE[0], height=SIZE[1], count=count)
    if source:
        picture.sources.append(Picture(data=source))
    return Order(model=model, picture=picture, sampling=Sampling(seed=5))


async def checked(aos, capability: str) -> list[pb.Replica]:
    """Return the replicas once what they can do was found."""
    return await replica(aos, lambda found: any(capability in one.capabilities for one in found))


def drawn(asked: Asked) -> bool:
    """Whether the request is for a picture of the test's, not the check's."""
    return asked.body.get("size") == "96x64"


def sized(asked: Asked) -> bool:
    """The same, of forms."""
    return "multipart" in asked.headers.get("content-type", "") and form_of(asked)["size"] == b"96x64"


class TestPictures:
    async def test_just_another_model(self):
        """A registered server's pictures are those of any model: of the size asked for, at the price of our own, signed for."""
        async with model_server(pictures=paints) as server, network() as aos:
            await register(aos, server, model=MODEL, kind=IMAGE)
            model = await until(aos, lambda found: True, MODEL)
            job = await aos.client.submit(drawing(count=2))
            outcome = await aos.client.outcome(job)
            files = [await aos.client.read(f"blobs/{one.sha256.hex()}") for one in outcome.pictures]
            bundle = await aos.dispatcher.GetReceipt(GetReceiptRequest(name=job.name))

        assert (model.images, model.image_edits, model.chat) == (True, False, False)
        assert [(one.kind, one.width, one.height) for one in (head(file, "x") for file in files)] == [("PNG", *SIZE)] * 2
        assert [read_picture(file, "x")[0, 0].tolist() for file in files] == [[5, 0, 7], [6, 0, 7]]
        # 3 for 12 bytes of prompt; 6 for each picture of 6144 pixels
        assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (3, 12)
        assert bundle.receipt.price == str(3 * int(PRICE.prompt_token) + 12 * int(PRICE.completion_token))
        assert bundle.receipt.profile.startswith("upstream/1 png=pillow-")
        assert bundle.receipt.model_digest == name_digest(MODEL)
        findings = list(check_bundle(bundle))
        assert [one for one in findings if one.good is False] == []
        assert [one.what for one in findings if one.good is None] == ["that the model gives these pictures"]

    async def test_edits(self):
        """A server that changes pictures is asked for that, and one that makes them for that, under one name."""
        async with model_server(edits=paints) as changes, model_server(pictures=paints) as makes, network() as aos:
            specs = [
                pb.ReplicaSpec(model=MODEL, api=changes.url, kind=EDIT),
                pb.ReplicaSpec(model=MODEL, api=makes.url, kind=IMAGE),
            ]
            await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="shop", replicas=specs))
            await until(aos, lambda found: found.routable and found.images and found.image_edits, MODEL)
            await ask(aos, drawing(source=painted(*SIZE)))
            await ask(aos, drawing())

            assert [one.path for one in changes.asked if drawn(one)] == []
            assert [one.path for one in makes.asked if drawn(one)] == ["/v1/images/generations"]
            assert [form_of(one)["size"] for one in changes.asked if sized(one)] == [b"96x64"]
            with pytest.raises(ModelUnsuitable):
                await ask(aos, chatting(model=MODEL))

    async def test_several_sources(self):
        """What one server takes of several pictures is the server's matter: all of them reach it, are paid and signed for."""
        sources = [painted(*SIZE, colour=(number, 0, 0)) for number in range(3)]
        async with model_server(edits=paints) as server, network() as aos:
            await register(aos, server, model=MODEL, kind=EDIT)
            await until(aos, lambda found: found.routable and found.image_edits, MODEL)
            order = drawing()
            order.picture.sources.extend(Picture(data=one) for one in sources)
            job = await aos.client.submit(order)
            outcome = await aos.client.outcome(job)
            bundle = await aos.dispatcher.GetReceipt(GetReceiptRequest(name=job.name))

        sent = [one.data.count(b'name="image[]"') for one in server.asked if b'name="image[]"' in one.data]
        assert (sent, outcome.usage.prompt_tokens) == ([3], 3 + 3 * 6)
        assert [one.data for one in bundle.order.picture.sources] == sources
        assert [one for one in check_bundle(bundle) if one.good is False] == []

    async def test_fails(self):
        """A job whose server goes on failing fails, too; once the server is good again, it is used."""
        async with model_server(pictures=paints) as server, network(check_seconds=0.3) as aos:
            await register(aos, server, model=MODEL, kind=IMAGE)
            await checked(aos, "models")
            server.pictures = replies("200 OK", {"data": []})
            with pytest.raises(OperatorLost):
                await ask(aos, drawing())
            server.pictures = paints
            await until(aos, lambda found: found.routable, MODEL)

            assert len((await ask(aos, drawing())).pictures) == 1


class TestChecked:
    async def test_capabilities(self):
        """What a server's check found is shown with it."""
        async with model_server(pictures=paints) as server, network() as aos:
            await register(aos, server, model=MODEL, kind=IMAGE)
            (one,) = await checked(aos, "errors")

        assert list(one.capabilities) == ["images", "models", "errors"]

    async def test_lacks_the_essential(self):
        """A server that is there and cannot do what it was registered for is refused, with the line of the check, and not used."""
        async with model_server() as server, network() as aos:
            spec = pb.ReplicaSpec(model=MODEL, api=server.url, kind=IMAGE)
            await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="shop", replicas=[spec]))
            (one,) = await replica(aos, lambda found: found[0].state == pb.REPLICA_STATE_REFUSED)
            model = await until(aos, lambda found: not found.routable and bool(found.reason), MODEL)

        assert one.reason.startswith("its check failed: images: status is 404")
        assert f"model servers that are refused ({server.url}: its check failed: images:" in model.reason

    async def test_checked_again(self):
        """A server that lacked something is used once a later check finds it."""
        async with model_server() as server, network(check_seconds=0.3) as aos:
            spec = pb.ReplicaSpec(model=MODEL, api=server.url, kind=IMAGE)
            await aos.admin.registry.RegisterProject(pb.RegisterProjectRequest(project="shop", replicas=[spec]))
            await replica(aos, lambda found: found[0].state == pb.REPLICA_STATE_REFUSED)
            server.pictures = paints
            await until(aos, lambda found: found.routable, MODEL)

            assert len((await ask(aos, drawing())).pictures) == 1


class TestSeen:
    async def test_described(self):
        """An operator describes the registered models beside its own."""
        async with model_server(pictures=paints) as server, network() as aos:
            await register(aos, server, model=MODEL, kind=IMAGE)
            found = (await aos.operator.DescribeOperator(DescribeOperatorRequest())).models
            one = next(one for one in found if one.name == MODEL)

        assert (one.digest, one.profile, one.images, one.loaded, one.slots) == (
            name_digest(MODEL).hex(),
            "upstream/1",
            True,
            True,
            8,
        )
        assert len(found) == 2

    async def test_counted(self):
        """Registered models have the metrics of any, as long as they are registered."""

        async def counted() -> list[str]:
            said = (await aos.operator.GetMetrics(GetMetricsRequest())).data.decode()
            return [line for line in said.splitlines() if 'model_name="m"' in line]

        async with model_server() as server, network() as aos:
            await register(aos, server)
            await ask(aos)
            lines = dict(line.replace(f',operator="{aos.operators[0]}"', "").rsplit(" ", 1) for line in await counted())
            await aos.admin.registry.UnregisterProject(pb.UnregisterProjectRequest(project="shop"))
            await until(aos, lambda found: not found.routable)
            while await counted():
                pass

        told = {name.removeprefix("vllm:"): float(value) for name, value in lines.items() if name.startswith("vllm:")}
        assert told['prompt_tokens_total{model_name="m"}'] == 7
        assert told['generation_tokens_total{model_name="m"}'] == 2
        assert told['num_requests_running{model_name="m"}'] == 0
        assert told['time_to_first_token_seconds_count{model_name="m"}'] == 1
        assert told['inter_token_latency_seconds_count{model_name="m"}'] == 1
        assert told['request_success_total{finished_reason="stop",model_name="m"}'] == 1
