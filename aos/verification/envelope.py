"""Signed messages of the WebSocket protocol: seven fields of JSON under an EIP-191 signature. Pure.

The signature is over the message as compact JSON with `hash` and `signature` empty; layout and vectors: docs/reference/sampling.md.
An envelope says who wrote it, not when, nor to whom: readers keep the ids that they have seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from eth_account.messages import SignableMessage, encode_defunct

from aos.errors import BadSignature, InvalidField
from aos.verification.compact import dump, load
from aos.verification.keys import signer

ENVELOPE_BYTES: Final = 4 << 20
"""Largest message that is read."""
ID_CHARS: Final = 128
"""Longest id of a message."""
FIELDS: Final = ("id", "method", "params", "result", "address", "hash", "signature")
"""In the order that is signed."""

_SIGNATURE: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})([0-9a-fA-F]{64})(1[bcBC])")
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of secp256k1's order. Of a signature's two spellings only the one with s up to here counts (EIP-2)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message. ``params`` and ``result`` are JSON values; numbers that were read are Spelt."""

    id: str
    method: str | None = None
    params: object = None
    result: object = None
    address: str = ""
    """`0x` and 40 hex digits: who signed."""
    hash: str = ""
    """Keccak-256 of what is signed, as hex without `0x`. It helps a log; nothing rests on it."""
    signature: str = ""
    """r, s and v as 130 hex digits, v 1b or 1c."""

    @property
    def unsigned(self) -> bytes:
        """What the signature is over."""
        return dump(self._fields() | {"hash": "", "signature": ""}).encode()

    @property
    def text(self) -> str:
        """As it is sent."""
        return dump(self._fields())

    def _fields(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in FIELDS}


def open_envelope(text: str | bytes) -> Envelope:
    """Return what a message says; whoever ``address`` names did sign it.

    Raises InvalidField for a message that cannot be read, and BadSignature, never less, for one whose signature is missing,
    malformed or another's.
    """
    envelope = read(text)
    check(envelope)
    return envelope


def check(envelope: Envelope) -> str:
    """Return the address, in EIP-55 mixed case, of who signed. Raises BadSignature."""
    parts = _SIGNATURE.fullmatch(envelope.signature)
    if parts is None:
        raise BadSignature(envelope.address, "it must be r, s and v as 130 hex digits, v 1b or 1c")
    if int(parts[2], 16) > _HALF_ORDER:
        raise BadSignature(envelope.address, "its s is in the upper half of the order")
    return signer(personal(envelope.unsigned), bytes.fromhex("".join(parts.groups())), envelope.address)


def read(text: str | bytes) -> Envelope:
    """Return what a message says, whoever wrote it. Raises InvalidField.

    `method`, `params` and `result` may be missing, as they are in replies of older dispatchers, and are null then.
    """
    size = len(text) if isinstance(text, bytes) else len(text.encode(errors="surrogatepass"))
    if size > ENVELOPE_BYTES:
        raise InvalidField("envelope", f"has {size} bytes; at most {ENVELOPE_BYTES} are read", value=size, limit=ENVELOPE_BYTES)
    try:
        fields = load(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError:
        raise InvalidField("envelope", "must be UTF-8") from None
    if not isinstance(fields, Mapping):
        raise InvalidField("envelope", "must be a JSON object")
    given = cast("Mapping[str, object]", fields)
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise InvalidField(f"envelope.{unknown[0][:ID_CHARS]}", f"is no field; there are {', '.join(FIELDS)}")
    method = given.get("method")
    if not (method is None or isinstance(method, str)):
        raise InvalidField("envelope.method", "must be text or null", value=method)
    name = _text(given, "id")
    if not 1 <= len(name) <= ID_CHARS:
        raise InvalidField("envelope.id", f"must have 1 to {ID_CHARS} characters", value=name, limit=ID_CHARS)
    return Envelope(
        id=name,
        method=method,
        params=given.get("params"),
        result=given.get("result"),
        address=_text(given, "address"),
        hash=_text(given, "hash"),
        signature=_text(given, "signature"),
    )


def personal(text: bytes) -> SignableMessage:
    """Return the bytes as `personal_sign` signs them: EIP-191, version 0x45."""
    return encode_defunct(primitive=text)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidField(f"envelope.{name}", "must be text", value=value)
    return value
