"""Several answers in one, when one of them fails, and the streams that they are made of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from gateway.joined import joined

CHAT = "/v1/chat/completions"


def asking(model: str, **more) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "one two"}], "n": 3, **more}


class TestFailures:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_one_failure_is_that_of_the_answer(self, edge, stream):
        """Before any text it has the failure's status."""
        async with edge.client() as client:
            reply = await client.post(CHAT, json=asking("fails", stream=stream))
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "model_error")

    async def test_in_mid_stream(self, edge):
        """After some text it is said in the stream, once, and the stream ends."""
        async with edge.client() as client:
            reply = await client.post(CHAT, json=asking("breaks", stream=True))
        *_, failure, mark, rest = reply.text.split("\n\n")
        assert (mark, rest) == ("data: [DONE]", "")
        assert json.loads(failure.removeprefix("data: "))["error"]["code"] == "model_error"
        assert reply.text.count("model_error") == 1

    @pytest.mark.parametrize("model", ["full", "nobody", "poor"])
    async def test_what_cannot_begin(self, edge, model):
        """No job is left when one cannot be made."""
        async with edge.client() as client:
            reply = await client.post(CHAT, json=asking(model))
        assert reply.status_code in {402, 404, 429}
        assert not edge.dispatcher.jobs

    async def test_seeds(self, edge):
        """Each answer has the next one; without one each job makes its own."""
        async with edge.client() as client:
            assert (await client.post(CHAT, json=asking("echo", seed=7))).status_code == 200
            assert (await client.post(CHAT, json=asking("echo"))).status_code == 200
        seeds = [job.order.sampling.seed if job.order.sampling.HasField("seed") else None for job in edge.dispatcher.jobs.values()]
        assert sorted(seeds[:3]) == [7, 8, 9]
        assert seeds[3:] == [None] * 3


async def counting(*items: int, error: Exception | None = None, closed: list[int] | None = None) -> AsyncGenerator[int]:
    try:
        for item in items:
            await asyncio.sleep(0)
            yield item
        if error is not None:
            raise error
        if closed is not None:
            await asyncio.Event().wait()
    finally:
        if closed is not None:
            closed.append(len(items))


class TestJoined:
    async def test_all_items_of_all(self):
        """Each with its stream's number, those of one in their order."""
        got = [item async for item in joined([counting(1, 2), counting(), counting(3)])]

        assert [item for index, item in got if index == 0] == [1, 2]
        assert [item for index, item in got if index == 2] == [3]
        assert len(got) == 3

    async def test_an_error_ends_it(self):
        """Behind what came before, and the others are closed."""
        closed, got = list[int](), list[tuple[int, int]]()
        stream = joined([counting(5, error=RuntimeError("broken")), counting(6, 7, closed=closed)])

        async def read() -> None:
            async for item in stream:
                got.append(item)

        with pytest.raises(RuntimeError, match="broken"):
            await read()

        assert (0, 5) in got
        assert closed == [2]

    async def test_leaving_closes_all(self):
        """Whoever reads no more leaves nothing running."""
        closed = list[int]()
        stream = joined([counting(1, closed=closed), counting(2, 3, closed=closed)])
        await anext(stream)
        await stream.aclose()

        assert sorted(closed) == [1, 2]
