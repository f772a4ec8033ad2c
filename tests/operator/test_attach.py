"""The operator in the network: registered, attached, and true to its leases."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from aos.errors import LeaseExpired, PermissionDenied
from aos.order import with_defaults
from aos.testing.scripted import ScriptedModel
from aos.v1.dispatcher_pb2 import Hello, ReceiptBundle
from aos.v1.errors_pb2 import ErrorReason
from aos.v1.types_pb2 import FINISH_REASON_STOP
from aos.verification.clock import Order as Standing
from aos.verification.clock import compare
from aos.verification.receipts import check_bundle
from tests.operator.dispatching import HEARTBEAT, JOB, PRICE, SECONDS, Network, Session, running_network
from tests.operator.orders import asking, chatting


@pytest_asyncio.fixture
async def network(tmp_path, key):
    async with running_network(tmp_path, key) as network:
        yield network


@pytest_asyncio.fixture
async def attached(network, script):
    """A session with an operator that runs the script."""
    async with network.attached(script) as (_, session):
        yield session


def order(*args, **kwargs):
    return with_defaults(asking(*args, **kwargs), job=JOB)


async def beat(network: Network, session: Session) -> None:
    """Wait until the operator has answered a heartbeat's time: all it had to say before has been said."""
    network.clock.advance(seconds=HEARTBEAT / 3)
    while (await session.hear()).WhichOneof("message") != "heartbeat":
        pass


class TestRegistration:
    async def test_registered_first(self, network, script):
        """The operator says hello with the offers that it has registered."""
        async with network.operator(script, slots=3):
            session = await network.dispatcher.session()
            info = await network.info()
            hello: Hello = await session.greet()
            session.end()

        assert info.routable
        assert list(hello.offers) == list(info.offers)
        (offer,) = info.offers
        assert (offer.model, offer.digest, offer.context_length, offer.chat, offer.slots) == (
            "m", script.digest, script.context, True, 3,
        )  # fmt: skip
        assert offer.price == PRICE

    async def test_renewed(self, network, script):
        """A registration is renewed at a third of its lease, and so outlives it."""
        async with network.attached(script):
            before = (await network.info()).expires.ToDatetime()
            for _ in range(6):
                async with asyncio.timeout(SECONDS):
                    await network.clock.until_asleep(3)
                network.clock.advance(seconds=10)
                await network.until_routable()
                async with asyncio.timeout(SECONDS):
                    while (await network.info()).expires.ToDatetime() == before:
                        await asyncio.sleep(0.002)
                before = (await network.info()).expires.ToDatetime()

    async def test_lapsed(self, network, script):
        """A registration that lapsed is taken anew."""
        async with network.attached(script):
            async with asyncio.timeout(SECONDS):
                await network.clock.until_asleep(3)
            network.clock.advance(hours=1)

            assert (await network.until_routable()).offers

    async def test_dispatcher_says_it_lapsed(self, network, script):
        """An operator that is told at the door that its registration lapsed registers, and knocks again."""
        async with network.operator(script):
            first = await network.dispatcher.session()
            before = (await network.info()).expires.ToDatetime()
            network.clock.advance(seconds=1)
            first.end(LeaseExpired(network.key.address))
            second = await network.dispatcher.session()

            assert (await network.info()).expires.ToDatetime() > before
            await second.greet()
            second.end()

    async def test_unregistered_at_the_end(self, network, script):
        """An operator that stops is not routable any more."""
        async with network.attached(script):
            await network.until_routable()

        assert not (await network.info()).routable


class TestConnecting:
    async def test_later_than_the_operator(self, tmp_path, key, script):
        """An operator that was first attaches once the others are there."""
        late = asyncio.Event()
        async with running_network(tmp_path, key, late=late) as network, network.operator(script) as node:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(node.attached(), 0.3)
            late.set()
            session = await network.dispatcher.session()
            await session.greet()
            await asyncio.wait_for(node.attached(), SECONDS)
            session.end()

    async def test_refused(self, network, script):
        """An operator that is not let in tries again."""
        async with network.operator(script):
            (await network.dispatcher.session()).end(PermissionDenied("better manners"))
            (await network.dispatcher.session()).end()
            session = await network.dispatcher.session()
            await session.greet()
            session.end()

    async def test_silent_dispatcher(self, network, script, monkeypatch):
        """A dispatcher that never challenges is left, and tried again."""
        monkeypatch.setattr("aos.operator.attach.HANDSHAKE_SECONDS", 0.05)
        async with network.operator(script):
            first = await network.dispatcher.session()
            second = await network.dispatcher.session()

            assert await first.hear() is None
            second.end()

    async def test_broken_stream(self, network, script):
        """When the stream ends, its leases are dropped at once; the next stream knows nothing of them."""
        hold = script.hold(after="It")
        async with network.attached(script) as (node, first):
            first.lease(order())
            await hold.reached()
            first.end()
            second = await network.dispatcher.session()
            assert node.attachment.leases == 0
            hold.release()
            await second.greet()
            second.lease(order(), lease="l2")
            started, more = await second.hear(), await second.hear()
            _, _, last = await second.outcome()
            second.end()

        assert [started.started.lease, *(one.lease for one in more.chunks.chunks), last.finished.lease] == ["l2", "l2", "l2"]

    async def test_heartbeats(self, network, script):
        """Heartbeats come three times as often as asked for, and bring the operator's clock."""
        async with network.attached(script) as (_, session):
            for _ in range(3):
                async with asyncio.timeout(SECONDS):
                    await network.clock.until_asleep(3)
                network.clock.advance(seconds=HEARTBEAT / 3)
                assert (await session.hear()).WhichOneof("message") == "heartbeat"


