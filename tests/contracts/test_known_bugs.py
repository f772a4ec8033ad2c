"""Bugs of earlier contracts of this kind, C1 to C14: what each would have done is what these contracts are asserted not to do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from aos.chain.artifacts import CONTRACTS, artifact
from aos.verification.wallets import batch_statement
from tests.contracts.tuning import ROOT, SECRET, Tuning
from tests.contracts.world import ACKNOWLEDGE, FAR, LOCK, ZERO, Refused, World
from tools.contracts import COMPILE
from tools.contracts import ROOT as CHECKOUT

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1."""


@pytest.fixture(scope="session")
def wallet_artifact():
    done = subprocess.run(
        [*COMPILE, str(CHECKOUT / "tests" / "contracts" / "Wallet.vy")], capture_output=True, text=True, check=True, timeout=100
    )
    abi, bytecode = done.stdout.split("\n")[:2]
    return json.loads(abi), bytecode


@pytest.fixture
def wallet(world: World, wallet_artifact):
    """A user who is a contract."""
    abi, bytecode = wallet_artifact
    at = world.create(world.web3.eth.contract(abi=abi, bytecode=bytecode))
    return world.web3.eth.contract(address=at, abi=abi)


def run(world: World, wallet, contract, call: str, arguments: list, value: int = 0) -> None:
    """Have the contract wallet make a call, with money that the test gives it."""
    if value:
        world.web3.eth.send_transaction({"from": world.deployer, "to": wallet.address, "value": value, "gas": 200_000})
    world.do(world.deployer, wallet.functions.run(contract.address, contract.encode_abi(call, arguments), value))


class TestLedger:
    def test_c1_nobody_lowers_anothers_total(self, world: World):
        """There is no spendFund: a total is what is there, so no call by anybody can lower it beside a payment."""
        world.open_account(world.user, world.provider, 100)
        assert "spendFund" not in {entry.get("name") for name in CONTRACTS for entry in artifact(name).abi}
        for actor in (world.stranger, world.provider):
            for call in (world.ledger.functions.refund(1), world.ledger.functions.deleteLedger()):
                with pytest.raises(Refused):
                    world.do(actor, call)
        assert world.ledger_of(world.user) == (900, 1000)

    def test_c2_nobody_deletes_anothers_ledger(self, world: World):
        """deleteLedger takes no address: with a ledger of his own, a stranger deletes that one alone."""
        world.do(world.user, world.ledger.functions.addLedger((0, 0), ""), 100)
        world.do(world.stranger, world.ledger.functions.addLedger((0, 0), ""), 1)
        world.do(world.stranger, world.ledger.functions.deleteLedger())
        assert world.ledger_of(world.user) == (100, 100)
        assert not world.has_ledger(world.stranger)

    def test_c3_deleting_pays_out(self, world: World):
        """What is in a deleted ledger is in the wallet, and one with money in sub-accounts is not deleted."""
        world.open_account(world.user, world.provider, 100)
        with pytest.raises(Refused, match="ledger: sub-accounts hold funds"):
            world.do(world.user, world.ledger.functions.deleteLedger())
        world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
        world.advance(LOCK)
        world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
        held = world.owed(world.ledger)
        assert world.do(world.user, world.ledger.functions.deleteLedger()) == 1000
        assert world.owed(world.ledger) == held - 1000

    def test_c3_a_new_ledger_replays_nothing(self, world: World):
        """After deletion and re-creation an old batch, and an old task, are as used as before."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [100])
        world.settle([line], 1)
        world.do(world.user, world.ledger.functions.deleteLedger())
        assert not world.inference.functions.accountExists(world.user, world.provider).call()
        world.open_account(world.user, world.provider, 100)
        with pytest.raises(Refused, match="inference: nonce was used"):
            world.settle([line], 1)
        assert world.balance(world.user, world.provider) == (100, 0)

    def test_c9_a_contract_wallet_is_paid(self, world: World, wallet):
        """Refund, deletion and withdrawal reach a wallet that needs more than 2300 gas to be paid."""
        run(world, wallet, world.ledger, "addLedger", [(0, 0), ""], 100)
        run(world, wallet, world.ledger, "refund", [30])
        assert wallet.functions.received().call() == 130
        run(world, wallet, world.ledger, "deleteLedger", [])
        assert wallet.functions.received().call() == 200

    def test_c9_nobody_is_paid_twice_by_calling_back(self, world: World, wallet):
        """A wallet that asks again while it is being paid gets no second payment."""
        world.do(world.user, world.ledger.functions.addLedger((0, 0), ""), 1000)
        run(world, wallet, world.ledger, "addLedger", [(0, 0), ""], 100)
        world.do(world.deployer, wallet.functions.call_back(world.ledger.encode_abi("refund", [50])))
        run(world, wallet, world.ledger, "refund", [50])
        assert wallet.functions.tried().call()
        assert not wallet.functions.succeeded().call()
        assert world.ledger_of(wallet.address) == (50, 50)
        assert world.ledger_of(world.user) == (1000, 1000)

    def test_c11_a_full_list_of_refunds_blocks_nobody(self, world: World):
        """With five refunds open at one provider, retrieving from that and another still works for the other."""
        world.open_account(world.user, world.provider, 100)
        world.open_account(world.user, world.other_provider, 100)
        f = world.ledger.functions
        fill(world)
        assert len(world.inference.functions.getRefunds(world.user, world.provider).call()) == 5
        world.do(world.user, f.retrieveFund([world.provider, world.other_provider], "inference"))
        assert world.balance(world.user, world.other_provider) == (100, 100)
        assert len(world.inference.functions.getRefunds(world.user, world.provider).call()) == 5

    def test_c11_nobody_changes_the_lock_time(self, world: World):
        """An open refund is released when it was said to be: no function could change that, the deployer's neither."""
        named = {entry.get("name") for name in CONTRACTS for entry in artifact(name).abi}
        assert not {"updateLockTime", "transferOwnership", "owner", "initialize", "updatePenaltyPercentage"} & named
        world.open_account(world.user, world.provider, 100)
        world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
        assert world.inference.functions.claimable(world.user, [world.provider]).call()[0][3] == world.now + LOCK


