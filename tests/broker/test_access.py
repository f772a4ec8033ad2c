from __future__ import annotations

import base64

import pytest

from aos.testing.clock import START
from aos.v1 import broker_pb2 as pb
from tests.broker.conftest import ADDRESS, HOLD
from tests.databases import ON_SQLITE
from tests.refusals import refused


class TestAccounts:
    async def test_a_new_project_has_nothing(self, broker):
        """A project sees its own account before anything happened to it."""
        nothing = pb.Account(name="accounts/p", available="0", held="0")
        assert await broker.project.GetAccount(pb.GetAccountRequest(name="accounts/-")) == nothing
        assert await broker.project.GetAccount(pb.GetAccountRequest(name="accounts/p")) == nothing

    async def test_a_project_sees_its_own_money(self, broker):
        """`accounts/-` is the caller's own account."""
        await broker.deposit(100)
        await broker.reserve(30)
        account = await broker.project.GetAccount(pb.GetAccountRequest(name="accounts/-"))
        assert account == pb.Account(name="accounts/p", available="70", held="30")

    @pytest.mark.parametrize("name", ["accounts/p", "accounts/none", f"accounts/{ADDRESS}"])
    async def test_a_project_sees_nobody_elses(self, broker, name):
        """Another's account is refused, whether it exists or not."""
        await broker.deposit(100)
        with refused("PERMISSION_DENIED", code="PERMISSION_DENIED"):
            await broker.other.GetAccount(pb.GetAccountRequest(name=name))
        with refused("PERMISSION_DENIED"):
            await broker.other.ListEntries(pb.ListEntriesRequest(account=name))

    async def test_a_project_in_an_address_clothing_sees_no_operators_money(self, broker):
        """A project whose id is an operator's address does not get at what the operator earned."""
        await broker.deposit(100, account=f"accounts/{ADDRESS}")
        for name in ("accounts/-", f"accounts/{ADDRESS}"):
            with refused("PERMISSION_DENIED"):
                await broker.disguised.GetAccount(pb.GetAccountRequest(name=name))
        with refused("PERMISSION_DENIED"):
            await broker.disguised.ListEntries(pb.ListEntriesRequest())

    async def test_the_administrator_sees_any(self, broker):
        """The administrator and services ask by name, and are told what does not exist."""
        await broker.deposit(100)
        for caller in (broker.admin, broker.service):
            assert (await caller.GetAccount(pb.GetAccountRequest(name="accounts/p"))).available == "100"
            with refused("ACCOUNT_NOT_FOUND", code="NOT_FOUND", account="accounts/none"):
                await caller.GetAccount(pb.GetAccountRequest(name="accounts/none"))

    async def test_the_administrator_has_no_account(self, broker):
        """`accounts/-` means something for projects only."""
        with refused("PERMISSION_DENIED", needs="a project's token"):
            await broker.admin.GetAccount(pb.GetAccountRequest(name="accounts/-"))

    @pytest.mark.parametrize("name", ["", "p", "accounts/", "accounts/a/b", "external"])
    @ON_SQLITE
    async def test_a_malformed_name(self, broker, name):
        """A name that cannot be one is refused, not searched for."""
        with refused("INVALID_FIELD", field="name", value=name):
            await broker.admin.GetAccount(pb.GetAccountRequest(name=name))
        with refused("INVALID_FIELD", field="name", value=name):
            await broker.project.GetAccount(pb.GetAccountRequest(name=name))


@ON_SQLITE
class TestWho:
    @pytest.mark.parametrize("method", ["GetAccount", "Deposit", "Reserve", "Settle", "ListEntries"])
    async def test_nobody_does_anything(self, broker, method):
        """Every method needs a token."""
        with refused("UNAUTHENTICATED", code="UNAUTHENTICATED"):
            await getattr(broker.nobody, method)(getattr(pb, f"{method}Request")())

    @pytest.mark.parametrize(
        ("who", "method"),
        [("project", "Deposit"), ("project", "Reserve"), ("project", "Settle"), ("admin", "Reserve"), ("admin", "Settle")],
    )
    async def test_not_everyone_moves_money(self, broker, who, method):
        """Projects move nothing; holds are the dispatchers' alone."""
        with refused("PERMISSION_DENIED", code="PERMISSION_DENIED"):
            await getattr(getattr(broker, who), method)(getattr(pb, f"{method}Request")())


class TestJournal:
    async def test_a_line_says_all(self, broker):
        """Sequence, transfer, time, account, pot, amount, reason and cause."""
        broker.clock.advance(seconds=1.5)
        await broker.deposit(100)
        await broker.reserve(30)
        _, _, line, _ = await broker.journal()

        assert (line.sequence, line.account, line.pot, line.amount) == (3, "accounts/p", "available", "-30")
        assert (line.reason, line.cause) == ("reserve", HOLD)
        assert line.time.ToMicroseconds() == int(START.timestamp() * 1e6) + 1_500_000

    async def test_a_project_sees_its_own_lines(self, broker):
        """Without an account named, a project gets its own and the administrator all."""
        await broker.deposit(100)
        await broker.deposit(5, account="accounts/q", request_id="r2")
        own = await broker.project.ListEntries(pb.ListEntriesRequest())

        assert [(one.account, one.amount) for one in own.entries] == [("accounts/p", "100")]
        for name in ("accounts/-", "accounts/p"):
            assert await broker.project.ListEntries(pb.ListEntriesRequest(account=name)) == own
        assert await broker.admin.ListEntries(pb.ListEntriesRequest(account="accounts/p")) == own
        assert len(await broker.journal()) == 4

    async def test_pages_follow_on(self, broker):
        """Pages give every line once, oldest first, and the last has no token."""
        for index in range(5):
            await broker.deposit(index + 1, request_id=f"r{index}")

        seen, token, pages = [], "", 0
        while pages == 0 or token:
            page = await broker.admin.ListEntries(pb.ListEntriesRequest(page_size=4, page_token=token))
            seen += [one.sequence for one in page.entries]
            token, pages = page.next_page_token, pages + 1
        assert seen == list(range(1, 11))
        assert pages == 3

    @pytest.mark.parametrize("size", [-1, 1001])
    @ON_SQLITE
    async def test_a_page_size_out_of_range(self, broker, size):
        """The refusal names the field, what was sent and the limit."""
        with refused("INVALID_FIELD", field="page_size", value=str(size), limit="1000"):
            await broker.project.ListEntries(pb.ListEntriesRequest(page_size=size))

    @pytest.mark.parametrize(
        "token",
        [
            "junk",
            *(base64.urlsafe_b64encode(f"ListEntries\n{last}".encode()).decode().rstrip("=") for last in ("x", "-1", "9" * 30)),
        ],
    )
    @ON_SQLITE
    async def test_a_page_token_that_nobody_gave(self, broker, token):
        """A made-up token is refused, also one in the right wrapping."""
        with refused("INVALID_FIELD", field="page_token"):
            await broker.project.ListEntries(pb.ListEntriesRequest(page_token=token))
