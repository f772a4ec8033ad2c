from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.verification import sums
from tests.contracts.world import BOND, FAR, LOCK, WINDOW, ZERO, Refused, World

OFFER = ("chat", "chatbot", "https://example.org", "llama", "OpML", 2, 3)


class TestServices:
    def test_they_are_listed_field_for_field(self, world: World):
        """A service is shown as it was offered, with the time; removing one leaves the others; pages have an end."""
        f = world.inference.functions
        world.do(world.provider, f.addOrUpdateService(*OFFER))
        world.do(world.other_provider, f.addOrUpdateService(*OFFER))
        shown, total = f.getAllServices(0, 1).call()
        assert total == 2
        stamp = shown[0][6]
        assert shown == [(world.provider, "chat", "chatbot", "https://example.org", 2, 3, stamp, "llama", "OpML")]
        assert f.quoteFee(world.provider, "chat", 100, 10).call() == 230
        world.do(world.provider, f.removeService("chat"))
        assert [one[0] for one in f.getAllServices(0, 20).call()[0]] == [world.other_provider]
        with pytest.raises(Refused, match="inference: no such service"):
            world.do(world.user, f.quoteFee(world.provider, "chat", 1, 1))


class TestAccounts:
    def test_they_are_shown_field_for_field(self, world: World):
        """Account has the ledger's key and its info as it is now, and the acknowledged signer."""
        world.do(world.user, world.ledger.functions.addLedger((7, 8), "old"), 100)
        world.do(world.user, world.ledger.functions.transferFund(world.provider, "inference", 40))
        world.do(world.user, world.inference.functions.acknowledgeProviderSigner(world.provider, world.signer))
        world.do(world.user, world.ledger.functions.updateAdditionalInfo("new"))
        world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
        shown = world.inference.functions.getAccount(world.user, world.provider).call()
        refunds = [(0, 40, world.now, False)]
        assert shown == (world.user, world.provider, 0, 40, 40, [7, 8], refunds, "new", world.signer)


