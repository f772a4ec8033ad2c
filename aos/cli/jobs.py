"""`aos submit`, `aos chat`, `aos jobs`, `aos receipt`: asking, and looking at what was asked."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from contextlib import aclosing
from functools import wraps
from pathlib import Path
from typing import Any, Final, cast

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape
from rich.table import Table

from aos.cli.main import ERR, OUT, Where, network, run, show_table
from aos.client import Client, outcome_error
from aos.errors import EngineFailed
from aos.rpc.status import answered
from aos.v1.attestation_pb2 import Attested, TeeProvider
from aos.v1.dispatcher_pb2 import (
    CancelJobRequest,
    CreateJobRequest,
    GetJobRequest,
    GetReceiptRequest,
    Job,
    JobState,
    ListJobsRequest,
    Outcome,
)
from aos.v1.types_pb2 import Chat, ChatMessage, Determinism, Order, Sampling

STATES = {name.removeprefix("JOB_STATE_").lower(): cast("JobState", state) for name, state in JobState.items() if state}
DETERMINISM: Final = {"exact": Determinism.DETERMINISM_EXACT, "best-effort": Determinism.DETERMINISM_BEST_EFFORT}
SHOWN = 60
"""Most characters of a prompt in a table."""


async def first_model(aos: Client) -> str:
    """Return the name of a model that can be used. Raises click.ClickException, with the reason, if there is none."""
    models = await aos.models()
    for model in models:
        if model.routable:
            return model.name
    why = "; ".join(f"{model.name}: {model.reason}" for model in models) or "no operator has offered one"
    raise click.ClickException(f"No model can be used now ({why}).")


async def follow(aos: Client, job: str) -> Outcome:
    """Print the job's text as it comes and return its outcome; raise why there is no answer. Ctrl-C cancels the job."""
    done = False
    try:
        async with aclosing(aos.watch(job)) as events:
            async for event in events:
                if event.HasField("chunk"):
                    sys.stdout.write(event.chunk.text)
                    sys.stdout.flush()
                elif event.HasField("outcome"):
                    done = True
                    sys.stdout.write("\n")
                    failed = outcome_error(job, event.outcome)
                    if failed is not None:
                        raise failed
                    return event.outcome
    finally:
        if not done:
            await aos.dispatcher.CancelJob(CancelJobRequest(name=job))
    raise EngineFailed(job, "the stream ended without an outcome")


def summary(job: str, outcome: Outcome) -> str:
    """Return one line about a finished job."""
    usage, receipt = outcome.usage, outcome.receipt
    return (
        f"{job[:17]}…  {usage.prompt_tokens} + {usage.completion_tokens} tokens, {receipt.price} neurons, "
        f"operator 0x{receipt.operator.hex()[:8]}…"
        + (f", attested: {_tee(outcome.attested)}" if outcome.HasField("attested") else "")
    )


def _tee(attested: Attested) -> str:
    provider = TeeProvider.Name(attested.provider).removeprefix("TEE_PROVIDER_").lower()
    return f"{provider}, image {attested.image}"


def sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which model and how tokens are drawn; the command gets them as ``model`` and ``how``."""

    @wraps(command)
    def with_sampling(
        *given: Any,
        max_tokens: int | None,
        temperature: float | None,
        top_p: float | None,
        top_k: int | None,
        seed: int | None,
        stop: tuple[str, ...],
        **others: Any,
    ) -> None:
        for name, value in (("max-tokens", max_tokens), ("top-k", top_k), ("seed", seed)):
            if value is not None and value < 0:
                raise click.UsageError(f"--{name} must not be negative")
        try:
            how = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop)
        except ValueError as error:  # more than the field can hold
            raise click.UsageError(str(error)) from error
        command(*given, how=how, **others)

    wrapped: Callable[..., None] = with_sampling
    for option in (
        click.option("--stop", multiple=True, help="End before this string; may be repeated."),
        click.option("--seed", type=int, help="Where the random numbers start."),
        click.option("--top-k", type=int, help="Keep so many likeliest tokens."),
        click.option("--top-p", type=float, help="Keep the likeliest tokens that add up to this probability."),
        click.option("--temperature", type=float, help="0 takes the likeliest token."),
        click.option("--max-tokens", type=int, help="End after so many tokens."),
        click.option("--model", default="", help="Which model; otherwise the first that can be used."),
    ):
        wrapped = option(wrapped)
    return wrapped


@click.command()
@click.argument("prompt")
@sampling_options
@click.option("--system", default="", help="What the model is told before the prompt.")
@click.option("--raw", is_flag=True, help="Let the model go on with PROMPT, without its chat template.")
@click.option("--request-id", default="", help="Makes a retry harmless.")
@click.option("--determinism", type=click.Choice([*DETERMINISM]), help="Otherwise exact where the model can be.")
@click.option("--priority", type=click.IntRange(-9, 9), default=0, help="Among your own jobs, higher goes first.")
@click.option("--type", "job_type", default="", help="One of the model's kinds of jobs, `tee` say; otherwise `opml`.")
@click.option("--wait/--no-wait", default=True, help="Stream the answer, or only print the job's name.")
@click.option("--receipt", type=click.Path(dir_okay=False, path_type=Path), help="Write the receipt to this file.")
@click.pass_obj
def submit(
    where: Where,
    prompt: str,
    model: str,
    how: Sampling,
    system: str,
    raw: bool,
    request_id: str,
    determinism: str | None,
    priority: int,
    job_type: str,
    wait: bool,
    receipt: Path | None,
) -> None:
    """Submit PROMPT as a job and stream its answer."""

    async def work() -> None:
        async with network(where) as aos:
            name = model or await first_model(aos)
            turns = [ChatMessage(role="system", content=system)] if system else []
            order = (
                Order(model=name, prompt=prompt, sampling=how)
                if raw
                else Order(model=name, chat=Chat(messages=[*turns, ChatMessage(role="user", content=prompt)]), sampling=how)
            )
            if determinism:
                order.determinism = DETERMINISM[determinism]
            known = request_id or secrets.token_hex(16)
            made = CreateJobRequest(order=order, request_id=known, priority=priority, job_type=job_type)
            job = await answered(aos.dispatcher.CreateJob(made))
            if not wait:
                OUT.print(job.name)
                return
            outcome = await follow(aos, job.name)
            ERR.print(f"[dim]{summary(job.name, outcome)}[/dim]")
            if receipt is not None:
                receipt.write_text(await _bundle(aos, job.name) + "\n")
                ERR.print(f"[dim]receipt written; check it with: aos verify {receipt}[/dim]")

    run(work())


@click.command()
@click.argument("message", required=False)
@sampling_options
@click.option("--system", default="", help="What the model is told before the conversation.")
@click.pass_obj
def chat(
    where: Where,
    message: str | None,
    model: str,
    how: Sampling,
    system: str,
) -> None:
    """Talk to a model: MESSAGE once, or turn by turn until Ctrl-D."""

    async def work() -> None:
        async with network(where) as aos:
            name = model or await first_model(aos)
            turns = [ChatMessage(role="system", content=system)] if system else []
            if message is None:
                ERR.print(f"[dim]{name}; end with Ctrl-D[/dim]")
            while True:
                said = message if message is not None else _ask()
                if said is None:
                    return
                turns.append(ChatMessage(role="user", content=said))
                order = Order(model=name, chat=Chat(messages=turns), sampling=how)
                job = await answered(aos.dispatcher.CreateJob(CreateJobRequest(order=order)))
                outcome = await follow(aos, job.name)
                turns.append(ChatMessage(role="assistant", content=outcome.text))
                if message is not None:
                    return

    run(work())


def _ask() -> str | None:
    """Return what the person types, None at the end."""
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return None
        if said:
            return said


@click.command()
@click.argument("job", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to list.")
@click.option("--user", default="", help="Only those of this end user.")
@click.option("--state", "states", multiple=True, type=click.Choice([*STATES]), help="Only those in this state. Repeatable.")
@click.option("--model", default="", help="Only those for this model.")
@click.option("--cancel", is_flag=True, help="Cancel JOB.")
@click.pass_obj
def jobs(
    where: Where, job: str | None, as_json: bool, limit: int, user: str, states: tuple[str, ...], model: str, cancel: bool
) -> None:
    """List the project's jobs, newest first, or show one JOB."""
    if cancel and not job:
        raise click.UsageError("--cancel needs a JOB")

    async def work() -> None:
        async with network(where) as aos:
            if job:
                name = f"jobs/{job.removeprefix('jobs/')}"
                if cancel:
                    one = await answered(aos.dispatcher.CancelJob(CancelJobRequest(name=name)))
                else:
                    one = await answered(aos.dispatcher.GetJob(GetJobRequest(name=name)))
                OUT.print_json(MessageToJson(one, preserving_proto_field_name=True))
                return
            asked = ListJobsRequest(page_size=limit, user=user, model=model)
            asked.states.extend([STATES[state] for state in states])
            listed = await answered(aos.dispatcher.ListJobs(asked))
        if as_json:
            OUT.print_json(MessageToJson(listed, preserving_proto_field_name=True))
            return
        table = Table("job", "state", "created", "model", "prompt", "tokens", "neurons", box=None)
        for one in listed.jobs:
            usage, receipt = one.outcome.usage, one.outcome.receipt
            table.add_row(
                one.name,
                state_word(one.state),
                _moment(one.created),
                escape(one.order.model),
                escape(prompt_of(one)),
                f"{usage.prompt_tokens} + {usage.completion_tokens}" if one.HasField("outcome") else "",
                receipt.price,
            )
        show_table(table)

    run(work())


@click.command()
@click.argument("job")
@click.pass_obj
def receipt(where: Where, job: str) -> None:
    """Print JOB's receipt, with what it speaks of, for `aos verify`."""

    async def work() -> None:
        async with network(where) as aos:
            click.echo(await _bundle(aos, f"jobs/{job.removeprefix('jobs/')}"))

    run(work())


async def _bundle(aos: Client, job: str) -> str:
    bundle = await answered(aos.dispatcher.GetReceipt(GetReceiptRequest(name=job)))
    return MessageToJson(bundle, preserving_proto_field_name=True)


def state_word(state: JobState.ValueType) -> str:
    """Return a state as people say it."""
    return JobState.Name(state).removeprefix("JOB_STATE_").lower()


def prompt_of(job: Job) -> str:
    """Return the start of what was asked last, on one line."""
    messages = job.order.chat.messages
    text = " ".join((messages[-1].content if messages else job.order.prompt).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _moment(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}"


COMMANDS = (submit, chat, jobs, receipt)
