"""A wallet that may spend a project's money, and requests that it signs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aos.testing.harness import Aos
from aos.v1.broker_pb2 import AcknowledgeSignerRequest, TransferFundRequest
from aos.v1.requests_pb2 import AuthorizeWalletRequest, SignedRequest
from aos.v1.requests_pb2_grpc import RequestsStub
from aos.verification.keys import OperatorKey
from aos.verification.requests import EMBEDDED, body_hash, headers_of, statement_of
from aos.verification.wallets import Contract

FUNDS = 10**9
"""What the sub-account begins with."""
FEE = 10**6


@dataclass(slots=True)
class Wallet:
    """Signs for one account and provider."""

    account: str
    provider: str
    key: OperatorKey = field(default_factory=OperatorKey.create)
    contract: Contract = EMBEDDED
    now: int = 0
    nonces: Any = field(default_factory=lambda: itertools.count(1))

    def request(self, body: Mapping[str, Any], **other: Any) -> SignedRequest:
        """A request for the body, signed; ``other`` are fields that it has in place of what is right."""
        signed = SignedRequest(
            **{
                "account": self.account,
                "user": self.key.address,
                "provider": self.provider,
                "service": str(body["model"]),
                "body_hash": body_hash(body),
                "max_fee": str(FEE),
                "nonce": next(self.nonces),
                "expiry": self.now + 600,
                "chain_id": self.contract.chain_id,
            }
            | other
        )
        signed.signature = self.key.sign(statement_of(signed, self.contract))
        return signed

    def headers(self, body: Mapping[str, Any], **other: Any) -> dict[str, str]:
        """The headers of such a request."""
        return headers_of(self.request(body, **other))


async def a_wallet(aos: Aos, requests: RequestsStub, *, funds: int = FUNDS, acknowledged: bool = True) -> Wallet:
    """A wallet of the network's project, authorized, with money at the first operator, whose signer is acknowledged."""
    provider = aos.operators[0]
    made = Wallet(f"accounts/{aos.project.removeprefix('projects/')}", provider, now=int(aos.clock.now().timestamp()))
    await requests.AuthorizeWallet(AuthorizeWalletRequest(wallet=made.key.address))
    await aos.broker.TransferFund(TransferFundRequest(provider=provider, service="inference", amount=str(funds)))
    if acknowledged:
        await aos.broker.AcknowledgeSigner(AcknowledgeSignerRequest(provider=provider, service="inference", signer=provider))
    return made
