"""`aos serve …`: one service alone in this process. `aos migrate`: a database's tables, brought up to date."""

from __future__ import annotations

import json
import logging
import os
import sys
import tomllib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from aos.cli.main import run
from aos.cli.network import asked_to_stop
from aos.serving.descriptions import descriptions
from aos.serving.reading import Setting, SettingError, check_tables, read_settings, settings_of
from aos.serving.settings import PROCESSES, EnvoyProcess, OperatorProcess, check_database

FILE: Final = "AOS_SETTINGS"
"""Environment variable with the path of the file of settings."""
HEALTH_SECONDS: Final = 3.0
"""How long a server may take to say how it is."""
FILE_BYTES: Final = 1 << 20
"""Largest file of settings."""


class _Services(click.Group):
    """Makes a service's command when it is asked for: reading what the settings say of themselves takes a moment."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the services' names."""
        return list(PROCESSES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of a service; None if there is none of the name."""
        return _command(cmd_name, PROCESSES[cmd_name]) if cmd_name in PROCESSES else None


@click.group(cls=_Services)
def serve() -> None:
    """Run one service alone in this process.

    Settings come from a TOML file, from the environment and from flags; a later one goes before an earlier one. Each has its table
    in the file, and its prefix in the environment, AOS_DISPATCHER_ for instance; docs/reference/settings.md lists them all.
    """


def _command(service: str, kind: type) -> click.Command:
    texts = descriptions(kind)

    def callback(settings_file: Path | None, **flags: str | None) -> None:
        given = {one.name: flags[_parameter(one)] for one in settings_of(kind) if one.flag}
        settings = load(service, settings_file, {name: text for name, text in given.items() if text is not None})
        run(_serve(service, settings))

    options: list[click.Parameter] = [
        click.Option(
            ["--settings", "settings_file"],
            envvar=FILE,
            show_envvar=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="TOML file with settings.",
        ),
        *(_option(service, one, texts[one.name]) for one in settings_of(kind) if one.flag),
    ]
    said = kind.__doc__ or ""
    return click.Command(service, callback=callback, params=options, help=f"Run {said[0].lower()}{said.partition('. ')[0][1:]}")


def _option(service: str, one: Setting, text: str) -> click.Option:
    default = "" if one.default in (MISSING, "", (), None) else f" Default: {shown(one.default)}."
    needed = " Needed." if one.default is MISSING else ""
    said = f"{text}{needed}{default} [{one.variable(service)}]"
    # the environment is read with the file, whose word it goes before
    return click.Option([one.flag, _parameter(one)], metavar="VALUE", help=said, allow_from_autoenv=False)


def _parameter(one: Setting) -> str:
    return "set_" + one.name.replace(".", "_")


def shown(default: object) -> str:
    """Return a default as it would be written."""
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(getattr(default, "name", default)).lower()


def load(service: str, path: Path | None, flags: dict[str, str]) -> Any:
    """Return a service's settings as the file, the environment and flags say them. Raises click.UsageError."""
    kind, file, name = PROCESSES[service], {}, ""
    try:
        if path is not None:
            name = str(path)
            file = _toml(path)
            check_tables(file, name, PROCESSES)
        others = [other for other in PROCESSES.values() if other is not kind]
        return read_settings(kind, service, file=file, path=name, environment=os.environ, flags=flags, others=others)
    except SettingError as error:
        raise click.UsageError(str(error)) from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened:
            text = opened.read(FILE_BYTES + 1)
    except OSError as error:
        raise SettingError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > FILE_BYTES:
        raise SettingError(f"{path}: must have at most {FILE_BYTES} bytes")
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: is no TOML: {error}") from error


async def _serve(service: str, settings: Any) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each request, with the URL
    async with asked_to_stop() as stop, _serving(service, settings) as addresses:
        # for scripts, which may have asked for a free port
        click.echo(json.dumps({"service": service, "listen": list(addresses)}))
        await stop.wait()
        logging.getLogger(__name__).info("leaving")


def _serving(service: str, settings: Any) -> AbstractAsyncContextManager[tuple[str, ...]]:
    # slow: all the parts
    if isinstance(settings, OperatorProcess):
        from aos.serving.operator import serving_one_operator

        return serving_one_operator(settings)
    if isinstance(settings, EnvoyProcess):
        from aos.serving.envoy import serving_envoy

        return serving_envoy(settings)
    from aos.serving import processes

    served: dict[str, Callable[[Any], AbstractAsyncContextManager[tuple[str, ...]]]] = {
        "dispatcher": processes.serving_dispatcher,
        "registry": processes.serving_registry,
        "broker": processes.serving_broker,
        "gateway": processes.serving_gateway,
    }
    return served[service](settings)


@click.command()
@click.option(
    "--database",
    default="",
    metavar="PATH|URL",
    allow_from_autoenv=False,
    help="Path of an SQLite file, or a postgresql:// URL without a password.",
)
def migrate(database: str) -> None:
    """Bring a database's tables up to date, those of all services.

    A URL with a password is given as AOS_DATABASE, which others cannot read.
    """
    where = database or os.environ.get("AOS_DATABASE", "")
    try:
        check_database(where)
    except ValueError as error:
        raise click.UsageError(f"{error}; give --database or AOS_DATABASE") from error
    if urlsplit(database).password:
        raise click.UsageError("--database: has a password in it, which others could read; give it as AOS_DATABASE")

    async def work() -> None:
        from aos.serving.processes import migrated  # slow: all the parts

        await migrated(where)
        click.echo("up to date")

    run(work())


@click.command()
@click.argument("address")
@click.option("--service", default="", help="Ask for this one alone; `live`: only whether the process works.")
def health(address: str, service: str) -> None:
    """Ask a server at HOST:PORT or unix:PATH whether it is ready; exits with 1 if it is not. Needs no token."""

    async def work() -> None:
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from aos.rpc.channel import channel

        async with channel(address) as opened:
            request = health_pb2.HealthCheckRequest(service=service)
            stub: Any = health_pb2_grpc.HealthStub(opened)
            reply = await stub.Check(request, timeout=HEALTH_SECONDS)
        said = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        click.echo(said)
        if said != "SERVING":
            sys.exit(1)

    run(work())


COMMANDS = (serve, migrate, health)
