"""`aos controllers run`: a controller over a prompt, its forks side by side as they come."""

from __future__ import annotations

from contextlib import aclosing, nullcontext
from pathlib import Path

import click
from google.protobuf.json_format import MessageToJson
from rich.live import Live

from aos.cli.forks import Forks, lines
from aos.cli.jobs import sampling_options, summary
from aos.cli.main import ERR, OUT, Where, network, run
from aos.client import Client
from aos.control_order import ARGUMENT_BYTES
from aos.v1.controllers_pb2 import RunControllerResponse
from aos.v1.types_pb2 import Sampling

FRAMES_A_SECOND = 10


async def controlled_model(aos: Client) -> str:
    """Return the name of a model that runs controllers now. Raises click.ClickException, with the reason, if there is none."""
    models = await aos.models()
    for model in models:
        if model.routable and model.controllers:
            return model.name
    why = "; ".join(f"{one.name}: {one.reason or 'runs no controllers'}" for one in models) or "no operator has offered one"
    raise click.ClickException(f"No model that runs controllers can be used now ({why}).")


def read_argument(given: str) -> str:
    """Return what `@FILE` has in it, or the text itself. Raises click.UsageError."""
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        if path.stat().st_size > ARGUMENT_BYTES:
            raise click.UsageError(f"--arg: {path} has more than {ARGUMENT_BYTES} bytes")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--arg: {path} cannot be read: {error}") from error


@click.command("run")
@click.argument("name")
@click.option("--arg", "argument", default="", metavar="TEXT|@FILE", help="What the controller is told: a text, or a file's.")
@click.option("--prompt", default="", help="Text before the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@sampling_options
@click.pass_obj
def run_controller(where: Where, name: str, argument: str, prompt: str, as_json: bool, model: str, how: Sampling) -> None:
    """Run controller NAME, a SHA-256 or a tag, and show its forks as they come.

    In a terminal each fork has a panel; elsewhere each thing that happens is a line: the fork's number, what it is, and that.
    """
    told = read_argument(argument)

    async def work() -> None:
        async with network(where) as aos:
            chosen = model or await controlled_model(aos)
            responses = aos.run_controller(name, told, model=chosen, prompt=prompt, sampling=how)
            forks, job = Forks(), ""
            live = Live(console=OUT, refresh_per_second=FRAMES_A_SECOND) if OUT.is_terminal and not as_json else None
            async with aclosing(responses) as events:
                with live or nullcontext():
                    async for response in events:
                        job = response.job.name or job
                        if as_json:
                            click.echo(MessageToJson(response, indent=None, preserving_proto_field_name=True))
                            continue
                        _show(response, forks, live)
                        if response.job_event.HasField("outcome"):
                            ERR.print(f"[dim]{forks.summary()}[/dim]")
                            ERR.print(f"[dim]{summary(job, response.job_event.outcome)}[/dim]")

    run(work())


def _show(response: RunControllerResponse, forks: Forks, live: Live | None) -> None:
    if not response.job_event.chunk.HasField("run"):
        return
    step = response.job_event.chunk.run
    forks.take(step)
    if live is not None:
        live.update(forks.panels())
        return
    for line in lines(step):
        click.echo(line)
