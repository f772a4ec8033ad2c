from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from web3 import Web3

from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import FINISH_REASON_STOP, Usage
from aos.verification import sums
from aos.verification.receipts import digest, sign
from aos.verification.wallets import receipt_words, request_statement
from tests.contracts.world import ANSWER, BOND, FAR, WINDOW, Refused, Settled, World

FEES = (10, 20, 30)


def receipt(world: World, job: int, price: int, issued_at: int = 1000) -> Receipt:
    """A receipt as the acknowledged signer, an operator, signs it."""
    hashed = lambda text: bytes(Web3.keccak(text=text))  # noqa: E731
    made = Receipt(
        job=job.to_bytes(32, "big"), request_digest=hashed("request"), model_digest=hashed("model"), profile="exact",
        parameters="{}", seed=1, prompt_digest=hashed("prompt"), output_digest=hashed("output"),
        output_tokens_digest=hashed("tokens"), state_root=hashed("state"), usage=Usage(prompt_tokens=3, completion_tokens=4),
        finish_reason=FINISH_REASON_STOP, price=str(price), issued_at=issued_at,
    )  # fmt: skip
    return sign(made, world.signer_key)


@dataclass
class Case:
    """A settled batch of one line over three receipts, and what it takes to dispute and to answer."""

    world: World
    receipts: list[Receipt]
    leaves: list[sums.SumNode]
    settled: Settled

    @property
    def f(self) -> Any:
        return self.world.inference.functions

    def leaf(self, index: int) -> tuple[int, bytes, int]:
        return index, digest(self.receipts[index]), self.leaves[index].total

    def proof(self, index: int) -> list[tuple[bytes, int]]:
        return [(one.digest, one.total) for one in sums.proof(self.leaves, index)]

    def dispute(self, index: int, *, actor: str = "", value: int = BOND) -> None:
        call = self.f.disputeReceipt(self.settled.words(), 0, self.leaf(index), self.proof(index))
        self.world.do(actor or self.world.user, call, value)

    def demand(self, index: int) -> None:
        self.world.do(self.world.user, self.f.demandReceipt(self.settled.words(), 0, index), BOND)

    def answering(self, index: int, *, nonce: int = 1, **changed: Any) -> Any:
        """The call that answers; ``changed`` differs from what is right."""
        key = changed.pop("key", self.world.user_key)
        asked = {"max_fee": 100, "nonce": nonce} | {
            name: changed.pop(name) for name in ("max_fee", "expiry", "provider") if name in changed
        }
        request, signature = self.world.request(key, **asked)
        sent = {
            "leaf": self.leaf(index), "proof": self.proof(index), "receipt": receipt_words(self.receipts[index]),
            "request": request, "signature": signature,
        } | changed  # fmt: skip
        return self.f.answerDispute(
            self.settled.words(), 0, sent["leaf"], sent["proof"], sent["receipt"], sent["request"], sent["signature"]
        )

    def answer(self, index: int, *, nonce: int = 1, **changed: Any) -> None:
        self.world.do(self.world.provider, self.answering(index, nonce=nonce, **changed))

    def close(self, index: int) -> None:
        self.world.do(self.world.stranger, self.f.closeDispute(self.settled.words(), 0, index))

    def claim(self) -> int:
        return self.world.do(self.world.provider, self.f.claim(self.settled.words()))

    def mine(self, who: str) -> int:
        return self.f.withdrawable(who).call()


def settled(world: World, receipts: list[Receipt], fees: list[int] | None = None, nonce: int = 1) -> Case:
    leaves = [sums.leaf(digest(one), fee) for one, fee in zip(receipts, fees or [int(one.price) for one in receipts], strict=True)]
    top = sums.root(leaves)
    line = replace(world.line(world.user, [0])[0], root=top.digest, total=top.total, count=len(leaves))
    return Case(world, receipts, leaves, world.settle([line], nonce))


@pytest.fixture
def case(world: World) -> Case:
    world.open_account(world.user, world.provider, 1000)
    return settled(world, [receipt(world, job, fee) for job, fee in enumerate(FEES)])


