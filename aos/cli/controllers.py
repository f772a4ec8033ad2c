"""`aos controllers upload`, `tag`, `list`, `delete`: programs that steer answers, and what they are called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToJson
from rich.markup import escape
from rich.table import Table

from aos.cli.controllers_run import run_controller
from aos.cli.main import OUT, Where, network, run, show_table
from aos.client import CALL_SECONDS, Client
from aos.controller_names import PREFIX, SENT_BYTES
from aos.paging import PAGE_MOST
from aos.rpc.status import answered
from aos.v1.controllers_pb2 import (
    Controller,
    ControllerTag,
    CreateControllerRequest,
    DeleteControllerRequest,
    GetControllerRequest,
    ListControllersRequest,
    ListControllersResponse,
    TagControllerRequest,
)

UPLOAD_SECONDS = 700.0
"""How long a module may take to be sent and compiled."""


@click.group()
def controllers() -> None:
    """Programs (AICI, Wasm) that steer how answers are drawn."""


@controllers.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="What to call it; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def upload(where: Where, file: Path, tags: tuple[str, ...], as_json: bool) -> None:
    """Bring the Wasm module FILE into the network, and print its SHA-256."""

    async def work() -> None:
        async with network(where) as aos:
            call: Any = aos.controllers.CreateController(_parts(file), timeout=UPLOAD_SECONDS)
            made: Controller = await answered(call)
            if tags:
                await _tag(aos, made.name, tags)
                made = await _get(aos, made.name)
        if as_json:
            OUT.print_json(MessageToJson(made, preserving_proto_field_name=True))
        else:
            OUT.out(made.name.removeprefix(PREFIX))

    run(work())


@controllers.command()
@click.argument("name")
@click.argument("tags", nargs=-1, required=True)
@click.pass_obj
def tag(where: Where, name: str, tags: tuple[str, ...]) -> None:
    """Let TAGS stand for controller NAME, a SHA-256 or a tag, whatever they stood for before."""

    async def work() -> None:
        async with network(where) as aos:
            show_table(_table(await _tag(aos, (await _get(aos, name)).name, tags)))

    run(work())


@controllers.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_controllers(where: Where, as_json: bool) -> None:
    """List the tags, those set last first."""

    async def work() -> None:
        async with network(where) as aos:
            found = ListControllersResponse(tags=[one async for one in _tags(aos)])
        if as_json:
            OUT.print_json(MessageToJson(found, preserving_proto_field_name=True))
        else:
            show_table(_table(found.tags))

    run(work())


@controllers.command()
@click.argument("name")
@click.pass_obj
def delete(where: Where, name: str) -> None:
    """Let controller NAME go, a SHA-256; it is deleted unless other projects have sent it, too."""

    async def work() -> None:
        async with network(where) as aos:
            wanted = DeleteControllerRequest(name=name)
            done = await answered(aos.controllers.DeleteController(wanted, timeout=CALL_SECONDS))
        OUT.out("deleted" if done.deleted else "let go; it stays for others who have sent it")

    run(work())


async def _parts(file: Path) -> AsyncGenerator[CreateControllerRequest]:
    with file.open("rb") as opened:
        while part := await asyncio.to_thread(opened.read, SENT_BYTES):
            yield CreateControllerRequest(data=part)


async def _get(aos: Client, name: str) -> Controller:
    return await answered(aos.controllers.GetController(GetControllerRequest(name=name), timeout=CALL_SECONDS))


async def _tag(aos: Client, name: str, tags: Sequence[str]) -> Sequence[ControllerTag]:
    wanted = TagControllerRequest(controller=name, tags=tags)
    return (await answered(aos.controllers.TagController(wanted, timeout=CALL_SECONDS))).tags


async def _tags(aos: Client) -> AsyncGenerator[ControllerTag]:
    token = ""
    while True:
        wanted = ListControllersRequest(page_size=PAGE_MOST, page_token=token)
        page = await answered(aos.controllers.ListControllers(wanted, timeout=CALL_SECONDS))
        for one in page.tags:
            yield one
        if not (token := page.next_page_token):
            return


def _table(tags: Sequence[ControllerTag]) -> Table:
    table = Table("tag", "controller (SHA-256)", "bytes", "compiled", "set", "by", box=None)
    for one in tags:
        table.add_row(
            escape(one.tag),
            one.controller.removeprefix(PREFIX),
            str(one.wasm_size),
            str(one.compiled_size),
            f"{one.updated.ToDatetime():%Y-%m-%d %H:%M:%S} UTC",
            escape(one.updated_by),
        )
    return table


controllers.add_command(run_controller)

COMMANDS = (controllers,)
