"""A request that a wallet signs: its headers, what is hashed and signed, and what is checked. Pure.

The struct is the contracts' `Request` (aos/verification/wallets.py), so that a provider can show it in a dispute.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import rfc8785
from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct

from aos.errors import BadHeader, OtherChain, RequestExpired, RequestSignature, SignatureHighS
from aos.v1.requests_pb2 import SignedRequest
from aos.verification.wallets import INFERENCE, Contract, payer_statement, request_statement

EMBEDDED: Final = Contract(INFERENCE, 0, "0x" + 40 * "0")
"""Where requests are good on a network without a chain."""
LONGEST_SECONDS: Final = 86_400
"""How long a request can be good: so long its nonce is remembered."""
SIGNATURE_BYTES: Final = 65
HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Largest s of a signature; n - s would be as good, and anyone could compute it."""

ADDRESS, NONCE, FEE, SIGNATURE = "Address", "Nonce", "Fee", "Signature"
PROVIDER, SERVICE, EXPIRY = "X-AOS-Provider", "X-AOS-Service", "X-AOS-Expiry"
BODY_HASH, CHAIN, ACCOUNT = "X-AOS-Body-Hash", "X-AOS-Chain-Id", "X-AOS-Account"
HEADERS: Final = (ADDRESS, NONCE, FEE, SIGNATURE, PROVIDER, SERVICE, EXPIRY, BODY_HASH, CHAIN, ACCOUNT)
"""All are needed. The first four have the names that they always had."""
OLD_SERVICE: Final = "Service-Name"
"""Says the same as ``SERVICE``, which goes before it."""

_FORMS: Final = {
    ADDRESS: (r"0[xX][0-9A-Fa-f]{40}", "0x and 40 hex digits"),
    PROVIDER: (r"0[xX][0-9A-Fa-f]{40}", "0x and 40 hex digits"),
    NONCE: (r"[0-9]{1,19}", "decimal digits of an integer below 2^63"),
    FEE: (r"[0-9]{1,38}", "neurons, as at most 38 decimal digits"),
    SIGNATURE: (r"0[xX][0-9A-Fa-f]{130}", "0x and 130 hex digits: r, s and v"),
    EXPIRY: (r"[0-9]{1,12}", "seconds since 1970, in decimal digits"),
    CHAIN: (r"[0-9]{1,18}", "decimal digits"),
    BODY_HASH: (r"0[xX][0-9A-Fa-f]{64}", "0x and 64 hex digits"),
    SERVICE: (r"[ -~]{1,128}", "1 to 128 printable ASCII characters"),
    ACCOUNT: (r"accounts/[A-Za-z0-9._-]{1,64}", "accounts/ and 1 to 64 letters, digits and ._-"),
}
NONCE_LIMIT: Final = 1 << 63


def body_hash(body: Mapping[str, Any]) -> bytes:
    """Return what stands for a body in a request: SHA-256 of its canonical JSON, however it was written.

    Raises ValueError for what canonical JSON cannot say, such as integers above 2^53.
    """
    return hashlib.sha256(rfc8785.dumps(dict(body))).digest()


def headers_of(request: SignedRequest) -> dict[str, str]:
    """Return the HTTP headers that say a request."""
    said = (
        request.user, str(request.nonce), request.max_fee, f"0x{request.signature.hex()}", request.provider, request.service,
        str(request.expiry), f"0x{request.body_hash.hex()}", str(request.chain_id), request.account,
    )  # fmt: skip
    return dict(zip(HEADERS, said, strict=True))


def read_headers(headers: Mapping[str, str]) -> SignedRequest:
    """Return what HTTP headers, their names in lower case, say. Raises BadHeader for the first that is missing or malformed."""
    found = {name: headers.get(name.lower(), "") for name in HEADERS}
    found[SERVICE] = found[SERVICE] or headers.get(OLD_SERVICE.lower(), "")
    for name, value in found.items():
        pattern, words = _FORMS[name]
        if not value:
            raise BadHeader(name, f"is missing; it must be {words}")
        if not re.fullmatch(pattern, value):
            raise BadHeader(name, f"must be {words}")
    nonce = int(found[NONCE])
    if nonce >= NONCE_LIMIT:
        raise BadHeader(NONCE, f"must be {_FORMS[NONCE][1]}")
    return SignedRequest(
        account=found[ACCOUNT],
        user=found[ADDRESS],
        provider=found[PROVIDER],
        service=found[SERVICE],
        body_hash=bytes.fromhex(found[BODY_HASH][2:]),
        max_fee=str(int(found[FEE])),
        nonce=nonce,
        expiry=int(found[EXPIRY]),
        chain_id=int(found[CHAIN]),
        signature=bytes.fromhex(found[SIGNATURE][2:]),
    )


def statement_of(request: SignedRequest, contract: Contract) -> SignableMessage:
    """Return what the wallet signs. Raises ValueError for addresses and amounts that are none."""
    return request_statement(
        contract,
        user=request.user,
        provider=request.provider,
        service=request.service,
        body_hash=request.body_hash,
        max_fee=int(request.max_fee),
        nonce=request.nonce,
        expiry=request.expiry,
    )


def check_request(request: SignedRequest, contract: Contract, *, now: int) -> None:
    """Raise what is wrong with a request by itself: OtherChain, RequestExpired, SignatureHighS or RequestSignature.

    ``now`` is in seconds since 1970.
    """
    if request.chain_id != contract.chain_id:
        raise OtherChain(request.chain_id, contract.chain_id)
    if not now < request.expiry <= now + LONGEST_SECONDS:
        raise RequestExpired(request.expiry, now, LONGEST_SECONDS)
    _check_signed(lambda: statement_of(request, contract), request.signature, request.user)


def check_payer(account: str, wallet: str, expiry: int, signature: bytes, contract: Contract, *, now: int) -> None:
    """Raise what is wrong with a wallet's word that it pays for an account: RequestExpired, SignatureHighS or RequestSignature."""
    if not now < expiry <= now + LONGEST_SECONDS:
        raise RequestExpired(expiry, now, LONGEST_SECONDS)
    _check_signed(lambda: payer_statement(contract, wallet=wallet, account=account, expiry=expiry), signature, wallet)


def _check_signed(said: Callable[[], SignableMessage], signature: bytes, user: str) -> None:
    if len(signature) != SIGNATURE_BYTES:
        raise RequestSignature(user, f"it has {len(signature)} bytes, not {SIGNATURE_BYTES}")
    if int.from_bytes(signature[32:64], "big") > HALF_ORDER:
        raise SignatureHighS
    try:
        signer = Account.recover_message(said(), signature=signature)
    except Exception as error:  # eth-keys raises several kinds for what is malformed
        raise RequestSignature(user, "it is malformed") from error
    if signer.lower() != user.lower():
        raise RequestSignature(user, "another key made it, or something was changed")


def exchange_text(request_hash: bytes, response_hash: bytes) -> str:
    """Return the text that is signed for an answer: SHA-256 of the bytes received and of the bytes sent, in hex."""
    return f"{request_hash.hex()}:{response_hash.hex()}"


def exchange_statement(text: str) -> SignableMessage:
    """Return what is signed for an answer: the text, by EIP-191."""
    return encode_defunct(text=text)


def exchange_signer(text: str, signature: str) -> str:
    """Return the address that signed the text, or an empty string for what is no signature. ``signature`` is `0x…` or hex."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        return str(Account.recover_message(exchange_statement(text), signature=raw))
    except Exception:  # eth-keys raises several kinds
        return ""
