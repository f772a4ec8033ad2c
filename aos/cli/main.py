"""The command's groups and what all of them share: exit codes, errors, where the network is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import grpc
from rich.console import Console
from rich.table import Table

from aos.client import Client, connect
from aos.credentials import Credentials
from aos.errors import AosError, ServiceUnavailable
from aos.loop import serve
from aos.rpc.status import from_rpc_error
from aos.settings import DEFAULT_DATA, DEFAULT_PORT, StartError

OUT: Final = Console(highlight=False, soft_wrap=True)
"""What was asked for goes here."""
ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and complaints go here, so that output can be piped."""


def show_table(table: Table) -> None:
    """Print a table in its full width, however narrow the terminal: ids that are cut short are of no use."""
    wide = OUT.options.update(max_width=10_000)
    Console(highlight=False, width=max(OUT.width, table.__rich_measure__(OUT, wide).maximum), soft_wrap=True).print(table)


@dataclass(frozen=True, slots=True)
class Where:
    """Which network to talk to, as the options say."""

    data: Path
    address: str
    token: str

    def credentials(self) -> Credentials:
        """Return what `aos up` left in the data folder, with the options' word over it."""
        try:
            kept = Credentials.load(self.data)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        return Credentials(
            url=kept.url,
            grpc=self.address or kept.grpc or f"127.0.0.1:{DEFAULT_PORT}",
            project=kept.project,
            token=self.token or kept.token,
            admin_token=kept.admin_token,
        )


@asynccontextmanager
async def network(where: Where) -> AsyncGenerator[Client]:
    """Connect to the network that the options name."""
    credentials = where.credentials()
    async with connect(credentials.grpc, credentials.token) as client:
        yield client


def run(work: Coroutine[Any, Any, Any], *, serves: bool = False) -> Any:
    """Run a command's work; say what went wrong in one line and exit with 1, or 130 for Ctrl-C.

    ``serves``: it is a service's, and runs as aos.loop says.
    """
    try:
        return serve(work) if serves else asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    except (AosError, grpc.aio.AioRpcError) as error:
        raise click.ClickException(_words(error)) from error


def _words(error: AosError | grpc.aio.AioRpcError) -> str:
    told = error if isinstance(error, AosError) else from_rpc_error(error)
    match told:
        case ServiceUnavailable():
            return "No network answers there. Start one with `aos up`, or name one with --connect."
        case AosError():
            return told.message
        case _:
            return str(error)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AOS"})
@click.version_option(package_name="aos")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA,
    show_default=True,
    show_envvar=True,
    help="Folder with a network's database, keys and credentials.",
)
@click.option("--connect", "address", default="", metavar="HOST:PORT", show_envvar=True, help="Talk to this network.")
@click.option("--token", default="", show_envvar=True, help="The project's token; otherwise the one in the data folder.")
@click.pass_context
def main(context: click.Context, data: Path, address: str, token: str) -> None:
    """AOS: an open network for verifiable AI compute."""
    context.obj = Where(data.expanduser(), address, token)


def _add_commands() -> None:
    from aos.cli import backup, controllers, doctor, jobs, keeping, ledger, look, registry, serve, verify
    from aos.cli import network as networks

    for module in (networks, serve, jobs, controllers, keeping, backup, look, ledger, registry, verify, doctor):
        for command in module.COMMANDS:
            main.add_command(command)


_add_commands()
