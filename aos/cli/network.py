"""`aos up`, `aos demo`, `aos operator`: running a network, or a part of one."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from aos.addresses import LOOPBACK, read_networks
from aos.cli.main import ERR, OUT, Where, run
from aos.cli.worker_file import UNUSED, WorkerFile, load_worker_file
from aos.loop import settled
from aos.offered import AdapterFile, ModelFile
from aos.operator.settings import QuestionSettings
from aos.settings import SIMULATED, SPLIT_MODES, TEES, VRF_SUITES, NetworkSettings, bundled_models, is_loopback, is_near

if TYPE_CHECKING:
    from aos.chain_side import ChainSide
    from aos.up import Network

PR_SET_PDEATHSIG = 1


def model_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options about the model and what it costs."""
    for option in (
        click.option("--completion-price", type=int, default=2_000_000_000, show_default=True, help="Neurons a token of answer."),
        click.option("--prompt-price", type=int, default=1_000_000_000, show_default=True, help="Neurons a token of input."),
        click.option("--context", type=int, default=0, help="Most tokens of prompt and answer; 0: the model's own."),
        click.option("--threads", type=int, default=0, help="CPU threads; 0: one for a small model, else one per core but one."),
        click.option("--slots", type=int, default=8, show_default=True, help="Requests decoded at once."),
        click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds that running jobs get at the end."),
        click.option(
            "--host-for",
            multiple=True,
            metavar="ADDRESS",
            help="Address of a key whose registered model servers are hosted, as the operator's own are; as often as there are.",
        ),
        click.option(
            "--allow-api",
            "api_networks",
            multiple=True,
            metavar="NETWORK",
            show_default="this machine",
            help="Network, instead of this machine alone, that registered model servers may be in; as often as there are.",
        ),
        click.option("--tensor-split", default="", metavar="A,B,...", help="Each GPU's share, as proportions."),
        click.option(
            "--split-mode", type=click.Choice(SPLIT_MODES), default="layer", show_default=True, help="How GPUs share a model."
        ),
        click.option("--main-gpu", type=int, default=0, show_default=True, help="The GPU where only one is used."),
        click.option("--gpu-layers", type=int, default=0, show_default=True, help="Layers that go to the GPU; -1: all."),
        click.option("--memory", type=int, default=0, help="MiB for an operator's models; 0: 3/4 of what is available, shared."),
        click.option("--adapter", "adapters", multiple=True, metavar="NAME=BASE:PATH[:SCALE]", help="LoRA file over a model."),
        click.option(
            "--model",
            "models",
            multiple=True,
            metavar="[NAME=]PATH",
            show_default="the bundled models",
            help="GGUF file to run, or ONNX file of an image model; as often as there are models.",
        ),
    ):
        command = option(command)
    return command


