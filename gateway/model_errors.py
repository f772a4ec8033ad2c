"""Failures in the model interface's dialect: its codes, OpenAI's error object, and one HTTP status for both. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aos.errors import (
    AccountNotFound,
    AnswerBroken,
    AosError,
    BadHeader,
    BadSignature,
    BlobNotFound,
    BodyChanged,
    ContextOverflow,
    Deadline,
    EngineFailed,
    FeeTooLow,
    InsufficientBalance,
    InvalidField,
    JobCancelled,
    JobNotFound,
    ModelNotFound,
    ModelUnavailable,
    ModelUnsuitable,
    OperatorLost,
    OtherChain,
    OtherProvider,
    PermissionDenied,
    QueueFull,
    QuotaExceeded,
    RequestExpired,
    RequestReplayed,
    RequestSignature,
    ServiceUnavailable,
    ShuttingDown,
    SignatureHighS,
    SignerNotAcknowledged,
    StorageFull,
    Unauthenticated,
    WalletNotAuthorized,
)
from gateway.body import DownloadFailed, Malformed, TooLarge, UnknownField
from gateway.http import Reply, dump, retry_after

PARAMETER, PARSE, TIMEOUT, NO_NODE_SEEN, MODEL, DOWNLOAD, PERMISSION, NO_NODE, STREAM, INTERNAL = (
    1001, 1002, 1005, 1006, 1007, 1008, 1010, 1017, 1018, 5000,
)  # fmt: skip
"""The model interface's codes, as far as they occur here."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a failure looks to callers of this dialect."""

    status: int
    code: int
    type: str
    name: str | None = None
    """OpenAI's `error.code`."""
    param: str | None = None
    """The field at fault, where it is always the same one."""


INPUT: Final = "<input>"
"""Stands for the field that has the text: its name is not the same in all of the dialect's bodies."""

ROWS: Final[dict[type[AosError], Row]] = {
    Malformed: Row(400, PARSE, "invalid_request_error"),
    TooLarge: Row(413, INTERNAL, "invalid_request_error", "request_too_large"),
    DownloadFailed: Row(502, DOWNLOAD, "server_error", "download_failed"),
    UnknownField: Row(400, PARAMETER, "invalid_request_error", "unknown_parameter"),
    InvalidField: Row(400, PARAMETER, "invalid_request_error", "invalid_value"),
    ContextOverflow: Row(400, PARAMETER, "invalid_request_error", "context_length_exceeded", INPUT),
    ModelUnsuitable: Row(400, PARAMETER, "invalid_request_error", "model_unsuitable", "model"),
    Unauthenticated: Row(401, PERMISSION, "authentication_error", "invalid_api_key"),
    BadSignature: Row(401, PERMISSION, "authentication_error", "invalid_signature"),
    PermissionDenied: Row(403, PERMISSION, "permission_error", "permission_denied"),
    InsufficientBalance: Row(402, PERMISSION, "insufficient_quota", "insufficient_quota"),
    BadHeader: Row(400, PERMISSION, "invalid_request_error", "bad_header"),
    OtherChain: Row(400, PERMISSION, "invalid_request_error", "other_chain"),
    BodyChanged: Row(400, PERMISSION, "invalid_request_error", "body_changed"),
    SignatureHighS: Row(400, PERMISSION, "invalid_request_error", "signature_high_s"),
    RequestSignature: Row(401, PERMISSION, "authentication_error", "request_signature"),
    RequestExpired: Row(401, PERMISSION, "authentication_error", "request_expired"),
    WalletNotAuthorized: Row(403, PERMISSION, "permission_error", "wallet_not_authorized"),
    SignerNotAcknowledged: Row(403, PERMISSION, "permission_error", "signer_not_acknowledged", "X-AOS-Provider"),
    AccountNotFound: Row(402, PERMISSION, "insufficient_quota", "account_not_found", "X-AOS-Account"),
    FeeTooLow: Row(402, PERMISSION, "insufficient_quota", "fee_too_low"),
    RequestReplayed: Row(409, PERMISSION, "invalid_request_error", "request_replayed"),
    OtherProvider: Row(503, NO_NODE, "server_error", "other_provider"),
    JobNotFound: Row(404, PARAMETER, "invalid_request_error", "not_found"),
    BlobNotFound: Row(404, PARAMETER, "invalid_request_error", "blob_not_found", "image"),
    ModelNotFound: Row(404, NO_NODE, "invalid_request_error", "model_not_found", "model"),
    JobCancelled: Row(409, STREAM, "invalid_request_error", "job_cancelled"),
    QueueFull: Row(429, NO_NODE, "rate_limit_error", "rate_limit_exceeded"),
    QuotaExceeded: Row(429, PERMISSION, "rate_limit_error", "quota_exceeded"),
    StorageFull: Row(429, PERMISSION, "rate_limit_error", "storage_full"),
    EngineFailed: Row(502, MODEL, "server_error", "model_error"),
    AnswerBroken: Row(502, STREAM, "server_error", "answer_broken"),
    OperatorLost: Row(502, STREAM, "server_error", "operator_lost"),
    ModelUnavailable: Row(503, NO_NODE, "server_error", "model_unavailable", "model"),
    ShuttingDown: Row(503, NO_NODE, "server_error", "shutting_down"),
    ServiceUnavailable: Row(503, NO_NODE_SEEN, "server_error", "service_unavailable"),
    Deadline: Row(504, TIMEOUT, "server_error", "timeout"),
}
OTHERS: Final = Row(500, INTERNAL, "server_error")
"""For failures that no caller of this dialect can cause."""

