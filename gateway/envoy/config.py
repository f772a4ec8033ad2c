"""Envoy's configuration, made from the settings; a reason stands beside everything that is not Envoy's default. Pure.

A request runs through ``_filters`` from first to last, its response from last to first. Routes are matched twice: by the path that
was asked for, and, once transcoded, by `/package.Service/Method`.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from aos.verification.requests import HEADERS
from gateway.descriptors import SERVICES, Rest, descriptor_set, rest, streaming
from gateway.envoy.replies import mappers
from gateway.envoy.settings import EnvoySettings
from gateway.http import ORIGIN, STATUS

ALLOWED: Final = ("authorization", "content-type", "idempotency-key", "x-request-id", "grpc-timeout", "x-grpc-web", "x-user-agent")
"""Headers that pages may send, besides those of signed requests."""
HEALTH: Final = "/healthz"
RESPONSE_BYTES: Final = 64 << 20
"""Largest response of a call that does not stream: a page of jobs can have a thousand prompts."""
HEALTH_SECONDS: Final = 2
"""How soon a server that came back is found."""
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

SCRIPT: Final = f"""
local function is_grpc(headers)
  return (headers:get("content-type") or ""):sub(1, 16) == "application/grpc"
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local found = {{}}
  for name, _ in pairs(headers) do
    if name == "grpc-timeout" or name:sub(-4) == "-bin" then
      table.insert(found, name)
    end
  end
  for _, name in ipairs(found) do
    headers:remove(name)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if is_grpc(headers) then
    return
  end
  local status = headers:get("{STATUS}")
  if status ~= nil then
    headers:remove("{STATUS}")
    headers:replace(":status", status)
  end
  headers:remove("grpc-status")
  headers:remove("grpc-message")
end
"""
"""For REST only. On the way in, takes headers that mean something to gRPC, which answers 500 if they are malformed. On the way
out, gives the reply the HTTP status that its dialect chose, and takes gRPC's own from it: an error would read 404 beside 0."""


def config(settings: EnvoySettings, admin: str) -> dict[str, Any]:
    """Return the bootstrap configuration; ``admin`` is the path of the admin's unix socket."""
    clusters = [_cluster("aos", settings.upstream, settings)]
    if settings.operator:
        clusters.append(_cluster("operator", settings.operator, settings))
    return {
        # readable and writable by this user only: whoever talks to it can end Envoy
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "overload_manager": {
            "refresh_interval": "0.25s",
            "resource_monitors": [
                _named(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=settings.connections,
                )
            ],
        },
        "static_resources": {"listeners": [_listener(settings)], "clusters": clusters},
    }


def _named(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **fields}}


def _listener(settings: EnvoySettings) -> dict[str, Any]:
    host = "127.0.0.1" if settings.host == "localhost" else settings.host
    manager = _named(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="aos",
        # REST over HTTP/1.1 and gRPC over HTTP/2 on one port
        codec_type="AUTO",
        http2_protocol_options={"max_concurrent_streams": settings.streams},
        # x-forwarded-for of strangers is not believed
        use_remote_address=True,
        # a caller finds its own id in our logs, and ours in its reply
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        # one resource, one path
        normalize_path=True,
        merge_slashes=True,
        # names of models have slashes, which clients escape; no path means anything to Envoy's own rules
        path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
        # nobody holds a connection with half a request; streams have their own limit, by route
        request_headers_timeout="10s",
        stream_idle_timeout=_seconds(settings.call_seconds),
        max_request_headers_kb=settings.headers_kib,
        common_http_protocol_options={
            "max_headers_count": settings.headers,
            # `x_y` and `x-y` are one header to many servers behind, so one could be passed off as the other
            "headers_with_underscores_action": "DROP_HEADER",
        },
        local_reply_config={"mappers": mappers(settings)},
        route_config=_routes(settings),
        http_filters=_filters(settings),
    )
    return {
        "name": "aos",
        "address": {"socket_address": {"address": host, "port_value": settings.port}},
        # a second Envoy on the port must fail, not take half of the callers
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [manager]}],
    }


def _seconds(value: float) -> str:
    return f"{value:.3f}s"