class TestLeases:
    async def test_run(self, network, attached):
        """A lease is begun, streamed and finished with a receipt that holds."""
        what = order("Why?")
        attached.lease(what)
        started = await attached.hear()
        text, tokens, last = await attached.outcome()

        receipt = last.finished.finish.receipt
        bundle = ReceiptBundle(receipt=receipt, order=what, output=text, output_tokens=tokens, price=PRICE)
        bundle.trace.CopyFrom(last.finished.finish.trace)
        assert started.started.lease == "l1"
        assert text == "It is mathematics."
        assert all(finding.good for finding in check_bundle(bundle)), list(check_bundle(bundle))
        assert receipt.job == JOB
        assert receipt.issued_at == int(network.clock.now().timestamp())
        assert receipt.price == str(3 * 5 + 5 * len(tokens))
        assert last.finished.finish.reason == receipt.finish_reason == FINISH_REASON_STOP

    async def test_clock(self, network, attached):
        """The operator's clock is behind the lease's, and grows with each event; the receipt has it."""
        node = network.key.address.lower()
        attached.lease(order())
        started = (await attached.hear()).started.clock.counts
        finished = (await attached.outcome())[2].finished.finish.receipt.clock.counts

        assert compare({"1": 7}, started) is Standing.BEFORE
        assert compare(started, finished) is Standing.BEFORE
        assert dict(started) == {"1": 7, node: 1}
        assert dict(finished) == {"1": 7, node: 2}

    async def test_several_at_once(self, network):
        """Leases run beside each other."""
        script = ScriptedModel(lambda prompt: prompt.upper())
        async with network.attached(script) as (_, session):
            for number in range(5):
                session.lease(order(f"lease {number}"), lease=f"l{number}")
            texts, ended = {}, 0
            while ended < 5:
                message = await session.hear()
                for one in message.chunks.chunks:
                    texts[one.lease] = texts.get(one.lease, "") + one.chunk.text
                ended += message.WhichOneof("message") == "finished"

        assert texts == {f"l{number}": f"LEASE {number}" for number in range(5)}

    async def test_in_few_messages(self, network):
        """A dispatcher that takes several messages in one gets what is said at once so, each lease's in its order."""
        async with network.operator(ScriptedModel(lambda prompt: prompt.upper())) as node:
            session = await network.dispatcher.session()
            await session.greet(takes_several=True)
            async with asyncio.timeout(SECONDS):
                await node.attached()
            for number in range(5):
                session.lease(order(f"lease {number}"), lease=f"l{number}")
            kinds, texts = {f"l{number}": [] for number in range(5)}, {}
            together = 0
            while not all(one[-1:] == ["finished"] for one in kinds.values()):
                message = await session.hear()
                several = message.several.messages or [message]
                together = max(together, len(several))
                for one in several:
                    kind = one.WhichOneof("message")
                    for part in one.chunks.chunks if kind == "chunks" else [getattr(one, kind)]:
                        kinds[part.lease].append(kind)
                        if kind == "chunks":
                            texts[part.lease] = texts.get(part.lease, "") + part.chunk.text
            session.end()

        assert texts == {f"l{number}": f"LEASE {number}" for number in range(5)}
        assert all(one[0] == "started" and set(one[1:-1]) == {"chunks"} for one in kinds.values())
        assert together > 1

    async def test_cancelled(self, network, script, attached):
        """A lease that is cancelled is not heard of again, and its slot is free."""
        hold = script.hold(after="It")
        attached.lease(order())
        await hold.reached()
        await beat(network, attached)
        attached.cancel()
        await beat(network, attached)
        hold.release()
        script.say("ok")
        attached.lease(order(), lease="l2")
        text, _, last = await attached.outcome()

        assert (text, last.finished.lease) == ("ok", "l2")

    async def test_unknown_cancel(self, attached):
        """Cancelling what is not there changes nothing."""
        attached.cancel("nobody's")
        attached.lease(order())

        assert (await attached.outcome())[0] == "It is mathematics."

    @pytest.mark.parametrize("count", [1, 9, 18])
    async def test_resumed(self, attached, count):
        """A lease with accepted tokens goes on behind them; its receipt is for the whole answer."""
        what, whole = order(), "It is mathematics."
        attached.lease(what, accepted=list(whole[:count].encode()), accepted_text_bytes=count)
        text, tokens, last = await attached.outcome()

        receipt = last.finished.finish.receipt
        bundle = ReceiptBundle(receipt=receipt, order=what, output=whole, output_tokens=whole.encode(), price=PRICE)
        bundle.trace.CopyFrom(last.finished.finish.trace)
        assert (text, tokens) == (whole[count:], list(whole[count:].encode()))
        assert all(finding.good for finding in check_bundle(bundle))

    async def test_seen_to_the_end(self, attached):
        """Text that was already shown at the end of the answer is not shown again."""
        attached.lease(order(stop=[".."]), accepted=list(b"It is mathematics."), accepted_text_bytes=18)
        text, _, last = await attached.outcome()

        assert (text, last.WhichOneof("message")) == ("", "finished")