def tee_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options about the enclave that an operator runs in."""
    command = click.option(
        "--tee-command", default="", metavar="COMMAND", help="In a real one: what prints evidence for a statement."
    )(command)
    return click.option(
        "--tee", type=click.Choice(TEES), default=None, help="The TEE that operators run in; simulated needs --dev."
    )(command)


def settings_of(options: dict[str, Any], **more: Any) -> NetworkSettings:
    """Return the settings that the options make. Raises ValueError, naming the option, for one that cannot be."""
    models = tuple(map(ModelFile.read, options.pop("models"))) or bundled_models()
    adapters = tuple(AdapterFile.read(text, [one.name for one in models if not one.images]) for text in options.pop("adapters"))
    if "tee" in options:
        options |= {"tee": options["tee"] or "", "tee_command": tuple(shlex.split(options["tee_command"]))}
    try:
        split = tuple(float(share) for share in options.pop("tensor_split").split(",") if share)
    except ValueError:
        raise ValueError("tensor-split: must be numbers with commas between them") from None
    networks = read_networks(options.pop("api_networks"), "allow-api") or LOOPBACK
    return NetworkSettings(models=models, adapters=adapters, tensor_split=split, api_networks=networks, **options, **more)


@click.command()
@click.option("--port", type=int, default=8080, show_default=True, help="Where Envoy listens; 0: a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that Envoy listens on.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder for everything that is kept.")
@click.option("--operators", type=int, default=1, show_default=True, help="Operator processes.")
@click.option("--dev", is_flag=True, help="Let callers in without a token, or with any. On loopback only.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, and nothing else.")
@click.option("--vrf-suite", type=click.Choice(VRF_SUITES), default=VRF_SUITES[0], help="The ECVRF that operators are drawn with.")
@click.option("--chain", is_flag=True, help="Settle receipts on a development chain, anvil, that is kept in the data folder.")
@click.option(
    "--chain-rpc", default="", metavar="URL", help="Settle them on the chain of this node; its key: AOS_CHAIN_KEY, or a file."
)
@click.option(
    "--chain-contracts", default="", metavar="ADDRESS|FILE", help="Contracts that are there already; ADDRESS: the ledger's."
)
@click.option("--chain-deploy", is_flag=True, help="Deploy contracts on the chain of --chain-rpc, once.")
@click.option("--chain-payer", "payers", multiple=True, metavar="PROJECT=WALLET", help="Which wallet pays for a project there.")
@click.option("--chain-confirmations", type=int, default=0, show_default=True, help="Blocks on top before a transaction counts.")
@click.option("--tee-policy", type=click.Path(dir_okay=False, path_type=Path), help="JSON file: which TEE evidence is taken.")
@tee_options
@model_options
@click.pass_obj
def up(where: Where, data: Path | None, as_json: bool, **options: Any) -> None:
    """Run a whole network on this machine until Ctrl-C."""
    options["chain"] = options["chain"] or bool(options["chain_rpc"])
    pairs = [text.partition("=") for text in options.pop("payers")]
    options["chain_payers"] = tuple((project, wallet) for project, _, wallet in pairs)
    try:
        settings = settings_of(options, data=(data or where.data).expanduser())
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    async def work() -> None:
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        async with started(settings, quiet=as_json) as network, asked_to_stop() as stop:
            if as_json:
                click.echo(json.dumps(ready_line(network)))
            else:
                show_network(network, settings)
            settled()
            await stop.wait()

    run(work(), serves=True)


@asynccontextmanager
async def started(settings: NetworkSettings, *, quiet: bool) -> AsyncGenerator[Network]:
    """Run the network, with a spinner that says what is waited for while it starts and stops."""
    from aos.up import running_network  # slow: all the parts

    async with AsyncExitStack() as stack:
        if quiet:
            yield await stack.enter_async_context(running_network(settings))
            return
        status = ERR.status("starting")

        def told(what: str) -> None:
            status.update(what)
            status.start()

        stack.callback(status.stop)
        network = await stack.enter_async_context(running_network(settings, told=told))
        status.stop()
        yield network


@asynccontextmanager
async def asked_to_stop() -> AsyncGenerator[asyncio.Event]:
    """Give an event that Ctrl-C or SIGTERM sets. A second Ctrl-C ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, asked)
    yield stop  # the handlers stay: a second Ctrl-C counts while the network stops, too


def ready_line(network: Network) -> Mapping[str, object]:
    """Return what `aos up --json` prints for scripts."""
    kept = network.credentials
    return {
        "url": kept.url,
        "grpc": kept.grpc,
        "project": kept.project,
        "token": kept.token,
        "admin_token": kept.admin_token,
        "model": network.model,
        "models": list(network.models),
        "operators": list(network.operators),
    } | ({} if network.chain is None else {"chain": chain_line(network.chain)})


def chain_line(side: ChainSide) -> Mapping[str, object]:
    """Return what scripts are told of the chain."""
    return {"rpc": side.url} | asdict(side.site) | {"wallet": side.wallet}


def show_network(network: Network, settings: NetworkSettings) -> None:
    """Print where everything is, and a line to begin with."""
    kept, table = network.credentials, Table(box=None, show_header=False)
    for name, value in (
        ("REST", kept.url),
        ("status page", f"{kept.url}/"),
        ("gRPC", kept.grpc),
        ("project", kept.project),
        ("token", kept.token),
        ("admin token", kept.admin_token),
        ("models", ", ".join(network.models)),
        ("operators", ", ".join(network.operators)),
        ("data", str(settings.data)),
        *(() if network.chain is None else ((f"chain: {name}", str(value)) for name, value in chain_line(network.chain).items())),
    ):
        table.add_row(f"[bold]{name}[/bold]", value)
    OUT.print(table)
    OUT.print(f"\n[dim]Try:[/dim] aos --data {settings.data} chat 'What is AI?'   [dim]Stop with Ctrl-C.[/dim]")


