"""What the dispatcher counts of operators' health."""

from __future__ import annotations

import pytest_asyncio

from aos.dispatcher import metrics
from tests.dispatcher.conftest import running
from tests.dispatcher.test_canaries import BROKEN, HEALTHY, IDLE, OPEN, SUSPECT, answer, becomes, broken, exact_offer


@pytest_asyncio.fixture
async def aos(tmp_path):
    async with running(tmp_path, heartbeat_seconds=1e6) as harness:
        yield harness


def counted(aos, name: str, label: str) -> dict[str, float]:
    """What stands there above 0, by the label."""
    found = (sample for family in aos.metrics.collect() for sample in family.samples if sample.name == name)
    return {sample.labels[label]: sample.value for sample in found if sample.value}


class TestHealth:
    async def test_states(self, aos):
        """Each attached model counts as what it is, and has its own series."""
        works, failed = sorted([await aos.operator(), await aos.operator()], key=lambda hand: hand.address, reverse=True)
        job = await aos.submit()
        failed.fail(await failed.lease(), "ENGINE_FAILED", retryable=True)
        answer(works, await works.lease())
        await aos.ends(job)
        await becomes(aos, failed, SUSPECT)
        assert counted(aos, "aos_operator_models", "state") == {"healthy": 1, "suspect": 1}
        assert counted(aos, "aos_operator_model_health", "operator") == {works.address: 1, failed.address: 2}
        failed.drop()
        await aos.eventually(lambda: becomes(aos, failed, SUSPECT), lambda one: not one.attached)

        assert counted(aos, "aos_operator_model_health", "operator") == {works.address: 1}

    async def test_the_worst_are_shown(self, aos, monkeypatch):
        """There is a bound on series, and what works is left out first."""
        monkeypatch.setattr(metrics, "SHOWN", 1)
        operator = await broken(aos)
        for _ in range(2):
            await aos.operator()

        assert counted(aos, "aos_operator_model_health", "operator") == {operator.address: 3}
        assert counted(aos, "aos_operator_models", "state") == {"healthy": 2, "open": 1}

    async def test_openings_and_canaries(self, aos):
        """Each is counted once, by why, and by what it came to."""
        operator = await broken(aos)
        aos.clock.advance(seconds=OPEN)
        operator.fail(await operator.lease(), "ENGINE_FAILED", retryable=True)
        await aos.eventually(lambda: becomes(aos, operator, BROKEN), lambda one: one.running == 0)
        aos.clock.advance(seconds=OPEN)
        answer(operator, await operator.lease())
        await becomes(aos, operator, HEALTHY)

        assert counted(aos, "aos_breaker_openings_total", "cause") == {"failures": 1}
        assert counted(aos, "aos_canaries_total", "outcome") == {"good": 1, "failed": 1}

    async def test_wrong_answers(self, aos):
        """They are canaries of their own kind, and open by themselves."""
        hands = [await aos.operator(exact_offer()) for _ in range(3)]
        aos.clock.advance(seconds=IDLE)
        for number, hand in enumerate(hands):
            answer(hand, await hand.lease(), *((" nine", (9,)) if number == 2 else ()))
            await aos.eventually(
                lambda hand=hand: becomes(aos, hand, BROKEN if hand is hands[2] else HEALTHY), lambda one: not one.running
            )

        assert counted(aos, "aos_breaker_openings_total", "cause") == {"answer": 1}
        assert counted(aos, "aos_canaries_total", "outcome") == {"good": 2, "wrong": 1}
