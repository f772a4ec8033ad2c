"""What a network on one machine can be told: read once at the edge, checked once, passed in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from aos.addresses import LOOPBACK, Network
from aos.offered import AdapterFile, ModelFile, check_offered
from aos.v1.types_pb2 import Price

DEFAULT_PORT: Final = 8080
DEFAULT_DATA: Final = Path("~/.aos")
PORTS: Final = 65_535
SLOTS: Final = 256
MEMORY: Final = 1 << 30
"""Largest budget, in MiB."""
LAYERS: Final = 10_000
GPUS: Final = 64
SPLIT_MODES: Final = ("none", "layer", "row")
VRF_SUITES: Final = ("rfc9381", "draft04")
"""The ECVRFs that a network can draw with; docs/reference/sampling.md."""
SIMULATED: Final = "simulated"
"""The TEE for development: what it signs proves nothing."""
TEES: Final = ("intel_tdx", "intel_sgx", "aws_nitro", SIMULATED)
CONFIRMATIONS: Final = 1000
ADDRESS: Final = re.compile("0x[0-9A-Fa-f]{40}")
"""A key's address."""
NEURONS: Final = 10**18
"""Neurons in one coin."""


class StartError(Exception):
    """A network cannot start; the message says why and what to do."""


def bundled_model() -> Path:
    """Return the demo model that comes with the package."""
    return Path(str(files("aos") / "models" / "aos-demo.gguf"))


def bundled() -> ModelFile:
    """Return the demo model, and the name under which it is offered."""
    return ModelFile(bundled_model().stem, bundled_model())


def bundled_pictures() -> Path:
    """Return the image model that comes with the package, if this one has it."""
    return Path(str(files("aos") / "models" / "aos-pictures.onnx"))


def bundled_models() -> tuple[ModelFile, ...]:
    """Return the models that come with the package: the demo model, and the image model if it is there."""
    pictures = ModelFile(bundled_pictures().stem, bundled_pictures())
    return (bundled(), pictures) if pictures.path.is_file() else (bundled(),)


