"""What a dispatcher counts: jobs by what became of them, who waits, who is attached and how well that works.

docs/reference/metrics.md lists it.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aos.dispatcher import health
from aos.dispatcher.canaries import Ending
from aos.dispatcher.door import Refused
from aos.dispatcher.health import Opening
from aos.dispatcher.jobs import State
from aos.dispatcher.outcomes import Known
from aos.metrics import CollectorRegistry, Counter, Gauge, Series, Watched

COUNTED: Final = (State.QUEUED, *(state for state in State if state.final))
"""States that a job enters once and for all. QUEUED counts acceptance, however often the job comes back to it."""
SHOWN: Final = 512
"""Most operators' models that have a series of their own, those that work worst first: there is no end to who may attach."""


class DispatcherMetrics:
    """The counts of one dispatcher since its start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._jobs = Counter(
            "aos_jobs", "Jobs accepted (queued), and ended, by state, since the start.", ["state"], registry=registry
        )
        self._queue = Gauge("aos_queue_jobs", "Jobs that wait for an operator now.", registry=registry)
        self._attached = Gauge("aos_operators_attached", "Operators with an open stream now.", registry=registry)
        self._canaries = Counter("aos_canaries", "Canaries that ended, by what they came to.", ["outcome"], registry=registry)
        self._openings = Counter(
            "aos_breaker_openings", "How often an operator's model became OPEN, by why.", ["cause"], registry=registry
        )
        self._refused = Counter(
            "aos_refused_jobs", "Requests for jobs that found no place, by what was full.", ["queue"], registry=registry
        )
        for queue in Refused:
            self._refused.labels(queue)
        # made now, so that a rate can be taken from the first one on
        self._entered = {state: self._jobs.labels(state.name.lower()) for state in COUNTED}
        for outcome in Ending:
            self._canaries.labels(outcome)
        for cause in Opening:
            self._openings.labels(cause)

    def watch(self, *, queued: Callable[[], int], attached: Callable[[], int], known: Callable[[], Sequence[Known]]) -> None:
        """Ask these whenever somebody asks for the metrics."""
        self._queue.set_function(queued)
        self._attached.set_function(attached)
        Watched(
            "aos_operator_models",
            "Models of attached operators, by health.",
            ["state"],
            lambda: _counted(known()),
            registry=self._registry,
        )
        Watched(
            "aos_operator_model_health",
            "Health of an attached operator's model: 1 healthy, 2 suspect, 3 open.",
            ["model_name", "operator"],
            lambda: _each(known()),
            registry=self._registry,
        )

    def entered(self, state: State) -> None:
        """Count a job that entered one of ``COUNTED``, after that is durable."""
        self._entered[state].inc()

    def refused(self, queue: Refused) -> None:
        """Count a request for a job that was refused."""
        self._refused.labels(queue).inc()

    def canary(self, outcome: Ending) -> None:
        """Count a canary that ended."""
        self._canaries.labels(outcome).inc()

    def opened(self, cause: Opening) -> None:
        """Count an operator's model that became OPEN."""
        self._openings.labels(cause).inc()


def _attached(known: Iterable[Known]) -> list[tuple[health.State, str, str]]:
    """Return state, model and operator of those that are attached, as ListHealth shows them."""
    found: list[tuple[health.State, str, str]] = []
    for key, _, candidate in known:
        if candidate is not None:
            state = health.State.SUSPECT if candidate.suspect else health.State.HEALTHY
            found.append((health.State.OPEN if candidate.open else state, key.model, key.operator))
    return found


def _counted(known: Iterable[Known]) -> Series:
    tally = Tally(state for state, _, _ in _attached(known))
    return [((state.name.lower(),), tally[state]) for state in health.State]


def _each(known: Iterable[Known]) -> Series:
    worst = sorted(_attached(known), key=lambda one: (-one[0], one[1], one[2]))
    return [((model, operator), int(state)) for state, model, operator in worst[:SHOWN]]
