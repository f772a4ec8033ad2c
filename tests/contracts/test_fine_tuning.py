from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contracts.tuning import ROOT, SECRET, Tuning
from tests.contracts.world import ACKNOWLEDGE, ZERO, Refused, World

QUOTA = (4, 32, 1, 100, "H200")


@pytest.fixture
def tuning(world: World) -> Tuning:
    one = Tuning(world)
    one.open()
    return one


class TestServices:
    def test_they_are_listed_field_for_field(self, world: World):
        """A service is shown as it was offered; removing one leaves the others."""
        f = world.tuning.functions
        offer = ("llm", "https://example.org", QUOTA, 5, world.signer, False)
        world.do(world.provider, f.addOrUpdateService(*offer))
        world.do(world.other_provider, f.addOrUpdateService(*offer))
        world.do(world.provider, f.addOrUpdateService("llm", "https://example.org/2", QUOTA, 6, world.signer, True))
        shown, count = f.getAllServices(0, 20).call()
        assert count == 2
        assert shown[0] == (world.provider, "llm", "https://example.org/2", QUOTA, 6, world.signer, True)
        world.do(world.provider, f.removeService("llm"))
        assert [one[0] for one in f.getAllServices(0, 20).call()[0]] == [world.other_provider]
        with pytest.raises(Refused, match="fine-tuning: no such service"):
            world.do(world.provider, f.removeService("llm"))

    def test_a_fee_is_quoted_by_the_contract(self, world: World):
        """quoteFee is price times tokens times epochs, and overflows into a refusal, not into a small number."""
        f = world.tuning.functions
        world.do(world.provider, f.addOrUpdateService("llm", "u", QUOTA, 5, world.signer, False))
        assert f.quoteFee(world.provider, "llm", 1000, 3).call() == 15_000
        with pytest.raises(Refused):
            world.do(world.user, f.quoteFee(world.provider, "llm", 2**255, 2))

    def test_a_service_has_a_signer(self, world: World):
        """Address zero is nobody's signer."""
        with pytest.raises(Refused, match="address zero"):
            world.do(world.provider, world.tuning.functions.addOrUpdateService("llm", "u", QUOTA, 5, ZERO, False))


class TestDelivery:
    def test_an_acknowledged_deliverable_is_paid_whole_and_gives_the_key(self, world: World, tuning: Tuning):
        """Fee to the provider, secret to the user, in one transaction."""
        index = tuning.deliver(7)
        tuning.acknowledge(index)
        assert tuning.settle(index, 7) == 1000
        assert tuning.earned() == 1000
        assert tuning.balance() == 9000
        assert tuning.f.getDeliverable(world.user, world.provider, index).call() == (ROOT, SECRET, True)
        account = tuning.f.getAccount(world.user, world.provider).call()
        assert account[2:4] == (7, 9000)
        assert account[8] == [(ROOT, SECRET, True)]
        assert world.do(world.provider, tuning.f.withdraw(world.provider)) == 1000

    def test_not_acknowledged_in_time_costs_the_penalty(self, world: World, tuning: Tuning):
        """30 of 100, without the key, and not before the time to acknowledge is over."""
        index = tuning.deliver(7)
        with pytest.raises(Refused, match="time to acknowledge is not over"):
            tuning.settle(index, 7, secret=b"")
        world.advance(ACKNOWLEDGE + 1)
        with pytest.raises(Refused, match="secret without acknowledgement"):
            tuning.settle(index, 7)
        assert tuning.settle(index, 7, secret=b"") == 300
        with pytest.raises(Refused, match="penalty was paid"):
            tuning.settle(index, 7, secret=b"")
        with pytest.raises(Refused, match="penalty was paid"):
            world.do(world.provider, tuning.f.abandonDeliverable(world.user, index))

    def test_tasks_settle_in_any_order(self, tuning: Tuning):
        """A later nonce that settles first leaves the earlier one payable."""
        first, second = tuning.deliver(7), tuning.deliver(9)
        for index, nonce in ((second, 9), (first, 7)):
            tuning.acknowledge(index)
            assert tuning.settle(index, nonce) == 1000

    def test_an_abandoned_deliverable_is_never_paid(self, world: World, tuning: Tuning):
        """The provider may give up; then nobody acknowledges or settles it."""
        index = tuning.deliver(7)
        world.do(world.provider, tuning.f.abandonDeliverable(world.user, index))
        with pytest.raises(Refused, match="fine-tuning: abandoned"):
            tuning.acknowledge(index)
        with pytest.raises(Refused, match="fine-tuning: abandoned"):
            tuning.settle(index, 7)

    def test_deliverables_come_in_pages_under_lasting_indices(self, world: World, tuning: Tuning):
        """An account shows its latest 20; all have the index they were given."""
        for nonce in range(22):
            assert tuning.deliver(nonce, root=bytes([nonce + 1])) == nonce
        account = tuning.f.getAccount(world.user, world.provider).call()
        assert [one[0] for one in account[8]] == [bytes([nonce + 1]) for nonce in range(2, 22)]
        page, count = tuning.f.getDeliverables(world.user, world.provider, 1, 2).call()
        assert ([one[0] for one in page], count) == ([b"\x02", b"\x03"], 22)
        assert tuning.f.indexOf(world.user, world.provider, "task-20").call() == 20


