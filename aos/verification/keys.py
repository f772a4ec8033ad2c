"""Operators' keys, and the EIP-712 statements that they sign: receipts, registrations, answers to a challenge."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import coincurve
import rfc8785
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from aos.errors import BadSignature
from aos.v1.registry_pb2 import Offer, OperatorProof
from aos.verification.vrf import SEED_BYTES, VrfKey

DOMAIN: Final = {"name": "AOS", "version": "1"}
"""The EIP-712 domain of every statement. Bound to no chain: receipts are good wherever they are settled."""

TEE_TAG: Final = b"tee"
CAN: Final = ("exact", "embeddings", "images", "image_edits", "controllers")
"""What an offer says of its model only if it is so."""
"""Before the digest of evidence, in what a registration's proof says."""
SIGNATURE_BYTES: Final = 65
ADDRESS_BYTES: Final = 20
WORD: Final = 32
RECOVERY: Final = (27, 28)
"""What v of a signature is, as signers write it."""
STATEMENTS: Final = 64
"""Most kinds of structs whose types' digests are kept."""
TEXTS: Final = 1024
"""Most texts whose words are kept: most receipts have a profile and parameters that others had before."""
TEXT_CHARS: Final = 512
"""Longer ones are hashed anew each time."""
SIGNERS: Final = 1024
"""Most addresses whose spelling is kept."""
PROOF_SECONDS: Final = 60
"""How far a proof's `issued_at` may be from the reader's clock."""


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A secp256k1 key. Its repr shows the address only."""

    _account: LocalAccount
    _secret: coincurve.PrivateKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_secret", coincurve.PrivateKey(bytes(self._account.key)))

    @classmethod
    def create(cls) -> OperatorKey:
        return cls(Account.create())

    @classmethod
    def load(cls, path: Path) -> OperatorKey:
        """Return the key in the file, 64 hex digits; a new one is made, readable by its owner only, if there is no file.

        Raises ValueError, which does not repeat the contents, for a file that holds something else.
        """
        with suppress(FileNotFoundError):
            return cls._read(path)
        _write_secret(path, cls.create()._account.key.hex())  # noqa: SLF001  # its own
        return cls._read(path)

    @classmethod
    def from_hex(cls, digits: str) -> OperatorKey:
        """Return the key of 64 hex digits. Raises ValueError, which does not repeat them, for what is none."""
        try:
            return cls(Account.from_key(bytes.fromhex(digits.strip().removeprefix("0x"))))
        except Exception:  # eth-keys raises several kinds, some with the key in their words
            raise ValueError("a key must be 64 hex digits") from None

    @classmethod
    def _read(cls, path: Path) -> OperatorKey:
        text = path.read_text()
        try:
            return cls.from_hex(text)
        except ValueError:
            raise ValueError(f"{path} holds no key: 64 hex digits are needed") from None

    @property
    def address(self) -> str:
        """`0x` and 40 hex digits, in EIP-55 mixed case."""
        return self._account.address

    def sign(self, statement: SignableMessage) -> bytes:
        """Return the signature: r, s and v, 65 bytes."""
        # what eth-account's sign_message does, which reads the key anew each time, in a quarter of the time
        found = self._secret.sign_recoverable(digest_of(statement), hasher=None)
        return found[:-1] + bytes([found[-1] + RECOVERY[0]])

    def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        """Return the raw transaction, signed for the chain that it names."""
        return bytes(self._account.sign_transaction(transaction).raw_transaction)

    def __repr__(self) -> str:
        return f"OperatorKey({self.address})"


def load_vrf_key(path: Path) -> VrfKey:
    """Return the VRF key in the file, a seed of 64 hex digits; a new one is made, as OperatorKey.load does.

    Raises ValueError, which does not repeat the contents, for a file that holds something else.
    """
    if not path.exists():
        _write_secret(path, secrets.token_bytes(SEED_BYTES).hex())
    try:
        return VrfKey(bytes.fromhex(path.read_text().strip()))
    except ValueError:
        raise ValueError(f"{path} holds no VRF key: {2 * SEED_BYTES} hex digits are needed") from None


def _write_secret(path: Path, digits: str) -> None:
    """Make the file, readable by its owner only, unless another has made it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # written whole under another name first: a crash leaves no empty key file, and of two who do this at once one wins
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:  # has mode 0600
        file.write(f"{digits}\n")
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


def signer(statement: SignableMessage, signature: bytes, claimed: str) -> str:
    """Return the address that signed. Raises BadSignature if it is not the claimed one."""
    try:
        address = _recovered(statement, signature)
    except Exception as error:  # eth-keys raises several kinds for malformed signatures
        raise BadSignature(claimed, "it is malformed") from error
    if address.lower() != claimed.lower():
        raise BadSignature(claimed, "another key made it, or the contents were changed")
    return address


def _recovered(statement: SignableMessage, signature: bytes) -> str:
    if len(signature) != SIGNATURE_BYTES or signature[-1] not in RECOVERY:  # other spellings of v
        return Account.recover_message(statement, signature=signature)
    # what the line above does, with fewer looks at what is known here, in a quarter of the time
    said = digest_of(statement)
    public = coincurve.PublicKey.from_signature_and_message(
        signature[:-1] + bytes([signature[-1] - RECOVERY[0]]), said, hasher=None
    )
    return _spelt(bytes(keccak(public.format(compressed=False)[1:])[-ADDRESS_BYTES:]))


@lru_cache(maxsize=SIGNERS)
def _spelt(address: bytes) -> str:
    return str(to_checksum_address(address))


