"""Envoy's routes: which service serves a method, how long it may take, and whether it may be sent again. Pure.

A request is matched twice: by the path that was asked for, and, once transcoded, by `/package.Service/Method`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from aos.rpc.auth import ON_BEHALF
from aos.verification.requests import HEADERS
from gateway.descriptors import Rest, rest, safe, streaming
from gateway.envoy.settings import EnvoySettings
from gateway.http import ORIGIN

ALLOWED: Final = ("authorization", "content-type", "idempotency-key", "x-request-id", "grpc-timeout", "x-grpc-web", "x-user-agent")
"""Headers that pages may send, besides those of signed requests."""
LIMIT: Final = "envoy.filters.http.body_size_limit"
EDIT_LIMIT: Final = f"{LIMIT}.edits"
"""A filter of the same kind, with another limit: one filter has the same on all routes."""
EDITS: Final = "/v1/images/edits"
MODULE_LIMIT: Final = f"{LIMIT}.modules"
MODULES: Final = "(/.+)?/v1/controllers"
"""A regular expression for the paths where modules are sent."""
TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
WITHOUT: Final = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
"""Leaves a filter out on a route."""
WITH: Final = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
"""Puts one in that is left out elsewhere."""
SERVED: Final = {
    "dispatchers": ("/aos.v1.Dispatcher/", "/aos.v1.Blobs/", "/aos.v1.Callbacks/", "/aos.v1.Controllers/"),
    "registry": ("/aos.v1.Registry/",),
    "broker": ("/aos.v1.Broker/", "/aos.v1.Requests/"),
    "operator": ("/aos.v1.Operator/", "/aos.v1.Questions/", "/gateway.v1.Opml/"),
}
"""The services that a cluster of its own may serve; all others are where the dialects are."""
NEVER_BEGUN: Final = "connect-failure,refused-stream,reset-before-request"
"""What a call that no server has seen ends with: it may be sent again whatever it does."""
LOST: Final = f"{NEVER_BEGUN},reset,unavailable"
"""What else a call that may be done twice may end with, to be sent again."""


def routes(settings: EnvoySettings) -> dict[str, Any]:
    """Return the route configuration."""
    again = safe()

    def grpc(match: dict[str, Any], *, timeout: float, cluster: str, twice: bool = False) -> dict[str, Any]:
        route: dict[str, Any] = {
            "cluster": cluster,
            # Envoy's 15 s would cut every answer that takes longer
            "timeout": _seconds(timeout),
            "idle_timeout": _seconds(settings.idle_seconds),
        }
        if settings.retries:
            route["retry_policy"] = _retry(LOST if twice else NEVER_BEGUN, settings)
        return {
            "match": match | {"grpc": {}},
            "route": route,
            # a stream may carry any amount in time; each message has the server's limit
            "typed_per_filter_config": {LIMIT: WITHOUT},
        }

    def served(path: str) -> str:
        found = (name for name, prefixes in SERVED.items() if name in settings.clusters and path.startswith(prefixes))
        return next(found, "aos")

    streams = set(streaming())
    # one by one only those that are not as all others of their cluster
    listed = streams | (again if settings.retries else frozenset())
    routes = [
        grpc({"path": path}, timeout=0 if path in streams else settings.call_seconds, cluster=served(path), twice=path in again)
        for path in sorted(listed)
    ]
    if "operator" in settings.clusters:
        routes.append(grpc({"prefix": "/aos.v1.Operator/"}, timeout=0, cluster="operator"))
    routes += [
        grpc({"prefix": prefix}, timeout=settings.call_seconds, cluster=name)
        for name, prefixes in SERVED.items()
        for prefix in prefixes
        if name in settings.clusters
    ]
    # health can be watched, and reflection is a stream
    routes.append(grpc({"prefix": "/grpc."}, timeout=0, cluster="aos"))
    routes.append(grpc({"prefix": "/"}, timeout=settings.call_seconds, cluster="aos"))
    routes += [_wrong_method(form) for form in rest()]
    edits = {"match": {"path": EDITS}, "route": {"cluster": "aos", "idle_timeout": _seconds(settings.idle_seconds)}}
    routes.append(edits | {"typed_per_filter_config": {LIMIT: WITHOUT, EDIT_LIMIT: WITH}})
    modules = edits | {"match": {"safe_regex": {"regex": MODULES}}}
    routes.append(modules | {"typed_per_filter_config": {LIMIT: WITHOUT, MODULE_LIMIT: WITH}})
    routes.append({"match": {"prefix": "/"}, "route": {"cluster": "aos", "idle_timeout": _seconds(settings.idle_seconds)}})
    host: dict[str, Any] = {"name": "all", "domains": list(settings.hosts) or ["*"], "routes": routes}
    if settings.origins:
        host["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(settings)}
    hosts = [host]
    if settings.hosts:
        routes.insert(0, _strange({"headers": _elsewhere(settings)}, "Pages of other origins may not call this network."))
        said = f"This network is called by {', '.join(settings.hosts)}, and by no other name."
        hosts.append({"name": "strange", "domains": ["*"], "routes": [_strange({}, said)]})
    return {
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": True,
        # links in replies lead where the caller called; a caller's own word on it is replaced
        "request_headers_to_add": [
            {
                "header": {"key": ORIGIN, "value": "%REQ(X-FORWARDED-PROTO)%://%REQ(:AUTHORITY)%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        # a word among services, which nobody outside is to try
        "request_headers_to_remove": [ON_BEHALF],
        # of no use to callers. Never remove grpc-status or grpc-message here: the transcoder needs them
        "response_headers_to_remove": ["grpc-accept-encoding", "x-envoy-upstream-service-time"],
    }


def _retry(on: str, settings: EnvoySettings) -> dict[str, Any]:
    """Send a call again, at once and then ever later, and not to the server that lost it."""
    return {
        "retry_on": on,
        "num_retries": settings.retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.250s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }


def _strange(match: dict[str, Any], said: str) -> dict[str, Any]:
    return {
        "match": {"prefix": "/"} | match,
        "direct_response": {"status": 403, "body": {"inline_string": said}},
        "typed_per_filter_config": {TRANSCODER: WITHOUT},
    }


def _elsewhere(settings: EnvoySettings) -> list[dict[str, Any]]:
    """Match calls that a browser makes for a page of an origin that is neither ours nor let in."""
    own = "|".join(map(re.escape, settings.hosts))
    known = "|".join([f"https?://({own})(:[0-9]+)?", *map(re.escape, settings.origins)])
    return [
        {"name": "origin", "present_match": True},
        {"name": "origin", "string_match": {"safe_regex": {"regex": known}}, "invert_match": True},
    ]


def _wrong_method(form: Rest) -> dict[str, Any]:
    """Answer 405 where the transcoder would say 404; OPTIONS is left alone, for CORS."""
    others = [verb for verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") if verb not in _verbs(form.pattern)]
    allowed = ", ".join(_verbs(form.pattern))
    return {
        "match": {
            "safe_regex": {"regex": form.pattern},
            "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(others)}}}],
        },
        "direct_response": {"status": 405, "body": {"inline_string": f"This path takes {allowed}."}},
        "response_headers_to_add": [{"header": {"key": "allow", "value": allowed}}],
        # it would answer 404 before the route is asked
        "typed_per_filter_config": {TRANSCODER: WITHOUT},
    }


def _verbs(pattern: str) -> list[str]:
    return sorted({form.verb for form in rest() if form.pattern == pattern})


def _cors(settings: EnvoySettings) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in settings.origins],
        "allow_methods": "GET, POST",
        "allow_headers": ", ".join((*ALLOWED, *(name.lower() for name in HEADERS))),
        "expose_headers": "x-request-id, retry-after, zg-res-key, grpc-status, grpc-message, grpc-status-details-bin",
        "max_age": "600",
    }


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
