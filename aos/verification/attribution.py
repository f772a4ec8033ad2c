"""Whose result it is: an operator's EIP-191 signature over all that a result of the jobs dialect says. Pure.

Fills `operator` and `signature` of a result, which the envelope around it cannot: envelopes end at the dispatcher, results go on to
whoever asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import rfc8785

from aos.errors import BadSignature
from aos.verification.clock import to_wire
from aos.verification.envelope import personal
from aos.verification.keys import OperatorKey, signer

PURPOSE: Final = "aos result 1"
"""Begins what is signed, so that it is good for nothing else."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}")


@dataclass(frozen=True, slots=True)
class Attributed:
    """What an operator says about one job, and signs."""

    job_id: str
    """64 hex digits."""
    request_digest: str
    """Of what was asked: 64 hex digits, the receipt's."""
    operator: str
    """`0x` and 40 hex digits."""
    result: str = ""
    result_digest: str = ""
    """SHA-256 of the text, 64 hex digits, for who has no more than that; empty: that of ``result``."""
    reason: str = ""
    """Why there is no result."""
    state_root: str = ""
    """`0x` and 64 hex digits; empty if there is none."""
    tag: str = ""
    vrf: Mapping[str, object] = field(default_factory=dict[str, object])
    """The wire's `vrf` object."""
    clock: Mapping[str, int] = field(default_factory=dict[str, int])


def statement_of(said: Attributed) -> bytes:
    """Return the bytes that are signed: a line of purpose, and canonical JSON (RFC 8785), the text by its SHA-256.

    Raises BadSignature for what has no canonical form.
    """
    digests = [said.job_id, said.request_digest, *filter(None, [said.result_digest])]
    if not all(_DIGEST.fullmatch(one) for one in digests):
        raise BadSignature(said.operator, "a job's id, a request's digest and a result's have 64 lower-case hex digits")
    what: dict[str, object] = {
        "job_id": said.job_id,
        "request_digest": said.request_digest,
        "operator": said.operator.lower(),
        "reason": said.reason,
        "state_root": said.state_root,
        "tag": said.tag,
        "vrf": dict(said.vrf),
        "clock": to_wire(said.clock),
    }
    try:
        what["result_digest"] = said.result_digest or hashlib.sha256(said.result.encode()).hexdigest()
        return f"{PURPOSE}\n".encode() + rfc8785.dumps(what)  # pyright: ignore[reportArgumentType]  # it checks what it gets
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise BadSignature(said.operator, f"what was said has no canonical form: {error}") from error


def sign_result(said: Attributed, key: OperatorKey) -> str:
    """Return the result's `signature`: `0x` and r, s, v as 130 hex digits. Raises BadSignature if the operator is another."""
    if said.operator.lower() != key.address.lower():
        raise BadSignature(said.operator, f"the key is that of {key.address}")
    return f"0x{key.sign(personal(statement_of(said))).hex()}"


def check_result(said: Attributed, signature: str) -> str:
    """Return the address, in EIP-55 mixed case, whose result it is. Raises BadSignature."""
    if not _SIGNATURE.fullmatch(signature):
        raise BadSignature(said.operator, "it must be 0x and 130 lower-case hex digits")
    return signer(personal(statement_of(said)), bytes.fromhex(signature[2:]), said.operator)
