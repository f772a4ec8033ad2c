"""The contracts and the embedded ledger have the same rules: the same refusals for the same reasons, and the same left behind."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aos.broker.settings import BrokerSettings
from aos.testing.clock import START
from tests.contracts.world import LOCK, ZERO, Refused, World
from tests.moves import SERVICES, EmbeddedLedger, Sub, View

REASONS = {
    "ledger: exists already": "LEDGER_EXISTS",
    "ledger: does not exist": "LEDGER_NOT_FOUND",
    "ledger: amount is zero": "ZERO_AMOUNT",
    "ledger: insufficient balance": "INSUFFICIENT_BALANCE",
    "ledger: address zero": "ZERO_ADDRESS",
    "accounts: address zero": "ZERO_ADDRESS",
    "ledger: sub-accounts hold funds": "LEDGER_NOT_EMPTY",
    "accounts: no sub-account": "ACCOUNT_NOT_FOUND",
    "accounts: signer changed recently": "SIGNER_CHANGED_RECENTLY",
    "inference: nonce was used": "RECEIPT_USED",
    "no sub-account": "ACCOUNT_NOT_FOUND",
    "signer not acknowledged": "NOT_ACKNOWLEDGED",
    "insufficient balance": "INSUFFICIENT_BALANCE",
}
"""What the contracts say, in the words that both sides share."""
EXAMPLES, STEPS = 5, 20
USER, PROVIDER, SIGNER, SERVICE = st.integers(0, 1), st.integers(0, 1), st.integers(0, 1), st.sampled_from(SERVICES)
AMOUNT = st.one_of(st.integers(0, 60), st.just(10**6))


class ChainLedger:
    """The moves of ``EmbeddedLedger``, played on the contracts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users, self.providers = (world.user, world.other_user), (world.provider, world.other_provider)
        self.signers = (world.signer_key, world.stranger_key)
        self.functions, self.start, self.nonces = world.ledger.functions, world.now, count(1)
        self.held = world.owed(world.inference)

    def _ask(self, actor: str, call, value: int = 0) -> str:
        try:
            self.world.do(actor, call, value)
        except Refused as refused:
            return REASONS[str(refused)]
        return ""

    def add_ledger(self, user: int, amount: int) -> str:
        return self._ask(self.users[user], self.functions.addLedger((0, 0), ""), amount)

    def deposit(self, user: int, amount: int) -> str:
        return self._ask(self.users[user], self.functions.depositFund(), amount)

    def refund(self, user: int, amount: int) -> str:
        return self._ask(self.users[user], self.functions.refund(amount))

    def transfer(self, user: int, provider: str, service: str, amount: int) -> str:
        return self._ask(self.users[user], self.functions.transferFund(provider, service, amount))

    def retrieve(self, user: int, providers: list[str], service: str) -> str:
        return self._ask(self.users[user], self.functions.retrieveFund(providers, service))

    def acknowledge(self, user: int, provider: str, service: str, signer: str) -> str:
        serving = self.world.services[service].functions
        return self._ask(self.users[user], serving.acknowledgeProviderSigner(provider, signer))

    def settle(self, user: int, provider: str, amount: int, nonce: int, signer: int) -> str:
        line, _ = self.world.line(self.users[user], [amount], f"{nonce}")
        try:
            settled = self.world.settle([line], nonce, provider=provider, key=self.signers[signer])
        except Refused as refused:
            return REASONS[str(refused)]
        return "" if settled.paid else REASONS[self.world.refusals(settled)[0]]

    def delete(self, user: int) -> str:
        return self._ask(self.users[user], self.functions.deleteLedger())

    def view(self, user: int) -> View | None:
        at = self.users[user]
        subs = {}
        for service, serving in self.world.services.items():
            for provider in self.providers:
                if serving.functions.accountExists(at, provider).call():
                    balance, pending = self.world.balance(at, provider, service)
                    found = serving.functions.getRefunds(at, provider).call()
                    refunds = tuple((amount, made + LOCK - self.start) for _, amount, made, done in found if not done)
                    subs[service, provider.lower()] = Sub(balance, pending, refunds)
        if not self.world.has_ledger(at):
            assert subs == {}
            return None
        return View(*self.world.ledger_of(at), subs)

    def earned(self) -> int:
        """What all providers have been paid: the rest of what the contract has is its users'."""
        users = sum(self.world.balance(user, provider)[0] for user in self.users for provider in self.providers)
        return self.world.owed(self.world.inference) - self.held - users


