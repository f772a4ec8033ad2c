"""The AICI dialect's controllers: `POST /v1/controllers`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aos.controller_names import MODULE_BYTES
from tests.modules import digits, module

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROW = ["module_id", "wasm_size", "compiled_size", "time"]
TYPES = [
    None,
    "application/wasm",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "application/json",
    "text/plain; charset=utf-8",
    "multipart/form-data; boundary=x",
]


def headers(kind: str | None) -> dict[str, str]:
    return {} if kind is None else {"content-type": kind}


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def zeros(count: int) -> AsyncIterator[bytes]:
    """So many, without ever holding them."""

    async def parts() -> AsyncIterator[bytes]:
        part = bytes(1 << 20)
        for _ in range(count >> 20):
            yield part
        yield bytes(count & ((1 << 20) - 1))

    return parts()


class TestUpload:
    async def test_what_is_said_of_a_module(self, rest):
        """The documented members, with what is true."""
        data = module("said")
        reply = await rest.post("/v1/controllers", content=data)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
        row = reply.json()
        assert list(row) == ROW
        assert (row["module_id"], row["wasm_size"]) == (digits(data), len(data))
        assert row["compiled_size"] > 0
        assert row["time"] > 0

    async def test_again_is_the_same(self, rest):
        """One module, one id, whoever sends it how often."""
        first, second = [(await rest.post("/v1/controllers", content=module("again"))).json() for _ in range(2)]
        assert first | {"time": 0} == second | {"time": 0}

    @pytest.mark.parametrize("kind", TYPES)
    async def test_the_content_type_means_nothing(self, rest, kind):
        """The body is the module, whatever the sender calls it."""
        reply = await rest.post("/v1/controllers", content=module("kinds"), headers=headers(kind))
        assert reply.json()["module_id"] == digits(module("kinds"))

    async def test_a_length_need_not_be_known(self, rest):
        """A module may come in chunks."""
        data = module("chunks", padding=3 << 20)
        reply = await rest.post("/v1/controllers", content=chunks(data, 70_000))
        assert (reply.json()["module_id"], reply.json()["wasm_size"]) == (digits(data), len(data))

    @pytest.mark.parametrize("prefix", ["/p", "/a/b/c", "/v1", "/api", "/v1/images"])
    async def test_a_prefix_means_nothing(self, rest, prefix):
        """Of any length, also one that looks like another dialect's path."""
        reply = await rest.post(f"{prefix}/v1/controllers", content=module("prefix"))
        assert reply.json()["module_id"] == digits(module("prefix"))

    async def test_a_token_may_come_as_an_api_key(self, aos_rest, bare):
        """As the runtime's own clients send it; `authorization` goes before it."""
        for headers, status in (
            ({"api-key": aos_rest.token}, 200),
            ({"api-key": "nobody", "authorization": f"Bearer {aos_rest.token}"}, 200),
            ({"api-key": aos_rest.token, "authorization": "Bearer nobody"}, 401),
        ):
            reply = await bare.post("/v1/controllers", content=module("key"), headers=headers)
            assert reply.status_code == status
            assert (await bare.get("/v1/controllers/tags", headers=headers)).status_code == status


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "APIError: Bad response (mk_module): compile: "),
            (b"<html>", "APIError: Bad response (mk_module): compile: "),
            (module(memory=""), "APIError: Bad response (mk_module): memory missing"),
            (module(aici_mid_process="-"), "APIError: Bad response (mk_module): export aici_mid_process is missing"),
            (module(imports='(import "env" "x" (func))'), "APIError: Bad response (mk_module): import env.x is unknown"),
        ],
        ids=["nothing", "text", "no memory", "no export", "import"],
    )
    async def test_what_is_no_controller(self, rest, data, said):
        """400, in plain text, with the reason."""
        reply = await rest.post("/v1/controllers", content=data)
        assert (reply.status_code, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert reply.text.startswith(said)

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_what_is_too_large(self, rest, chunked):
        """413 for one byte above the limit, said or not, and its sender hears why."""
        size = MODULE_BYTES + 1
        said = {} if chunked else {"content-length": str(size)}
        reply = await rest.post("/v1/controllers", content=zeros(size), headers=said)
        assert (reply.status_code, reply.headers["content-type"]) == (413, "text/plain; charset=utf-8")
        assert reply.text == f"APIError: body: has {size} bytes; at most {MODULE_BYTES} are accepted"

    async def test_strangers(self, bare):
        """401 without a token, and with one that nobody holds."""
        for token in ({}, {"authorization": "Bearer nobody"}, {"api-key": "nobody"}):
            reply = await bare.post("/v1/controllers", content=module("a"), headers=token)
            assert reply.status_code == 401
            assert reply.text.startswith("APIError: ")

    @pytest.mark.parametrize("path", ["/v1/controllers", "/a/v1/controllers", "/v1/run", "/a/v1/run"])
    async def test_other_methods(self, rest, path):
        """405, which says what is right."""
        reply = await rest.get(path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        assert reply.text == "APIError: This path takes POST."

    async def test_the_proxys_own_path(self, rest):
        """There is no proxy before this server: clients that ask for its prefixes get 404."""
        assert (await rest.get("/proxy/info")).status_code == 404
