"""`aos ledger`: what a project has, what it gave to providers, and what happened to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToJson
from rich.markup import escape
from rich.table import Table

from aos.cli.chain import bind, prove, show_chain, show_payments, unbind
from aos.cli.keeping import administrator
from aos.cli.main import ERR, OUT, Where, run, show_table
from aos.client import CALL_SECONDS
from aos.compute import Amount, ComputeBroker, Ledger, Statement, coins, create_broker
from aos.compute.ledger import ServiceType
from aos.rpc.status import answered
from aos.v1.broker_pb2 import CheckInvariantsRequest, GetStatementRequest, SealSettlementRequest

WHEN: Final = "%Y-%m-%d %H:%M:%S UTC"


class AmountType(click.ParamType[Amount]):
    """Coins as `1.5`, or neurons as `1500n`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        """Return the amount, exactly as it was written."""
        text = str(value)
        if text.endswith("n") and text[:-1].isascii() and text[:-1].isdigit():
            digits = text[:-1]
            return int(digits) if len(digits) <= MOST_DIGITS else self.fail(f"{text}: is too much", param, ctx)
        try:
            Decimal(text)
        except InvalidOperation:
            self.fail(f"{text}: must be coins, as 1.5, or neurons, as 1500n", param, ctx)
        return text


MOST_DIGITS: Final = 60
AMOUNT: Final = AmountType()
SERVICE: Final = click.Choice(["inference", "fine-tuning"])
service_option = click.option("--service", type=SERVICE, default="inference", show_default=True, help="What it pays for.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, amounts in neurons.")


@click.group()
def ledger() -> None:
    """The project's money: what it has, gives to providers, and gets back. Amounts are coins (1.5) or neurons (1500n)."""


@asynccontextmanager
async def opened(where: Where) -> AsyncGenerator[ComputeBroker]:
    """Connect as the options say; with the bank, if the data folder has the administrator's token."""
    credentials = where.credentials()
    async with create_broker(credentials.grpc, credentials.token, admin_token=credentials.admin_token) as broker:
        yield broker


@ledger.command()
@json_option
@click.pass_obj
def show(where: Where, as_json: bool) -> None:
    """Show the ledger and its sub-accounts."""

    async def work() -> None:
        async with opened(where) as broker:
            _show(await broker.ledger.get_ledger(), as_json=as_json)
        if not as_json:
            await show_chain(where)

    run(work())


@ledger.command()
@click.argument("amount", type=AMOUNT, default="0")
@click.option("--info", default="", help="Of your choice, kept with it.")
@click.pass_obj
def add(where: Where, amount: Amount, info: str) -> None:
    """Add a ledger to a project that has none, with AMOUNT in it."""

    async def work() -> None:
        async with opened(where) as broker:
            _show(await broker.ledger.add_ledger(amount, additional_info=info))

    run(work())


@ledger.command()
@click.argument("amount", type=AMOUNT)
@click.option("--to", default="", metavar="PROJECT", help="Pay in for this project; otherwise for the own one.")
@click.pass_obj
def deposit(where: Where, amount: Amount, to: str) -> None:
    """Pay AMOUNT in. Needs the administrator's token: money enters by their word alone."""

    async def work() -> None:
        async with opened(where) as broker:
            if to:
                await broker.ledger.deposit_fund_for(f"accounts/{to.removeprefix('projects/')}", amount)
                ERR.print("deposited")
            else:
                _show(await broker.ledger.deposit_fund(amount))

    run(work())


@ledger.command()
@click.argument("amount", type=AMOUNT)
@click.pass_obj
def refund(where: Where, amount: Amount) -> None:
    """Pay AMOUNT out of what is available, at once."""

    async def work() -> None:
        async with opened(where) as broker:
            _show(await broker.ledger.refund(amount))

    run(work())


@ledger.command()
@click.argument("provider")
@click.argument("amount", type=AMOUNT)
@service_option
@click.option("--at-least", is_flag=True, help="Send only what is missing of AMOUNT to spend.")
@click.pass_obj
def transfer(where: Where, provider: str, amount: Amount, service: ServiceType, at_least: bool) -> None:
    """Give AMOUNT to the sub-account of PROVIDER (an address)."""

    async def work() -> None:
        async with opened(where) as broker:
            move = broker.ledger.ensure_funded if at_least else broker.ledger.transfer_fund
            there = await move(provider, service, amount)
        OUT.print(f"{coins(there.spendable)} to spend at {there.provider} for {there.service}")

    run(work())


@ledger.command()
@click.argument("providers", nargs=-1)
@service_option
@click.pass_obj
def retrieve(where: Where, providers: tuple[str, ...], service: ServiceType) -> None:
    """Get back what PROVIDERS have, or all of them: what is due now, and the rest after the lock time, with the next call."""

    async def work() -> None:
        async with opened(where) as broker:
            results = await broker.ledger.retrieve_fund(service, providers)
        table = Table("provider", "available again", "asked for", "refused", box=None)
        for one in results:
            table.add_row(one.provider, coins(one.released), coins(one.requested), one.refused)
        show_table(table)

    run(work())


@ledger.command()
@click.argument("provider")
@click.option("--signer", default="", help="The address that signs for it; otherwise the provider's own.")
@service_option
@click.pass_obj
def acknowledge(where: Where, provider: str, signer: str, service: ServiceType) -> None:
    """Take a signer's word for PROVIDER's; before that it is paid nothing from the sub-account."""

    async def work() -> None:
        async with opened(where) as broker:
            side = broker.inference if service == "inference" else broker.fine_tuning
            found = await side.ensure_acknowledged(provider, signer)
        OUT.print(f"{found.provider_signer} signs for {found.provider}")

    run(work())


