"""The tokens of an input, as a registered server says; and questions to such a server."""

from __future__ import annotations

import pytest

from aos.errors import InvalidField, ModelUnsuitable
from aos.operator.upstream_group import Group, Member
from aos.operator.upstream_server import Fault
from aos.v1.types_pb2 import Order
from tests.operator.model_server import model_server, replies
from tests.operator.questioning import ended, questioned
from tests.operator.test_upstream import chatting, upstream
from tests.operator.test_upstream_health import probing, rested


class TestTokenise:
    @pytest.mark.parametrize(
        ("order", "body"),
        [
            (Order(model="m", prompt="hi"), {"model": "m", "prompt": "hi", "content": "hi", "add_special": True}),
            (chatting("hi"), {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
        ],
        ids=["prompt", "chat"],
    )
    async def test_as_the_server_says(self, order, body):
        """It is asked beside its folder, as vLLM and llama-server want it, and its ids are given on."""
        async with model_server(completions=replies("200 OK", {"count": 2, "tokens": [5, 0]})) as server, upstream(server) as one:
            assert await one.tokenise(order) == [5, 0]

        assert (server.asked[0].path, server.asked[0].body) == ("/tokenize", body)

    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            (replies("404 Not Found"), ModelUnsuitable, "no tokeniser that its server shows: it answers nothing at /tokenize"),
            (replies("200 OK", {"ids": [1]}), ModelUnsuitable, "answers nothing at /tokenize"),
            (replies("200 OK", {"tokens": []}), ModelUnsuitable, "no tokeniser of such inputs"),
            (replies("200 OK", {"tokens": "12"}), Fault, "no list"),
            (replies("200 OK", {"tokens": [1, -2]}), Fault, "no list of ids"),
            (replies("200 OK", "tokens"), Fault, "JSON"),
            (replies("400 Bad Request", {"error": {"message": "no prompt"}}), InvalidField, "refuses it: no prompt"),
            (replies("500 Oh", {"error": {"message": "broken"}}), Fault, "500"),
        ],
        ids=["nowhere", "otherwise", "none", "text", "negative", "no JSON", "refused", "broken"],
    )
    async def test_it_does_not(self, answer, error, says):
        """Who has no tokeniser, or says what cannot be, is told apart."""
        async with model_server(completions=answer) as server, upstream(server) as one:
            with pytest.raises(error, match=says):
                await one.tokenise(Order(model="m", prompt="hi"))
            assert one.running == 0


class TestQuestions:
    async def test_a_hosted_model_answers(self, key, script):
        """A question to a registered server's model is answered as to any other, and signed for."""
        async with model_server() as server, probing(server) as (prober, clock, _), questioned(key, script) as queue:
            await rested(clock)
            group = Group("hosted", [Member("1", prober._upstream, prober)])
            queue.runner.hosted = {"hosted": group}.get
            await queue.ask("q", model="hosted", prompt="What is AI?", url="")
            question = await ended(queue)

        assert (question.problem, question.bundle.output) == ("", "It is mathematics.")
        assert question.bundle.order.chat.messages[0].content == "What is AI?"
        assert question.bundle.receipt.profile.startswith("upstream")
