"""Bodies that cannot be run, through Envoy to the real engine: each is refused with its reason, and the next one is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import load
from aos.settings import bundled_model
from aos.testing.harness import running_aos

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"model": "m", "messages": [{"role": "user", "content": "What is AI?"}], "max_tokens": 3}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real() -> AsyncGenerator[httpx.AsyncClient]:
    model = await asyncio.to_thread(load, bundled_model(), slots=2)
    try:
        async with running_aos(model, name="m", envoy=True, clock=SystemClock()) as network:
            headers = {"authorization": f"Bearer {network.token}", "content-type": "application/json"}
            async with httpx.AsyncClient(base_url=network.url, headers=headers, timeout=60) as client:
                yield client
    finally:
        await asyncio.to_thread(model.close)


async def lives(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/chat/completions", json=ASKED)
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["completion_tokens"] == 3


def with_text(field: str, value: str) -> bytes:
    """The request's JSON with a member written as it stands."""
    return json.dumps(ASKED)[:-1].encode() + f', "{field}": {value}}}'.encode()


class TestNumbers:
    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400, "1" + "0" * 5000])
    @pytest.mark.parametrize("field", ["temperature", "top_p", "seed", "max_completion_tokens", "presence_penalty"])
    async def test_that_are_none_or_too_large(self, real, field, value):
        """A number that JSON does not have, or that nothing can hold, is refused."""
        reply = await real.post("/v1/chat/completions", content=with_text(field, value))

        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["type"] == "invalid_request_error"

    async def test_the_next_one_is_answered(self, real):
        """And the engine has not noticed."""
        await lives(real)


class TestSizes:
    async def test_very_many_stop_strings(self, real):
        """A hundred thousand stop strings are refused, by the field's name."""
        reply = await real.post("/v1/chat/completions", json=ASKED | {"stop": [f"{number}" for number in range(100_000)]})

        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "stop"
        await lives(real)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_over_the_context(self, real, stream):
        """A prompt over the context is refused by the operator, with the reason; in a stream as well."""
        messages = [{"role": "user", "content": "word " * 20_000}]
        reply = await real.post("/v1/chat/completions", json=ASKED | {"messages": messages, "stream": stream})

        assert "context_length_exceeded" in reply.text
        await lives(real)

    async def test_deep_json(self, real):
        """Brackets within brackets are refused before anybody is lost in them."""
        for depth in (1_000, 100_000):
            reply = await real.post("/v1/chat/completions", content=with_text("metadata", "[" * depth + "]" * depth))
            assert reply.status_code == 400
        await lives(real)


class TestText:
    @pytest.mark.parametrize(
        "content", [b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\\ud800", b"\xf4\x90\x80\x80", b"\x00", b"\x1f"]
    )
    async def test_that_is_no_unicode(self, real, content):
        """Bytes that are no UTF-8, halves of characters and bare control characters are refused."""
        body = json.dumps(ASKED).encode().replace(b"What is AI?", content)
        for path in ("/v1/chat/completions", "/v1/jobs"):
            reply = await real.post(path, content=body)
            assert reply.status_code == 400, (path, reply.text)
        await lives(real)
