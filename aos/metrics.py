"""What a process counts, and how Prometheus is told: the one place that knows its client library."""

from __future__ import annotations

from typing import Final

from google.api.httpbody_pb2 import HttpBody
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

__all__ = ["CONTENT_TYPE", "CollectorRegistry", "Counter", "Gauge", "Histogram", "exposition"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Prometheus' text format, which every scraper reads."""


def exposition(registry: CollectorRegistry) -> HttpBody:
    """Return all that is counted in the registry, as it stands."""
    return HttpBody(content_type=CONTENT_TYPE, data=generate_latest(registry))