class TestFreezing:
    def test_exactly_the_receipts_fee_is_frozen(self, world: World, case: Case):
        """One disputed receipt of three holds up its own fee and no other."""
        case.dispute(1)
        assert case.f.getLine(case.settled.id, 0).call() == [(20, 0, 0, False), False]
        world.advance(WINDOW)
        assert case.claim() == 40

    def test_only_the_user_disputes_and_only_in_the_window(self, world: World, case: Case):
        """Not another's line, not without the exact bond, not twice, not when the window is closed."""
        for changed, reason in (
            ({"actor": world.stranger}, "inference: not your line"),
            ({"value": BOND - 1}, "inference: bond is not exact"),
        ):
            with pytest.raises(Refused, match=reason):
                case.dispute(0, **changed)
        case.dispute(0)
        with pytest.raises(Refused, match="inference: disputed already"):
            case.dispute(0)
        world.advance(WINDOW)
        with pytest.raises(Refused, match="inference: window is closed"):
            case.dispute(1)

    def test_what_is_not_under_the_root_is_not_disputed(self, world: World, case: Case):
        """Another fee, another place or another receipt does not fold to the root."""
        index, shown, fee = case.leaf(0)
        for leaf in ((index, shown, fee + 1), (1, shown, fee), (3, shown, fee), (index, bytes(32), fee)):
            with pytest.raises(Refused, match=r"not under the root|no such receipt"):
                world.do(world.user, case.f.disputeReceipt(case.settled.words(), 0, leaf, case.proof(0)), BOND)
        with pytest.raises(Refused, match="not under the root"):
            world.do(world.user, case.f.disputeReceipt(case.settled.words(), 0, case.leaf(0), case.proof(0)[:1]), BOND)


class TestAnswering:
    def test_an_honest_provider_is_paid_and_keeps_the_bond(self, world: World, case: Case):
        """Shown receipt and request, the fee is free again, and the bond is the provider's."""
        case.dispute(1)
        case.answer(1)
        assert case.mine(world.provider) == BOND
        world.advance(WINDOW)
        assert case.claim() == 60
        with pytest.raises(Refused, match="inference: no open dispute"):
            case.close(1)
        assert case.f.getAccount(world.user, world.provider).call()[2] == 1

    def test_answered_after_the_claim_the_fee_is_paid_at_once(self, world: World, case: Case):
        """What was frozen when the rest was claimed does not get lost."""
        world.advance(WINDOW - 20)
        case.dispute(1)
        world.advance(100)
        assert case.claim() == 40
        case.answer(1)
        assert case.mine(world.provider) == 60 + BOND

    def test_each_wrong_answer_has_its_reason(self, world: World, case: Case):
        """Another receipt, a request for less, expired, another's, for another provider, or used."""
        case.dispute(0)
        case.dispute(1)
        wrong = {
            "inference: words are not the receipt's": {"receipt": receipt_words(case.receipts[0])},
            "inference: fee is above the maximum": {"max_fee": 19},
            "inference: request had expired": {"expiry": 999},
        }
        for reason, changed in wrong.items():
            with pytest.raises(Refused, match=reason):
                case.answer(1, **changed)
        for changed in ({"key": world.stranger_key}, {"provider": world.other_provider}):
            with pytest.raises(Refused, match="inference: request is not the user's"):
                case.answer(1, **changed)
        case.answer(1, max_fee=20)
        with pytest.raises(Refused, match="inference: request was used"):
            case.answer(0)
        world.advance(ANSWER + 1)
        with pytest.raises(Refused, match="inference: time to answer is over"):
            case.answer(0, nonce=2)

    def test_a_delegated_key_asks_for_its_user(self, world: World):
        """A key that the ledger named when the sub-account was made signs requests like the user."""
        world.do(world.user, world.ledger.functions.addLedger((int(world.stranger, 16), 0), ""), 1000)
        world.open_account(world.user, world.provider, 100)
        case = settled(world, [receipt(world, 1, 10)])
        case.dispute(0)
        said = {"user": world.user, "provider": world.provider, "service": "chat", "body_hash": bytes(32)}
        signature = world.stranger_key.sign(request_statement(world.where(), **said, max_fee=10, nonce=1, expiry=FAR))
        case.answer(0, request=(bytes(Web3.keccak(text="chat")), bytes(32), 10, 1, FAR), signature=signature)
        assert case.mine(world.provider) == BOND


