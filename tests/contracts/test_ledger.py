from __future__ import annotations

import pytest

from tests.contracts.world import LOCK, ZERO, Refused, World

SERVICES = ("inference", "fine-tuning")


class TestDeposits:
    def test_a_ledger_holds_what_was_sent(self, world: World):
        """addLedger returns and keeps what came along; depositFund and depositFundFor add to it."""
        ledger = world.ledger.functions
        assert world.do(world.user, ledger.addLedger((7, 8), "hello"), 100) == [100, 100]
        world.do(world.user, ledger.depositFund(), 20)
        world.do(world.stranger, ledger.depositFundFor(world.user), 3)
        assert ledger.getLedger(world.user).call() == (world.user, 123, 123, [7, 8], "hello", [], [])

    def test_refund_is_at_once(self, world: World):
        """refund moves available balance to the wallet in the same transaction."""
        world.do(world.user, world.ledger.functions.addLedger((0, 0), ""), 100)
        held = world.owed(world.ledger)
        world.do(world.user, world.ledger.functions.refund(40))
        assert world.ledger_of(world.user) == (60, 60)
        assert world.owed(world.ledger) == held - 40

    @pytest.mark.parametrize(
        ("move", "value", "reason"),
        [
            (lambda f: f.addLedger((0, 0), ""), 1, "ledger: exists already"),
            (lambda f: f.depositFund(), 0, "ledger: amount is zero"),
            (lambda f: f.refund(0), 0, "ledger: amount is zero"),
            (lambda f: f.refund(101), 0, "ledger: insufficient balance"),
            (lambda f: f.transferFund(f.provider, "inference", 101), 0, "ledger: insufficient balance"),
            (lambda f: f.transferFund(f.provider, "storage", 1), 0, "ledger: unknown service type"),
            (lambda f: f.transferFund(ZERO, "inference", 1), 0, "ledger: address zero"),
        ],
    )
    def test_refusals_say_why_and_change_nothing(self, world: World, move, value, reason):
        """Each refusal has its own reason."""
        functions = world.ledger.functions
        world.do(world.user, functions.addLedger((0, 0), ""), 100)
        functions.provider = world.provider
        with pytest.raises(Refused, match=reason):
            world.do(world.user, move(functions), value)
        assert world.ledger_of(world.user) == (100, 100)

    def test_without_a_ledger_there_is_nothing_to_move(self, world: World):
        """Whoever has no ledger is told so, whatever he tries."""
        f = world.ledger.functions
        moves = [f.refund(1), f.transferFund(world.provider, "inference", 0), f.retrieveFund([], "inference"), f.deleteLedger()]
        for move in [*moves, f.getLedger(world.user)]:
            with pytest.raises(Refused, match="ledger: does not exist"):
                world.do(world.user, move)

    def test_money_that_nobody_asked_for_is_not_taken(self, world: World):
        """Ether sent without a function belongs to nobody, so it is refused."""
        before = world.owed(world.ledger)
        hash_ = world.web3.eth.send_transaction({"from": world.user, "to": world.ledger.address, "value": 5, "gas": 100_000})
        assert world.web3.eth.wait_for_transaction_receipt(hash_, poll_latency=0.002)["status"] == 0
        assert world.owed(world.ledger) == before


class TestListing:
    def test_ledgers_come_in_pages(self, world: World):
        """getAllLedgers gives a page and the count; a deleted ledger leaves no hole."""
        f = world.ledger.functions
        users = world.names[1:5]
        for amount, user in enumerate(users, start=1):
            world.do(user, f.addLedger((0, 0), ""), amount)
        world.do(users[1], f.deleteLedger())
        page, count = f.getAllLedgers(1, 10).call()
        assert count == 3
        assert {one[0] for one in page} | {f.getAllLedgers(0, 1).call()[0][0][0]} == {users[0], users[2], users[3]}
        assert f.getAllLedgers(3, 10).call() == [[], 3]
        world.do(users[3], f.deleteLedger())
        assert f.getAllLedgers(0, 2**256 - 1).call()[1] == 2


