"""What the model interface's answers must look like. Pure.

Each function raises Broken at the first place where an answer is not so. Further fields are anybody's right.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final

from aos.conformance.findings import Broken
from aos.nesting import DEPTH, too_deep

DONE: Final = "[DONE]"
PICTURES: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WebP"}
"""How files of pictures begin."""


def good(status: int, data: bytes) -> None:
    """Look whether a reply is no refusal."""
    if status != 200:  # noqa: PLR2004
        raise Broken(f"status is {status}: {data[:80].decode(errors='replace')}")


def typed(content_type: str, wanted: str) -> None:
    """Look whether a content type is the wanted one, whatever its parameters."""
    if content_type.split(";", 1)[0].strip().lower() != wanted:
        raise Broken(f"content-type is {content_type or 'missing'}, not {wanted}")


def json_object(data: bytes, content_type: str) -> dict[str, Any]:
    """Return a reply's JSON object."""
    typed(content_type, "application/json")
    return parsed(data, "the body")


def parsed(data: bytes | str, at: str) -> dict[str, Any]:
    """Return a JSON object."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    if too_deep(text):
        raise Broken(f"{at} is nested more than {DEPTH} levels deep")
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Broken(f"{at} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Broken(f"{at} is no JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


def field(value: Any, name: str, kind: type | tuple[type, ...], at: str = "") -> Any:
    """Return a field that must be there, of a kind."""
    where = f"{at}.{name}" if at else name
    if not isinstance(value, dict) or name not in value:
        raise Broken(f"{where} is missing")
    found: Any = value[name]  # pyright: ignore[reportUnknownVariableType]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
        names = " or ".join(one.__name__ for one in kinds)
        raise Broken(f"{where} is {json.dumps(found)[:40]}, not {names}")
    return found


def first(value: Any, name: str) -> dict[str, Any]:
    """Return the first of a list that has one at least."""
    items: list[Any] = field(value, name, list)
    if not items:
        raise Broken(f"{name} is empty: at least one is needed")
    if not isinstance(items[0], dict):
        raise Broken(f"{name}[0] is no object")
    return items[0]  # pyright: ignore[reportUnknownVariableType]


def models(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the models of a list that either OpenAI's readers or the documented one can read."""
    data: list[Any] = field(listed, "data", list)
    for index, one in enumerate(data):
        if not isinstance(one, dict) or not isinstance(one.get("id", one.get("model")), str):  # pyright: ignore[reportUnknownMemberType]
            raise Broken(f"data[{index}] has neither id nor model")
    return data


def name_of(model: dict[str, Any]) -> str:
    """Return a listed model's name."""
    return str(model.get("id") or model.get("model") or "")


def completion(reply: dict[str, Any]) -> None:
    """Look at a whole answer to a conversation."""
    no_failure(reply)
    field(reply, "created", int)
    field(reply, "model", str)
    choice = first(reply, "choices")
    message = field(choice, "message", dict, "choices[0]")
    role = field(message, "role", str, "choices[0].message")
    if role != "assistant":
        raise Broken(f"choices[0].message.role is {role!r}, not 'assistant'")
    field(message, "content", (str, type(None)), "choices[0].message")
    field(choice, "finish_reason", str, "choices[0]")


def no_failure(reply: dict[str, Any]) -> None:
    """Look whether a reply with a good status says that it failed."""
    code = reply.get("code", 0)
    if code != 0:
        raise Broken(f"code is {code!r}: a failure, with a status that says otherwise")


def documented(reply: dict[str, Any]) -> None:
    """Look for the interface's own words of success, which OpenAI's servers do not have."""
    if field(reply, "code", int) != 0 or field(reply, "message", str) != "success":
        raise Broken("code and message are not 0 and 'success'")