NAMES: Final = {
    "order.embedding.texts": "input",
    "order.embedding.": "",
    "order.picture.sources[0].sha256": "image",
    "order.picture.sources[0].data": "image",
    "order.picture.sources[0]": "image",
    "order.picture.sources": "image",
    "order.picture.mask.sha256": "mask",
    "order.picture.mask.data": "mask",
    "order.picture.count": "n",
    "order.picture.": "",
    "order.sampling.mirostat.": "mirostat_",
    "order.sampling.": "",
    "order.chat.": "",
    "order.": "",
}
"""Native fields' names and the dialect's."""
CONSTRAINT: Final = "order.constraint"
"""Where the order says what form the answer must have; the dialect has several fields for that."""


def row(error: AosError | None) -> Row:
    """Return the row of an error's class, or of its nearest base; None is a failure that nobody foresaw."""
    return next((ROWS[kind] for kind in type(error).__mro__ if kind in ROWS), OTHERS)


def body(found: Row, message: str, param: str | None) -> dict[str, Any]:
    """Return the body of a failure."""
    return {
        "code": found.code,
        "message": message,
        "error": {"message": message, "type": found.type, "param": param, "code": found.name},
    }


def failure(error: AosError | None, *, text: str = "messages", form: str = "response_format") -> Reply:
    """Return the reply for a failure; None is one that nobody foresaw.

    ``text`` is the field that has the input, ``form`` the one that says what form the answer must have.
    """
    found, message, param = row(error), "Internal error.", None
    if error is not None:
        message, param = error.message, text if found.param == INPUT else error.facts.get("header", found.param)
    if isinstance(error, InvalidField) or (isinstance(error, ContextOverflow) and error.facts.get("field")):
        # what an operator refused comes back without violations
        param, message = error.violations[0].field if error.violations else error.facts.get("field", ""), error.message
        if param.startswith(CONSTRAINT):
            param, message = form, f"{form}{message.removeprefix(param)}"
        for native, ours in NAMES.items():
            if param.startswith(native):
                param, message = f"{ours}{param.removeprefix(native)}", f"{ours}{message.removeprefix(native)}"
    return Reply(dump(body(found, message, param or None)).encode(), found.status, retry_after(error))
