"""How the jobs dialect replies: `code` and `result`, or `message`, with the HTTP status that fits."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Final

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.timestamp_pb2 import Timestamp

from aos.errors import AosError, InsufficientBalance, InvalidField, JobNotFound, ProjectNotFound
from gateway.body import TooLarge
from gateway.http import HTTP, Context, Reply, dump, known, retry_after, send

NAMES: Final = {
    "order.sampling.mirostat.": "job.params.mirostat_",
    "order.sampling.": "job.params.",
    "order.chat.messages:": "job.prompt:",
    "order.chat.messages[0].content": "job.prompt",
    "order.prompt": "job.prompt",
    "order.model": "job.model",
    "request_id": "idempotency-key",
    "job_type": "job.tag",
    "name:": "job_id:",
    "project_id": "address",
    "display_name": "name",
}
"""Native fields' names and the dialect's."""


async def reply(context: Context, result: Awaitable[str]) -> HttpBody:
    """Return the reply whose members behind `code` are this JSON text, or the failure."""
    try:
        said = success(await result)
    except Exception as error:
        said = failure(known(error))
    return await send(context, said)


def result(text: str) -> str:
    """Return the members of a reply whose `result` is this JSON text."""
    return f'"result":{text}'


def page(text: str, next_page_token: str) -> str:
    """Return the members of a reply that is one page of a list."""
    return f'"result":{text},"next_page_token":{dump(next_page_token)}'


def success(members: str) -> Reply:
    """Return the reply with these members behind `code`."""
    return Reply(f'{{"code":200,{members}}}'.encode())


def failure(error: AosError | None) -> Reply:
    """Return the reply for a failure; None is one that nobody foresaw."""
    match error:
        case None:
            status, message = 500, "Internal error."
        case TooLarge():
            status, message = 413, error.message
        case InsufficientBalance():
            status, message = 402, error.message
        case JobNotFound():
            status, message = 404, f"There is no job {error.facts.get('job', '').removeprefix('jobs/')!r} of this project."
        case ProjectNotFound():
            status, message = 401, "verify: is not the token of the project in 'from'."
        case InvalidField():
            status, message = 400, _in_dialect(error)
        case _:
            status, message = HTTP.get(error.code, 500), error.message
    return Reply(dump({"code": status, "message": message, "result": None}).encode(), status, retry_after(error))


def _in_dialect(error: InvalidField) -> str:
    """Return the message with the field's name in this dialect."""
    for native, ours in NAMES.items():
        if error.message.startswith(native):
            return f"{ours}{error.message.removeprefix(native)}"
    return error.message


def time(stamp: Timestamp) -> str:
    """Return a time as the dialect writes it, in UTC."""
    moment: datetime = stamp.ToDatetime()  # naive, in UTC
    return f"{moment:%Y-%m-%d %H:%M:%S}"
