"""`aos verify`: check a receipt offline, and say in plain words what was and was not checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from google.protobuf.json_format import Parse, ParseError
from rich.console import Console
from rich.markup import escape

from aos.cli.main import ERR, OUT, run
from aos.offered import adapter_path
from aos.v1.dispatcher_pb2 import ReceiptBundle

if TYPE_CHECKING:
    from aos.verification.receipts import Finding

BUNDLE_BYTES = 32 << 20
"""Largest receipt file that is read."""


def read_bundle(path: Path) -> ReceiptBundle:
    """Return what the file holds: the JSON that `GET /v1/jobs/…/receipt` gives. Raises click.ClickException."""
    try:
        text = sys.stdin.read(BUNDLE_BYTES) if str(path) == "-" else path.read_text()[:BUNDLE_BYTES]
        bundle = Parse(text, ReceiptBundle())
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from error
    except ParseError as error:
        raise click.ClickException(f"{path} is not a receipt: {error}") from error
    if not bundle.HasField("receipt"):
        raise click.ClickException(f"{path} is not a receipt: the field `receipt` is missing")
    return bundle


def show(findings: list[Finding], out: Console) -> bool:
    """Print the findings; say whether none is bad."""
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]?[/yellow]"}
    for finding in findings:
        # escaped: a receipt is a stranger's, and may try to paint itself green
        out.print(f" {marks[finding.good]} {escape(finding.what)}" + (f": {escape(finding.why)}" if finding.why else ""))
    return all(finding.good is not False for finding in findings)


async def rerun(bundle: ReceiptBundle, model: Path, adapter: str) -> Finding:
    """Run the order again on the given weights, with the adapter, if one is given, and compare."""
    from aos.operator.llama import Lora
    from aos.operator.replay import replay

    return await replay(bundle, model, Lora(*adapter_path(adapter)) if adapter else None)


def unchecked(what: str, how: str) -> Finding:
    """Return what was not looked at, and how it can be."""
    from aos.verification.receipts import Finding

    return Finding(what, good=None, why=f"not checked; {how}")


@click.command()
@click.argument("receipt", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Weights to run the order again on.")
@click.option(
    "--replay", is_flag=True, help="Run the order again, step by step, on the weights of --model, which asks for that by itself."
)
@click.option("--adapter", default="", metavar="PATH[:SCALE]", help="LoRA file over them, as the operator had it.")
def verify(receipt: Path, model: Path | None, adapter: str, *, replay: bool) -> None:
    """Check RECEIPT, a file from `aos receipt` (or - for standard input), with no network."""
    from aos.verification.receipts import check_bundle  # slow to import: the other commands need no keys
    from aos.verification.upstream import is_upstream

    if adapter and model is None:
        raise click.UsageError("--adapter is over the weights that --model names")
    if replay and model is None:
        raise click.UsageError("--replay needs the weights: --model FILE")
    bundle = read_bundle(receipt)
    findings = list(check_bundle(bundle))
    if model is None and is_upstream(bundle.receipt):
        pass  # nobody can, and the findings say so
    elif model is None:
        findings.append(unchecked("that the model really gives this answer", "give --replay --model FILE to run it again"))
    else:
        with ERR.status(f"running the order again on {model.name}"):
            findings.append(run(rerun(bundle, model, adapter)))
    findings.append(unchecked("who the operator is", "compare its address with `aos operators`"))
    good = show(findings, OUT)
    OUT.print("[green]The receipt holds.[/green]" if good else "[red]The receipt does NOT hold.[/red]")
    sys.exit(0 if good else 1)


COMMANDS = (verify,)
