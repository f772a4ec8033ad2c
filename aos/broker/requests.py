"""What callers may ask of a broker: names, amounts, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from aos.broker.ledger import Key, Service
from aos.errors import InvalidField
from aos.v1.requests_pb2 import SignedAnswer

REQUEST_ID: Final = 64
"""Most characters of a deposit's request_id."""
ACCOUNT_ID: Final = 64
"""Most characters of an account's id."""

_ACCOUNT: Final = re.compile(rf"accounts/(?!-$)[A-Za-z0-9._-]{{1,{ACCOUNT_ID}}}")
_OPERATOR: Final = re.compile(r"accounts/0[xX][0-9A-Fa-f]{40}")
_HOLD: Final = re.compile(r"holds/[0-9a-f]{64}")
_JOB: Final = re.compile(r"jobs/[0-9a-f]{64}")
_ADDRESS: Final = re.compile(r"0[xX][0-9A-Fa-f]{40}")
_RECEIPT: Final = re.compile(r"receipts/[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,77}")
NOBODY: Final = "0x" + 40 * "0"
KEY_PARTS: Final = 2
"""Numbers in a delegated key."""
ANSWER_KEYS: Final = 2
"""Most keys of a signature over an answer."""
SIGNATURE_BYTES: Final = 65
_ANSWER_KEY: Final = re.compile(r"[!-~]{1,128}")
_ANSWER_TEXT: Final = re.compile(r"[ -~]{1,256}")
_REQUEST_ID: Final = re.compile(rf"[!-~]{{1,{REQUEST_ID}}}")


def check_account(name: str, at: str) -> str:
    """Return the account's name. Raises InvalidField."""
    if not _ACCOUNT.fullmatch(name):
        limit = f"accounts/ and 1 to {ACCOUNT_ID} letters, digits and ._-"
        raise InvalidField(at, f"must be {limit}", value=name, limit=limit)
    # addresses are the same in any case of their digits, and so are their accounts
    return name.lower() if is_operators(name) else name


def is_operators(account: str) -> bool:
    """Say whether the account is an operator's: its id is an address."""
    return _OPERATOR.fullmatch(account) is not None


def check_project_account(name: str, at: str) -> str:
    """Return the name of an account that jobs may bind. Raises InvalidField: what an operator has earned is not a project's."""
    if is_operators(name):
        raise InvalidField(at, "is an operator's; only projects pay for jobs", value=name, limit="a project's account")
    return check_account(name, at)


def check_hold(name: str, at: str) -> str:
    """Return the hold's name. Raises InvalidField."""
    if not _HOLD.fullmatch(name):
        raise InvalidField(
            at, "must be holds/ and the 64 lower-case hex digits of a job", value=name, limit="holds/ + 64 hex digits"
        )
    return name


def check_job(name: str, at: str) -> str:
    """Return the job's name. Raises InvalidField."""
    if not _JOB.fullmatch(name):
        raise InvalidField(at, "must be jobs/ and 64 lower-case hex digits", value=name, limit="jobs/ + 64 hex digits")
    return name


def check_request_id(request_id: str, at: str) -> str:
    """Return the id. Raises InvalidField."""
    if not _REQUEST_ID.fullmatch(request_id):
        limit = f"1 to {REQUEST_ID} printable ASCII characters"
        raise InvalidField(at, f"must have {limit}", value=request_id, limit=limit)
    return request_id


def check_amount(digits: str, at: str, *, least: int, most: int) -> int:
    """Return the amount. Raises InvalidField unless it is decimal digits of an integer from ``least`` to ``most``."""
    # length first: turning a long text into an integer takes time that grows with its square
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(most)) and least <= int(digits) <= most):
        raise InvalidField(at, f"must be an integer from {least} to {most}, as decimal digits", value=digits, limit=most)
    return int(digits)


def check_optional_id(request_id: str, at: str) -> str:
    """Return the id, which may be empty. Raises InvalidField."""
    return check_request_id(request_id, at) if request_id else ""


def check_key(service: str, provider: str) -> Key:
    """Return which sub-account it is. Raises InvalidField."""
    return Key(check_service(service, "service"), check_address(provider, "provider"))


def check_service(service: str, at: str) -> Service:
    """Return the service. Raises InvalidField."""
    try:
        return Service(service)
    except ValueError as error:
        limit = " or ".join(Service)
        raise InvalidField(at, f"must be {limit}", value=service, limit=limit) from error


def check_address(address: str, at: str) -> str:
    """Return the address in lower case. Raises InvalidField, also for that of zeros, which is nobody's."""
    if not _ADDRESS.fullmatch(address) or address.lower() == NOBODY:
        raise InvalidField(at, "must be 0x and 40 hex digits, not all 0", value=address, limit="0x + 40 hex digits")
    return address.lower()


def check_receipt(name: str, at: str) -> str:
    """Return the receipt's digest in hex. Raises InvalidField."""
    if not _RECEIPT.fullmatch(name):
        limit = "receipts/ and 64 lower-case hex digits"
        raise InvalidField(at, f"must be {limit}", value=name, limit=limit)
    return name.removeprefix("receipts/")


def check_info(info: str, at: str, *, most: int) -> str:
    """Return the text. Raises InvalidField for one that is too long."""
    size = len(info.encode())
    if size > most:
        raise InvalidField(at, f"has {size} bytes; at most {most} are accepted", value=size, limit=most)
    return info


def is_answer_key(text: str) -> bool:
    """Say whether a signature over an answer could be kept under it."""
    return _ANSWER_KEY.fullmatch(text) is not None


def check_answer(answer: SignedAnswer) -> SignedAnswer:
    """Return the signature over an answer. Raises InvalidField for one that none is."""
    if not 1 <= len(answer.keys) <= ANSWER_KEYS or not all(map(is_answer_key, answer.keys)):
        limit = f"1 to {ANSWER_KEYS}, each of 1 to 128 printable ASCII characters without spaces"
        raise InvalidField("keys", f"must be {limit}", value=", ".join(answer.keys), limit=limit)
    if not _ANSWER_TEXT.fullmatch(answer.text):
        limit = "1 to 256 printable ASCII characters"
        raise InvalidField("text", f"must have {limit}", value=answer.text, limit=limit)
    if len(answer.signature) != SIGNATURE_BYTES:
        problem = f"must have {SIGNATURE_BYTES} bytes"
        raise InvalidField("signature", problem, value=len(answer.signature), limit=SIGNATURE_BYTES)
    check_address(answer.signing_address, "signing_address")
    return answer


def check_signing_key(numbers: Sequence[str], at: str) -> tuple[int, int]:
    """Return a delegated key, zeros if there is none. Raises InvalidField unless it is two integers below 2^256."""
    if not numbers:
        return (0, 0)
    if len(numbers) != KEY_PARTS or not all(_NUMBER.fullmatch(one) and int(one) < 1 << 256 for one in numbers):
        raise InvalidField(at, "must be two integers below 2^256, as decimal digits", value=",".join(numbers), limit="2^256 - 1")
    return int(numbers[0]), int(numbers[1])
