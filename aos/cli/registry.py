"""`aos registry`: model servers checked, registered, listed and unregistered, and who did what."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import click
from google.protobuf.json_format import MessageToJson
from rich.markup import escape
from rich.table import Table

from aos.cli.main import OUT, Where, network, run, show_table
from aos.client import CALL_SECONDS, connect
from aos.conformance.findings import Report, Verdict
from aos.rpc.status import answered
from aos.v1 import registry_pb2 as pb

COLOURS: Final = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.NOTE: "yellow", Verdict.SKIP: "dim"}
OPERATOR_KEY: Final = "operator-1.key"
"""The key of the first operator of `aos up`, in its data folder."""
KINDS: Final = {"0": pb.MODEL_KIND_TEXT, "1": pb.MODEL_KIND_IMAGE, "2": pb.MODEL_KIND_IMAGE_EDIT}
WHEN: Final = "%Y-%m-%d %H:%M:%S"


@click.group()
def registry() -> None:
    """Model servers behind the network: check, register, list, unregister."""


@registry.command()
@click.argument("url")
@click.option("--model", default="", help="Which of its models to ask; otherwise the first one that it lists.")
@click.option("--type", "kind", type=click.Choice(list(KINDS)), help="What it does: 0 text, 1 images, 2 image edits.")
@click.option("--api-key", default="", show_envvar=True, help="Sent as 'authorization: Bearer ...'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(url: str, model: str, kind: str | None, api_key: str, as_json: bool) -> None:
    """Test any server against the documented model interface, line by line; exit with 1 unless it conforms."""
    if not url.startswith(("http://", "https://")):
        raise click.ClickException("URL: must begin with http:// or https://")

    async def work() -> Report:
        import httpx

        from aos.conformance.asking import Place, root
        from aos.conformance.asking import check as ask

        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await ask(client, Place(root(url), headers), model=model, kind=None if kind is None else int(kind))

    report: Report = run(work())
    if as_json:
        OUT.print_json(data=report.as_json())
    else:
        show(report)
    sys.exit(0 if report.conforms else 1)


def show(report: Report) -> None:
    """Print a report, a line a finding."""
    for one in report.findings:
        colour = COLOURS[one.verdict]
        OUT.print(f"[{colour}]{one.verdict:<4}[/{colour}]  {one.line:<20}  {escape(one.said)}")
    can = ", ".join(report.capabilities) or "nothing"
    how = "conforms" if report.conforms else "does not conform"
    OUT.print(f"{escape(report.url)} {how}" + (f"; {escape(report.model)} can: {can}" if report.model else ""))


@registry.command()
@click.argument("project")
@click.argument("models", nargs=-1, required=True, metavar="MODEL=URL...")
@click.option("--type", "kind", type=click.Choice(list(KINDS)), default="0", show_default=True, help="What they do, as in check.")
@click.option("--operator", default="", help="Address of the operator that is to host them; otherwise the key's own.")
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Key file; otherwise the network's first operator's.")
@click.pass_obj
def register(where: Where, project: str, models: tuple[str, ...], kind: str, operator: str, key: Path | None) -> None:
    """Make the model servers of PROJECT these, in place of all it had."""
    replicas: list[pb.ReplicaSpec] = []
    for one in models:
        name, equals, api = one.partition("=")
        if not equals:
            raise click.ClickException(f"{one}: must be MODEL=URL")
        replicas.append(pb.ReplicaSpec(model=name, api=api, kind=KINDS[kind]))
    request = pb.RegisterProjectRequest(project=project, replicas=replicas, operator=operator)
    _show_project(run(_signed(where, request, key)))


@registry.command()
@click.argument("project")
@click.option("--force", is_flag=True, help="Cut running requests off.")
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Key file; otherwise the network's first operator's.")
@click.pass_obj
def unregister(where: Where, project: str, force: bool, key: Path | None) -> None:
    """Remove PROJECT: no new requests, and running ones end first."""
    _show_project(run(_signed(where, pb.UnregisterProjectRequest(project=project, force=force), key)))


async def _signed(
    where: Where, request: pb.RegisterProjectRequest | pb.UnregisterProjectRequest, path: Path | None
) -> pb.AiProject:
    from aos.verification.keys import OperatorKey
    from aos.verification.projects import prove_request

    file = path or where.data / OPERATOR_KEY
    if not file.is_file():
        raise click.ClickException(f"there is no key {file}; name one with --key")
    try:
        key = OperatorKey.load(file)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    request.proof.CopyFrom(prove_request(key, request, issued_at=int(time.time())))
    async with network(where) as aos:
        if isinstance(request, pb.RegisterProjectRequest):
            return await answered(aos.registry.RegisterProject(request, timeout=CALL_SECONDS))
        return await answered(aos.registry.UnregisterProject(request, timeout=CALL_SECONDS))


def _show_project(project: pb.AiProject) -> None:
    table = Table("model", "url", "result", "state", "reason", box=None)
    for one in project.replicas:
        result = pb.ReplicaChange.Name(one.change).removeprefix("REPLICA_CHANGE_").lower()
        table.add_row(escape(one.model), escape(one.api), result, _state(one.state), escape(one.reason))
    show_table(table)


@registry.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def projects(where: Where, as_json: bool) -> None:
    """List the AI projects and the model servers of each."""

    async def work() -> pb.ListAiProjectsResponse:
        found, request = pb.ListAiProjectsResponse(), pb.ListAiProjectsRequest(page_size=1000)
        async with network(where) as aos:
            while True:
                page = await answered(aos.registry.ListAiProjects(request, timeout=CALL_SECONDS))
                found.projects.extend(page.projects)
                if not page.next_page_token:
                    return found
                request.page_token = page.next_page_token

    listed: pb.ListAiProjectsResponse = run(work())
    if as_json:
        OUT.print_json(MessageToJson(listed, preserving_proto_field_name=True))
        return
    table = Table("project", "model", "url", "state", "reason", "can", "operator", box=None)
    for project in listed.projects:
        for one in project.replicas:
            can = ", ".join(one.capabilities)
            where_ = (escape(project.name), escape(one.model), escape(one.api))
            table.add_row(*where_, _state(one.state), escape(one.reason), escape(can), one.operator)
    show_table(table)


def _state(state: pb.ReplicaState) -> str:
    name = pb.ReplicaState.Name(state).removeprefix("REPLICA_STATE_").lower()
    return f"[green]{name}[/green]" if state == pb.REPLICA_STATE_HEALTHY else name


@registry.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def audit(where: Where, as_json: bool) -> None:
    """List who changed which AI project, and which operators came, lapsed and left, oldest first. For the administrator."""

    async def work() -> pb.ListAuditResponse:
        found, request, credentials = pb.ListAuditResponse(), pb.ListAuditRequest(page_size=1000), where.credentials()
        async with connect(credentials.grpc, credentials.admin_token) as aos:
            while True:
                page = await answered(aos.registry.ListAudit(request, timeout=CALL_SECONDS))
                found.entries.extend(page.entries)
                if not page.next_page_token:
                    return found
                request.page_token = page.next_page_token

    listed: pb.ListAuditResponse = run(work())
    if as_json:
        OUT.print_json(MessageToJson(listed, preserving_proto_field_name=True))
        return
    table = Table("", "time", "who", "what", "of", "how", box=None)
    for one in listed.entries:
        when = f"{one.time.ToDatetime():{WHEN}} UTC"
        table.add_row(str(one.sequence), when, one.actor, one.action, escape(one.subject), escape(one.detail))
    show_table(table)


COMMANDS = (registry,)