class TestBatches:
    def test_a_paid_line_becomes_the_providers_after_the_window(self, world: World):
        """Charged at once, held for the window, then claimed, then withdrawn."""
        world.open_account(world.user, world.provider, 100)
        settled = world.settle([world.line(world.user, [10, 20, 30])[0]], 1)
        assert (settled.paid, world.balance(world.user, world.provider)) == (1, (40, 0))
        assert world.ledger_of(world.user) == (900, 940)
        f = world.inference.functions
        with pytest.raises(Refused, match="inference: window is open"):
            world.do(world.provider, f.claim(settled.words()))
        world.advance(WINDOW)
        assert world.do(world.stranger, f.claim(settled.words())) == 60
        with pytest.raises(Refused, match="inference: nothing to claim"):
            world.do(world.provider, f.claim(settled.words()))
        with pytest.raises(Refused, match="accounts: the ledger is no wallet"):
            world.do(world.provider, f.withdraw(world.ledger.address))
        before = world.web3.eth.get_balance(world.other_user)
        assert world.do(world.provider, f.withdraw(world.other_user)) == 60
        assert world.web3.eth.get_balance(world.other_user) == before + 60
        with pytest.raises(Refused, match="accounts: nothing to withdraw"):
            world.do(world.provider, f.withdraw(world.provider))

    def test_a_batch_of_one_line_has_its_own_call(self, world: World):
        """settleFees takes what settleBatch takes, for one user."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [10])
        call = world.inference.functions.settleFees(world.provider, line.words(), 1, FAR, world.sign_batch([line], 1))
        assert world.do(world.provider, call) == 1
        with pytest.raises(Refused, match="inference: nonce was used"):
            world.settle([line], 1)

    def test_what_a_user_did_not_acknowledge_is_not_charged(self, world: World):
        """A signature by anyone but the acknowledged signer pays nothing, by the provider himself neither."""
        world.open_account(world.user, world.provider, 100)
        world.open_account(world.user, world.other_provider, 100)
        line, _ = world.line(world.user, [10])
        for nonce, key in enumerate((world.provider_key, world.stranger_key)):
            settled = world.settle([line], nonce, key=key)
            assert (settled.paid, world.refusals(settled)) == (0, ["signer not acknowledged"])
        signature = world.sign_batch([line], 9)
        elsewhere = world.inference.functions.settleBatch(world.other_provider, [line.words()], 9, FAR, signature)
        assert world.do(world.other_provider, elsewhere) == 0
        assert world.balance(world.user, world.provider) == world.balance(world.user, world.other_provider) == (100, 0)

    def test_the_former_signer_is_paid_for_the_lock_time(self, world: World):
        """A user who changes the signer still pays what the former signed, until the lock time is over."""
        world.open_account(world.user, world.provider, 100)
        world.do(world.user, world.inference.functions.acknowledgeProviderSigner(world.provider, world.stranger))
        assert world.settle([world.line(world.user, [10])[0]], 1).paid == 1
        world.advance(LOCK)
        assert world.settle([world.line(world.user, [10])[0]], 2).paid == 0

    def test_others_nonces_are_their_own(self, world: World):
        """A stranger's batch in a provider's name uses up none of the provider's nonces."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [10])
        world.settle([line], 1, key=world.stranger_key)
        assert world.settle([line], 1).paid == 1

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"deadline": 1}, "inference: deadline has passed"),
            ({"provider": ZERO}, "accounts: address zero"),
            ({"lines": []}, "inference: no lines"),
            ({"signature": b"\x01" * 64}, "signing: signature is not 65 bytes"),
            ({"signature": b"\x01" * 64 + b"\x1d"}, "signing: v is neither 27 nor 28"),
        ],
    )
    def test_what_is_no_batch_is_refused(self, world: World, changed, reason):
        """Each refusal of a whole batch has its own reason, and uses up no nonce."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [10])
        sent = {
            "provider": world.provider,
            "lines": [line.words()],
            "deadline": FAR,
            "signature": world.sign_batch([line], 1),
        } | changed
        call = world.inference.functions.settleBatch(sent["provider"], sent["lines"], 1, sent["deadline"], sent["signature"])
        with pytest.raises(Refused, match=reason):
            world.do(world.provider, call)
        assert world.settle([line], 1).paid == 1

    def test_a_batch_that_was_changed_is_not_acted_on(self, world: World):
        """Nobody claims with other lines, another end of the window, or more lines paid than were."""
        world.open_account(world.user, world.provider, 100)
        world.open_account(world.other_user, world.provider, 5)
        lines = [world.line(world.user, [10])[0], world.line(world.other_user, [6])[0]]
        settled = world.settle(lines, 1)
        world.advance(WINDOW)
        more = replace(settled.lines[0], total=11)
        changed = (
            replace(settled, paid=3), replace(settled, closes_at=0), replace(settled, provider=world.stranger),
            replace(settled, lines=(more, settled.lines[1])), replace(settled, lines=settled.lines[:1]),
        )  # fmt: skip
        for one in changed:
            with pytest.raises(Refused, match="inference: not the batch that was settled"):
                world.do(world.stranger, world.inference.functions.claim(one.words()))
        assert world.do(world.stranger, world.inference.functions.claim(settled.words())) == 10

    def test_money_that_is_held_is_all_there(self, world: World):
        """Through settlement, dispute and claim the contract has what it owes, to the last neuron."""
        world.open_account(world.user, world.provider, 100)
        line, leaves = world.line(world.user, [10, 20])
        settled = world.settle([line], 1)
        f = world.inference.functions
        words = (0, world.web3.keccak(text=f"{world.user}0"), 10)
        call = f.disputeReceipt(settled.words(), 0, words, [(one.digest, one.total) for one in sums.proof(leaves, 0)])
        world.do(world.user, call, BOND)
        assert world.owed(world.inference) == 100 + BOND
        world.advance(WINDOW)
        assert world.do(world.provider, f.claim(settled.words())) == 20
        world.do(world.stranger, f.closeDispute(settled.words(), 0, 0))
        assert f.withdrawable(world.user).call() == 10 + BOND
        world.do(world.user, f.withdraw(world.user))
        world.do(world.provider, f.withdraw(world.provider))
        assert world.owed(world.inference) == 70 == world.balance(world.user, world.provider)[0]


class TestGas:
    def test_a_receipt_in_a_batch_of_100_costs_a_twentieth(self, world: World):
        """100 receipts of ten users in one transaction cost, each, under 1/20 of a settlement of its own."""
        users = world.names[2:10] + world.names[:2]
        for user in users:
            world.open_account(user, world.provider, 10**6)
        nonce = count(1)
        world.settle([world.line(users[0], [1])[0]], next(nonce))
        line = world.line(users[0], [1], "alone")[0]
        alone = world.inference.functions.settleFees(world.provider, line.words(), 99, FAR, world.sign_batch([line], 99))
        single = world.measured(world.provider, alone)[1]["gasUsed"]
        batch = world.settle([world.line(user, [1] * 10)[0] for user in users], next(nonce))
        assert batch.paid == 2**10 - 1
        assert batch.gas / 100 < single / 20


class TestSums:
    @given(fees=st.lists(st.integers(0, 2**64), min_size=1, max_size=40), data=st.data())
    def test_each_leaf_folds_to_the_root(self, fees, data):
        """A proof gives the root from its own leaf, at its own place, and from nothing else."""
        leaves = [sums.leaf(at.to_bytes(32, "big"), fee) for at, fee in enumerate(fees)]
        at = data.draw(st.integers(0, len(fees) - 1))
        top, proof = sums.root(leaves), sums.proof(leaves, at)
        assert top.total == sum(fees)
        assert sums.fold(leaves[at], at, len(fees), proof) == top
        dearer = sums.leaf(at.to_bytes(32, "big"), fees[at] + 1)
        assert sums.fold(dearer, at, len(fees), proof) != top
        for other in {at - 1, at + 1, len(fees)} - {at}:
            assert sums.fold(leaves[at], other, len(fees), proof) != top
        assert sums.fold(leaves[at], at, len(fees), (*proof, top)) is None
