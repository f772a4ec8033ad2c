"""Requests over gRPC: which wallets sign for an account, what they sign taken once, and what is signed over the answers."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aos.broker.calls import owner
from aos.broker.ledger import Key, Service, check_signer
from aos.broker.requests import check_address, check_amount, check_answer, check_job, check_project_account, is_answer_key
from aos.broker.requests_store import AnswerStore, WalletStore
from aos.broker.settings import BrokerSettings
from aos.broker.store import LedgerStore
from aos.clock import Clock
from aos.errors import JobNotFound, WalletNotAuthorized
from aos.v1 import requests_pb2 as pb
from aos.v1 import requests_pb2_grpc
from aos.verification.requests import check_request
from aos.verification.wallets import VERSION, Contract

WALLETS: Final = 100
"""Most wallets of one account."""
ANSWER_SECONDS: Final = 20 * 60
"""How long a signature over an answer is kept."""


class RequestsServicer(requests_pb2_grpc.RequestsServicer):
    """The Requests service. ``contract`` is where requests have to be signed for."""

    def __init__(
        self,
        wallets: WalletStore,
        ledgers: LedgerStore,
        answers: AnswerStore,
        *,
        settings: BrokerSettings,
        contract: Contract,
        clock: Clock,
    ) -> None:
        self._wallets, self._ledgers, self._answers, self._settings = wallets, ledgers, answers, settings
        self._contract, self._clock = contract, clock

    async def AuthorizeWallet(self, request: pb.AuthorizeWalletRequest, context: Any) -> pb.Wallets:
        """Let a wallet sign for an account."""
        account, wallet = owner(request.account, "account"), check_address(request.wallet, "wallet")
        (await self._ledgers.books(account)).owned()
        return pb.Wallets(account=account, wallets=await self._wallets.authorize(account, wallet, most=WALLETS))

    async def RevokeWallet(self, request: pb.RevokeWalletRequest, context: Any) -> pb.Wallets:
        """Let it no longer."""
        account, wallet = owner(request.account, "account"), check_address(request.wallet, "wallet")
        return pb.Wallets(account=account, wallets=await self._wallets.revoke(account, wallet))

    async def ListWallets(self, request: pb.ListWalletsRequest, context: Any) -> pb.Wallets:
        """Show who may sign."""
        account = owner(request.account, "account")
        return pb.Wallets(account=account, wallets=await self._wallets.wallets(account))

    async def GetRequestDomain(self, request: pb.GetRequestDomainRequest, context: Any) -> pb.RequestDomain:
        """Show in which domain requests are signed."""
        at = self._contract
        return pb.RequestDomain(name=at.name, version=VERSION, chain_id=at.chain_id, verifying_contract=at.address)

    async def AdmitRequest(self, request: pb.SignedRequest, context: Any) -> pb.AdmittedRequest:
        """Take a signed request, once."""
        account = check_project_account(request.account, "account")
        key = Key(Service.INFERENCE, check_address(request.provider, "provider"))
        check_amount(request.max_fee, "max_fee", least=0, most=self._settings.largest)
        now = self._clock.now()
        seconds = int(now.timestamp())
        user = check_address(request.user, "user")
        # first: strangers are not to make the network recover keys, which takes milliseconds, and so a thread
        if user not in await self._wallets.wallets(account):
            raise WalletNotAuthorized(account, user)
        await asyncio.to_thread(check_request, request, self._contract, now=seconds)
        # who is not acknowledged could not be paid for its work; operators sign with their own keys
        check_signer((await self._ledgers.books(account)).sub(key), key.provider, now)
        # shown on the chain, if a dispute asks for it
        body = request.SerializeToString() if self._contract.chain_id else b""
        await self._wallets.use(account, user, request.nonce, expiry=request.expiry, now=seconds, body=body)
        return pb.AdmittedRequest(project=f"projects/{account.removeprefix('accounts/')}")

    async def NoteJob(self, request: pb.NoteJobRequest, context: Any) -> pb.NoteJobResponse:
        """Keep which job a request became."""
        job = check_job(request.job, "job")
        await self._wallets.ran(check_address(request.user, "user"), request.nonce, job)
        return pb.NoteJobResponse()

    async def KeepAnswer(self, request: pb.SignedAnswer, context: Any) -> pb.KeepAnswerResponse:
        """Keep a signature over an answer."""
        now = int(self._clock.now().timestamp())
        await self._answers.keep(check_answer(request), expiry=now + ANSWER_SECONDS, now=now)
        return pb.KeepAnswerResponse()

    async def GetAnswer(self, request: pb.GetAnswerRequest, context: Any) -> pb.SignedAnswer:
        """Show a signature over an answer."""
        now = int(self._clock.now().timestamp())
        found = await self._answers.find(request.key, now=now) if is_answer_key(request.key) else None
        if found is None:
            raise JobNotFound(request.key)
        return found
