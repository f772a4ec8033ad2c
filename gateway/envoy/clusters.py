"""Envoy's clusters: where each service is, which of its servers are well, and how much one may be sent. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

from gateway.envoy.settings import EnvoySettings, Place, places

PROTOCOL: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECTION_WINDOW: Final = (1 << 31) - 1
"""Bytes: the most that HTTP/2 has. What readers leave unread counts for the connection that all streams share, so a smaller one
would let some hundred slow readers stop everybody."""
LEAST_HEALTHY: Final = 50
"""Per cent of a cluster's servers that stay in use however many fail calls: what all of them do is not the fault of one."""

LATE_SECONDS: Final = 2.0
"""How late a server may say that it is well, where there are others to take its calls."""
LATE_ALONE_SECONDS: Final = 10.0
"""The same of one that is alone: thousands of streams make it late, and to refuse all calls would help nobody. One that is gone
refuses connections, and is not waited for."""


def clusters(settings: EnvoySettings) -> list[dict[str, Any]]:
    """Return a cluster for each place where services are."""
    return [_cluster(name, places(address), settings) for name, address in settings.clusters.items()]


def _cluster(name: str, where: tuple[Place, ...], settings: EnvoySettings) -> dict[str, Any]:
    limits = {
        "max_requests": settings.streams,
        "max_pending_requests": settings.streams,
        # what is sent again is no more than a part of what is sent anyway, lest a failing server is buried under retries
        "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 10},
    }
    named = any(not place.path and not _is_ip(place.host) for place in where)
    cluster: dict[str, Any] = {
        "name": name,
        # a name stands for all its addresses, and is asked again and again
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": "1s",
        # a server with fewer calls running gets the next one: streams last for very different times
        "lb_policy": "LEAST_REQUEST",
        # a reader that does not read stops its own stream at so many bytes
        "per_connection_buffer_limit_bytes": settings.buffer_bytes,
        "typed_extension_protocol_options": {
            PROTOCOL: {
                "@type": f"type.googleapis.com/{PROTOCOL}",
                # gRPC is HTTP/2
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": settings.streams,
                        "initial_stream_window_size": settings.buffer_bytes,
                        "initial_connection_window_size": CONNECTION_WINDOW,
                        # a machine that is gone without a word is noticed, and its streams end
                        "connection_keepalive": {"interval": "20s", "timeout": "10s"},
                    }
                },
            }
        },
        # Envoy's 1024 would refuse streams that the servers can carry
        "circuit_breakers": {"thresholds": [limits]},
        # a dead server is dead even if it is the only one
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": _seconds(LATE_SECONDS if len(where) > 1 or named else LATE_ALONE_SECONDS),
                "interval": _seconds(settings.health_seconds),
                "no_traffic_interval": _seconds(settings.health_seconds),
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(place)}} for place in where]}],
        },
    }
    if named or len(where) > 1:
        cluster["outlier_detection"] = _ejection(settings)
    return cluster


def _ejection(settings: EnvoySettings) -> dict[str, Any]:
    """Leave out a server that loses calls, before its health is asked the next time; one that then is well comes back."""
    return {
        # a server that says UNAVAILABLE for another one's sake is well itself; only what never was answered counts
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": settings.eject_failures,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": _seconds(settings.eject_seconds),
        "max_ejection_percent": LEAST_HEALTHY,
    }


def _address(place: Place) -> dict[str, Any]:
    if place.path:
        return {"pipe": {"path": place.path}}
    return {"socket_address": {"address": place.host, "port_value": place.port}}


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
