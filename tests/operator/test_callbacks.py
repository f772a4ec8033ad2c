"""Callbacks: signed, tried again, given up with a record, and harmless whatever the receiver does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from aos.addresses import LOOPBACK
from aos.errors import BadSignature, InvalidField, QueueFull
from aos.fetch import Unreachable, fetcher
from aos.operator.questions import Callback, CallbackState, Question, undelivered
from aos.operator.settings import QuestionSettings
from aos.testing.clock import ManualClock
from aos.verification.callback import check_callback
from tests.operator.questioning import ask, called, ended, questioned
from tests.operator.receiver import Receiver, receiving

FIELDS = ["node_id", "req_id", "model", "prompt", "answer", "state_root"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def receiver():
    async with receiving() as running:
        yield running


class TestDelivery:
    async def test_the_body_is_the_documented_one(self, key, script, receiver: Receiver):
        """Six fields: who answered, the question, its answer and the receipt's state root."""
        async with questioned(key, script) as queue:
            await ask(queue, url=receiver.url)
            question = await called(queue, CallbackState.DELIVERED)
        (body,) = await receiver.calls(1)

        assert list(body) == FIELDS
        assert question.bundle is not None
        assert body == {
            "node_id": key.address,
            "req_id": "q",
            "model": "m",
            "prompt": "What is AI?",
            "answer": "It is mathematics.",
            "state_root": f"0x{question.bundle.receipt.state_root.hex()}",
        }
        assert len(body["state_root"]) == 66

    async def test_it_is_signed(self, key, script, receiver: Receiver):
        """The header's signature is the operator's over the very bytes of the body; one byte more, and it is not."""
        async with questioned(key, script) as queue:
            await ask(queue, url=receiver.url)
            await called(queue, CallbackState.DELIVERED)
        headers, body = receiver.heard[0]

        assert headers[":"].startswith("POST /answers ")
        assert headers["host"] == f"127.0.0.1:{receiver.port}"
        assert headers["content-type"] == "application/json"
        assert check_callback(body, headers["x-aos-signature"], key.address) == key.address
        with pytest.raises(BadSignature):
            check_callback(body + b" ", headers["x-aos-signature"], key.address)
        with pytest.raises(BadSignature):
            check_callback(body, "", key.address)

    async def test_a_failure_is_called_back_too(self, key, script, receiver: Receiver):
        """A question without an answer is called back with an empty one, and the reason beside it."""
        async with questioned(key, script) as queue:
            await ask(queue, prompt="x" * 20_000, url=receiver.url)
            await called(queue, CallbackState.DELIVERED)
        (body,) = await receiver.calls(1)

        assert list(body) == [*FIELDS, "reason"]
        assert (body["answer"], body["state_root"]) == ("", "")
        assert "16384" in body["reason"]


