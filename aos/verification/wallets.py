"""What wallets and operators sign for the contracts: EIP-712, in the domain of one contract on one chain. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from eth_account.messages import SignableMessage, encode_typed_data

from aos.v1.receipt_pb2 import Receipt
from aos.verification.keys import digest_of, word
from aos.verification.receipts import FIELDS, receipt_message

VERSION: Final = "1"
INFERENCE: Final = "AOS Inference Serving"
FINE_TUNING: Final = "AOS Fine-Tuning Serving"

_LINE: Final = [("user", "address"), ("root", "bytes32"), ("total", "uint256"), ("count", "uint256")]
_BATCH: Final = [("provider", "address"), ("lines", "Line[]"), ("nonce", "uint256"), ("deadline", "uint256")]
_REQUEST: Final = [
    ("user", "address"), ("provider", "address"), ("service", "string"), ("bodyHash", "bytes32"), ("maxFee", "uint256"),
    ("nonce", "uint256"), ("expiry", "uint256"),
]  # fmt: skip
_PAYER: Final = [("wallet", "address"), ("account", "string"), ("expiry", "uint256")]
_TASK: Final = [
    ("user", "address"), ("provider", "address"), ("contents", "bytes32"), ("maxFee", "uint256"), ("nonce", "uint256"),
]  # fmt: skip
_SETTLEMENT: Final = [
    ("user", "address"), ("provider", "address"), ("id", "string"), ("encryptedSecret", "bytes"), ("modelRootHash", "bytes"),
    ("nonce", "uint256"), ("taskFee", "uint256"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contract:
    """Where a statement is good: one contract on one chain."""

    name: str
    chain_id: int
    address: str

    @property
    def domain(self) -> dict[str, Any]:
        """The EIP-712 domain."""
        return {"name": self.name, "version": VERSION, "chainId": self.chain_id, "verifyingContract": self.address}


class LineOfBatch(Protocol):
    """One user's receipts with one provider: their root, what they come to, and how many there are."""

    @property
    def user(self) -> str: ...
    @property
    def root(self) -> bytes: ...
    @property
    def total(self) -> int: ...
    @property
    def count(self) -> int: ...


def batch_statement(contract: Contract, provider: str, lines: Sequence[LineOfBatch], nonce: int, deadline: int) -> SignableMessage:
    """Return what an operator signs to be paid for receipts. ``deadline`` is in seconds since 1970."""
    shown = [{"user": line.user, "root": line.root, "total": line.total, "count": line.count} for line in lines]
    message = {"provider": provider, "lines": shown, "nonce": nonce, "deadline": deadline}
    return _statement(contract, {"Batch": _BATCH, "Line": _LINE}, message)


def request_statement(
    contract: Contract, *, user: str, provider: str, service: str, body_hash: bytes, max_fee: int, nonce: int, expiry: int
) -> SignableMessage:
    """Return what a user signs for one answer: at most ``max_fee`` neurons, until ``expiry``, seconds since 1970."""
    message = {"user": user, "provider": provider, "service": service, "bodyHash": body_hash}
    return _statement(contract, {"Request": _REQUEST}, message | {"maxFee": max_fee, "nonce": nonce, "expiry": expiry})


def payer_statement(contract: Contract, *, wallet: str, account: str, expiry: int) -> SignableMessage:
    """Return what a wallet signs to pay for an account on the chain, said until ``expiry``, seconds since 1970."""
    return _statement(contract, {"Payer": _PAYER}, {"wallet": wallet, "account": account, "expiry": expiry})


def task_statement(contract: Contract, *, user: str, provider: str, contents: bytes, max_fee: int, nonce: int) -> SignableMessage:
    """Return what a user signs to have a model trained. ``contents`` is SHA-256 of the task's canonical JSON."""
    message = {"user": user, "provider": provider, "contents": contents, "maxFee": max_fee, "nonce": nonce}
    return _statement(contract, {"Task": _TASK}, message)


def settlement_statement(
    contract: Contract, *, user: str, provider: str, id_: str, secret: bytes, root: bytes, nonce: int, fee: int
) -> SignableMessage:
    """Return what a provider's signer signs to settle a deliverable; ``secret`` is empty for the penalty."""
    message = {"user": user, "provider": provider, "id": id_, "encryptedSecret": secret, "modelRootHash": root}
    return _statement(contract, {"Settlement": _SETTLEMENT}, message | {"nonce": nonce, "taskFee": fee})


def receipt_words(receipt: Receipt) -> tuple[bytes, ...]:
    """Return the 32-byte words of the receipt's struct, texts by their hashes: what a contract is shown. Raises BadReceipt."""
    message = receipt_message(receipt)
    return tuple(word(type_, message[name]) for name, type_ in FIELDS)


def service_word(service: str) -> bytes:
    """Return a request's service as a contract is shown it: 32 bytes."""
    return word("string", service)


def digest(statement: SignableMessage) -> bytes:
    """Return the 32 bytes that are signed."""
    return digest_of(statement)


def _statement(contract: Contract, types: Mapping[str, list[tuple[str, str]]], message: dict[str, Any]) -> SignableMessage:
    named = {kind: [{"name": name, "type": type_} for name, type_ in fields] for kind, fields in types.items()}
    return encode_typed_data(contract.domain, named, message)
