"""What an operator counts of the model servers that are registered behind it; docs/reference/metrics.md lists it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aos.metrics import CollectorRegistry, Counter, Series, Watched
from aos.operator.metrics import LABELS
from aos.operator.upstream_group import Group
from aos.operator.upstream_health import Probe, State


class UpstreamMetrics:
    """Counts looks at servers, in a registry that nobody else writes to under these names. Series go with their models."""

    def __init__(self, registry: CollectorRegistry, *, operator: str, groups: Callable[[], Sequence[Group]]) -> None:
        """``operator`` is its address; ``groups`` are the servers of every model that is registered now."""
        self._operator, self._groups = operator, groups
        self._models = set[str]()
        what = "Servers of registered models, by how they are."
        # first, so that what is read after it has no series of models that are gone
        Watched("aos_upstream_servers", what, (*LABELS, "state"), self._servers, registry=registry)
        labels = (*LABELS, "kind", "outcome")
        self._probes = Counter("aos_upstream_probes", "Looks at servers of registered models.", labels, registry=registry)

    def probed(self, model: str, kind: Probe, good: bool) -> None:  # noqa: FBT001  # as Probed
        """Count a look."""
        self._models.add(model)
        self._probes.labels(model, self._operator, kind, "good" if good else "failed").inc()

    def _servers(self) -> Series:
        found: list[tuple[tuple[str, ...], float]] = []
        groups = self._groups()
        for gone in self._models - {group.model for group in groups}:
            self._probes.remove_by_labels({"model_name": gone, "operator": self._operator})
            self._models.discard(gone)
        for group in groups:
            states = [member.prober.health.state for member in group.members]
            found += [((group.model, self._operator, state.value), states.count(state)) for state in State]
        return found
