"""What Envoy itself answers when no server has a say, in the shape of the dialect whose path was asked. Pure."""

from __future__ import annotations

from typing import Any, Final

from aos.controller_names import MODULE_BYTES
from gateway.body import EDIT_BYTES
from gateway.envoy.settings import EnvoySettings
from gateway.model_errors import INTERNAL, NO_NODE_SEEN, PARAMETER, PARSE, PERMISSION, TIMEOUT, Row, body

SAID: Final = "%LOCAL_REPLY_BODY%"
"""Envoy's own words."""
UNSUPPORTED: Final = 1011
"""The model interface's code for what is not there."""

ROWS: Final = {
    400: Row(400, PARSE, "invalid_request_error"),
    403: Row(403, PERMISSION, "permission_error", "forbidden"),
    404: Row(404, UNSUPPORTED, "invalid_request_error", "unknown_url"),
    405: Row(405, UNSUPPORTED, "invalid_request_error", "method_not_supported"),
    408: Row(408, TIMEOUT, "invalid_request_error", "timeout"),
    413: Row(413, INTERNAL, "invalid_request_error", "request_too_large"),
    431: Row(431, PARAMETER, "invalid_request_error", "headers_too_large"),
    500: Row(500, INTERNAL, "server_error"),
    503: Row(503, NO_NODE_SEEN, "server_error", "service_unavailable"),
    504: Row(504, TIMEOUT, "server_error", "timeout"),
}
"""What Envoy can answer by itself, for callers of the model interface."""
GRPC: Final = {400: 3, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 431: 8, 500: 13, 503: 14, 504: 4}
"""The same as google.rpc.Code, for callers of the native API."""
OPML: Final = {400: -502, 413: -501}
"""The OPML worker's codes for some of it; all else is -500."""

AICI: Final = r"(/.+)?/v1/(run|controllers|controllers/tags)(\?.*)?"
"""A regular expression for the paths of the AICI runtime's dialect, which may have any prefix."""

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    # by AICI; first, because its paths may begin as any other's
    "aici": (),
    # before those of which its paths are a part
    "opml": ("/api/v1/",),
    "node": ("/api/v0/",),
    "jobs": ("/api/",),
    "edits": ("/v1/images/edits",),
    "models": ("/v1/images/", "/v1/blobs/", "/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/models"),
    "native": (),
}
"""Path prefixes of each dialect; the native API has what is left."""


def mappers(settings: EnvoySettings) -> list[dict[str, Any]]:
    """Return ``local_reply_config.mappers``; the first that fits is used. Native gRPC callers keep gRPC's own form."""
    return [_mapper(family, status, settings) for family in FAMILIES for status in ROWS]


def _mapper(family: str, status: int, settings: EnvoySettings) -> dict[str, Any]:
    of_family = _matching(AICI) if family == "aici" else _rest_under(*FAMILIES[family])
    mapper: dict[str, Any] = {
        "filter": {"and_filter": {"filters": [_status_is(status), of_family]}},
        "body_format_override": _format(family, status, settings),
    }
    if status == 503:  # noqa: PLR2004
        mapper["headers_to_add"] = [{"header": {"key": "retry-after", "value": "1"}, "append_action": "ADD_IF_ABSENT"}]
    return mapper


def _format(family: str, status: int, settings: EnvoySettings) -> dict[str, Any]:
    if family == "aici":
        said = f"APIError: {_said(family, status, settings)}"
        return {"content_type": "text/plain; charset=utf-8", "text_format_source": {"inline_string": said}}
    return {"content_type": "application/json", "json_format": _body(family, status, settings)}


def _said(family: str, status: int, settings: EnvoySettings) -> str:
    limit = f"{EDIT_BYTES if family == 'edits' else settings.body_bytes} bytes"
    if family == "aici":
        limit += f", or {MODULE_BYTES} of a module,"
    return {
        413: f"body: is too large; at most {limit} are accepted",
        431: f"The headers are too large; at most {settings.headers} of together {settings.headers_kib} KiB are accepted.",
        503: f"The network's services do not answer ({SAID}); try again in a moment.",
    }.get(status, SAID)


def _body(family: str, status: int, settings: EnvoySettings) -> dict[str, Any]:
    said = _said(family, status, settings)
    match family:
        case "jobs":
            return {"code": status, "message": said, "result": None}
        case "opml":
            return {"code": OPML.get(status, -500), "msg": said, "data": ""}
        case "models" | "edits" | "node":
            return body(ROWS[status], said, None)
        case _:
            return {"code": GRPC[status], "message": said, "details": []}


def _status_is(status: int) -> dict[str, Any]:
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": "aos.status"}}}}


def _rest_under(*prefixes: str) -> dict[str, Any]:
    # the transcoder moves the path that was asked for into x-envoy-original-path; what fails before it still has it in :path
    if prefixes:
        return _any(*(_header(name, {"prefix": prefix}) for name in ("x-envoy-original-path", ":path") for prefix in prefixes))
    not_grpc = _header("content-type", {"prefix": "application/grpc"})
    not_grpc["header_filter"]["header"] |= {"invert_match": True, "treat_missing_header_as_empty": True}
    return _any({"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True}}}, not_grpc)


def _matching(regex: str) -> dict[str, Any]:
    return _any(*(_header(name, {"safe_regex": {"regex": regex}}) for name in ("x-envoy-original-path", ":path")))


def _header(name: str, match: dict[str, Any]) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, "string_match": match}}}


def _any(*filters: dict[str, Any]) -> dict[str, Any]:
    return filters[0] if len(filters) == 1 else {"or_filter": {"filters": list(filters)}}