def _routes(settings: EnvoySettings) -> dict[str, Any]:
    def grpc(match: dict[str, Any], *, timeout: float, cluster: str = "aos") -> dict[str, Any]:
        return {
            "match": match | {"grpc": {}},
            # Envoy's 15 s would cut every answer that takes longer
            "route": {"cluster": cluster, "timeout": _seconds(timeout), "idle_timeout": _seconds(settings.idle_seconds)},
            # a stream may carry any amount in time; each message has the server's limit
            "typed_per_filter_config": {LIMIT: WITHOUT},
        }

    routes = [grpc({"path": path}, timeout=0) for path in streaming()]
    if settings.operator:
        routes.append(grpc({"prefix": "/aos.v1.Operator/"}, timeout=0, cluster="operator"))
        beside = ("/aos.v1.Questions/", "/gateway.v1.Opml/")
        routes += [grpc({"prefix": prefix}, timeout=settings.call_seconds, cluster="operator") for prefix in beside]
    # health can be watched, and reflection is a stream
    routes.append(grpc({"prefix": "/grpc."}, timeout=0))
    routes.append(grpc({"prefix": "/"}, timeout=settings.call_seconds))
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
        # of no use to callers. Never remove grpc-status or grpc-message here: the transcoder needs them
        "response_headers_to_remove": ["grpc-accept-encoding", "x-envoy-upstream-service-time"],
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


def _filters(settings: EnvoySettings) -> list[dict[str, Any]]:
    kind = "envoy.extensions.filters.http"
    transcoder = _named(
        TRANSCODER,
        f"{kind}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(descriptor_set().SerializeToString(deterministic=True)).decode(),
        services=[service.full_name for service in SERVICES],
        print_options={
            # a reader can rely on every field being there, under the name that the protos have
            "always_print_primitive_fields": True,
            "preserve_proto_field_names": True,
            # so that a browser's EventSource can read WatchJob
            "stream_sse_style_delimited": True,
        },
        # errors as JSON bodies, with their details
        convert_grpc_status=True,
        # `?utm=…` must not turn a good request into a 503
        ignore_unknown_query_parameters=True,
        query_param_unescape_plus=True,
        # unknown paths end here with 404, and do not reach a server as raw bytes
        request_validation_options={"reject_unknown_method": True},
        # above the limit of the filter before it, so that there is one limit with one answer
        max_request_body_size=2 * settings.body_bytes,
        max_response_body_size=RESPONSE_BYTES,
    )
    return [
        _named(
            "envoy.filters.http.health_check",
            f"{kind}.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[{"name": ":path", "string_match": {"exact": HEALTH}}],
            cluster_min_healthy_percentages={"aos": {"value": 1}},
        ),
        # before all that can refuse, so that pages may read refusals too
        *([_named("envoy.filters.http.cors", f"{kind}.cors.v3.Cors")] if settings.origins else []),
        # the transcoder's own limit does not hold for JSON, which it reads as it comes
        _named(LIMIT, f"{kind}.body_size_limit.v3.BodySizeLimit", max_request_bytes=settings.body_bytes),
        _named(EDIT_LIMIT, f"{kind}.body_size_limit.v3.BodySizeLimit", max_request_bytes=settings.edit_bytes) | {"disabled": True},
        _named(MODULE_LIMIT, f"{kind}.body_size_limit.v3.BodySizeLimit", max_request_bytes=settings.module_bytes)
        | {"disabled": True},
        _named("envoy.filters.http.lua", f"{kind}.lua.v3.Lua", default_source_code={"inline_string": SCRIPT}),
        _named("envoy.filters.http.grpc_web", f"{kind}.grpc_web.v3.GrpcWeb"),
        transcoder,
        _named("envoy.filters.http.router", f"{kind}.router.v3.Router"),
    ]


def _cluster(name: str, socket: str, settings: EnvoySettings) -> dict[str, Any]:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    limits = {"max_requests": settings.streams, "max_pending_requests": settings.streams}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            kind: {
                "@type": f"type.googleapis.com/{kind}",
                # gRPC is HTTP/2
                "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": settings.streams}},
            }
        },
        # Envoy's 1024 would refuse streams that the servers can carry
        "circuit_breakers": {"thresholds": [limits]},
        # a dead server is dead even if it is the only one
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": f"{HEALTH_SECONDS}s",
                "no_traffic_interval": f"{HEALTH_SECONDS}s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
        },
    }
