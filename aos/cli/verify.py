"""`aos verify`: check a receipt, or another signed statement, offline, and say in plain words what was and was not checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from google.protobuf.json_format import Parse, ParseError
from rich.console import Console
from rich.markup import escape

from aos.cli.main import ERR, OUT, run
from aos.offered import adapter_path
from aos.settings import bundled_controllers
from aos.v1.dispatcher_pb2 import ReceiptBundle

if TYPE_CHECKING:
    from aos.verification.attestation.policy import Policy
    from aos.verification.receipts import Finding

BUNDLE_BYTES = 32 << 20
"""Largest receipt file that is read."""
PATIENCE = 100.0
"""So many times as long as with an operator a controller may take: this machine may be slower."""


def read_text(path: Path) -> str:
    """Return what the file, or standard input for `-`, holds. Raises click.ClickException."""
    try:
        return sys.stdin.read(BUNDLE_BYTES) if str(path) == "-" else path.read_text()[:BUNDLE_BYTES]
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from error


def read_bundle(text: str, path: Path) -> ReceiptBundle:
    """Return the receipt with what it speaks of: the JSON that `GET /v1/jobs/…/receipt` gives. Raises click.ClickException."""
    try:
        bundle = Parse(text, ReceiptBundle())
    except ParseError as error:
        raise click.ClickException(f"{path} is not a receipt: {error}") from error
    if not bundle.HasField("receipt"):
        raise click.ClickException(f"{path} is not a receipt: the field `receipt` is missing")
    return bundle


def other_findings(text: str) -> list[Finding]:
    """Return what a signed message of the older network, or a record of a false VRF claim, proves; nothing for anything else."""
    from aos.dispatcher.lottery import holds, read_evidence
    from aos.errors import AosError
    from aos.verification.envelope import FIELDS, open_envelope
    from aos.verification.receipts import Finding

    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    names = set[str](fields) if isinstance(fields, dict) else set[str]()
    try:
        if {"id", "address", "signature"} <= names <= set(FIELDS):
            signed = Finding(f"the message is signed by {open_envelope(text).address}", good=True)
            return [signed, unchecked("when it was signed, and for whom", "a message does not say: keep the ids that came")]
        if {"registered_key", "vrf", "what"} <= names:
            evidence = read_evidence(text.strip().encode())
            what = f"the claim that operator {evidence.claim.operator} is said to have made is false: {evidence.what.value}"
            why = "" if (false := holds(evidence)) else "it is true, or false in another way"
            return [Finding(what, good=false, why=why), unchecked("whose claim it is", "check the signature of Evidence.message")]
    except AosError as error:
        return [Finding("the statement can be read, and its signature is good", good=False, why=error.message)]
    return []


def show(findings: list[Finding], out: Console) -> bool:
    """Print the findings; say whether none is bad."""
    marks = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]?[/yellow]"}
    for finding in findings:
        # escaped: a receipt is a stranger's, and may try to paint itself green
        out.print(f" {marks[finding.good]} {escape(finding.what)}" + (f": {escape(finding.why)}" if finding.why else ""))
    return all(finding.good is not False for finding in findings)


async def rerun(bundle: ReceiptBundle, model: Path, adapter: str, controller: Path | None) -> Finding:
    """Run the order again on the given weights, with adapter and controller, if they are given, and compare."""
    from aos.operator.llama import Lora
    from aos.operator.replay import replay

    lora = Lora(*adapter_path(adapter)) if adapter else None
    if not bundle.order.HasField("control"):
        return await replay(bundle, model, lora)

    from aos.operator.steering import opening
    from aos.operator.wasm_programs import Controllers  # wasmtime: slow, and of no use for others

    with TemporaryDirectory(prefix="aos-") as folder:
        controllers = Controllers(Path(folder))
        try:
            opened = opening(lambda digest: asyncio.to_thread(_module, digest, controller), controllers, patience=PATIENCE)
            return await replay(bundle, model, lora, opened)
        finally:
            await asyncio.to_thread(controllers.close)


def _module(digest: bytes, given: Path | None) -> bytes:
    """Return the module from the file, or from those that come with the program. Raises ControllerNotFound."""
    from aos.errors import ControllerNotFound

    for path in [given] if given is not None else sorted(bundled_controllers().glob("*.wasm")):
        data = path.read_bytes()
        if hashlib.sha256(data).digest() == digest:
            return data
    raise ControllerNotFound(f"controllers/{digest.hex()}")


def read_tee_policy(path: Path) -> Policy:
    """Return the policy that the file says, which takes no simulated evidence. Raises click.ClickException."""
    from aos.errors import InvalidField
    from aos.verification.attestation.policy_file import POLICY_BYTES, read_policy

    try:
        with path.open() as file:
            return read_policy(file.read(POLICY_BYTES + 1))
    except (OSError, UnicodeDecodeError, InvalidField) as error:
        raise click.ClickException(f"{path} is no policy: {error}") from error


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
@click.option(
    "--tee-policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file: which programs and platforms are trusted, for a receipt with evidence.",
)
@click.option(
    "--controller",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Module of the controller that steered the answer, unless it came with the program.",
)
@click.option("--adapter", default="", metavar="PATH[:SCALE]", help="LoRA file over them, as the operator had it.")
def verify(
    receipt: Path, model: Path | None, adapter: str, controller: Path | None, tee_policy: Path | None, *, replay: bool
) -> None:
    """Check RECEIPT, a file from `aos receipt` (or - for standard input), with no network.

    It may also be a signed message of the older network's WebSocket protocol, or the record of an operator's false VRF claim.
    """
    from aos.verification.attestation.bundle import check_attestation  # slow to import: the other commands need no keys
    from aos.verification.receipts import check_bundle
    from aos.verification.upstream import is_upstream

    if controller is not None and model is None:
        raise click.UsageError("--controller is run on the weights that --model names")
    if adapter and model is None:
        raise click.UsageError("--adapter is over the weights that --model names")
    if replay and model is None:
        raise click.UsageError("--replay needs the weights: --model FILE")
    text = read_text(receipt)
    if others := other_findings(text):
        good = show(others, OUT)
        OUT.print("[green]It holds.[/green]" if good else "[red]It does NOT hold.[/red]")
        sys.exit(0 if good else 1)
    bundle = read_bundle(text, receipt)
    findings = [*check_bundle(bundle), *check_attestation(bundle, read_tee_policy(tee_policy) if tee_policy else None)]
    if model is None and is_upstream(bundle.receipt):
        pass  # nobody can, and the findings say so
    elif model is None:
        findings.append(unchecked("that the model really gives this answer", "give --replay --model FILE to run it again"))
    else:
        with ERR.status(f"running the order again on {model.name}"):
            findings.append(run(rerun(bundle, model, adapter, controller)))
    findings.append(unchecked("who the operator is", "compare its address with `aos operators`"))
    good = show(findings, OUT)
    OUT.print("[green]The receipt holds.[/green]" if good else "[red]The receipt does NOT hold.[/red]")
    sys.exit(0 if good else 1)


COMMANDS = (verify,)
