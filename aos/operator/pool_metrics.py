"""What an operator counts of models that are loaded and unloaded; docs/reference/metrics.md lists it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aos.metrics import CollectorRegistry, Counter, Histogram
from aos.operator.metrics import LABELS
from aos.operator.pool import Watcher

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class PoolMetrics(Watcher):
    """Counts loads, in a registry that nobody else writes to under these names."""

    def __init__(self, registry: CollectorRegistry, models: Iterable[str], *, operator: str) -> None:
        """Each model's series stand at 0 from now on. ``operator`` is its address."""
        self._operator = operator
        self._loads = Histogram("aos_model_load_seconds", "What loads took.", LABELS, buckets=SECONDS, registry=registry)
        self._failures = Counter("aos_model_load_failures", "Loads that failed.", LABELS, registry=registry)
        self._unloads = Counter("aos_model_unloads", "Models that made room for others.", LABELS, registry=registry)
        for model in models:
            for series in (self._loads, self._failures, self._unloads):
                series.labels(model, operator)

    def loaded(self, model: str, seconds: float) -> None:
        """Count a load."""
        self._loads.labels(model, self._operator).observe(seconds)

    def failed(self, model: str) -> None:
        """Count a load that failed."""
        self._failures.labels(model, self._operator).inc()

    def unloaded(self, model: str) -> None:
        """Count a model that went."""
        self._unloads.labels(model, self._operator).inc()
