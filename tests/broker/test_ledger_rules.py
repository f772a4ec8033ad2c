"""Ledgers under any sequence of moves, through the real store."""

from __future__ import annotations

import asyncio
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aos.broker.settings import BrokerSettings
from aos.verification.keys import OperatorKey
from tests.moves import SERVICES, EmbeddedLedger, View

LOCK = 100
KEYS = [OperatorKey.create() for _ in range(2)]
SIGNERS = [*KEYS, OperatorKey.create()]

# most moves are about one sub-account, so that much happens to it
users = st.sampled_from([0, 0, 0, 1])
providers = st.sampled_from([KEYS[at].address.lower() for at in (0, 0, 0, 1)])
services = st.sampled_from([SERVICES[at] for at in (0, 0, 0, 1)])
signers = st.sampled_from([SIGNERS[at] for at in (0, 0, 0, 1, 2)])
amounts = st.one_of(st.integers(0, 30), st.integers(0, 30), st.sampled_from([100, 10**30]))


class Rules(RuleBasedStateMachine):
    """Plays random moves, and keeps what must follow from each in a few lines of arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.runner, self.keys = asyncio.Runner(), count(1)
        limits = BrokerSettings(lock_seconds=LOCK, sub_accounts=2, open_refunds=3)
        self.ledger = EmbeddedLedger(limits)
        self.runner.run(self.ledger.start())
        self.outside, self.earned = 0, dict.fromkeys((key.address.lower() for key in KEYS), 0)
        self.trusted: dict[tuple[int, str, str], set[str]] = {}

    def teardown(self) -> None:
        self.runner.run(self.ledger.stop())
        self.runner.close()

    def view(self, user: int) -> View | None:
        return self.runner.run(self.ledger.view(user))

    def play(self, user: int, move: str, *arguments: object) -> tuple[str, View | None, View | None]:
        """Make a move; one that is refused changes nothing."""
        before = self.view(user)
        refused = self.runner.run(getattr(self.ledger, move)(user, *arguments))
        after = self.view(user)
        if refused:
            assert after == before
        elif before is None and move != "add_ledger":
            raise AssertionError(f"{move} went through without a ledger")
        return refused, before, after

    @initialize(amount=st.integers(100, 10**30))
    def some_money(self, amount: int) -> None:
        self.add_ledger(0, amount)
        self.add_ledger(1, 50)
        provider = KEYS[0].address.lower()
        self.transfer(0, provider, SERVICES[0], 60)
        self.acknowledge(0, provider, SERVICES[0], KEYS[0])

    @rule(user=users, amount=amounts)
    def add_ledger(self, user: int, amount: int) -> None:
        refused, before, after = self.play(user, "add_ledger", amount)
        assert refused == ("LEDGER_EXISTS" if before else "")
        if not refused:
            assert after == View(amount, amount, {})
            self.outside -= amount

    @rule(user=users, amount=amounts)
    def deposit(self, user: int, amount: int) -> None:
        refused, before, after = self.play(user, "deposit", amount)
        if not refused:
            assert before
            assert after
            assert after.available == before.available + amount
            self.outside -= amount
        else:
            assert refused == ("LEDGER_NOT_FOUND" if amount else "ZERO_AMOUNT")

    @rule(user=users, amount=amounts)
    def refund(self, user: int, amount: int) -> None:
        refused, before, after = self.play(user, "refund", amount)
        if not refused:
            assert before
            assert after
            assert after.available == before.available - amount
            self.outside += amount
        elif amount and before:
            assert refused == "INSUFFICIENT_BALANCE"
            assert amount > before.available

    @rule(user=users, provider=providers, service=services, amount=amounts)
    def transfer(self, user: int, provider: str, service: str, amount: int) -> None:
        refused, before, after = self.play(user, "transfer", provider, service, amount)
        if before is None:
            assert refused == "LEDGER_NOT_FOUND"
            return
        was = before.subs.get((service, provider))
        pending, balance = (was.pending, was.balance) if was else (0, 0)
        sent = max(0, amount - pending)
        if sent > before.available:
            assert refused == "INSUFFICIENT_BALANCE"
            return
        assert not refused
        assert after
        now = after.subs[service, provider]
        assert (now.balance, now.pending) == (balance + sent, pending - (amount - sent))
        newest_went_first(was.refunds if was else (), now.refunds)
        assert (after.available, after.total) == (before.available - sent, before.total)

    @rule(user=users, chosen=st.lists(providers, min_size=1, max_size=3), service=services)
    def retrieve(self, user: int, chosen: list[str], service: str) -> None:
        refused, before, after = self.play(user, "retrieve", chosen, service)
        if before is None:
            assert refused == "LEDGER_NOT_FOUND"
            return
        assert not refused
        assert after
        now, released = self.now(), 0
        for provider in set(chosen) & {name for kind, name in before.subs if kind == service}:
            was, is_ = before.subs[service, provider], after.subs[service, provider]
            due = sum(amount for amount, release in was.refunds if release <= now)
            waiting = tuple(one for one in was.refunds if one[1] > now)
            rest = was.balance - was.pending
            asked = ((rest, now + LOCK),) if rest and len(waiting) < 3 else ()
            assert is_.refunds == waiting + asked
            assert is_.balance == was.balance - due
            released += due
        assert (after.available, after.total) == (before.available + released, before.total)

    @rule(user=users, provider=providers, service=services, signer=signers)
    def acknowledge(self, user: int, provider: str, service: str, signer: OperatorKey) -> None:
        refused, before, after = self.play(user, "acknowledge", provider, service, signer.address)
        assert after == before
        if not refused:
            self.trusted.setdefault((user, provider, service), set()).add(signer.address)
        elif before and (service, provider) in before.subs:
            assert refused == "SIGNER_CHANGED_RECENTLY"

    @rule(user=users, provider=providers, service=services, amount=amounts, signer=signers)
    def settle(self, user: int, provider: str, service: str, amount: int, signer: OperatorKey) -> None:
        """No provider gets anything from who has not acknowledged a signer of theirs, nor more than is there."""
        key = next(self.keys).to_bytes(32, "big")
        refused, before, after = self.play(user, "settle", provider, service, amount, key, signer)
        if refused:
            return
        assert before
        assert after
        assert signer.address in self.trusted[user, provider, service]
        was, now = before.subs[service, provider], after.subs[service, provider]
        assert now.balance == was.balance - amount
        assert now.pending == min(was.pending, now.balance)
        newest_went_first(was.refunds, now.refunds)
        assert (after.available, after.total) == (before.available, before.total - amount)
        self.earned[provider] += amount
        again = self.runner.run(self.ledger.settle(user, provider, service, amount, key, signer))
        assert again == "RECEIPT_USED"

    @rule(amount=st.integers(1, 60))
    def settle_well(self, amount: int) -> None:
        self.settle(0, KEYS[0].address.lower(), SERVICES[0], amount, KEYS[0])

    @rule(amount=st.integers(0, 30))
    def ask_back_and_send_some(self, amount: int) -> None:
        provider = KEYS[0].address.lower()
        self.retrieve(0, [provider], SERVICES[0])
        self.transfer(0, provider, SERVICES[0], amount)

    @rule(user=users)
    def delete(self, user: int) -> None:
        refused, before, after = self.play(user, "delete")
        if before is None:
            assert refused == "LEDGER_NOT_FOUND"
        elif before.total != before.available:
            assert refused == "LEDGER_NOT_EMPTY"
        else:
            assert (refused, after) == ("", None)
            self.outside += before.available
            self.trusted = {who: keys for who, keys in self.trusted.items() if who[0] != user}

    @rule(seconds=st.integers(0, LOCK + 1))
    def advance(self, seconds: int) -> None:
        self.runner.run(self.ledger.advance(seconds))

    def now(self) -> int:
        from aos.testing.clock import START

        return int((self.ledger.clock.now() - START).total_seconds())

    @invariant()
    def the_books_balance(self) -> None:
        """Sub-accounts are what is not available, nothing pending is more than its balance, and no neuron comes or goes."""
        there = 0
        for user in (0, 1):
            view = self.view(user)
            if view is not None:
                assert sum(sub.balance for sub in view.subs.values()) == view.total - view.available
                assert all(sub.pending == sum(amount for amount, _ in sub.refunds) <= sub.balance for sub in view.subs.values())
                there += view.total
        assert {name: self.runner.run(self.ledger.earned(name)) for name in self.earned} == self.earned
        assert there + sum(self.earned.values()) + self.outside == 0
        assert self.runner.run(self.ledger.broken()) == []


def newest_went_first(was: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> None:
    """What is left of refunds is a beginning of what was there, its last one perhaps shorter."""
    assert now[:-1] == was[: len(now) - 1 if now else 0]
    if now:
        (left, release), (amount, before) = now[-1], was[len(now) - 1]
        assert (0 < left <= amount, release) == (True, before)


class TestRules(Rules.TestCase):
    """Whatever is asked, in whatever order: the rules of ledgers hold, and the books balance."""

    settings = settings(
        max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
    )
