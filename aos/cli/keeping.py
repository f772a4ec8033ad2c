"""`aos why`, `aos purge`, `aos limits`: why a job is where it is, which jobs are kept, and how many a project may have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape
from rich.table import Table

from aos.cli.look import HEALTH
from aos.cli.main import ERR, OUT, Where, network, run, show_table
from aos.client import Client, connect
from aos.rpc.status import answered
from aos.v1.dispatcher_pb2 import ExplainJobRequest, GetProjectRequest, ProjectLimits, PurgeJobsRequest, SetProjectLimitsRequest

BATCH = 1000
"""Most jobs that one call deletes."""
COUNT = click.IntRange(1, (1 << 32) - 1)
"""What a message can carry; the dispatcher refuses more than it can work with."""
TOKENS = click.IntRange(1, (1 << 53) - 1)


@click.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def why(where: Where, job: str, as_json: bool) -> None:
    """Say why JOB is where it is: which operators were looked at, and what kept each from it."""

    async def work() -> None:
        async with network(where) as aos:
            asked = ExplainJobRequest(name=f"jobs/{job.removeprefix('jobs/')}")
            told = await answered(aos.dispatcher.ExplainJob(asked))
        if as_json:
            OUT.print_json(MessageToJson(told, preserving_proto_field_name=True))
            return
        OUT.print(escape(told.summary))
        if told.choice:
            OUT.print(escape(told.choice))
        if told.waiting:
            OUT.print(f"{told.ahead} jobs of its project go before it; {told.waiting} jobs wait in all.")
        if told.operators:
            table = Table("operator", "places", "health", "next probe", "why", box=None)
            for one in told.operators:
                probe = f"{one.next_probe.ToDatetime():%H:%M:%S} UTC" if one.HasField("next_probe") else ""
                health = HEALTH[one.health]
                table.add_row(one.operator, f"{one.running} of {one.slots}", health, probe, escape(one.reason))
            show_table(table)
        if told.not_shown:
            OUT.print(f"… and {told.not_shown} more.")

    run(work())


@click.command()
@click.option("--older-than", type=click.FloatRange(min=0), required=True, metavar="DAYS", help="Those that ended longer ago.")
@click.option("--project", default="", help="Only those of this project.")
@click.pass_obj
def purge(where: Where, older_than: float, project: str) -> None:
    """Delete ended jobs with their prompts, answers and receipts. Needs the administrator's token."""
    try:
        before = datetime.now(UTC) - timedelta(days=older_than)
    except OverflowError as error:
        raise click.UsageError("--older-than reaches back before all calendars") from error

    async def work() -> None:
        stamp = Timestamp()
        stamp.FromDatetime(before)
        name = f"projects/{project.removeprefix('projects/')}" if project else ""
        total, more = 0, True
        async with administrator(where) as aos:
            while more:
                asked = PurgeJobsRequest(ended_before=stamp, project=name, max_jobs=BATCH)
                gone = await answered(aos.dispatcher.PurgeJobs(asked))
                total, more = total + gone.purged, gone.more
        ERR.print(f"{total} jobs deleted")

    run(work())


@click.command()
@click.argument("project")
@click.option("--requests-per-minute", type=COUNT, help="Requests for jobs; so many may come at once.")
@click.option("--tokens-per-day", type=TOKENS, help="Of prompts and answers.")
@click.option("--unfinished-jobs", type=COUNT, help="That run or wait.")
@click.option("--kept-jobs", type=COUNT, help="That have ended; the oldest go first.")
@click.option("--weight", type=COUNT, help="Its share of what operators do, beside the others' weights.")
@click.option("--default", "default", is_flag=True, help="Let the dispatcher's settings hold for all of them.")
@click.pass_obj
def limits(where: Where, project: str, default: bool, **given: int | None) -> None:
    """Show what PROJECT may use, or set it: what is given counts, of what is not the dispatcher's settings hold.

    Needs the administrator's token.
    """
    name, wanted = (
        f"projects/{project.removeprefix('projects/')}",
        {key: value for key, value in given.items() if value is not None},
    )
    if default and wanted:
        raise click.UsageError("--default sets none of the others")

    async def work() -> None:
        async with administrator(where) as aos:
            if wanted or default:
                request = SetProjectLimitsRequest(name=name, limits=ProjectLimits(**wanted))
                shown = await answered(aos.dispatcher.SetProjectLimits(request))
            else:
                shown = await answered(aos.dispatcher.GetProject(GetProjectRequest(name=name)))
        OUT.print_json(MessageToJson(shown, preserving_proto_field_name=True))

    run(work())


@asynccontextmanager
async def administrator(where: Where) -> AsyncGenerator[Client]:
    """Connect with the administrator's token. Raises click.ClickException without one."""
    credentials = where.credentials()
    if not credentials.admin_token:
        raise click.ClickException("There is no administrator's token in the data folder; see --data.")
    async with connect(credentials.grpc, credentials.admin_token) as client:
        yield client


COMMANDS = (why, purge, limits)
