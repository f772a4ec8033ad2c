"""Whatever is done, in whatever order: the contracts have what they owe, and nothing is released early or taken unasked."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contracts.world import LOCK, WINDOW, Refused, Settled, World

AMOUNTS = st.integers(0, 60)
WHO = st.integers(0, 1)
SERVICE = st.sampled_from(["inference", "fine-tuning"])
EXAMPLES, STEPS = 5, 20


class Moves(RuleBasedStateMachine):
    """Two users, two providers, both services; moves that may be refused."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.before = world.rpc("evm_snapshot")
        self.users, self.providers = (world.user, world.other_user), (world.provider, world.other_provider)
        self.start = {contract.address: world.owed(contract) for contract in (world.ledger, world.inference, world.tuning)}
        self.held: dict[bytes, tuple[Settled, int]] = {}
        self.nonce = 0
        self.acknowledged: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        assert self.world.rpc("evm_revert", self.before)

    @initialize()
    def open(self) -> None:
        for user in self.users:
            self.world.do(user, self.world.ledger.functions.addLedger((0, 0), ""), 100)

    def attempt(self, actor: str, call, value: int = 0):
        with suppress(Refused):
            return self.world.do(actor, call, value)

    @rule(who=WHO, amount=AMOUNTS)
    def deposit(self, who, amount):
        self.attempt(self.users[who], self.world.ledger.functions.depositFund(), amount)

    @rule(who=WHO, amount=AMOUNTS)
    def refund(self, who, amount):
        self.attempt(self.users[who], self.world.ledger.functions.refund(amount))

    @rule(who=WHO, provider=WHO, service=SERVICE, amount=AMOUNTS)
    def transfer(self, who, provider, service, amount):
        self.attempt(self.users[who], self.world.ledger.functions.transferFund(self.providers[provider], service, amount))

    @rule(who=WHO, service=SERVICE, seconds=st.sampled_from([0, 0, LOCK // 2, LOCK]))
    def retrieve(self, who, service, seconds):
        """What comes back is what was due, by the times that were told when it was asked for."""
        if seconds:
            self.world.advance(seconds)
        user, serving = self.users[who], self.world.services[service].functions
        shown, *lists = self.world.look(
            serving.claimable(user, list(self.providers)), *(serving.getRefunds(user, one) for one in self.providers)
        )
        due, refunds = sum(one[1] for one in shown), [one for some in lists for one in some]
        assert due == sum(one[1] for one in refunds if one[2] + LOCK <= self.world.now)
        if (released := self.attempt(user, self.world.ledger.functions.retrieveFund(list(self.providers), service))) is not None:
            # the move has its own block, a second later
            assert due <= released == sum(one[1] for one in refunds if one[2] + LOCK <= self.world.now)

    @rule(who=WHO, provider=WHO)
    def acknowledge(self, who, provider):
        user, at = self.users[who], self.providers[provider]
        if self.attempt(user, self.world.inference.functions.acknowledgeProviderSigner(at, self.world.signer)) is not None:
            self.acknowledged.add((user, at))

    @rule(provider=WHO, amounts=st.tuples(AMOUNTS, AMOUNTS))
    def settle(self, provider, amounts):
        """A line is paid if, and only if, its user acknowledged the signer and has the money."""
        self.nonce += 1
        at = self.providers[provider]
        lines = [self.world.line(user, [amount])[0] for user, amount in zip(self.users, amounts, strict=True)]
        could = 0
        for bit, (user, amount) in enumerate(zip(self.users, amounts, strict=True)):
            signer = self.world.inference.functions.getSigner(user, at).call()[0]
            could |= (signer == self.world.signer and self.world.balance(user, at)[0] >= amount) << bit
        settled = self.world.settle(lines, self.nonce, provider=at)
        assert settled.paid == could
        total = sum(line.total for bit, line in enumerate(lines) if settled.paid >> bit & 1)
        self.held[settled.id] = (settled, total)

    @rule()
    def claim(self):
        self.world.advance(WINDOW)
        for id_, (settled, total) in list(self.held.items()):
            if total and self.attempt(settled.provider, self.world.inference.functions.claim(settled.words())) is not None:
                self.held.pop(id_)

    @rule(provider=WHO)
    def withdraw(self, provider):
        at = self.providers[provider]
        self.attempt(at, self.world.inference.functions.withdraw(at))

    @rule(who=WHO)
    def delete_and_open_again(self, who):
        if self.attempt(self.users[who], self.world.ledger.functions.deleteLedger()) is not None:
            self.world.do(self.users[who], self.world.ledger.functions.addLedger((0, 0), ""), 50)

    @invariant()
    def contracts_have_what_they_owe(self):
        world = self.world
        pairs = [(user, provider) for user in self.users for provider in self.providers]
        aside = {}
        for service, serving in world.services.items():
            f = serving.functions
            balances = world.look(*(f.balanceOf(*pair) for pair in pairs))
            refunds = world.look(*(f.getRefunds(*pair) for pair in pairs))
            for (balance, pending), open_refunds in zip(balances, refunds, strict=True):
                assert sum(one[1] for one in open_refunds) == pending <= balance
            aside[service] = sum(balance for balance, _ in balances)
        ledgers = [one for one in world.look(*(world.ledger.functions.getLedger(user) for user in self.users)) if one]
        available = sum(one[1] for one in ledgers)
        assert sum(one[2] for one in ledgers) == available + sum(aside.values())
        earned = sum(world.look(*(world.inference.functions.withdrawable(one) for one in self.providers)))
        owed = {
            world.ledger: available,
            world.inference: aside["inference"] + earned + sum(total for _, total in self.held.values()),
            world.tuning: aside["fine-tuning"],
        }
        assert {at.address: world.owed(at) - self.start[at.address] for at in owed} == {
            at.address: sum_ for at, sum_ in owed.items()
        }


class TestMoney:
    def test_it_is_where_the_books_say_whatever_is_done(self, deployed: World):
        """The invariants hold after each of any moves."""
        run_state_machine_as_test(
            lambda: Moves(deployed),
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
