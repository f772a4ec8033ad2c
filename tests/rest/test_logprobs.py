"""Log-probabilities through REST, in OpenAI's shape."""

from __future__ import annotations

import json

import openai
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"model": "scripted", "messages": [{"role": "user", "content": "What is AI?"}], "logprobs": True, "top_logprobs": 1}


def entry(byte: int) -> dict:
    """What is said of a byte of the scripted model, which is certain of each."""
    one = {"token": bytes([byte]).decode(errors="replace"), "logprob": 0.0, "bytes": [byte]}
    return one | {"top_logprobs": [one]}


def streamed(text: str) -> list[dict]:
    return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n") if event.startswith("data: {")]


class TestLogprobs:
    async def test_whole(self, rest):
        """An entry for each token, with its bytes and the likeliest in its place."""
        body = (await rest.post("/v1/chat/completions", json=ASKED)).json()

        assert body["choices"][0]["logprobs"] == {"content": [entry(byte) for byte in b"Scripted."], "refusal": None}

    async def test_streamed(self, rest):
        """The same entries, each with the text that it belongs to."""
        first, *texts, last = streamed((await rest.post("/v1/chat/completions", json=ASKED | {"stream": True})).text)

        content = [one for event in texts for one in event["choices"][0]["logprobs"]["content"]]
        assert content == [entry(byte) for byte in b"Scripted."]
        for event in texts:
            choice = event["choices"][0]
            assert choice["delta"]["content"] == "".join(one["token"] for one in choice["logprobs"]["content"])
        assert first["choices"][0]["logprobs"] is last["choices"][0]["logprobs"] is None

    @pytest.mark.parametrize("stream", [True, False])
    async def test_parts_of_characters(self, aos_rest, rest, stream):
        """Tokens that are parts of a character have their bytes, none missing, though no text is right for them."""
        said = f"part {stream}"
        aos_rest.model.say("é!", to=said)
        asked = ASKED | {"messages": [{"role": "user", "content": said}], "stream": stream}
        reply = await rest.post("/v1/chat/completions", json=asked)
        choices = [event["choices"][0] for event in streamed(reply.text)] if stream else reply.json()["choices"]

        content = [one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]]
        assert bytes(byte for one in content for byte in one["bytes"]).decode() == "é!"
        assert [one["token"] for one in content] == ["\ufffd", "\ufffd", "!"]

    async def test_an_empty_answer(self, aos_rest, rest):
        """An answer without tokens has an empty list."""
        aos_rest.model.say("", to="nothing")
        body = (await rest.post("/v1/chat/completions", json=ASKED | {"messages": [{"role": "user", "content": "nothing"}]})).json()

        assert body["choices"][0]["logprobs"] == {"content": [], "refusal": None}

    async def test_openais_client(self, aos_rest):
        """OpenAI's own client reads them, whole and streamed, and its accumulator puts them together."""
        async with openai.AsyncOpenAI(base_url=f"{aos_rest.url}/v1", api_key=aos_rest.token, max_retries=0) as client:
            whole = await client.chat.completions.create(**ASKED)
            async with client.chat.completions.stream(**ASKED) as stream:
                final = await stream.get_final_completion()

        for answer in (whole, final):
            content = answer.choices[0].logprobs.content
            assert "".join(one.token for one in content) == "Scripted."
            assert content[0].top_logprobs[0].bytes == list(b"S")