def bundled_controllers() -> Path:
    """Return the folder of the controllers that come with the package, which need not be there."""
    return Path(str(files("aos") / "controllers"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """A whole network on this machine. Raises ValueError, naming the setting, for a value that cannot be."""

    data: Path = DEFAULT_DATA
    """Folder for the database, keys, credentials and logs; made if it is not there."""
    host: str = "127.0.0.1"
    """Address that Envoy listens on."""
    port: int = DEFAULT_PORT
    """Port that Envoy listens on; 0 takes a free one."""
    models: tuple[ModelFile, ...] = field(default_factory=bundled_models)
    """What the operators run; the first is the one that is loaded for as long as nothing else needs its memory."""
    adapters: tuple[AdapterFile, ...] = ()
    """LoRA adapters over them, each a model of its own."""
    memory: int = 0
    """MiB that the models of one operator may take; 0: three quarters of what is available, shared by all operators."""
    gpu_layers: int = 0
    """Layers of each model that go to the GPU; -1: all. Needs a llama.cpp that is built for one."""
    main_gpu: int = 0
    """Which GPU is used where only one is."""
    split_mode: str = "layer"
    """How a model is spread over several: `none`, `layer` or `row`."""
    tensor_split: tuple[float, ...] = ()
    """Each GPU's share, as proportions; empty: by their memory."""
    operators: int = 1
    """Operator processes, each with its own key."""
    slots: int = 8
    """Requests that one operator decodes at once."""
    threads: int = 0
    """CPU threads of one operator; 0: one for a small model, else one per core but one."""
    context: int = 0
    """Most tokens of prompt and answer together; 0: the model's own, at most 8192."""
    prompt_price: int = 1_000_000_000
    """Neurons for a token of input."""
    completion_price: int = 2_000_000_000
    """Neurons for a token of answer."""
    project: str = "demo"
    """Project that is made at the first start."""
    welcome: int = NEURONS
    """Neurons that the project finds on its account."""
    api_networks: tuple[Network, ...] = LOOPBACK
    """Networks that the URLs of registered model servers may lead to: this machine, unless exceptions are named."""
    host_for: tuple[str, ...] = ()
    """Addresses of keys, besides the operators' own, whose model servers the operators host."""
    dev: bool = False
    """Callers without a token act as the project. Only on a loopback address."""
    tee: str = ""
    """The TEE that the operators run in: `intel_tdx`, `intel_sgx`, `aws_nitro`, or, in dev mode, `simulated`; empty: none."""
    tee_command: tuple[str, ...] = ()
    """What prints evidence for a statement, in a real one; docs/reference/attestation.md."""
    tee_policy: Path | None = None
    """JSON file that says which evidence is taken; without it none is, but, in dev mode, that of `simulated` operators."""
    grace: float = 10.0
    """Seconds that running jobs get to end at shutdown; then they are given back and go on at the next start."""

    vrf_suite: str = VRF_SUITES[0]
    """By which ECVRF operators are drawn to check jobs: `rfc9381`, or `draft04` for networks that use it."""

    chain: bool = False
    """Receipts are settled on a chain: anvil, with its state in the data folder, unless ``chain_rpc`` names a node."""
    chain_rpc: str = ""
    """URL of a node whose chain is used."""
    chain_contracts: str = ""
    """Contracts that are there already: the ledger's address, or a file that names them; empty: those that were deployed before."""
    chain_deploy: bool = False
    """Contracts are deployed on the node's chain, once a data folder and chain. On the development chain they always are."""
    chain_payers: tuple[tuple[str, str], ...] = ()
    """Projects, and the wallets that pay for them on the chain."""
    chain_confirmations: int = 0
    """Blocks that must be on top of a transaction's own before it counts."""

    def __post_init__(self) -> None:
        _within("port", self.port, 0, PORTS)
        _within("operators", self.operators, 1, 64)
        _within("slots", self.slots, 1, SLOTS)
        _within("threads", self.threads, 0, 1024)
        _within("context", self.context, 0, 1 << 24)
        _within("prompt-price", self.prompt_price, 0, NEURONS)
        _within("completion-price", self.completion_price, 0, NEURONS)
        _within("memory", self.memory, 0, MEMORY)
        _within("gpu-layers", self.gpu_layers, -1, LAYERS)
        _within("main-gpu", self.main_gpu, 0, GPUS - 1)
        if self.vrf_suite not in VRF_SUITES:
            raise ValueError(f"vrf-suite: must be one of {', '.join(VRF_SUITES)}, not {self.vrf_suite!r}")
        if self.split_mode not in SPLIT_MODES:
            raise ValueError(f"split-mode: must be one of {', '.join(SPLIT_MODES)}, not {self.split_mode!r}")
        if len(self.tensor_split) > GPUS or not all(0 <= share < math.inf for share in self.tensor_split):
            raise ValueError(f"tensor-split: must have at most {GPUS} numbers from 0 on")
        check_offered(self.models, self.adapters)
        for address in self.host_for:
            if not ADDRESS.fullmatch(address):
                raise ValueError(f"host-for: must be 0x and 40 hex digits, not {address!r}")
        if not self.api_networks:
            raise ValueError("allow-api: must name at least one network")
        if self.dev and not is_loopback(self.host):
            raise ValueError(f"dev: lets everyone in without a token, so host must be a loopback address, not {self.host!r}")
        self._check_tee()
        self._check_chain()

    def _check_chain(self) -> None:
        _within("chain-confirmations", self.chain_confirmations, 0, CONFIRMATIONS)
        if not self.chain and (self.chain_payers or self.chain_rpc or self.chain_confirmations):
            raise ValueError("chain-payer, chain-confirmations: go with chain or chain-rpc")
        if not self.chain_rpc and (self.chain_contracts or self.chain_deploy):
            raise ValueError("chain-contracts, chain-deploy: go with chain-rpc")
        if self.chain_contracts and self.chain_deploy:
            raise ValueError("chain-contracts: are there already, so that there is nothing to deploy")
        if self.chain_rpc and not self.chain_rpc.startswith(("http://", "https://")):
            raise ValueError("chain-rpc: must be an http or https URL")
        for project, wallet in self.chain_payers:
            if not ADDRESS.fullmatch(wallet):
                raise ValueError(f"chain-payer: {project} needs a wallet, 0x and 40 hex digits, not {wallet!r}")

    def _check_tee(self) -> None:
        if self.tee not in ("", *TEES):
            raise ValueError(f"tee: must be one of {', '.join(TEES)}, not {self.tee!r}")
        if self.tee == SIMULATED and not self.dev:
            raise ValueError("tee: simulated evidence proves nothing, so it needs dev, on a loopback address")
        if bool(self.tee_command) != (self.tee not in ("", SIMULATED)):
            raise ValueError("tee-command: goes with a tee that is real, and only with it")

    @property
    def price(self) -> Price:
        """What the operators charge."""
        return Price(prompt_token=str(self.prompt_price), completion_token=str(self.completion_price))

    @property
    def model_name(self) -> str:
        """What callers know the first model as."""
        return self.models[0].name


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(address: str) -> bool:
    """Say whether `host:port` or `unix:path` is on this machine and reached from nowhere else."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0].strip("[]"))


def own_names(host: str) -> tuple[str, ...]:
    """Return the names by which callers of this machine call a server that listens on a loopback address."""
    own = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "[::1]", own)))


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: must be from {least} to {most}, not {value}")