class Both(RuleBasedStateMachine):
    """Every move is played on both, at the same time."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.before = world.rpc("evm_snapshot")
        self.chain, self.runner = ChainLedger(world), asyncio.Runner()
        self.embedded = EmbeddedLedger(BrokerSettings(lock_seconds=LOCK))
        self.runner.run(self.embedded.start())
        self.paid: list[tuple[int, str, int, int, int]] = []
        self.touched: set[int] = set()

    def teardown(self) -> None:
        self.runner.run(self.embedded.stop())
        self.runner.close()
        assert self.chain.world.rpc("evm_revert", self.before)

    def play(self, move: str, *arguments) -> str:
        """Play it on the chain, and then, at the time of its block, on the embedded ledger; return why it was refused."""
        refused = getattr(self.chain, move)(*arguments)
        self.catch_up()
        assert self.runner.run(getattr(self.embedded, move)(*arguments)) == refused, (move, arguments)
        self.touched.add(arguments[0])
        return refused

    def catch_up(self) -> None:
        ahead = START + timedelta(seconds=self.chain.world.now - self.chain.start) - self.embedded.clock.now()
        self.embedded.clock.advance(seconds=ahead.total_seconds())

    def owns(self, user: int) -> bool:
        """Whether the user has a ledger. Of two reasons to refuse a move each side may tell the other one first."""
        return self.chain.world.has_ledger(self.chain.users[user])

    @initialize()
    def open(self) -> None:
        for user in (0, 1):
            assert self.play("add_ledger", user, 100) == ""

    @rule(user=USER, amount=AMOUNT)
    def add_ledger(self, user, amount):
        self.play("add_ledger", user, amount)

    @rule(user=USER, amount=AMOUNT)
    def deposit(self, user, amount):
        if amount or self.owns(user):
            self.play("deposit", user, amount)

    @rule(user=USER, amount=AMOUNT)
    def refund(self, user, amount):
        if amount or self.owns(user):
            self.play("refund", user, amount)

    @rule(user=USER, provider=PROVIDER, service=SERVICE, amount=AMOUNT)
    def transfer(self, user, provider, service, amount):
        self.play("transfer", user, self.chain.providers[provider], service, amount)

    @rule(user=USER, service=SERVICE)
    def transfer_to_nobody(self, user, service):
        if self.owns(user):
            self.play("transfer", user, ZERO, service, 1)

    @rule(user=USER, providers=st.lists(PROVIDER, min_size=1, max_size=3), service=SERVICE)
    def retrieve(self, user, providers, service):
        self.play("retrieve", user, [self.chain.providers[one] for one in providers], service)

    @rule(user=USER, provider=PROVIDER, service=SERVICE, signer=SIGNER)
    def acknowledge(self, user, provider, service, signer):
        self.play("acknowledge", user, self.chain.providers[provider], service, self.chain.signers[signer].address)

    @rule(user=USER, provider=PROVIDER, amount=AMOUNT, signer=SIGNER)
    def settle(self, user, provider, amount, signer):
        self.pay(user, self.chain.providers[provider], amount, next(self.chain.nonces), signer)

    @rule(which=st.integers(0, 100))
    def settle_again(self, which):
        """What was paid once is paid no second time."""
        if self.paid:
            self.pay(*self.paid[which % len(self.paid)])

    def pay(self, user: int, provider: str, amount: int, nonce: int, signer: int) -> None:
        refused = self.chain.settle(user, provider, amount, nonce, signer)
        self.catch_up()
        key = nonce.to_bytes(32, "big")
        settled = self.embedded.settle(user, provider, "inference", amount, key, self.chain.signers[signer])
        assert self.runner.run(settled) == refused
        self.touched.add(user)
        if not refused:
            self.paid.append((user, provider, amount, nonce, signer))

    @rule(user=USER)
    def delete(self, user):
        self.play("delete", user)

    @rule(seconds=st.sampled_from([10, LOCK // 2, LOCK]))
    def advance(self, seconds):
        self.chain.world.advance(seconds)
        self.catch_up()

    @invariant()
    def both_show_the_same(self):
        """Every balance, every refund on its way with the time at which it is due, and what providers earned."""
        # users have nothing in common: whose ledger nobody moved has not changed
        while self.touched:
            user = self.touched.pop()
            assert self.runner.run(self.embedded.view(user)) == self.chain.view(user)
        earned = sum(self.runner.run(self.embedded.earned(provider)) for provider in self.chain.providers)
        assert earned == self.chain.earned()


class TestSameRules:
    def test_the_same_moves_leave_the_same(self, world):
        """Random moves on anvil and on the embedded ledger: each refusal, balance and release time is the same on both."""
        checked = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
            phases=[Phase.generate],  # a game that differs is short enough to be read as it is
        )
        run_state_machine_as_test(lambda: Both(world), settings=checked)

    def test_every_refusal_is_played(self, world):
        """One fixed game in which each reason of the moves comes up once, on both sides, so that none is compared by luck alone."""
        both = Both(world)
        try:
            both.open()
            at, signer, other = both.chain.providers[0], both.chain.signers[0].address, both.chain.signers[1].address
            refusals = [
                both.play("add_ledger", 0, 1),
                both.play("deposit", 0, 0),
                both.play("refund", 0, 101),
                both.play("transfer", 0, ZERO, "inference", 1),
                both.play("acknowledge", 0, at, "inference", signer),
                both.play("transfer", 0, at, "inference", 40),
                both.play("delete", 0),
                both.play("acknowledge", 0, at, "inference", signer),
                both.play("acknowledge", 0, at, "inference", other),
                both.play("acknowledge", 0, at, "inference", signer),
                both.play("delete", 1),
                both.play("deposit", 1, 1),
            ]
            assert refusals == [
                *("LEDGER_EXISTS", "ZERO_AMOUNT", "INSUFFICIENT_BALANCE", "ZERO_ADDRESS", "ACCOUNT_NOT_FOUND", ""),
                *("LEDGER_NOT_EMPTY", "", "", "SIGNER_CHANGED_RECENTLY", "", "LEDGER_NOT_FOUND"),
            ]
            both.pay(0, at, 30, 1, 0)
            both.pay(0, at, 30, 1, 0)
            both.pay(0, at, 11, 2, 1)
            both.pay(0, both.chain.providers[1], 1, 3, 0)
            both.play("transfer", 0, both.chain.providers[1], "inference", 5)
            both.pay(0, both.chain.providers[1], 1, 4, 0)
            assert both.paid == [(0, at, 30, 1, 0)]
            both.both_show_the_same()
        finally:
            both.teardown()
