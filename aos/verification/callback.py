"""Callbacks: what an operator posts when a question has ended, and how it signs for it. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from aos.errors import BadSignature, InvalidField
from aos.nesting import DEPTH, too_deep
from aos.verification.envelope import personal
from aos.verification.keys import OperatorKey, signer

SIGNATURE: Final = "x-aos-signature"
"""The header with the signature: `0x` and r, s, v as 130 hex digits."""
PURPOSE: Final = b"aos callback 1\n"
"""Goes before the body in what is signed, so that the signature is good for nothing else."""
CALLBACK_BYTES: Final = 4 << 20
"""Largest body that is read."""
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a callback says of an answer."""

    node_id: str
    req_id: str
    answer: str
    state_root: str


def read_callback(body: bytes) -> Said:
    """Return what a body says, whoever wrote it. Raises InvalidField."""
    if len(body) > CALLBACK_BYTES:
        raise InvalidField(
            "body", f"has {len(body)} bytes; at most {CALLBACK_BYTES} are read", value=len(body), limit=CALLBACK_BYTES
        )
    try:
        text = body.decode()
        if too_deep(text):  # before reading, which would recurse as deep
            raise InvalidField("body", f"is nested more than {DEPTH} levels deep", limit=DEPTH)
        fields: Any = json.loads(text)
    except ValueError:  # of decoding, too
        raise InvalidField("body", "is not JSON in UTF-8") from None
    if not isinstance(fields, dict):
        raise InvalidField("body", "must be a JSON object")
    given = cast("dict[str, object]", fields)
    for name in Said.__slots__:
        if not isinstance(given.get(name), str):
            raise InvalidField(name, "must be a string", value=given.get(name, ""))
    return Said(**{name: str(given[name]) for name in Said.__slots__})


def callback_body(*, node_id: str, req_id: str, model: str, prompt: str, answer: str, state_root: str, reason: str = "") -> bytes:
    """Return the body: compact JSON in UTF-8. ``reason`` is there only if there is no answer."""
    body = {
        "node_id": node_id,
        "req_id": req_id,
        "model": model,
        "prompt": prompt,
        "answer": answer,
        "state_root": state_root,
    } | ({"reason": reason} if reason else {})
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sign_callback(body: bytes, key: OperatorKey) -> str:
    """Return the header's value: an EIP-191 signature of PURPOSE and the body's bytes as they are sent."""
    return f"0x{key.sign(personal(PURPOSE + body)).hex()}"


def check_callback(body: bytes, signature: str, claimed: str) -> str:
    """Return the address, in EIP-55 mixed case, that signed the body. Raises BadSignature unless it is the claimed one."""
    if not _SIGNATURE.fullmatch(signature):
        raise BadSignature(claimed, f"{SIGNATURE} must be 0x and 130 lower-case hex digits")
    return signer(personal(PURPOSE + body), bytes.fromhex(signature[2:]), claimed)
