"""Envoy's configuration, made from the settings; a reason stands beside everything that is not Envoy's default. Pure.

A request runs through ``_filters`` from first to last, its response from last to first.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from gateway.descriptors import SERVICES, descriptor_set
from gateway.envoy.clusters import clusters
from gateway.envoy.replies import mappers
from gateway.envoy.routes import EDIT_LIMIT, LIMIT, MODULE_LIMIT, TRANSCODER, routes
from gateway.envoy.settings import EnvoySettings
from gateway.http import STATUS

HEALTH: Final = "/healthz"
RESPONSE_BYTES: Final = 64 << 20
"""Largest response of a call that does not stream: a page of jobs can have a thousand prompts."""
SILENT_SECONDS: Final = 20
"""After so long a silence a caller's connection is asked whether it still stands."""
PING_SECONDS: Final = 10
"""How long the answer may take."""
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
        "static_resources": {"listeners": [_listener(settings)], "clusters": clusters(settings)},
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
        http2_protocol_options={
            "max_concurrent_streams": settings.streams,
            # what one caller may send ahead of being read; the connection's is for all its streams
            "initial_stream_window_size": settings.buffer_bytes,
            "initial_connection_window_size": 16 * settings.buffer_bytes,
            # a caller whose machine is gone without a word is noticed, and its streams end
            "connection_keepalive": {"interval": f"{SILENT_SECONDS}s", "timeout": f"{PING_SECONDS}s"},
        },
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
        route_config=routes(settings),
        http_filters=_filters(settings),
    )
    return {
        "name": "aos",
        "address": {"socket_address": {"address": host, "port_value": settings.port}},
        # a second Envoy on the port must fail, not take half of the callers
        "enable_reuse_port": False,
        # the same for HTTP/1, which has no pings of its own: the kernel asks
        "tcp_keepalive": {"keepalive_time": SILENT_SECONDS, "keepalive_interval": PING_SECONDS // 2, "keepalive_probes": 2},
        # ten thousand readers that do not read must not fill the memory
        "per_connection_buffer_limit_bytes": settings.buffer_bytes,
        "filter_chains": [{"filters": [manager]} | _tls(settings)],
    }


def _tls(settings: EnvoySettings) -> dict[str, Any]:
    if settings.certificate is None:
        return {}
    common: dict[str, Any] = {
        # gRPC's clients ask for h2
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [
            {"certificate_chain": {"filename": str(settings.certificate)}, "private_key": {"filename": str(settings.private_key)}}
        ],
    }
    if settings.client_ca is not None:
        common["validation_context"] = {"trusted_ca": {"filename": str(settings.client_ca)}}
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    context = {"common_tls_context": common, "require_client_certificate": settings.client_ca is not None}
    return {"transport_socket": _named("envoy.transport_sockets.tls", kind, **context)}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"


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
            # an operator may be away
            cluster_min_healthy_percentages={name: {"value": 1} for name in settings.clusters if name != "operator"},
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
