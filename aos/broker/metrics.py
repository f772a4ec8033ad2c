"""What a broker counts; docs/reference/metrics.md lists it."""

from __future__ import annotations

from aos.metrics import CollectorRegistry, Gauge


class BrokerMetrics:
    """What the last comparison of the books with the journal found. -1: there was none since the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._broken = Gauge(
            "aos_ledger_invariants_broken", "Invariants of the books that the last check found broken.", registry=registry
        )
        self._lines = Gauge("aos_ledger_lines", "Lines of the journal that the last check added up.", registry=registry)
        self._broken.set(-1)
        self._lines.set(-1)

    def checked(self, *, broken: int, lines: int) -> None:
        """Keep what a check found."""
        self._broken.set(broken)
        self._lines.set(lines)