class TestWhatIsRefused:
    def test_each_wrong_thing_has_its_reason(self, world: World, tuning: Tuning):
        """Nonce, signer, root, fee, signature, other chain, other contract, settled twice, index out of range."""
        index = tuning.deliver(7)
        tuning.acknowledge(index)
        here = world.where("fine-tuning")
        wrong = "fine-tuning: settlement is not the signer's"
        refused = {
            "fine-tuning: nonce is not the task's": tuning.settlement(index, 7, sent={"nonce": 8}),
            "fine-tuning: signer not acknowledged": tuning.settlement(index, 7, sent={"signer": world.stranger}),
            "fine-tuning: root is not the delivered one": tuning.settlement(index, 7, sent={"root": b"\x12" * 32}),
            "fine-tuning: fee is above the maximum": tuning.settlement(index, 7, fee=1001),
            "fine-tuning: secret is missing": tuning.settlement(index, 7, secret=b""),
            "fine-tuning: no such deliverable": tuning.settlement(index + 1, 7),
        }
        for reason, call in refused.items():
            with pytest.raises(Refused, match=reason):
                world.do(world.provider, call)
        for call in (
            tuning.settlement(index, 7, sent={"fee": 999}),
            tuning.settlement(index, 7, sent={"secret": SECRET + b"!"}),
            tuning.settlement(index, 7, key=world.stranger_key),
            tuning.settlement(index, 7, id_="task-8"),
            tuning.settlement(index, 7, where=replace(here, chain_id=1)),
            tuning.settlement(index, 7, where=replace(here, address=world.inference.address)),
        ):
            with pytest.raises(Refused, match=wrong):
                world.do(world.provider, call)
        with pytest.raises(Refused, match="fine-tuning: no such deliverable"):
            world.do(world.stranger, tuning.settlement(index, 7))
        assert tuning.settle(index, 7) == 1000
        with pytest.raises(Refused, match="settled already"):
            tuning.settle(index, 7)

    def test_a_task_is_the_users_own(self, world: World, tuning: Tuning):
        """A deliverable needs the user's signature on its task, for this provider, once."""
        task, signature = tuning.task(7, key=world.provider_key)
        with pytest.raises(Refused, match="task is not the user's"):
            world.do(world.provider, tuning.f.addDeliverable(world.user, "t", ROOT, task, signature))
        task, signature = tuning.task(7, provider=world.other_provider)
        with pytest.raises(Refused, match="task is not the user's"):
            world.do(world.provider, tuning.f.addDeliverable(world.user, "t", ROOT, task, signature))
        tuning.deliver(7, "t")
        with pytest.raises(Refused, match="nonce was used"):
            tuning.deliver(7, "u")
        with pytest.raises(Refused, match="delivered already"):
            tuning.deliver(8, "t")

    def test_without_funds_nothing_is_settled(self, world: World, tuning: Tuning):
        """A fee above the balance is refused whole; the key stays with the provider."""
        dear = Tuning(world, fee=10_001)
        index = dear.deliver(7)
        dear.acknowledge(index)
        with pytest.raises(Refused, match="accounts: insufficient balance"):
            dear.settle(index, 7)
        assert tuning.f.getDeliverable(world.user, world.provider, index).call()[1] == b""
