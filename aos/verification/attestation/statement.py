"""What evidence is bound to: 64 bytes that name the key, and either a challenge or one job's answer. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from eth_utils.address import to_checksum_address

from aos.errors import InvalidField
from aos.v1.receipt_pb2 import Receipt

STATEMENT_BYTES: Final = 64
"""What report_data holds."""
NONCE_BYTES: Final = 32
DIGEST_BYTES: Final = 32

KEY_TAG: Final = b"AOS-TEE-KEY-1\0\0\0"
DECLARATION_TAG: Final = b"AOS-TEE-DECLARE1"
ANSWER_TAG: Final = b"AOS-TEE-ANSWER-1"
"""Sixteen bytes each: no digest of one kind is one of another."""

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_DIGESTS: Final = ("job", "model_digest", "request_digest", "prompt_digest", "output_digest", "output_tokens_digest")


@dataclass(frozen=True, slots=True)
class Statement:
    """What the code inside the enclave had signed."""

    key: str
    """The operator's address, in EIP-55 mixed case."""
    nonce: bytes
    """What makes it fresh: the challenge, or the job's id. 32 bytes; also the nonce of providers' documents that have one."""
    subject: bytes
    """Digest of what is said, 32 bytes."""

    @property
    def report_data(self) -> bytes:
        """As it stands in the evidence: report_data of a quote, user_data of a document."""
        return hashlib.sha256(KEY_TAG + bytes.fromhex(self.key[2:])).digest() + self.subject


def declare(operator: str, nonce: bytes) -> Statement:
    """Return the statement "this operator's key is mine", in answer to a challenge. Raises InvalidField."""
    _check("nonce", nonce, NONCE_BYTES)
    return Statement(_address(operator), nonce, hashlib.sha256(DECLARATION_TAG + nonce).digest())


def answer(receipt: Receipt) -> Statement:
    """Return the statement "this job, with this model, prompt and parameters, has this answer". Raises InvalidField.

    The signature of the receipt is not looked at: it may be made afterwards.
    """
    for name in _DIGESTS:
        _check(name, getattr(receipt, name), DIGEST_BYTES)
    parts = [
        receipt.job,
        receipt.model_digest,
        receipt.request_digest,
        receipt.prompt_digest,
        hashlib.sha256(receipt.parameters.encode()).digest(),
        receipt.output_digest,
        receipt.output_tokens_digest,
    ]
    return Statement(_address(f"0x{receipt.operator.hex()}"), receipt.job, hashlib.sha256(ANSWER_TAG + b"".join(parts)).digest())


def _address(operator: str) -> str:
    if not _ADDRESS.fullmatch(operator):
        raise InvalidField("operator", "must be an address: 0x and 40 hex digits", value=operator)
    return to_checksum_address(operator)


def _check(field: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise InvalidField(field, f"must have {size} bytes", value=len(data), limit=size)