class TestTrying:
    async def test_again_until_it_is_taken(self, key, script, receiver: Receiver):
        """Refusals are tried again after pauses that double, with the same body."""
        clock = ManualClock()
        receiver.reply(503, 500)
        async with questioned(key, script, clock=clock) as queue:
            await ask(queue, url=receiver.url)
            first = await called(queue, CallbackState.DUE, attempts=1)
            await clock.until_asleep()
            clock.advance(seconds=1)
            second = await called(queue, CallbackState.DUE, attempts=2)
            await clock.until_asleep()
            clock.advance(seconds=2)
            last = await called(queue, CallbackState.DELIVERED)

        assert first.ended is not None
        assert first.callback.due == first.ended + timedelta(seconds=1)
        assert second.callback.due == first.ended + timedelta(seconds=3)
        assert "500" in second.callback.problem
        assert last.callback == Callback(CallbackState.DELIVERED, 3)
        assert len({body for _, body in receiver.heard}) == 1

    def test_the_pauses_have_an_end(self):
        """They double up to the longest one, jitter takes at most half, and the hour after the question's end is the last."""
        settings, now = QuestionSettings(), NOW
        question = Question("q", "m", "hi", "http://x", NOW, ended=NOW, callback=Callback(CallbackState.DUE, due=NOW))
        pauses = []
        while question.callback.state is CallbackState.DUE:
            question = undelivered(question, "no", now=now, jitter=0.0, settings=settings)
            if question.callback.due is not None:
                pauses.append((question.callback.due - now).total_seconds())
                now = question.callback.due
        hurried = undelivered(Question("q", "m", "hi", "u", NOW, ended=NOW), "no", now=NOW, jitter=1.0, settings=settings)

        assert pauses[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        assert set(pauses[9:]) == {300}
        assert sum(pauses) <= 3600
        assert question.callback == Callback(CallbackState.GIVEN_UP, len(pauses) + 1, "no")
        assert hurried.callback.due == NOW + timedelta(seconds=0.5)

    async def test_given_up_with_a_record(self, key, script, receiver: Receiver):
        """When its time is over, the callback is given up; the answer stays, with what went wrong."""
        receiver.reply(503)
        async with questioned(key, script, callback_seconds=0.5) as queue:
            await ask(queue, url=receiver.url)
            question = await called(queue, CallbackState.GIVEN_UP)

        assert (question.callback.attempts, len(receiver.heard)) == (1, 1)
        assert question.callback.problem == "the receiver replied with status 503"
        assert question.bundle is not None
        assert question.bundle.output == "It is mathematics."

    async def test_gone_means_never_again(self, key, script, receiver: Receiver):
        """A receiver that says 410 is not asked a second time."""
        receiver.reply(410)
        async with questioned(key, script) as queue:
            await ask(queue, url=receiver.url)
            assert (await called(queue, CallbackState.GIVEN_UP)).callback.attempts == 1

    async def test_it_outlives_a_restart(self, key, script, receiver: Receiver, tmp_path):
        """A callback that was due when the operator stopped is made by the next start."""
        receiver.reply(503)
        path = tmp_path / "questions.db"
        async with questioned(key, script, path=path, first_pause=0.01) as queue:
            await ask(queue, url="http://127.0.0.1:1/")
            await called(queue, CallbackState.DUE, attempts=1)
            await queue.ask("other", model="m", prompt="hi", url=receiver.url)
            await ended(queue, "other")
        async with questioned(key, script, path=path, first_pause=0.01) as queue:
            await called(queue, CallbackState.DELIVERED, "other")
            still = await queue.get("q")

        assert still.callback.state is CallbackState.DUE
        assert receiver.heard[-1][1] == receiver.heard[0][1]

    async def test_so_many_at_most(self, key, script):
        """With as many callbacks due as there may be, a question with another is refused; one without is not."""
        async with questioned(key, script, undelivered=1) as queue:
            await ask(queue, "first", url="http://127.0.0.1:1/")
            with pytest.raises(QueueFull) as refused:
                await ask(queue, "second", url="http://127.0.0.1:1/")
            await ask(queue, "third")

        assert refused.value.facts == {"queue": "callbacks", "limit": "1"}


class TestHarm:
    @pytest.mark.parametrize(
        ("reply", "problem"),
        [
            (None, "no whole reply within 0.2 s"),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, "more than 65536 bytes"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nshort", "peer closed"),
            (b"\x00\xff junk \r\n\r\n", "illegal"),
            (b"", "without sending"),
        ],
        ids=["hanging", "endless", "cut short", "junk", "nothing"],
    )
    async def test_a_bad_receiver_costs_its_own_callback_alone(self, key, script, receiver: Receiver, reply, problem):
        """Its attempt fails with what happened; others' questions are answered and called back meanwhile."""
        receiver.reply(reply)
        async with receiving() as good, questioned(key, script, attempt_seconds=0.2, callbacks_at_once=1) as queue:
            await ask(queue, "bad", url=receiver.url)
            bad = await called(queue, CallbackState.DUE, "bad", attempts=1)
            await ask(queue, "good", url=good.url)
            await called(queue, CallbackState.DELIVERED, "good")

        assert problem in bad.callback.problem

    async def test_a_redirect_is_not_followed(self, key, script, receiver: Receiver):
        """A receiver that points elsewhere, inward say, is one that did not take the callback."""
        async with receiving() as inner, questioned(key, script) as queue:
            receiver.reply(f"HTTP/1.1 307 x\r\nlocation: {inner.url}\r\ncontent-length: 0\r\n\r\n".encode())
            await ask(queue, url=receiver.url)
            question = await called(queue, CallbackState.DUE, attempts=1)

            assert inner.heard == []
        assert question.callback.problem == "the receiver replied with status 307"

    async def test_a_name_that_leads_inward_is_given_up(self, key, script, receiver: Receiver):
        """What a name leads to is looked at when it is called, and nothing is sent to an address that is not public."""
        async with questioned(key, script, networks=()) as queue:
            # 127.1 is no address by its form, and is one to the resolver
            await ask(queue, url=f"http://127.1:{receiver.port}/")
            question = await called(queue, CallbackState.GIVEN_UP)

        assert "not a public address" in question.callback.problem
        assert question.callback.attempts == 1
        assert receiver.heard == []


class TestFetcher:
    async def test_the_address_that_was_checked_is_called(self, receiver: Receiver):
        """A name is called at the address that it was resolved to, under its own name."""
        async with fetcher(LOOPBACK) as outward:
            url = f"http://localhost:{receiver.port}/a?b=c"
            reply = await outward.post(url, b"{}", {}, seconds=5, most=10)

        assert reply.status == 200
        assert receiver.heard[0][0][":"] == "POST /a?b=c HTTP/1.1"
        assert receiver.heard[0][0]["host"] == f"localhost:{receiver.port}"

    async def test_no_proxy_of_the_environment_is_used(self, receiver: Receiver, monkeypatch):
        """A proxy would resolve names by itself."""
        async with receiving() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            async with fetcher(LOOPBACK) as outward:
                await outward.post(receiver.url, b"{}", {}, seconds=5, most=10)

            assert proxy.heard == []
        assert json.loads(receiver.heard[0][1]) == {}

    async def test_inner_addresses_are_refused(self, receiver: Receiver):
        """Without a setting that allows it, not even this machine is called."""
        async with fetcher(at="image_url") as outward:
            with pytest.raises(InvalidField) as refused:
                await outward.post(receiver.url, b"", {}, seconds=5, most=10)

        assert refused.value.facts["field"] == "image_url"
        assert receiver.heard == []

    async def test_a_name_without_an_address(self):
        """A name that cannot be resolved is unreachable, and says so."""
        async with fetcher() as outward:
            with pytest.raises(Unreachable, match="cannot be resolved"):
                await outward.post("http://nobody.invalid/", b"", {}, seconds=10, most=10)
