"""Failures in the AICI runtime's dialect: plain text, `APIError: …`, in that runtime's words where it has some. Pure."""

from __future__ import annotations

from typing import Final

from aos.errors import AosError, ControllerNotFound, InsufficientBalance, InvalidField, PermissionDenied
from gateway.body import Malformed, TooLarge, UnknownField
from gateway.http import HTTP, Reply, retry_after

TEXT: Final = "text/plain; charset=utf-8"
MODULE: Final = "mk_module"
"""What the runtime calls taking in a module."""
SET_TAGS: Final = "set_tags"
GET_TAGS: Final = "get_tags"
RUN: Final = "instantiate"
MISSING: Final = "is missing"
"""What gateway/body.py says of a field that is."""
NO_NAME: Final = "must be a 64-char hex string or tag name"
"""How aos/controller_names.py begins of what is neither."""
FORBIDDEN_TAG: Final = "permission denied for tag name"
MISTAKES: Final = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED"})
"""What the runtime answers with 400, whatever is wrong."""


def failure(error: AosError | None, *, op: str) -> Reply:
    """Return the reply for a failure of an operation of the runtime; None is one that nobody foresaw."""
    if error is None:
        return text("Internal error.", 500)
    status = HTTP.get(error.code, 500)
    match error:
        case TooLarge():
            return text(error.message, 413)
        case Malformed() | UnknownField():
            return _no_json(error.message)
        case InvalidField(violations=(found, *_)) if found.description == MISSING:
            return _no_json(f"missing field `{found.field}`")
        case InsufficientBalance():
            status = 402
        case _ if error.code in MISTAKES:
            status = 400
        case _:
            pass
    return Reply(text(_said(error, op), status).data, status, retry_after(error), TEXT)


def _no_json(why: str) -> Reply:
    return Reply(f"Json deserialize error: {why}".encode(), 400, content_type=TEXT)


def text(message: str, status: int) -> Reply:
    """Return a refusal in the runtime's form."""
    return Reply(f"APIError: {message}".encode(), status, content_type=TEXT)


def _said(error: AosError, op: str) -> str:
    match error:
        case InvalidField(violations=(found, *_)) if op == MODULE:
            # a module that is none; about the call itself there is nothing to get wrong
            return f"Bad response ({op}): {found.description}"
        case InvalidField(violations=(found, *_)) if found.description == "invalid module_id" or found.field.startswith("tags["):
            said = found.description
        case InvalidField(violations=(found, *_)) if found.description.startswith(NO_NAME):
            return f"'controller' {found.description}."
        case ControllerNotFound() if op == RUN:
            said = f"tag {error.facts.get('controller', '')} not found"
        case PermissionDenied() if op == SET_TAGS:
            said = FORBIDDEN_TAG
        case _ if error.code in MISTAKES:
            said = error.message
        case _:
            return error.message
    return f"While executing {op}:\n{said}"
