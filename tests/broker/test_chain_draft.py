"""Which receipts go into a batch for the chain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aos.broker.chain import LINES, ChainSettings, Funds, draft
from aos.broker.settlement import Earned, Standing, leaves
from aos.verification import sums

TERMS = {"provider": "0x1", "nonce": 1, "deadline": 1, "since": 0}
EARNED = Earned("00" * 32, "accounts/p", "available", "accounts/0x1", 10, datetime(2026, 1, 1, tzinfo=UTC), Standing.PAID)


def paid(*prices: int, payer: str = "accounts/p") -> list[Earned]:
    return [replace(EARNED, receipt=f"{at:064x}", payer=payer, price=price) for at, price in enumerate(prices)]


class TestDraft:
    def test_a_line_stands_for_exactly_its_receipts(self):
        """Root, sum and count are those of the receipts, in their order."""
        receipts = paid(1, 2, 3)
        drafted = draft(receipts, {"accounts/p": Funds("0x2", 100)}, 100, **TERMS)
        [line] = drafted.lines
        top = sums.root(leaves(receipts))
        assert (line.root, line.total, line.count, line.user) == (top.digest, 6, 3, "0x2")

    def test_what_is_older_goes_first(self):
        """A receipt that cannot be paid keeps the account's later ones waiting, cheaper or not."""
        drafted = draft(paid(5, 50, 1), {"accounts/p": Funds("0x2", 10)}, 100, **TERMS)
        assert [one.price for one in drafted.receipts[0]] == [5]

    @pytest.mark.parametrize(("spendable", "has"), [(0, 100), (100, 0), (4, 100), (100, 4)])
    def test_nothing_to_pay_from(self, spendable, has):
        """Without the user's money, or the provider's, there is no batch."""
        assert draft(paid(5), {"accounts/p": Funds("0x2", spendable)}, has, **TERMS) is None

    def test_an_account_nobody_pays_for(self):
        """Its receipts stay off the chain; others' do not."""
        drafted = draft(paid(5, payer="accounts/q") + paid(7), {"accounts/p": Funds("0x2", 10)}, 100, **TERMS)
        assert [line.account for line in drafted.lines] == ["accounts/p"]

    def test_a_batch_has_so_many_lines(self):
        """The contract takes 64 users at once; the others' receipts wait for the next batch."""
        payers = [f"accounts/{at}" for at in range(LINES + 1)]
        receipts = [one for payer in payers for one in paid(1, payer=payer)]
        drafted = draft(receipts, {payer: Funds("0x2", 1) for payer in payers}, 1000, **TERMS)
        assert [line.account for line in drafted.lines] == payers[:LINES]


class TestSettings:
    @pytest.mark.parametrize("wrong", [{"seconds": 0}, {"receipts": 0}, {"receipts": 10_001}, {"valid_seconds": 0}])
    def test_what_cannot_be(self, wrong):
        """The refusal names the setting."""
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ChainSettings(payers={}, **wrong)