@click.command()
@click.option("--question", default="What is AI?", show_default=True, help="What to ask.")
@model_options
def demo(question: str, **options: Any) -> None:
    """Run a network, send it one job over REST, check the receipt, and stop."""
    from aos.cli.demo import show_demo

    async def work() -> None:
        with tempfile.TemporaryDirectory(prefix="aos-demo-") as folder:
            settings = settings_of(options, data=Path(folder), port=0)
            async with started(settings, quiet=False) as network:
                await show_demo(network, question)

    try:
        run(work(), serves=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@click.command()
@click.option(
    "--connect",
    multiple=True,
    metavar="ADDRESS",
    help="The network: HOST:PORT or unix:PATH; as often as there are dispatchers, or with commas between them.",
)
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="Where this operator itself is served, as gRPC.")
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Key file; made if it is not there.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="OPML worker's file: serve its REST API on the host and port that it names.",
)
@click.option("--allow-callback", "networks", multiple=True, metavar="NETWORK", help="Network, not public, callbacks may go to.")
@click.option("--dev", is_flag=True, help="Take questions without a token, with callbacks to this machine. On loopback only.")
@click.option("--die-with-parent", is_flag=True, help="End when the process that started this one ends.")
@tee_options
@model_options
@click.pass_obj
def operator(
    where: Where,
    connect: tuple[str, ...],
    listen: str,
    key: Path | None,
    config: Path | None,
    networks: tuple[str, ...],
    die_with_parent: bool,
    **options: Any,
) -> None:
    """Run an operator that attaches to a network, or, with --config, one that may also stand alone.

    AOS_OPERATOR_TOKEN, if set, lets its holder call this operator directly.
    """
    if die_with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    token = os.environ.get("AOS_OPERATOR_TOKEN", "")
    if config is None and (not connect or key is None):
        raise click.UsageError("--connect and --key are needed, or --config")
    try:
        file = load_worker_file(config) if config else WorkerFile()
        if file.model is not None and not options["models"]:  # what is typed goes before what is in the file
            options["models"] = (str(file.model),)
        settings = settings_of(options, **({"host": file.host, "port": file.port} if config else {}))
        questions = question_settings(networks, listen, dev=settings.dev)
        dispatchers = read_addresses(connect or (file.dispatcher,))
        for one in dispatchers:
            check_simulated(settings, one)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if config and not token and not settings.dev:
        raise click.UsageError("AOS_OPERATOR_TOKEN must be set, to the token that callers have to send; or give --dev")
    kept = key or where.data.expanduser() / "operator.key"

    async def work() -> None:
        from aos.operate import running_node

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each request, with the URL
        log = logging.getLogger(__name__)
        for name in file.unused:
            log.warning("%s in %s has no effect: %s", name, config, UNUSED[name])
        node = running_node(
            settings,
            connect=dispatchers,
            listen=listen,
            key=kept,
            token=token,
            questions=questions,
            rest=config is not None,
        )
        async with asked_to_stop() as stop, node as running:
            names = ", ".join(one.name for one in (*settings.models, *settings.adapters))
            log.info("operator %s offers %s%s", running.address, names, f" at {running.url}" if running.url else "")
            await stop.wait()

    run(work(), serves=True)


def read_addresses(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses, each of which may have several with commas between them. Raises ValueError for one that comes twice."""
    found = [one.strip() for text in texts for one in text.split(",") if one.strip()]
    if twice := next((one for one in found if found.count(one) > 1), ""):
        raise ValueError(f"connect: {twice!r} comes twice")
    return tuple(found)


def check_simulated(settings: NetworkSettings, connect: str) -> None:
    """Raise ValueError for simulated evidence that would go to a network elsewhere, which refuses it."""
    if settings.tee == SIMULATED and not is_near(connect):
        raise ValueError(f"tee: simulated evidence proves nothing, so connect must be a loopback address, not {connect!r}")


def question_settings(networks: tuple[str, ...], listen: str, *, dev: bool) -> QuestionSettings:
    """Return the settings that the options make. Raises ValueError, naming the option."""
    host = listen.rpartition(":")[0].strip("[]")
    if dev and not listen.startswith("unix:") and not is_loopback(host):
        raise ValueError(f"dev: lets everyone in without a token, so listen must be a loopback address, not {listen!r}")
    return QuestionSettings(networks=(*read_networks(networks, "allow-callback"), *(LOOPBACK if dev else ())))


COMMANDS = (up, demo, operator)
