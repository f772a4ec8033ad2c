"""What a dispatcher counts: jobs by what became of them, who waits, who is attached; docs/reference/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aos.dispatcher.jobs import State
from aos.metrics import CollectorRegistry, Counter, Gauge

COUNTED: Final = (State.QUEUED, *(state for state in State if state.final))
"""States that a job enters once and for all. QUEUED counts acceptance, however often the job comes back to it."""


class DispatcherMetrics:
    """The counts of one dispatcher since its start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "aos_jobs", "Jobs accepted (queued), and ended, by state, since the start.", ["state"], registry=registry
        )
        self._queue = Gauge("aos_queue_jobs", "Jobs that wait for an operator now.", registry=registry)
        self._attached = Gauge("aos_operators_attached", "Operators with an open stream now.", registry=registry)
        for state in COUNTED:  # so that a rate can be taken from the first one on
            self._jobs.labels(state.name.lower())

    def watch(self, *, queued: Callable[[], int], attached: Callable[[], int]) -> None:
        """Ask these two whenever somebody asks for the metrics."""
        self._queue.set_function(queued)
        self._attached.set_function(attached)

    def entered(self, state: State) -> None:
        """Count a job that entered one of ``COUNTED``, after that is durable."""
        self._jobs.labels(state.name.lower()).inc()