def fill(world: World) -> None:
    """Open refunds at the provider until no more fit: half of the newest is turned round, and asked back anew."""
    f, refunds = world.ledger.functions, world.inference.functions.getRefunds(world.user, world.provider)
    for _ in range(5):
        world.do(world.user, f.retrieveFund([world.provider], "inference"))
        world.do(world.user, f.transferFund(world.provider, "inference", refunds.call()[-1][1] // 2))


class TestFineTuning:
    def test_c4_junk_is_nobodys_signature(self, world: World):
        """A provider cannot use address zero: not as the acknowledged signer, not by 65 bytes that recover to it."""
        tuning = Tuning(world)
        world.do(world.user, world.ledger.functions.addLedger((0, 0), ""), 20_000)
        world.do(world.user, world.ledger.functions.transferFund(world.provider, "fine-tuning", 10_000))
        with pytest.raises(Refused, match="signer not acknowledged"):
            tuning.deliver(7)
        tuning.open()
        index = tuning.deliver(7)
        world.advance(ACKNOWLEDGE + 1)
        for junk in (bytes(65), bytes(64) + b"\x1b", b"\xff" * 32 + bytes(32) + b"\x1b", b""):
            for claimed in (ZERO, world.signer):
                with pytest.raises(Refused):
                    tuning.settle(index, 7, secret=b"", sent={"signer": claimed, "signature": junk or b"\x00"})
        assert tuning.balance() == 20_000

    def test_c5_nobody_acknowledges_for_the_user(self, world: World):
        """acknowledgeDeliverable is the caller's own: the provider's call touches no account of the user's."""
        tuning = Tuning(world)
        tuning.open()
        index = tuning.deliver(7)
        assert [
            len(entry["inputs"]) for entry in artifact("FineTuningServing").abi if entry.get("name") == "acknowledgeDeliverable"
        ] == [2]
        for actor in (world.provider, world.stranger):
            with pytest.raises(Refused, match="no such deliverable"):
                world.do(actor, tuning.f.acknowledgeDeliverable(world.provider, index))
        assert not tuning.f.getDeliverable(world.user, world.provider, index).call()[2]

    def test_c6_without_acknowledgement_no_full_fee(self, world: World):
        """Unacknowledged, the full fee is refused, and the key is not published."""
        tuning = Tuning(world)
        tuning.open()
        index = tuning.deliver(7)
        with pytest.raises(Refused):
            tuning.settle(index, 7)
        assert tuning.earned() == 0
        assert tuning.f.getDeliverable(world.user, world.provider, index).call()[1] == b""

    def test_c6_a_deliverable_is_settled_once(self, world: World):
        """Under no nonce, old or new, is it settled again."""
        tuning = Tuning(world)
        tuning.open()
        index = tuning.deliver(7)
        tuning.acknowledge(index)
        tuning.settle(index, 7)
        for nonce in (7, 8, 2**255):
            with pytest.raises(Refused, match="settled already"):
                tuning.settle(index, nonce)
        assert tuning.earned() == 1000

    def test_c8_adjacent_fields_cannot_be_shifted(self, world: World):
        """A byte moved from the end of the secret to the front of the root is another statement."""
        tuning = Tuning(world)
        tuning.open()
        whole = SECRET + ROOT
        index = tuning.deliver(7, root=whole[128:])
        tuning.acknowledge(index)
        with pytest.raises(Refused, match="settlement is not the signer's"):
            tuning.settle(index, 7, sent={"secret": whole[:128], "root": whole[128:]})
        assert tuning.settle(index, 7, secret=whole[:128], root=whole[128:]) == 1000

    def test_c8_the_mirrored_signature_is_refused(self, world: World):
        """The high-s twin of a good signature, which is as valid by arithmetic, is not taken."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [10])
        good = world.sign_batch([line], 1)
        s = int.from_bytes(good[32:64], "big")
        twin = good[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - good[64]])
        call = world.inference.functions.settleBatch(world.provider, [line.words()], 1, FAR, twin)
        with pytest.raises(Refused, match="signing: s is too high"):
            world.do(world.provider, call)
        assert world.settle([line], 1).paid == 1

    @pytest.mark.parametrize("elsewhere", ["chain", "contract", "name"])
    def test_c8_what_is_signed_for_elsewhere_is_not_good_here(self, world: World, elsewhere):
        """A batch for another chain, contract or service is signed by nobody whom the user acknowledged."""
        here = world.where()
        there = {
            "chain": replace(here, chain_id=1),
            "contract": replace(here, address=world.tuning.address),
            "name": replace(here, name="AOS Fine-Tuning Serving"),
        }[elsewhere]
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [10])
        signature = world.signer_key.sign(batch_statement(there, world.provider, [line], 1, FAR))
        call = world.inference.functions.settleBatch(world.provider, [line.words()], 1, FAR, signature)
        assert world.do(world.provider, call) == 0
        assert world.balance(world.user, world.provider) == (100, 0)

    def test_c10_a_settlement_is_for_the_task_that_was_delivered(self, world: World):
        """What is signed for one task settles no other deliverable, same root or not; an empty secret buys nothing."""
        tuning = Tuning(world)
        tuning.open()
        first, second = tuning.deliver(7), tuning.deliver(8)
        tuning.acknowledge(first)
        tuning.acknowledge(second)
        with pytest.raises(Refused, match="nonce is not the task's"):
            tuning.settle(second, 7)
        with pytest.raises(Refused, match="settlement is not the signer's"):
            tuning.settle(second, 8, id_="task-7")
        with pytest.raises(Refused, match="secret is missing"):
            tuning.settle(first, 7, secret=b"")

    def test_c13_a_penalty_locks_nothing(self, world: World):
        """After a penalty, later tasks are delivered and paid, and the user can still pay the rest for the key."""
        tuning = Tuning(world)
        tuning.open()
        late = tuning.deliver(7)
        world.advance(ACKNOWLEDGE + 1)
        assert tuning.settle(late, 7, secret=b"") == 300
        following = tuning.deliver(8)
        tuning.acknowledge(following)
        assert tuning.settle(following, 8) == 1000
        tuning.acknowledge(late)
        assert tuning.settle(late, 7) == 700
        assert tuning.f.getDeliverable(world.user, world.provider, late).call() == (ROOT, SECRET, True)
        assert tuning.earned() == 2000


class TestInference:
    def test_c7_a_spent_refund_is_never_paid_out(self, world: World):
        """A fee that eats a pending refund takes it off the books: releasing it later neither pays it again nor gets stuck."""
        world.open_account(world.user, world.provider, 100)
        f = world.ledger.functions
        world.do(world.user, f.retrieveFund([world.provider], "inference"))
        line, _ = world.line(world.user, [60, 10])
        world.settle([line], 1)
        assert world.balance(world.user, world.provider) == (30, 30)
        world.do(world.user, f.transferFund(world.provider, "inference", 130))
        world.advance(LOCK)
        world.do(world.user, f.retrieveFund([world.provider], "inference"))
        world.advance(LOCK)
        assert world.do(world.user, f.retrieveFund([world.provider], "inference")) == 130
        assert world.balance(world.user, world.provider) == (0, 0)
        assert world.ledger_of(world.user) == (930, 930)

    def test_c7_the_list_of_refunds_does_not_grow(self, world: World):
        """Refunds that are done leave the list: twenty rounds later there is none."""
        world.open_account(world.user, world.provider, 100)
        for _ in range(20):
            world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
            world.advance(LOCK)
            world.do(world.user, world.ledger.functions.retrieveFund([world.provider], "inference"))
            world.do(world.user, world.ledger.functions.transferFund(world.provider, "inference", 100))
        assert world.inference.functions.getRefunds(world.user, world.provider).call() == []
        assert world.ledger_of(world.user) == (900, 1000)

    def test_c12_a_poor_user_holds_up_nobody(self, world: World):
        """In a batch with a user who cannot pay, and one who has no account, the others are paid."""
        world.open_account(world.user, world.provider, 100)
        world.open_account(world.other_user, world.provider, 9)
        lines = [world.line(user, [10])[0] for user in (world.other_user, world.user, world.stranger)]
        settled = world.settle(lines, 1)
        assert settled.paid == 0b010
        assert world.refusals(settled) == ["insufficient balance", "no sub-account"]
        assert world.balance(world.user, world.provider) == (90, 0)
        assert world.balance(world.other_user, world.provider) == (9, 0)

    def test_c12_the_last_nonce_is_not_good_again(self, world: World):
        """The nonce that was settled last is used, for another batch too; a lower one that was not used is good."""
        world.open_account(world.user, world.provider, 100)
        world.settle([world.line(world.user, [10])[0]], 5)
        with pytest.raises(Refused, match="inference: nonce was used"):
            world.settle([world.line(world.user, [10], "another")[0]], 5)
        assert world.settle([world.line(world.user, [10], "third")[0]], 4).paid == 1

    def test_c14_a_line_is_paid_as_signed_or_not_at_all(self, world: World):
        """There are no partial payments that would need another signature: with funds for less, nothing is taken."""
        world.open_account(world.user, world.provider, 100)
        line, _ = world.line(world.user, [60, 60])
        assert world.settle([line], 1).paid == 0
        assert world.balance(world.user, world.provider) == (100, 0)
        affordable, _ = world.line(world.user, [60])
        assert world.settle([affordable], 2).paid == 1
        assert world.balance(world.user, world.provider) == (40, 0)
