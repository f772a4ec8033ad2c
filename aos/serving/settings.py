"""What each service alone in its process can be told. Pure.

A service is served as gRPC at `listen`. What is called is given as gRPC addresses: `host:port`, `unix:/path`, or several with
commas between them, all of one kind; calls are spread over those, and over all addresses that one name stands for.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aos.addresses import LOOPBACK, Network
from aos.broker.settings import BrokerSettings
from aos.dispatcher.settings import DispatcherSettings
from aos.offered import AdapterFile, ModelFile
from aos.operator.settings import QuestionSettings
from aos.registry.settings import RegistrySettings
from aos.serving.chain_settings import BrokerChain
from aos.serving.reading import SECRET, SECRET_URL
from aos.serving.targets import target
from aos.settings import SIMULATED, NetworkSettings, bundled_models
from gateway.envoy.settings import EnvoySettings

TOKEN_CHARS: Final = 16
"""Shortest token that settings may give: a short one is guessed."""
MOST_TOKEN_CHARS: Final = 512
LONGEST_GRACE: Final = 3600.0
"""Seconds."""
LISTENING: Final = 8
"""Most addresses that one process listens on."""
PORTS: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every service but the operator can be told. Raises ValueError, naming the setting, for a value that cannot be."""

    listen: tuple[str, ...] = ("127.0.0.1:0",)
    """Where it serves gRPC: `host:port`, port 0 being a free one, or `unix:/path`. Beyond this machine only in a network of your
    own: there is no TLS between the services."""
    admin_token: str = field(repr=False, metadata=SECRET)
    """Whoever sends it is the administrator; 16 to 512 characters, the same for all services."""
    service_token: str = field(repr=False, metadata=SECRET)
    """Whoever sends it is a service of this network; 16 to 512 characters, the same for all services, not the administrator's."""
    metrics: str = ""
    """Address, `host:port`, where Prometheus gets this process's metrics over HTTP, without a token; empty: nowhere."""
    grace: float = 10.0
    """Seconds that running calls and jobs get to end at SIGTERM."""
    notice: float = 5.0
    """Seconds between saying that it leaves (`NOT_SERVING`) and refusing calls, for whoever balances over several to hear of it."""

    def __post_init__(self) -> None:
        check_listen(self.listen)
        if self.metrics:
            check_listen((self.metrics,), "metrics")
        for name in ("admin_token", "service_token"):
            check_token(name, getattr(self, name))
        if self.admin_token == self.service_token:
            raise ValueError("service_token: must not be the admin_token")
        check_seconds("grace", self.grace)
        check_seconds("notice", self.notice)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherProcess(Common):
    """A dispatcher alone in its process."""

    database: str = field(repr=False, metadata=SECRET_URL)
    """Where its jobs are: the path of an SQLite file, which no other process may have open, or a `postgresql://` URL."""
    registry: str
    """Address of the registry."""
    broker: str
    """Address of the broker."""
    blobs: Path
    """Folder for pictures' files; one that all dispatchers of the network share."""
    modules: Path
    """Folder for controllers' modules; one that all dispatchers of the network share."""
    tee_policy: Path | None = None
    """JSON file that says which evidence of trusted execution is taken; without it none is."""
    limits: DispatcherSettings = field(default_factory=DispatcherSettings)
    """Its limits and times. Each dispatcher of a network needs a `node` of its own."""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        check_database(self.database)
        check_called("registry", self.registry)
        check_called("broker", self.broker)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryProcess(Common):
    """A registry alone in its process."""

    database: str = field(repr=False, metadata=SECRET_URL)
    """Where registrations are: as the dispatcher's, and another file if it is one."""
    dispatchers: str
    """Address of the dispatchers: they know the projects' tokens."""
    tee_policy: Path | None = None
    """JSON file that says which evidence of trusted execution is taken; without it none is."""
    limits: RegistrySettings = field(default_factory=RegistrySettings)
    """Its limits and times."""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        check_database(self.database)
        check_called("dispatchers", self.dispatchers)
        if self.limits.unsigned:
            raise ValueError("unsigned: is for a network on one machine only; see `aos up --dev`")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerProcess(Common):
    """A broker alone in its process."""

    database: str = field(repr=False, metadata=SECRET_URL)
    """Where accounts are: as the dispatcher's, and another file if it is one."""
    dispatchers: str
    """Address of the dispatchers: they know the projects' tokens."""
    chain: BrokerChain = field(default_factory=BrokerChain)
    """The chain that receipts are settled on, if there is one."""
    limits: BrokerSettings = field(default_factory=BrokerSettings)
    """Its limits and times."""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        check_database(self.database)
        check_called("dispatchers", self.dispatchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess(Common):
    """The REST dialects alone in their process; Envoy stands in front."""

    dispatchers: str
    """Address of the dispatchers."""
    registry: str
    """Address of the registry."""
    broker: str
    """Address of the broker."""
    answers_key: Path
    """File of the key that signs answers to wallets; the same for all gateways. Made if it is not there."""
    operators: tuple[str, ...] = ()
    """Addresses of operators that are asked for their metrics, with the scraper's own token."""
    picture_networks: tuple[Network, ...] = ()
    """Networks besides the public ones that pictures may be got from."""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        for name in ("dispatchers", "registry", "broker"):
            check_called(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorProcess:
    """An operator alone in its process, attached to a network. Raises ValueError, naming the setting."""

    connect: str
    """Address of the network: of Envoy, or of anything else behind which both its registry and its dispatchers are. Of several,
    with commas between them, it uses one, and the next once that is gone."""
    key: Path
    """Key file; made if it is not there. Its questions and modules are kept beside it."""
    listen: str = "127.0.0.1:0"
    """Where its own service is: `host:port` or `unix:/path`."""
    token: str = field(default="", repr=False, metadata=SECRET)
    """Whoever sends it may call this operator directly; empty: nobody may. 16 to 512 characters."""
    models: tuple[str, ...] = ()
    """GGUF files, and ONNX files of image models, as `[NAME=]PATH`; without any, the bundled models."""
    adapters: tuple[str, ...] = ()
    """LoRA files over them, as `NAME=BASE:PATH[:SCALE]`."""
    memory: int = 0
    """MiB that the models may take; 0: three quarters of what is available."""
    gpu_layers: int = 0
    """Layers of each model that go to the GPU; -1: all."""
    main_gpu: int = 0
    """Which GPU is used where only one is."""
    split_mode: str = "layer"
    """How a model is spread over several: `none`, `layer` or `row`."""
    tensor_split: tuple[float, ...] = ()
    """Each GPU's share, as proportions; empty: by their memory."""
    slots: int = 8
    """Requests that are decoded at once."""
    threads: int = 0
    """CPU threads; 0: one for a small model, else one per core but one."""
    context: int = 0
    """Most tokens of prompt and answer together; 0: the model's own, at most 8192."""
    prompt_price: int = 1_000_000_000
    """Neurons for a token of input."""
    completion_price: int = 2_000_000_000
    """Neurons for a token of answer."""
    api_networks: tuple[Network, ...] = LOOPBACK
    """Networks that the URLs of registered model servers may lead to."""
    host_for: tuple[str, ...] = ()
    """Addresses of keys, besides its own, whose registered model servers it hosts."""
    tee: str = ""
    """The TEE that it runs in: `intel_tdx`, `intel_sgx` or `aws_nitro`; empty: none."""
    tee_command: str = ""
    """What prints evidence for a statement there."""
    grace: float = 10.0
    """Seconds that running jobs get to end at SIGTERM; then they are given back."""
    questions: QuestionSettings = field(default_factory=QuestionSettings)
    """Limits of questions to this operator."""

    def __post_init__(self) -> None:
        check_listen(self.networks, "connect")
        check_listen((self.listen,))
        check_seconds("grace", self.grace)
        if self.token:
            check_token("token", self.token)
        if self.tee == SIMULATED:
            raise ValueError("tee: simulated evidence proves nothing; see `aos up --dev`")
        self.network()

    @property
    def networks(self) -> tuple[str, ...]:
        """The addresses of ``connect``."""
        return tuple(one.strip() for one in self.connect.split(","))

    def network(self) -> NetworkSettings:
        """Return the same as the settings of a network, of which an operator reads its part. Raises ValueError."""
        models = tuple(map(ModelFile.read, self.models)) or bundled_models()
        names = [one.name for one in models if not one.images]
        return NetworkSettings(
            models=models,
            adapters=tuple(AdapterFile.read(text, names) for text in self.adapters),
            memory=self.memory,
            gpu_layers=self.gpu_layers,
            main_gpu=self.main_gpu,
            split_mode=self.split_mode,
            tensor_split=self.tensor_split,
            slots=self.slots,
            threads=self.threads,
            context=self.context,
            prompt_price=self.prompt_price,
            completion_price=self.completion_price,
            api_networks=self.api_networks,
            host_for=self.host_for,
            tee=self.tee,
            tee_command=tuple(shlex.split(self.tee_command)),
            grace=self.grace,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyProcess(EnvoySettings):
    """Envoy, the network's one port, in front of its services. Raises ValueError, naming the setting."""

    host: str = "127.0.0.1"
    """Address to listen on: an IP address or `localhost`."""
    port: int = 8080
    """Port to listen on; 0 takes a free one."""
    retries: int = 2
    """How often a call is sent again that no server has begun, or that the protos let be done twice. Streams are not sent again
    once they have begun."""
    notice_seconds: float = 5.0
    """How long `/healthz` says that it leaves, and replies ask clients to connect anew, before it refuses connections."""
    drain_seconds: float = 60.0
    """How long running calls get to end when it stops; streams that take longer are cut."""


PROCESSES: Final[dict[str, type]] = {
    "dispatcher": DispatcherProcess,
    "registry": RegistryProcess,
    "broker": BrokerProcess,
    "gateway": GatewayProcess,
    "operator": OperatorProcess,
    "envoy": EnvoyProcess,
}
"""The settings of each service, by its name."""


def check_listen(addresses: tuple[str, ...], name: str = "listen") -> None:
    """Raise ValueError for an address that nothing can listen on, or for none."""
    if not 1 <= len(addresses) <= LISTENING:
        raise ValueError(f"{name}: must be 1 to {LISTENING} addresses, not {len(addresses)}")
    for one in addresses:
        host, colon, port = one.rpartition(":")
        if one.startswith("unix:"):
            continue
        if not host or not colon or not port.isdecimal() or int(port) > PORTS:
            raise ValueError(f"{name}: must be host:port, with a port up to {PORTS}, or unix:/path, not {one!r}")


def check_called(name: str, address: str) -> None:
    """Raise ValueError for an address that cannot be called."""
    if not address:
        raise ValueError(f"{name}: must be the address of a service")
    parts = tuple(part.strip() for part in address.split(","))
    check_listen(parts, name)
    try:
        target(address)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def check_database(database: str) -> None:
    """Raise ValueError for a URL of a database that there is no driver for. Its password is not repeated."""
    scheme = urlsplit(database).scheme if "://" in database else ""
    if not database:
        raise ValueError("database: must be a path or a postgresql:// URL")
    if scheme not in ("", "postgresql", "postgres"):
        raise ValueError(f"database: must be a path or a postgresql:// URL, not a {scheme}:// one")


def check_token(name: str, token: str) -> None:
    """Raise ValueError, which does not repeat it, for a token that is too short or cannot be sent."""
    if not TOKEN_CHARS <= len(token) <= MOST_TOKEN_CHARS:
        raise ValueError(f"{name}: must have {TOKEN_CHARS} to {MOST_TOKEN_CHARS} characters, not {len(token)}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{name}: must be printable ASCII without spaces")


def check_seconds(name: str, value: float) -> None:
    """Raise ValueError for a time that nobody would wait for."""
    if not 0 <= value <= LONGEST_GRACE:
        raise ValueError(f"{name}: must be from 0 to {LONGEST_GRACE:g}, not {value:g}")
