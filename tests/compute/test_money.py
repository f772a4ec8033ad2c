from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.compute import coins, neurons
from aos.compute.money import MOST
from aos.errors import InvalidField


class TestAmounts:
    @pytest.mark.parametrize(
        ("amount", "found"),
        [
            (0, 0),
            (MOST, MOST),
            ("1", 10**18),
            ("0.1", 10**17),
            ("0.3", 3 * 10**17),
            (".5", 5 * 10**17),
            ("0.000000000000000001", 1),
            ("1.10000000000000000000000", 11 * 10**17),
            (Decimal("0.1"), 10**17),
            (Decimal("1E+3"), 10**21),
            (Decimal("1E-18"), 1),
        ],
    )
    def test_integers_are_neurons_and_text_is_coins(self, amount, found):
        """Both to the last neuron, where a float would be 6 or 11 of them off."""
        assert neurons(amount) == found

    @pytest.mark.parametrize(
        ("amount", "saying"),
        [
            (0.1, "float"),
            (1.0, "float"),
            (True, "float"),
            (None, "float"),
            (b"1", "float"),
            (-1, "from 0"),
            (MOST + 1, str(MOST)),
            ("-1", "below 0"),
            (Decimal("-0.5"), "below 0"),
            ("0.0000000000000000001", "19 decimals"),
            (Decimal("1E-19"), "19 decimals"),
            (Decimal("1E+999999"), str(MOST)),
            (Decimal("1E-999999"), str(MOST)),
            (Decimal("NaN"), "a number"),
            (Decimal("Infinity"), "a number"),
            ("1e3", "decimal digits"),
            ("", "decimal digits"),
            ("1.", "decimal digits"),
            (" 1", "decimal digits"),
            ("1,5", "decimal digits"),
            ("٣", "decimal digits"),
            ("1_000", "decimal digits"),
            ("9" * 5000, "decimal digits"),
        ],
    )
    def test_what_is_no_amount_is_refused(self, amount, saying):
        """The refusal names the argument and the limit; nothing is rounded, and nothing takes long."""
        with pytest.raises(InvalidField, match=saying) as caught:
            neurons(amount, "balance")
        assert caught.value.facts["field"] == "balance"

    def test_a_number_too_long_to_be_written_is_refused(self):
        """Even one that Python itself would not turn into text."""
        with pytest.raises(InvalidField, match=str(MOST)):
            neurons(1 << 1_000_000)

    @given(st.integers(0, MOST))
    def test_coins_say_every_neuron(self, amount):
        """What is shown as coins can be given back as coins, and is the same amount."""
        assert neurons(coins(amount)) == amount

    def test_coins_are_short(self):
        """No zeros that say nothing."""
        assert [coins(one) for one in (0, 1, 10**18, 15 * 10**17, -(10**17))] == [
            "0",
            "0.000000000000000001",
            "1",
            "1.5",
            "-0.1",
        ]