@ledger.command()
@click.argument("wallet")
@click.pass_obj
def authorize(where: Where, wallet: str) -> None:
    """Let WALLET, an address, sign requests that the project's sub-accounts pay."""

    async def work() -> None:
        async with opened(where) as broker:
            await broker.inference.authorize_wallet(wallet)
        OUT.print(f"{wallet} may sign")

    run(work())


@ledger.command()
@click.argument("wallet")
@click.pass_obj
def revoke(where: Where, wallet: str) -> None:
    """Let WALLET sign no longer; what it signed and what was not used is void."""

    async def work() -> None:
        async with opened(where) as broker:
            await broker.inference.revoke_wallet(wallet)
        OUT.print(f"{wallet} may not sign")

    run(work())


@ledger.command()
@click.pass_obj
def wallets(where: Where) -> None:
    """List the wallets that may sign for the project."""

    async def work() -> None:
        async with opened(where) as broker:
            for one in await broker.inference.list_wallets():
                OUT.print(one)

    run(work())


@ledger.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(where: Where, yes: bool) -> None:
    """Delete the ledger and pay out what is available. Money at providers has to be retrieved first."""
    if not yes:
        click.confirm("Delete the ledger and pay everything out?", abort=True)

    async def work() -> None:
        async with opened(where) as broker:
            OUT.print(f"{coins(await broker.ledger.delete_ledger())} paid out")

    run(work())


@ledger.command()
@click.argument("month", default="")
@click.option("--account", default="", help="accounts/...: another's, an operator's say. Needs the administrator's token.")
@json_option
@click.pass_obj
def statement(where: Where, month: str, account: str, as_json: bool) -> None:
    """Add up what happened in MONTH (2026-01), or month by month; with --account, all that ever did unless a month is named."""

    async def work() -> None:
        if account:
            async with administrator(where) as aos:
                request = GetStatementRequest(account=account, month=month)
                told = await answered(aos.broker.GetStatement(request, timeout=CALL_SECONDS))
            from aos.compute import shapes

            found = [shapes.statement(told)]
        else:
            async with opened(where) as broker:
                found = [await broker.ledger.statement(month)] if month else await broker.ledger.statements()
        if as_json:
            OUT.print_json(data=[_plain(asdict(one)) for one in found])
            return
        for one in found:
            _show_statement(one)

    run(work())


@ledger.command()
@click.pass_obj
def check(where: Where) -> None:
    """Compare every balance with the journal; exit with 1 if something is wrong. Needs the administrator's token."""

    async def work() -> bool:
        async with administrator(where) as aos:
            found = await answered(aos.broker.CheckInvariants(CheckInvariantsRequest(), timeout=CALL_SECONDS))
        for one in found.invariants:
            colour, word = ("green", "holds") if one.holds else ("red", "BROKEN")
            OUT.print(f"[{colour}]{word:<6}[/{colour}]  {escape(one.name)}  {escape(', '.join(one.broken_by))}".rstrip())
        OUT.print(f"{found.lines} lines")
        return found.hold

    if not run(work()):
        raise click.exceptions.Exit(1)


@ledger.command()
@click.pass_obj
def settle(where: Where) -> None:
    """Settle receipts that can no longer be disputed, under one Merkle root. Needs the administrator's token."""

    async def work() -> None:
        async with administrator(where) as aos:
            made = await answered(aos.broker.SealSettlement(SealSettlementRequest(), timeout=CALL_SECONDS))
        OUT.print_json(MessageToJson(made, preserving_proto_field_name=True))

    run(work())


def _show(found: Ledger, *, as_json: bool = False) -> None:
    if as_json:
        OUT.print_json(data=_plain(asdict(found)))
        return
    OUT.print(f"{found.user}: {coins(found.available_balance)} available, {coins(found.total_balance)} in all", end="")
    OUT.print(f", {coins(found.held_balance)} held for jobs" if found.held_balance else "")
    if found.accounts:
        table = Table("service", "provider", "to spend", "on its way back", "of that due", "signer", box=None)
        for one in found.accounts:
            amounts = (coins(one.spendable), coins(one.pending_refund), coins(one.claimable))
            table.add_row(one.service, one.provider, *amounts, one.provider_signer or "none acknowledged")
        show_table(table)


def _show_statement(found: Statement) -> None:
    period = " to ".join("now" if time is None else f"{time:%Y-%m-%d}" for time in (found.start, found.end))
    OUT.print(f"[bold]{escape(found.account)}[/bold] {period if found.start else 'all that happened'}")
    show_payments(found.chain_payments)
    table = Table("pot", "reason", "lines", "came", "went", box=None)
    for pot, closing in found.closing.items():
        table.add_row(pot, "opening", "", coins(found.opening[pot]), "")
        for one in found.movements:
            if one.pot == pot:
                table.add_row("", one.reason, str(one.lines), coins(one.credited), coins(one.debited))
        table.add_row("", "closing", "", coins(closing), "")
    show_table(table)


def _plain(found: Any) -> Any:
    """Return it as JSON can say it: amounts as text, because they outgrow its numbers."""
    match found:
        case dict():
            return {key: _plain(value) for key, value in found.items()}
        case list() | tuple():
            return [_plain(one) for one in found]
        case datetime():
            return f"{found:{WHEN}}"
        case int():
            return str(found)
        case _:
            return found


ledger.add_command(prove)
ledger.add_command(bind)
ledger.add_command(unbind)
COMMANDS = (ledger,)
