"""`aos ledger`."""

from __future__ import annotations

import json

import pytest

from aos.credentials import Credentials
from aos.testing.harness import BALANCE
from aos.v1.types_pb2 import Order
from tests.cli.conftest import run_aos

PROVIDER = "0x" + "ab" * 20


@pytest.fixture
def as_admin(aos, tmp_path):
    """Run `aos` with a data folder that has the administrator's token, as `aos up` leaves it."""
    Credentials(grpc=aos.address, token=aos.token, admin_token=aos.admin_token).save(tmp_path)

    async def run(*arguments: str, given: str = ""):
        return await run_aos("--data", str(tmp_path), *arguments, given=given)

    return run


class TestMoney:
    async def test_goes_in_and_out(self, as_admin):
        """Amounts are coins, or neurons with an n; what is there is shown after each move."""
        assert "1 available, 1 in all" in (await as_admin("ledger", "show")).out
        assert "1.5 available" in (await as_admin("ledger", "deposit", "0.5")).out
        assert "1.499999999999999999 available" in (await as_admin("ledger", "refund", "1n")).out
        shown = json.loads((await as_admin("ledger", "show", "--json")).out)
        assert (shown["user"], shown["available_balance"]) == ("accounts/demo", str(BALANCE + BALANCE // 2 - 1))

    async def test_goes_to_providers_and_back(self, aos, as_admin):
        """Transferred, acknowledged, asked back, and after the lock time available again."""
        assert "0.25 to spend" in (await as_admin("ledger", "transfer", PROVIDER, "0.25")).out
        assert "0.25 to spend" in (await as_admin("ledger", "transfer", PROVIDER, "0.25", "--at-least")).out
        assert f"{PROVIDER} signs for" in (await as_admin("ledger", "acknowledge", PROVIDER)).out
        refused = await as_admin("ledger", "delete", "--yes")
        assert (refused.code, str(BALANCE // 4) in refused.err) == (1, True)
        assert "0.25" in (await as_admin("ledger", "retrieve")).out
        aos.clock.advance(hours=24)
        shown = (await as_admin("ledger", "show")).out
        assert PROVIDER in shown
        assert (await as_admin("ledger", "retrieve", PROVIDER)).out.splitlines()[1].split() == [PROVIDER, "0.25", "0"]
        gone = await as_admin("ledger", "delete", given="y\n")
        assert "1 paid out" in gone.out
        assert "has no ledger" in (await as_admin("ledger", "show")).err
        assert "0.1 available" in (await as_admin("ledger", "add", "0.1")).out

    @pytest.mark.parametrize("amount", ["x", "1e400000n", "1,5", "0.0000000000000000001", "nan", "9" * 70 + "n"])
    async def test_an_amount_that_is_none(self, as_admin, amount):
        """It is refused with what is wrong about it, before anything is sent."""
        result = await as_admin("ledger", "refund", amount)
        assert result.code in (1, 2)
        assert result.err
        assert "Traceback" not in result.err

    async def test_nothing_is_paid_in_without_the_bank(self, on):
        """A project's token makes no money."""
        result = await on("ledger", "deposit", "1")
        assert result.code == 1
        assert "administrator" in result.err

    async def test_others_can_be_paid_in_for(self, aos, as_admin):
        """--to names another project."""
        assert (await as_admin("ledger", "deposit", "2", "--to", "projects/other")).code == 0
        statement = await as_admin("ledger", "statement", "--account", "accounts/other")
        assert "deposit" in statement.out


class TestStatement:
    async def test_tells_what_jobs_cost(self, aos, as_admin):
        """Each pot has its opening and closing balance, and why it changed; JSON has the same in neurons."""
        await aos.client.answer(Order(model="scripted", prompt="Hi"))
        result = await as_admin("ledger", "statement", "2026-01")
        for word in ("opening", "deposit", "reserve", "closing"):
            assert word in result.out
        (told,) = json.loads((await as_admin("ledger", "statement", "--json")).out)
        assert told["opening"] == {"available": "0", "held": "0"}
        operator = f"accounts/{aos.operators[0].lower()}"
        assert operator in (await as_admin("ledger", "statement", "--account", operator)).out
        assert "month" in (await as_admin("ledger", "statement", "2026")).err


class TestBooks:
    async def test_are_checked_and_settled(self, aos, as_admin):
        """Every invariant has its line; a settlement says its root."""
        await aos.client.answer(Order(model="scripted", prompt="Hi"))
        checked = await as_admin("ledger", "check")
        assert (checked.code, checked.out.count("holds  ")) == (0, 8)
        settled = await as_admin("ledger", "settle")
        assert json.loads(settled.out)["receipts"] == 1, settled.err


class TestWallets:
    async def test_are_let_in_and_out(self, as_admin):
        """Who was authorized is listed until it is revoked."""
        assert f"{PROVIDER} may sign" in (await as_admin("ledger", "authorize", PROVIDER)).out
        assert (await as_admin("ledger", "wallets")).out.split() == [PROVIDER]
        assert f"{PROVIDER} may not sign" in (await as_admin("ledger", "revoke", PROVIDER)).out
        assert (await as_admin("ledger", "wallets")).out == ""