def digest_of(statement: SignableMessage) -> bytes:
    """Return the 32 bytes that are signed."""
    return bytes(keccak(b"\x19" + statement.version + statement.header + statement.body))


def statement(kind: str, fields: list[tuple[str, str]], message: dict[str, Any]) -> SignableMessage:
    """Return the EIP-712 statement of one struct; ``fields`` are (name, type) in the struct's order.

    Types are `string`, `address`, `bytes32` and unsigned integers. Raises ValueError or OverflowError for a value that does not
    fit. It is what eth-account's encode_typed_data returns, in a tenth of the time: what is the same for all structs of a kind is
    worked out once.
    """
    domain, of_type = _fixed(kind, tuple(fields))
    return SignableMessage(b"\x01", domain, bytes(keccak(of_type + b"".join(word(type_, message[name]) for name, type_ in fields))))


@lru_cache(maxsize=STATEMENTS)
def _fixed(kind: str, fields: tuple[tuple[str, str], ...]) -> tuple[bytes, bytes]:
    """Return the digests of the domain and of the struct's type."""
    domain = encode_typed_data(DOMAIN, {kind: [{"name": "nothing", "type": "bytes32"}]}, {"nothing": bytes(WORD)}).header
    return domain, bytes(keccak(text=f"{kind}({','.join(f'{type_} {name}' for name, type_ in fields)})"))


def word(type_: str, value: Any) -> bytes:
    """Return the 32 bytes that stand for a value of the type in a struct. Raises ValueError or OverflowError if it does not fit."""
    if type_ == "bytes32":  # most are
        if len(value) != WORD:
            raise ValueError(f"{len(value)} bytes are not {WORD}")
        return bytes(value)
    if type_ == "string":
        return _text_word(value) if len(value) <= TEXT_CHARS else bytes(keccak(text=value))
    if type_ == "address":
        digits = value.removeprefix("0x")
        if len(digits) != 2 * ADDRESS_BYTES or digits == value:
            raise ValueError(f"{value!r} is no address")
        return bytes.fromhex(digits).rjust(WORD, b"\x00")
    bits = int(type_.removeprefix("uint"))
    return value.to_bytes(bits // 8, "big").rjust(WORD, b"\x00")


@lru_cache(maxsize=TEXTS)
def _text_word(text: str) -> bytes:
    return bytes(keccak(text=text))


def attach_statement(nonce: bytes, dispatcher: str, operator: str) -> SignableMessage:
    """Return what an operator signs to attach: the dispatcher's challenge."""
    fields = [("nonce", "bytes32"), ("dispatcher", "string"), ("operator", "address")]
    return statement("Attach", fields, {"nonce": nonce, "dispatcher": dispatcher, "operator": operator})


def registration_statement(action: str, operator: str, offers: bytes, issued_at: int) -> SignableMessage:
    """Return what an operator signs to register, renew or unregister."""
    fields = [("action", "string"), ("operator", "address"), ("offers", "bytes32"), ("issuedAt", "uint64")]
    return statement("Registration", fields, {"action": action, "operator": operator, "offers": offers, "issuedAt": issued_at})


def digest_offers(offers: list[Offer], vrf_key: bytes = b"", evidence: bytes = b"") -> bytes:
    """Return the SHA-256 of the offers' RFC 8785 JSON and, behind it, the VRF key if there is one; 32 zero bytes for none.

    ``evidence`` is the digest of the evidence that the key is attested, if there is any. What ``CAN`` names appears where it is
    true, ``replicas`` where there are some: offers without them keep their digest.
    """
    if not offers:
        return bytes(32)
    what: list[Any] = [
        {
            "model": offer.model,
            "digest": offer.digest,
            "context_length": offer.context_length,
            "chat": offer.chat,
            "price": {"prompt_token": offer.price.prompt_token, "completion_token": offer.price.completion_token},
            "slots": offer.slots,
        }
        | {name: True for name in CAN if getattr(offer, name)}
        | ({"replicas": list(offer.replicas)} if offer.replicas else {})
        for offer in offers
    ]
    return hashlib.sha256(rfc8785.dumps(what) + vrf_key + (TEE_TAG + evidence if evidence else b"")).digest()


def prove(
    key: OperatorKey, action: str, offers: list[Offer], *, issued_at: int, vrf_key: bytes = b"", evidence: bytes = b""
) -> OperatorProof:
    """Return the proof that goes with a registration."""
    said = registration_statement(action, key.address, digest_offers(offers, vrf_key, evidence), issued_at)
    return OperatorProof(operator=key.address, issued_at=issued_at, signature=key.sign(said))


def check_proof(
    proof: OperatorProof,
    action: str,
    offers: list[Offer],
    *,
    now: int,
    last: int,
    vrf_key: bytes = b"",
    evidence: bytes = b"",
) -> str:
    """Return the operator's address. Raises BadSignature for a wrong key, changed contents, or a proof out of date or used.

    ``last`` is the `issued_at` of the last proof taken from this operator, 0 for none.
    """
    if abs(now - proof.issued_at) > PROOF_SECONDS:
        raise BadSignature(proof.operator, f"it was issued more than {PROOF_SECONDS} s from now")
    if proof.issued_at < last:
        raise BadSignature(proof.operator, "a later one was used before")
    try:
        said = registration_statement(action, proof.operator, digest_offers(offers, vrf_key, evidence), proof.issued_at)
    except Exception as error:  # an address that is none
        raise BadSignature(proof.operator, "the address is malformed") from error
    return signer(said, proof.signature, proof.operator)