class TestFailures:
    @pytest.mark.parametrize(
        ("what", "reason", "retryable"),
        [
            (order("x" * 20_000), "CONTEXT_OVERFLOW", False),
            (order(temperature=7.0), "INVALID_FIELD", False),
            (order(model="other"), "MODEL_NOT_FOUND", True),
        ],
    )
    async def test_refused(self, attached, what, reason, retryable):
        """A lease that cannot be run fails with its reason, and says whether another operator may try."""
        attached.lease(what)
        _, _, last = await attached.outcome()

        assert last.failed.lease == "l1"
        assert ErrorReason.Name(last.failed.error.reason) == f"ERROR_REASON_{reason}"
        assert last.failed.retryable is retryable
        assert last.failed.error.message
        assert last.failed.error.metadata

    async def test_no_template(self, network):
        """A conversation for a model without a template is the caller's to mend."""
        async with network.attached(ScriptedModel(chat=False)) as (_, session):
            session.lease(with_defaults(chatting("x"), job=JOB))
            _, _, last = await session.outcome()

        assert last.failed.error.reason == ErrorReason.ERROR_REASON_MODEL_UNSUITABLE
        assert not last.failed.retryable

    async def test_engine(self, script, attached):
        """A step that fails gives the lease back, for another to try; the operator goes on."""
        script.fail()
        attached.lease(order())
        _, _, failed = await attached.outcome()
        attached.lease(order(), lease="l2")
        _, _, finished = await attached.outcome()

        assert failed.failed.error.reason == ErrorReason.ERROR_REASON_ENGINE_FAILED
        assert failed.failed.retryable
        assert finished.finished.lease == "l2"

    async def test_queue_full(self, network):
        """A lease too many is given back at once."""
        script = ScriptedModel("yes", slots=1)
        async with network.attached(script, waiting=0) as (_, session):
            hold = script.hold()
            session.lease(order())
            await hold.reached()
            session.lease(order(), lease="l2")
            _, _, last = await session.outcome()
            hold.release()

        assert last.failed.lease == "l2"
        assert last.failed.error.reason == ErrorReason.ERROR_REASON_QUEUE_FULL
        assert last.failed.retryable


class TestStopping:
    async def test_running_leases_end(self, network, script):
        """Within the grace a running lease is finished, a new one is given back, and the stream ends in order."""
        hold = script.hold(after="It")
        async with AsyncExitStack() as stack:
            _, session = await stack.enter_async_context(network.attached(script, grace=SECONDS))
            session.end = lambda: None
            session.lease(order())
            await hold.reached()
            stopping = asyncio.create_task(stack.aclose())
            await network.until_routable(routable=False)
            session.lease(order(), lease="l2")
            _, _, refused = await session.outcome()
            assert not stopping.done()
            hold.release()
            _, _, finished = await session.outcome()
            assert await session.hear() is None
            Session.end(session)
            await asyncio.wait_for(stopping, SECONDS)

        assert (refused.failed.lease, refused.failed.error.reason) == ("l2", ErrorReason.ERROR_REASON_SHUTTING_DOWN)
        assert finished.finished.lease == "l1"

    async def test_given_back(self, network, script):
        """What does not end within the grace is given back for another to go on with."""
        hold = script.hold(after="It")
        async with AsyncExitStack() as stack:
            _, session = await stack.enter_async_context(network.attached(script, grace=0.05))
            session.end = lambda: None
            session.lease(order())
            await hold.reached()
            stopping = asyncio.create_task(stack.aclose())
            _, _, last = await session.outcome()
            assert await session.hear() is None
            Session.end(session)
            await asyncio.wait_for(stopping, SECONDS)

        assert last.failed.error.reason == ErrorReason.ERROR_REASON_SHUTTING_DOWN
        assert last.failed.retryable

    async def test_nobody_there(self, tmp_path, key, script):
        """An operator that never found the network stops at once."""
        late = asyncio.Event()
        async with (
            running_network(tmp_path, key, late=late) as network,
            asyncio.timeout(SECONDS),
            network.operator(script, grace=SECONDS),
        ):
            await asyncio.sleep(0)
