"""One port for everything: REST, gRPC, gRPC-web, health and reflection; and what Envoy answers by itself."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aos.errors import JobNotFound
from aos.rpc.channel import channel
from aos.v1.dispatcher_pb2 import CreateJobRequest, GetJobRequest, Job, JobEvent, WatchJobRequest
from aos.v1.types_pb2 import Order
from tests.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

HI = Order(model="scripted", prompt="hi")
MODELS_ERROR = {"code", "message", "error"}
JOBS_ERROR = {"code", "message", "result"}
NATIVE_ERROR = {"code", "message", "details"}


class TestGrpc:
    async def test_native_calls_and_streams(self, aos_rest):
        """The native API is on the port, with its streams."""
        job = await aos_rest.dispatcher.CreateJob(CreateJobRequest(order=HI))
        events = [event async for event in aos_rest.dispatcher.WatchJob(WatchJobRequest(name=job.name))]
        assert events[-1].outcome.text == "Scripted."

    async def test_native_errors_keep_their_details(self, aos_rest):
        """Through Envoy, too, an error is its class with its facts."""
        with refused("JOB_NOT_FOUND", code="NOT_FOUND"):
            await aos_rest.dispatcher.GetJob(GetJobRequest(name=f"jobs/{'0' * 64}"))

    async def test_health(self, aos_rest, bare):
        """gRPC's health check, and `/healthz` for balancers, need no token."""
        async with channel(aos_rest.address) as opened:
            reply = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert (await bare.get("/healthz")).status_code == 200

    async def test_reflection(self, aos_rest):
        """Tools like grpcurl find the services."""
        async with channel(aos_rest.address) as opened:
            call = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
            )
            (reply,) = [message async for message in call]
        names = {service.name for service in reply.list_services_response.service}
        assert {"aos.v1.Dispatcher", "aos.v1.Registry", "aos.v1.Broker", "gateway.v1.Jobs", "gateway.v1.Models"} <= names

    async def test_an_unknown_method_is_unimplemented(self, aos_rest):
        """As gRPC's callers expect."""
        async with channel(aos_rest.address, aos_rest.token) as opened:
            call = opened.unary_unary("/aos.v1.Dispatcher/NoSuchMethod", lambda _: b"", lambda data: data)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(None, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def framed(message) -> bytes:
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        kind, length = struct.unpack(">BI", data[:5])
        found.append((kind, data[5 : 5 + length]))
        data = data[5 + length :]
    return found


class TestGrpcWeb:
    async def test_a_page_can_call(self, rest):
        """gRPC-web, binary and text, carries messages and trailers."""
        headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        reply = await rest.post("/aos.v1.Dispatcher/CreateJob", content=framed(CreateJobRequest(order=HI)), headers=headers)
        (_, message), (kind, trailers) = frames(reply.content)
        assert kind == 0x80
        assert b"grpc-status:0" in trailers.replace(b" ", b"")
        name = Job.FromString(message).name

        headers["content-type"] = headers["accept"] = "application/grpc-web-text+proto"
        asked = base64.b64encode(framed(WatchJobRequest(name=name)))
        reply = await rest.post("/aos.v1.Dispatcher/WatchJob", content=asked, headers=headers)
        # pieces that are each padded, so each group of four is read by itself
        data = b"".join(base64.b64decode(reply.content[at : at + 4]) for at in range(0, len(reply.content), 4))
        events = [JobEvent.FromString(message) for kind, message in frames(data) if not kind]
        assert events[-1].outcome.text == "Scripted."


class TestNativeRest:
    async def test_a_job_from_submit_to_receipt(self, rest):
        """The native API's REST form: create, watch, get, list, receipt, account."""
        job = (await rest.post("/v1/jobs", json={"order": {"model": "scripted", "prompt": "hi"}})).json()
        watched = (await rest.get(f"/v1/{job['name']}:watch")).text.strip().split("\n\n")
        assert all(line.startswith("data: {") for line in watched)
        assert '"JOB_STATE_COMPLETED"' in watched[-1]
        assert (await rest.get(f"/v1/{job['name']}")).json()["outcome"]["text"] == "Scripted."
        assert (await rest.get("/v1/jobs", params={"page_size": 1})).json()["jobs"]
        assert (await rest.get(f"/v1/{job['name']}/receipt")).json()["receipt"]["signature"]
        assert (await rest.get("/v1/accounts/-")).json()["name"] == "accounts/demo"

    async def test_errors_carry_their_details(self, rest):
        """The body is google.rpc.Status with reason and metadata, under the right HTTP status."""
        reply = await rest.get(f"/v1/jobs/{'0' * 64}")
        body = reply.json()
        assert (reply.status_code, body["code"]) == (404, 5)
        assert body["details"][0]["reason"] == JobNotFound.reason

    async def test_a_wrong_type_is_named(self, rest):
        """Envoy's own refusal of a body has the same shape."""
        reply = await rest.post("/v1/jobs", json={"order": 5})
        assert (reply.status_code, set(reply.json()), reply.json()["code"]) == (400, NATIVE_ERROR, 3)
        assert "order" in reply.json()["message"]


FAMILIES = [("/api/job/submit", JOBS_ERROR), ("/v1/chat/completions", MODELS_ERROR), ("/v1/jobs", NATIVE_ERROR)]


class TestEnvoysOwnReplies:
    @pytest.mark.parametrize(
        ("path", "shape"),
        [
            ("/api/job/verify-me", JOBS_ERROR),
            ("/api/", JOBS_ERROR),
            ("/v1/chat/nothing", MODELS_ERROR),
            ("/v1/nothing", NATIVE_ERROR),
            ("/nothing", NATIVE_ERROR),
            ("/../../etc/passwd", NATIVE_ERROR),
            ("/aos.v1.Dispatcher/CreateJob", NATIVE_ERROR),
        ],
    )
    @pytest.mark.parametrize("verb", ["GET", "POST"])
    async def test_an_unknown_path_is_404(self, rest, verb, path, shape):
        """In the shape of the dialect that the path belongs to."""
        reply = await rest.request(verb, path)
        assert (reply.status_code, set(reply.json())) == (404, shape), reply.text
        assert reply.headers["content-type"] == "application/json"

    @pytest.mark.parametrize("verb", ["PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize(("path", "shape"), FAMILIES)
    async def test_a_wrong_method_is_405(self, rest, verb, path, shape):
        """With the methods that the path does take."""
        reply = await rest.request(verb, path)
        allowed = "GET, POST" if path == "/v1/jobs" else "POST"
        assert (reply.status_code, reply.headers["allow"], set(reply.json())) == (405, allowed, shape)

    @pytest.mark.parametrize(
        ("verb", "path"),
        [
            *(("GET", f"/api/job/{name}") for name in ("submit", "result", "detail")),
            ("GET", "/v1/chat/completions"),
            ("POST", "/v1/models"),
            ("POST", "/v1/models/org/name"),
            ("GET", "/v1/jobs/x:cancel"),
            ("POST", "/v1/jobs/x:watch"),
            ("POST", "/v1/jobs/x/receipt"),
        ],
    )
    async def test_get_and_post_are_not_the_same(self, rest, verb, path):
        """Asking in the wrong one of the two says which is right."""
        reply = await rest.request(verb, path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST" if verb == "GET" else "GET")

    @pytest.mark.parametrize(("path", "shape"), FAMILIES)
    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_that_is_too_large_is_413(self, rest, path, shape, chunked):
        """Above the limit, announced or not, with the limit named."""
        data = b'{"job":"' + b"x" * (2 << 20) + b'"}'

        async def pieces():
            for at in range(0, len(data), 1 << 16):
                yield data[at : at + (1 << 16)]

        reply = await rest.post(path, content=pieces() if chunked else data)
        assert (reply.status_code, set(reply.json())) == (413, shape)
        assert "at most 2097152 bytes" in reply.json()["message"]

    @pytest.mark.parametrize(("path", "shape"), FAMILIES)
    async def test_a_huge_body_is_refused_before_it_is_read(self, aos_rest, path, shape):
        """30 MB announced: the refusal comes before the body is sent."""
        url = httpx.URL(aos_rest.url)
        with contextlib.closing(socket.create_connection((url.host, url.port), timeout=10)) as raw:
            raw.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n".encode())
            head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert set(httpx.Response(413, content=body).json()) == shape

    async def test_headers_that_are_too_large_are_431(self, rest):
        """Too long or too many."""
        for headers in ({"x-long": "x" * 70_000}, {f"x-{number}": "1" for number in range(120)}):
            assert (await rest.get("/v1/models", headers=headers)).status_code == 431

    @pytest.mark.parametrize("header", ["x-some-bin", "grpc-timeout"])
    @pytest.mark.parametrize(("path", "shape"), FAMILIES)
    async def test_grpcs_headers_mean_nothing_in_rest(self, rest, path, shape, header):
        """Junk in a header that only gRPC reads is no failure of the servers."""
        reply = await rest.post(path, json={}, headers={header: "%%%"})
        assert (reply.status_code, set(reply.json())) == (400, shape)

    @pytest.mark.parametrize("path", ["/api/job/result", "/v1/chat/completions", "/v1/models"])
    async def test_a_token_that_no_header_can_carry_is_401(self, bare, path):
        """Bytes beyond ASCII are nobody's token."""
        headers = {"authorization": b"Bearer \xfc", "x-request-id": b"\xfc"}
        body = {"job_id": "x"} if "job" in path else {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
        call = bare.get(path, headers=headers) if path == "/v1/models" else bare.post(path, json=body, headers=headers)
        assert (await call).status_code == 401

    async def test_a_request_id_comes_back(self, rest):
        """The caller's own, or a new one."""
        assert (await rest.get("/v1/models", headers={"x-request-id": "mine"})).headers["x-request-id"] == "mine"
        assert (await rest.get("/v1/nothing")).headers["x-request-id"]

    async def test_a_native_message_may_be_larger_than_a_rest_body(self, aos_rest):
        """gRPC has the servers' limit: a prompt too large is refused by them, by name."""
        order = Order(model="scripted", prompt="x" * (3 << 20))
        with refused("INVALID_FIELD", saying="order.prompt"):
            await aos_rest.dispatcher.CreateJob(CreateJobRequest(order=order))

    async def test_a_grpc_caller_gets_grpc_errors(self, aos_rest):
        """Envoy's JSON bodies are for REST alone."""
        async with channel(aos_rest.address, aos_rest.token) as opened:
            call = opened.unary_unary("/no.such.Service/Method", lambda _: b"", lambda data: data)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(None, timeout=10)
        assert "{" not in (caught.value.details() or "")

    async def test_dialect_replies_have_no_grpc_headers(self, rest):
        """A failure does not read 404 and grpc-status 0 at once."""
        reply = await rest.get("/v1/models/nobody")
        assert reply.status_code == 404
        assert not [name for name in reply.headers if name.startswith(("grpc-", "x-aos-"))]
