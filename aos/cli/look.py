"""`aos models`, `aos operators`: what the network has, and why a part of it is not used."""

from __future__ import annotations

from collections.abc import Sequence

import click
from google.protobuf.json_format import MessageToDict, MessageToJson
from rich.markup import escape
from rich.table import Table

from aos.cli.main import OUT, Where, network, run, show_table
from aos.rpc.status import answered
from aos.v1 import registry_pb2
from aos.v1.dispatcher_pb2 import HealthState, ListHealthRequest, OperatorHealth

OPML = "opml"
"""The kind of job that every operator takes."""
CAN = ("chat", "exact", "embeddings", "images", "image_edits", "controllers")
"""What a model may be good for, as `Model` has it."""
HEALTH = {
    HealthState.HEALTH_STATE_UNSPECIFIED: "",
    HealthState.HEALTH_STATE_HEALTHY: "[green]works[/green]",
    HealthState.HEALTH_STATE_SUSPECT: "[yellow]suspect[/yellow]",
    HealthState.HEALTH_STATE_OPEN: "[red]gets no jobs[/red]",
}
"""What a table says about how well an operator's model works."""


def state(*, routable: bool, reason: str) -> str:
    """Return what a table says about a model or an operator."""
    return "[green]ready[/green]" if routable else f"[red]{escape(reason)}[/red]"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def models(where: Where, as_json: bool) -> None:
    """List the models that can be asked for."""

    async def work() -> None:
        async with network(where) as aos:
            listed = await answered(aos.registry.ListModels(registry_pb2.ListModelsRequest(page_size=1000)))
        if as_json:
            OUT.print_json(MessageToJson(listed, preserving_proto_field_name=True))
            return
        table = Table("model", "state", "context", "can", "neurons per token in / out", "operators", "weights (SHA-256)", box=None)
        for model in listed.models:
            price = f"{model.price.prompt_token} / {model.price.completion_token}"
            ready = state(routable=model.routable, reason=model.reason)
            can = [name.replace("_", " ") for name in CAN if getattr(model, name)]
            can += [kind for kind in model.job_types if kind != OPML]
            operators, digest = str(len(model.operators)), f"{model.digest[:16]}…"
            table.add_row(escape(model.name), ready, str(model.context_length), ", ".join(can), price, operators, digest)
        show_table(table)

    run(work())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def operators(where: Where, as_json: bool) -> None:
    """List the operators, those that are gone too."""

    async def work() -> None:
        async with network(where) as aos:
            listed = await answered(aos.registry.ListOperators(registry_pb2.ListOperatorsRequest(page_size=1000)))
            works = await answered(aos.dispatcher.ListHealth(ListHealthRequest(page_size=1000)))
        if as_json:
            shown, health = (MessageToDict(one, preserving_proto_field_name=True) for one in (listed, works))
            OUT.print_json(data=shown | health)
            return
        table = Table("operator", "state", "models", "slots", "registered", "health", box=None)
        for operator in listed.operators:
            table.add_row(
                operator.name.removeprefix("operators/"),
                state(routable=operator.routable, reason=operator.reason),
                escape(", ".join(offer.model for offer in operator.offers)),
                str(sum(offer.slots for offer in operator.offers)),
                f"{operator.registered.ToDatetime():%Y-%m-%d %H:%M:%S} UTC",
                _health([one for one in works.health if f"operators/{one.operator}" == operator.name.lower()]),
            )
        show_table(table)

    run(work())


def _health(known: Sequence[OperatorHealth]) -> str:
    """Return how well an operator's models work: a line for each."""
    lines: list[str] = []
    for one in known:
        probe = f", next probe {one.next_probe.ToDatetime():%H:%M:%S} UTC" if one.HasField("next_probe") else ""
        lines.append(f"{escape(one.model)}: {HEALTH[one.state]}{escape(f' ({one.reason})') if one.reason else ''}{probe}")
    return "\n".join(lines) or "not attached"


COMMANDS = (models, operators)
