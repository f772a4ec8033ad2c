"""An operator as a process of its own: its key, its model, its connection, its service."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from aos.clock import SystemClock
from aos.memory import default_memory
from aos.operator.image_source import ImageSource
from aos.operator.llama import Gpu
from aos.operator.llama.trial import try_model
from aos.operator.node import running_operator
from aos.operator.pool import MEBIBYTE
from aos.operator.settings import QuestionSettings
from aos.operator.shelf import Lora, Shelf
from aos.operator.source import Source
from aos.operator.tee import make_tee
from aos.operator.upstream_settings import UpstreamSettings
from aos.rpc.several import several_channels
from aos.serve_operator import serving_operator
from aos.settings import NetworkSettings, StartError, is_near, own_names
from aos.telemetry import telemetry
from aos.verification.keys import OperatorKey, load_vrf_key
from gateway.envoy.run import EnvoyError, EnvoySettings, running_envoy


@dataclass(frozen=True, slots=True)
class Node:
    """A running operator."""

    address: str
    """`0x` and 40 hex digits."""
    url: str = ""
    """Where its own Envoy serves REST; empty without one."""


@asynccontextmanager
async def running_node(
    settings: NetworkSettings,
    *,
    connect: Sequence[str],
    listen: str,
    key: Path,
    token: str,
    questions: QuestionSettings | None = None,
    rest: bool = False,
) -> AsyncGenerator[Node]:
    """Attach an operator to a network, to none if ``connect`` is empty, and serve it at ``listen`` until the block ends.

    ``connect`` are the addresses of the network's dispatchers: it is attached to one, and to the next once that one is gone.

    With ``rest``, an Envoy of its own serves it at the settings' host and port, too. Its questions are kept beside its key.
    Raises StartError.
    """
    own = await asyncio.to_thread(OperatorKey.load, key)
    vrf = await asyncio.to_thread(load_vrf_key, key.with_name(f"{key.name}.vrf"))
    for one in settings.models:
        if not one.images:
            await asyncio.to_thread(try_model, one.path, one.name)
    clock, random_ = SystemClock(), random.SystemRandom().random
    async with (
        several_channels(connect) if connect else nullcontext() as network,
        telemetry("aos-operator", os.environ) as traces,
        running_operator(
            own,
            sources(settings),
            registry=network,
            dispatcher=network,
            price=settings.price,
            clock=clock,
            random=random_,
            slots=settings.slots,
            memory=settings.memory * MEBIBYTE or default_memory(),
            grace=settings.grace,
            telemetry=traces,
            vrf=vrf,
            tee=make_tee(settings.tee, settings.tee_command, clock),
            upstreams=UpstreamSettings(networks=settings.api_networks, owners=settings.host_for, slots=settings.slots),
            controllers=key.with_name(f"{key.name}.controllers"),
            # what was registered without a key was so in development mode, on the registry's machine: it is there
            unaddressed=bool(connect) and all(map(is_near, connect)),
        ) as operator,
        serving_operator(
            operator,
            listen=listen,
            token=token,
            questions=key.with_suffix(".questions.db"),
            settings=questions or QuestionSettings(),
            clock=clock,
            random=random_,
            open_to_all=settings.dev,
        ) as private,
        AsyncExitStack() as stack,
    ):
        url = await stack.enter_async_context(_rest(settings, private)) if rest else ""
        yield Node(operator.address, url)


@asynccontextmanager
async def _rest(settings: NetworkSettings, upstream: str) -> AsyncGenerator[str]:
    envoy = EnvoySettings(
        host=settings.host,
        port=settings.port,
        upstream=upstream.removeprefix("unix:"),
        hosts=own_names(settings.host) if settings.dev else (),
        drain_seconds=settings.grace,
    )
    try:
        async with running_envoy(envoy) as port:
            yield f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
    except EnvoyError as error:
        raise StartError(str(error)) from error


def sources(settings: NetworkSettings) -> dict[str, Source]:
    """Return the models that the settings name, adapters among them. Raises InvalidField for GPU settings that cannot be."""
    gpu = Gpu(settings.gpu_layers, settings.main_gpu, settings.split_mode, settings.tensor_split)
    shelf = Shelf(slots=settings.slots, context=settings.context, threads=settings.threads, gpu=gpu)
    paths = {one.name: one.path for one in settings.models}
    plain: dict[str, Source] = {
        one.name: ImageSource(one.name, one.path) if one.images else shelf.source(one.name, one.path) for one in settings.models
    }
    return plain | {one.name: shelf.source(one.name, paths[one.base], Lora(one.path, one.scale)) for one in settings.adapters}
