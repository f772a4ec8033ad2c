"""What `aos ledger` shows of the chain that receipts are settled on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from google.protobuf.json_format import MessageToJson
from rich.table import Table

from aos.cli.main import ERR, OUT, Where, network, run, show_table
from aos.client import CALL_SECONDS
from aos.compute import coins, create_broker
from aos.compute.shapes import ChainPayment
from aos.errors import NoChain, ServiceUnavailable
from aos.rpc.status import answered
from aos.v1.broker_pb2 import GetChainRequest, GetPaidReceiptRequest
from aos.verification.keys import OperatorKey
from aos.verification.settled import check_settled


async def show_chain(where: Where) -> None:
    """Print the project's side of the chain, if the network has one."""
    try:
        async with network(where) as aos:
            found = await answered(aos.broker.GetChain(GetChainRequest(), timeout=CALL_SECONDS))
    except NoChain:
        return
    except ServiceUnavailable as error:
        ERR.print(f"the chain does not answer: {error}")
        return
    OUT.print(f"chain {found.chain_id}: ledger {found.ledger}, inference {found.inference}, fine-tuning {found.fine_tuning}")
    if found.wallet:
        whose = "bound by the project" if found.bound else "named by the administrator"
        OUT.print(f"  {found.wallet}, {whose}: {coins(int(found.available))} available, {coins(int(found.total))} in all")
    counts = f"{found.receipts_settled} receipts settled ({coins(int(found.amount_settled))})"
    OUT.print(f"  {counts}, {found.receipts_sent} on their way, {found.receipts_waiting} waiting")


def show_payments(payments: Sequence[ChainPayment]) -> None:
    """Print what was settled on the chain; nothing if nothing was."""
    if not payments:
        return
    table = Table("transaction", "block", "wallet", "provider", "receipts", "amount", box=None)
    for one in payments:
        table.add_row(one.transaction, str(one.block), one.user, one.provider, str(one.receipts), coins(one.amount))
    show_table(table)


@click.command()
@click.argument("key", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.pass_obj
def bind(where: Where, key: Path) -> None:
    """Let a wallet pay for the project on the chain. KEY is the file of its key, 64 hex digits: it signs, and is not sent."""

    async def work() -> None:
        kept = where.credentials()
        try:
            wallet = OperatorKey.load(key)
        except (OSError, ValueError) as error:
            raise click.UsageError(str(error)) from None
        async with create_broker(kept.grpc, kept.token, wallet=wallet) as broker:
            OUT.print(f"{await broker.inference.bind_wallet()} pays")

    run(work())


@click.command()
@click.pass_obj
def unbind(where: Where) -> None:
    """Let the wallet that the project bound pay no longer; from then on the one that the administrator named does."""

    async def work() -> None:
        kept = where.credentials()
        async with create_broker(kept.grpc, kept.token) as broker:
            OUT.print(f"{await broker.inference.unbind_wallet() or 'no wallet'} pays")

    run(work())


@click.command()
@click.argument("receipt")
@click.option("--chain-rpc", default="", metavar="URL", help="Ask this node whether its chain has the root.")
@click.pass_obj
def prove(where: Where, receipt: str, chain_rpc: str) -> None:
    """Prove that RECEIPT (its digest) was settled: print its way to the root, checked here; with --chain-rpc, on the chain, too."""

    async def work() -> None:
        async with network(where) as aos:
            name = f"receipts/{receipt.removeprefix('receipts/').removeprefix('0x')}"
            found = await answered(aos.broker.GetPaidReceipt(GetPaidReceiptRequest(name=name), timeout=CALL_SECONDS))
        check_settled(found)
        OUT.print_json(MessageToJson(found, preserving_proto_field_name=True))
        ERR.print("[green]the proof leads to the root[/green]")
        if chain_rpc:
            from aos.chain.client import connected  # slow: web3
            from aos.chain.proof import check_on_chain

            async with connected(chain_rpc) as chain:
                block = await check_on_chain(chain, found)
            ERR.print(f"[green]chain {chain.chain_id} settled it in block {block}[/green]")

    run(work())