class TestCheating:
    def test_a_fee_above_the_price_comes_back(self, world: World):
        """A leaf with more than the receipt's price cannot be answered."""
        world.open_account(world.user, world.provider, 1000)
        case = settled(world, [receipt(world, 1, 10)], [11])
        case.dispute(0)
        with pytest.raises(Refused, match="inference: fee is not the price"):
            case.answer(0)
        world.advance(ANSWER + 1)
        case.close(0)
        assert case.mine(world.user) == 11 + BOND
        world.advance(WINDOW)
        with pytest.raises(Refused, match="inference: nothing to claim"):
            case.claim()

    def test_one_job_is_paid_once(self, world: World):
        """A second receipt for the same job, here or in a later batch, cannot be answered, with another request neither."""
        world.open_account(world.user, world.provider, 1000)
        first = settled(world, [receipt(world, 1, 10), receipt(world, 1, 10)])
        later = settled(world, [receipt(world, 1, 12)], nonce=2)
        first.dispute(0)
        first.dispute(1)
        later.dispute(0)
        first.answer(0, nonce=1)
        for case, index in ((first, 1), (later, 0)):
            with pytest.raises(Refused, match="inference: job was shown"):
                case.answer(index, nonce=2)

    def test_a_receipt_that_is_kept_from_view_costs_the_line(self, world: World, case: Case):
        """A user who was not given a receipt asks for its index; unanswered, the whole line comes back."""
        case.demand(2)
        world.advance(ANSWER + 1)
        case.close(2)
        assert case.mine(world.user) == 60 + BOND
        world.advance(WINDOW)
        with pytest.raises(Refused, match="inference: nothing to claim"):
            case.claim()

    def test_a_receipt_that_is_shown_costs_nothing(self, world: World, case: Case):
        """A demand that is answered leaves the line as it was; meanwhile it is not claimed."""
        world.advance(WINDOW - 50)
        case.demand(2)
        world.advance(100)
        with pytest.raises(Refused, match="inference: nothing to claim"):
            case.claim()
        case.answer(2)
        assert case.claim() == 60
        assert case.mine(world.provider) == 60 + BOND

    def test_a_void_line_pays_each_of_its_disputes(self, world: World, case: Case):
        """With one leaf disputed and answered and another kept from view, both ends add up to what was paid."""
        case.dispute(0)
        case.demand(2)
        world.advance(ANSWER - 10)
        case.answer(0)
        world.advance(20)
        case.close(2)
        assert case.mine(world.provider) == BOND
        assert case.mine(world.user) == 60 + BOND
        assert world.owed(world.inference) == 1000 + 2 * BOND

    def test_what_is_frozen_outlives_a_void_line(self, world: World, case: Case):
        """A leaf that is answered after its line came back is the provider's; the user has the rest."""
        case.demand(2)
        world.advance(100)
        case.dispute(0)
        world.advance(ANSWER - 90)
        case.close(2)
        assert case.mine(world.user) == 50 + BOND
        case.answer(0)
        assert case.mine(world.provider) == 10 + BOND
        with pytest.raises(Refused, match="inference: line is void"):
            case.dispute(1)

    def test_nothing_is_closed_early_or_twice(self, world: World, case: Case):
        """Before the time to answer is over, and after it was closed, there is nothing to close."""
        case.dispute(0)
        with pytest.raises(Refused, match="inference: time to answer is not over"):
            case.close(0)
        world.advance(ANSWER + 1)
        case.close(0)
        with pytest.raises(Refused, match="inference: no open dispute"):
            case.close(0)
        assert case.mine(world.user) == 10 + BOND
