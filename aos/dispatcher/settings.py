"""What can be set about a dispatcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aos.dispatcher.controller_settings import ControllerSettings
from aos.dispatcher.risk import RiskSettings
from aos.verification.attestation.policy import Policy
from aos.verification.vrf import Suite

MAY_BE_0: Final = ("canary_open_seconds", "canary_idle_seconds", "unroutable_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherSettings:
    """Limits and times of one dispatcher. Times are in seconds. Raises ValueError for a value that cannot work."""

    node: str = "1"
    """Its id in vector clocks, and among the dispatchers of its database: each has another."""
    node_seconds: float = 2.0
    """How often it says to the other dispatchers of its database that it is there."""
    node_missed: int = 5
    """After so many silent intervals the others take over what it had."""
    look_seconds: float = 5.0
    """How often to look in the database for what other dispatchers did and was not heard of."""
    pass_seconds: float = 15.0
    """How long a check waits for a dispatcher with operators that can do it, before it is concluded without."""
    identity: str = "dispatchers/1"
    """What operators sign when they attach, so that their answer is of no use with another dispatcher."""
    heartbeat_seconds: float = 5.0
    """How often an operator must say that it is there."""
    missed_heartbeats: int = 3
    """After so many silent intervals an operator has lost its leases."""
    handshake_seconds: float = 10.0
    """How long an operator may take to answer the challenge."""
    job_seconds: float = 600.0
    """How long after its creation a job may take, waiting included, if its caller does not say; then it is EXPIRED."""
    longest_job_seconds: float = 86_400.0
    """The most that a caller may say."""
    unroutable_seconds: float = 60.0
    """How long a job waits, at least, while no operator can be used that could run it, unless its caller said how long it may take;
    then it has FAILED. Two looks at one that is OPEN. 0: until its deadline."""
    max_attempts: int = 5
    """After so many operators were lost or failed, the job has FAILED."""
    project_weight: int = 100
    """What a project's jobs weigh when projects share what operators do, unless it has a weight of its own."""
    project_jobs: int = 1000
    """Most jobs of one project that have not ended."""
    queue_jobs: int = 10_000
    """Most jobs of all projects together that have not ended. A project that has none may have one beyond it; 1000 projects may."""
    store_queue: int = 4096
    """Transactions that may wait for the store; with so many, requests for jobs are refused until there are fewer."""
    late_seconds: float = 0.5
    """How late the dispatcher may be with all it does for half a second on end; beyond that, requests for jobs are refused."""
    project_requests: int = 60_000
    """Requests for jobs that one project may make in a minute, retries included; so many may come at once."""
    project_tokens: int = 1_000_000_000
    """Tokens of prompts and answers that one project may use in a day of UTC. What a job may take at most counts until it ends."""
    retention_seconds: float = 2_592_000.0
    """How long an ended job is kept, with its prompt, answer and receipt."""
    kept_jobs: int = 100_000
    """Most ended jobs of one project that are kept; the oldest go first."""
    purge_seconds: float = 60.0
    """How often to look for jobs that have been kept long enough."""
    operator_leases: int = 256
    """Most leases that one operator gets for one model, whatever it offers."""
    rpc_seconds: float = 5.0
    """How long the registry or the broker may take to answer."""
    sweep_seconds: float = 1.0
    """How often to look for silent operators and jobs out of time."""
    reconcile_seconds: float = 5.0
    """How often to try again what the broker has not confirmed."""

    epoch_seconds: float = 60.0
    """How long an epoch is: an operator's VRF key counts for jobs from the epoch after that of its registration."""
    vrf_suite: Suite = Suite.RFC9381
    """By which ECVRF operators are drawn; the draft's is for networks that use it."""
    draw_seconds: float = 5.0
    """How long operators may take to say what their VRF says about a job."""
    review_seconds: float = 600.0
    """How long an operator may take to check a job, waiting for a place included."""
    checks: int = 64
    """Most jobs that are checked at once."""
    canary_open_seconds: float = 30.0
    """How often an operator's model is looked at that failed lately; 0: never, and failures keep no jobs from it."""
    canary_idle_seconds: float = 300.0
    """How often one is looked at that works and has no jobs; 0: never."""
    canary_seconds: float = 60.0
    """How long a canary may take, loading the model included. One that works again need not be waited for so long: the next is sent
    after ``canary_open_seconds`` all the same."""
    risk: RiskSettings = field(default_factory=RiskSettings)
    """How many operators check a job, by its tag and position."""
    controllers: ControllerSettings = field(default_factory=ControllerSettings)
    """How many controllers projects may keep."""
    tee: Policy = field(default_factory=Policy)
    """Which evidence of trusted execution counts; by default none is taken."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, RiskSettings | Suite | Policy | ControllerSettings):
                continue
            if isinstance(value, str) and not value:
                raise ValueError(f"dispatcher setting {name} must not be empty")
            if name == "node" and "/" in self.node:
                raise ValueError(f"dispatcher setting node must have no slash, and is {self.node!r}")
            if name in MAY_BE_0 and value == 0:
                continue
            if not isinstance(value, str) and not value > 0:
                raise ValueError(f"dispatcher setting {name} must be above 0, not {value}")
