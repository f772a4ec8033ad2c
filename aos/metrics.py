"""What a process counts, and how Prometheus is told: the one place that knows its client library."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "CollectorRegistry", "Counter", "Gauge", "Histogram", "Watched", "exposition", "serving_metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Prometheus' text format, which every scraper reads."""

Series = Iterable[tuple[Sequence[str], float]]
"""Values by their labels."""


class Watched(Collector):
    """A gauge whose series come and go: they are read whenever somebody asks."""

    def __init__(
        self, name: str, what: str, labels: Sequence[str], read: Callable[[], Series], *, registry: CollectorRegistry
    ) -> None:
        """``read`` gives them, on the caller's thread."""
        self._name, self._what, self._labels, self._read = name, what, labels, read
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return its name and labels without asking for the series."""
        return [GaugeMetricFamily(self._name, self._what, labels=self._labels)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return its series as they stand."""
        family = GaugeMetricFamily(self._name, self._what, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        return [family]


def exposition(registry: CollectorRegistry) -> HttpBody:
    """Return all that is counted in the registry, as it stands."""
    return HttpBody(content_type=CONTENT_TYPE, data=generate_latest(registry))


@contextmanager
def serving_metrics(registry: CollectorRegistry, address: str) -> Generator[int]:
    """Give Prometheus the registry over HTTP at ``host:port`` until the block ends; gives the port. Nowhere if it is empty.

    Served by a thread of its own. Raises OSError if the address cannot be listened on.
    """
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    server, thread = start_http_server(int(port), host.strip("[]"), registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