@pytest.mark.parametrize("service", SERVICES)
class TestSubAccounts:
    def test_transfer_makes_an_account(self, world: World, service):
        """transferFund moves available balance to the provider's sub-account; total stays."""
        world.do(world.user, world.ledger.functions.addLedger((0, 0), "who"), 100)
        world.do(world.user, world.ledger.functions.transferFund(world.provider, service, 30))
        assert world.ledger_of(world.user) == (70, 100)
        account = world.services[service].functions.getAccount(world.user, world.provider).call()
        assert account[:5] == (world.user, world.provider, 0, 30, 0)
        assert "who" in account
        assert world.owed(world.services[service]) == 30

    def test_retrieving_takes_two_calls_a_lock_time_apart(self, world: World, service):
        """The first call asks, the second, not before the lock time is over, releases."""
        world.open_account(world.user, world.provider, 100, service)
        f, serving = world.ledger.functions, world.services[service].functions
        assert world.do(world.user, f.retrieveFund([world.provider], service)) == 0
        asked = world.now
        assert serving.claimable(world.user, [world.provider]).call() == [(world.provider, 0, 100, asked + LOCK)]
        world.advance(LOCK - 10)
        assert world.do(world.user, f.retrieveFund([world.provider], service)) == 0
        world.advance(20)
        assert serving.claimable(world.user, [world.provider]).call() == [(world.provider, 100, 0, 0)]
        assert world.do(world.user, f.retrieveFund([world.provider], service)) == 100
        assert world.balance(world.user, world.provider, service) == (0, 0)
        assert world.ledger_of(world.user) == (1000, 1000)

    def test_transfer_cancels_refunds_first(self, world: World, service):
        """Money that is on its way back is turned round before new money moves, the newest first."""
        world.open_account(world.user, world.provider, 100, service)
        f = world.ledger.functions
        world.do(world.user, f.retrieveFund([world.provider], service))
        world.do(world.user, f.transferFund(world.provider, service, 130))
        assert world.balance(world.user, world.provider, service) == (130, 0)
        assert world.ledger_of(world.user) == (870, 1000)

    def test_a_signer_is_changed_with_notice(self, world: World, service):
        """The former signer stays good for the lock time; until then there is no further change, and never address zero."""
        world.open_account(world.user, world.provider, 100, service)
        serving = world.services[service].functions
        world.do(world.user, serving.acknowledgeProviderSigner(world.provider, world.stranger))
        until = serving.getSigner(world.user, world.provider).call()[2]
        assert serving.getSigner(world.user, world.provider).call() == (world.stranger, world.signer, until)
        assert until == world.now + LOCK
        with pytest.raises(Refused, match="accounts: signer changed recently"):
            world.do(world.user, serving.acknowledgeProviderSigner(world.provider, world.signer))
        world.advance(LOCK + 1)
        with pytest.raises(Refused, match="accounts: address zero"):
            world.do(world.user, serving.acknowledgeProviderSigner(world.provider, ZERO))
        with pytest.raises(Refused, match="accounts: no sub-account"):
            world.do(world.user, serving.acknowledgeProviderSigner(world.stranger, world.signer))

    def test_only_the_ledger_moves_money_in_and_out(self, world: World, service):
        """What the ledger calls is closed to everybody else."""
        world.open_account(world.user, world.provider, 100, service)
        serving = world.services[service].functions
        for call, value in (
            (serving.fund(world.user, world.provider, (0, 0), 0), 1),
            (serving.retrieve(world.user, [world.provider]), 0),
            (serving.closeAccounts(world.user, [world.provider]), 0),
        ):
            with pytest.raises(Refused, match="accounts: not the ledger"):
                world.do(world.user, call, value)