def usage(reply: dict[str, Any]) -> None:
    """Look at the counted tokens."""
    counted = field(reply, "usage", dict)
    prompt, answer, total = (field(counted, name, int, "usage") for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if min(prompt, answer) < 0 or prompt + answer != total:
        raise Broken(f"usage.total_tokens is {total}, not {prompt} + {answer}")


def events(lines: Sequence[str]) -> list[str]:
    """Return the data of a stream's events. Comments are left out; every event is one `data:` line and an empty one."""
    found: list[str] = []
    open_event = False
    for number, line in enumerate(lines, 1):
        if line.startswith(":"):
            continue
        if not line:
            open_event = False
        elif open_event:
            raise Broken(f"line {number}: no empty line ends the event before it")
        elif not line.startswith("data:"):
            raise Broken(f"line {number} is no data: {line[:40]!r}")
        else:
            found.append(line.removeprefix("data:").removeprefix(" "))
            open_event = True
    if open_event:
        raise Broken("the stream ends in the middle of an event: no empty line ends the last one")
    return found


def done(data: Sequence[str]) -> Sequence[str]:
    """Return the events before the end mark, which is the last one."""
    if not data:
        raise Broken("the stream has no events")
    if data[-1] != DONE:
        raise Broken(f"the stream does not end in data: {DONE}")
    if DONE in data[:-1]:
        raise Broken(f"events come behind data: {DONE}")
    return data[:-1]


def chunks(data: Sequence[str]) -> list[dict[str, Any]]:
    """Return the events of a streamed conversation, each looked at."""
    found = [parsed(text, f"event {number}") for number, text in enumerate(data, 1)]
    if not found:
        raise Broken("nothing comes before the end mark")
    identities = {field(one, "id", str, f"event {number}") for number, one in enumerate(found, 1) if "error" not in one}
    for number, one in enumerate(found, 1):
        if "error" in one:
            raise Broken(f"event {number} is a failure: {json.dumps(one['error'])[:80]}")
        kind = field(one, "object", str, f"event {number}")
        if kind != "chat.completion.chunk":
            raise Broken(f"event {number}: object is {kind!r}")
    if len(identities) > 1:
        raise Broken(f"events have {len(identities)} different ids")
    return found


def deltas(found: Sequence[dict[str, Any]]) -> int:
    """Look at who speaks first, what is said and how it ends; return how many events have text."""
    spoken = [(number, one["choices"][0]) for number, one in enumerate(found, 1) if one.get("choices")]
    if not spoken:
        raise Broken("no event has a choice")
    number, opening = spoken[0]
    if field(opening, "delta", dict, f"event {number}.choices[0]").get("role") != "assistant":
        raise Broken("the first delta does not say the role 'assistant'")
    ended = [number for number, choice in spoken if choice.get("finish_reason")]
    if not ended:
        raise Broken("no event has a finish_reason")
    if ended[0] != spoken[-1][0]:
        raise Broken("choices come behind the one with a finish_reason")
    return sum(bool((choice.get("delta") or {}).get("content")) for _, choice in spoken)


def streamed_usage(found: Sequence[dict[str, Any]]) -> None:
    """Look for the counted tokens in the last event, once."""
    if not isinstance(found[-1].get("usage"), dict):
        raise Broken("the last event has no usage")
    usage(found[-1])


def failure(reply: dict[str, Any]) -> None:
    """Look at a refusal: the interface's code, OpenAI's object, or both."""
    code, error = reply.get("code"), reply.get("error")
    if isinstance(code, int) and not isinstance(code, bool) and code != 0:
        field(reply, "message", str)
        return
    if isinstance(error, dict):
        field(error, "message", str, "error")
        return
    raise Broken("it says neither a code other than 0 nor an error")


def pictures(reply: dict[str, Any], wanted: int) -> str:
    """Look at pictures; return what kind of file the first one is, or `url`."""
    no_failure(reply)
    field(reply, "created", int)
    data: list[Any] = field(reply, "data", list)
    if len(data) != wanted:
        raise Broken(f"data has {len(data)} pictures, not {wanted}")
    kinds = [_picture(one, f"data[{index}]") for index, one in enumerate(data)]
    return kinds[0]


def _picture(one: Any, at: str) -> str:
    given = one if isinstance(one, dict) else {}
    text, url = given.get("b64_json"), given.get("url")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(text, str) and text:
        try:
            start = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise Broken(f"{at}.b64_json is not base64") from None
        for begins, kind in PICTURES.items():
            if start.startswith(begins):
                return kind
        raise Broken(f"{at}.b64_json is no PNG, JPEG or WebP")
    if isinstance(url, str) and url.startswith(("http://", "https://", "data:")):
        return "url"
    raise Broken(f"{at} has neither b64_json nor url")
