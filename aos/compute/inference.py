"""Asking models as a wallet: where a provider is, headers that pay for one answer, and whether the answer is what was signed."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import httpx

from aos.client import CALL_SECONDS, Client, told
from aos.clock import Clock, SystemClock
from aos.compute.inference_check import Verification, check_answer, check_exchange, read_answer
from aos.compute.inference_fees import highest_fee
from aos.compute.ledger import LedgerBroker
from aos.compute.money import Amount, neurons
from aos.compute.services import InferenceBroker
from aos.compute.shapes import Service
from aos.errors import AccountNotFound, InvalidField, JobNotFound, NoChain, OtherProvider, ReceiptNotFound, ServiceUnavailable
from aos.v1 import requests_pb2_grpc
from aos.v1.broker_pb2 import BindPayerRequest, GetAccountRequest, UnbindPayerRequest
from aos.v1.dispatcher_pb2 import GetReceiptRequest
from aos.v1.registry_pb2 import GetModelRequest
from aos.v1.requests_pb2 import (
    AuthorizeWalletRequest,
    GetRequestDomainRequest,
    ListWalletsRequest,
    RevokeWalletRequest,
    SignedRequest,
)
from aos.verification.keys import OperatorKey
from aos.verification.requests import LONGEST_SECONDS, body_hash, headers_of, statement_of
from aos.verification.wallets import Contract, payer_statement

GOOD_SECONDS: Final = 600
"""How long a signed request is good, unless told otherwise."""
BIND_SECONDS: Final = 600
"""How long a wallet's word that it pays for an account can be given, unless told otherwise."""
NONCE_BITS: Final = 63
NOT_FOUND: Final = 404
RESULT_KEY: Final = "zg-res-key"


@dataclass(frozen=True, slots=True)
class ServiceMetadata:
    """Where a provider's model is asked: what the `openai` client takes."""

    endpoint: str
    """Its `base_url`."""
    model: str


class Asked(Protocol):
    """What was sent."""

    @property
    def content(self) -> bytes: ...


class Response(Protocol):
    """A response with its request: an ``httpx.Response``, as the `openai` client gives it in ``raw.http_response``."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def request(self) -> Asked: ...


class _NotVerifiable(Exception):
    """Says what a check would need and has not."""


class WalletInference(InferenceBroker):
    """``broker.inference``. Its calls are the project's; what the wallet signs needs no token."""

    def __init__(
        self,
        client: Client,
        requests: requests_pb2_grpc.RequestsAsyncStub,
        ledger: LedgerBroker,
        *,
        url: str,
        wallet: OperatorKey | None,
        answers_signer: str = "",
        clock: Clock | None = None,
    ) -> None:
        """``url`` is where REST is served. ``answers_signer`` has to sign the hashes of answers; empty: whoever does is told."""
        super().__init__(client)
        self._requests, self._ledger, self._wallet = requests, ledger, wallet
        self._url, self._answers_signer, self._clock = url.rstrip("/"), answers_signer, clock or SystemClock()
        self._domain: Contract | None = None
        self._account = ""

    async def authorize_wallet(self, wallet: str = "") -> list[str]:
        """Let a wallet, by default the broker's own, sign for the account, and return all that may. Again: changes nothing."""
        request = AuthorizeWalletRequest(wallet=wallet or self._key().address)
        with told():
            return list((await self._requests.AuthorizeWallet(request, timeout=CALL_SECONDS)).wallets)

    async def bind_wallet(self, *, good_seconds: int = BIND_SECONDS) -> str:
        """Let the broker's own wallet pay for the account on the chain, in place of any other, and return its address.

        Raises NoChain on a network without one, and LedgerNotFound.
        """
        key, domain = self._key(), await self._request_domain()
        if not domain.chain_id:
            raise NoChain
        account, expiry = await self._own_account(), int(self._clock.now().timestamp()) + good_seconds
        signature = key.sign(payer_statement(domain, wallet=key.address, account=account, expiry=expiry))
        request = BindPayerRequest(account=account, wallet=key.address, expiry=expiry, signature=signature)
        with told():
            return (await self._client.broker.BindPayer(request, timeout=CALL_SECONDS)).wallet

    async def unbind_wallet(self) -> str:
        """Take that back; return the wallet that pays then, the administrator's word, or an empty text."""
        with told():
            return (await self._client.broker.UnbindPayer(UnbindPayerRequest(), timeout=CALL_SECONDS)).wallet

    async def revoke_wallet(self, wallet: str = "") -> list[str]:
        """Let a wallet sign no longer, and return those that still may."""
        request = RevokeWalletRequest(wallet=wallet or self._key().address)
        with told():
            return list((await self._requests.RevokeWallet(request, timeout=CALL_SECONDS)).wallets)

    async def list_wallets(self) -> list[str]:
        """Return the wallets that may sign for the account."""
        with told():
            return list((await self._requests.ListWallets(ListWalletsRequest(), timeout=CALL_SECONDS)).wallets)

    async def get_service_metadata(self, provider: str, model: str = "") -> ServiceMetadata:
        """Return where the provider's model is asked; without a ``model``, its first. Raises OtherProvider if it offers none."""
        return ServiceMetadata(f"{self._url}/v1/proxy", (await self._service(provider, model)).model)

    async def get_request_headers(
        self, provider: str, body: Mapping[str, Any] | str, *, max_fee: Amount | None = None, good_seconds: int = GOOD_SECONDS
    ) -> dict[str, str]:
        """Return the headers that pay for one answer to the body: single-use, for this provider and model, for ``good_seconds``.

        ``body`` is all that the client is told (model, messages, max_tokens, stream, …), as a mapping or as JSON; in which form the
        client sends it is of no matter. What the sub-account has not free of ``max_fee``, by default the most that the answer can
        cost, is transferred before. The signer has to be acknowledged before.

        Raises InvalidField, OtherProvider, InsufficientBalance and LedgerNotFound.
        """
        fields = _fields(body)
        if not 1 <= good_seconds <= LONGEST_SECONDS:
            raise InvalidField("good_seconds", f"must be from 1 to {LONGEST_SECONDS}", value=good_seconds, limit=LONGEST_SECONDS)
        service = await self._service(provider, str(fields.get("model", "")))
        fee = await self._highest_fee(fields) if max_fee is None else neurons(max_fee, "max_fee")
        await self._ledger.ensure_funded(provider, "inference", fee)
        key, domain = self._key(), await self._request_domain()
        request = SignedRequest(
            account=await self._own_account(),
            user=key.address,
            provider=provider,
            service=service.model,
            body_hash=body_hash(fields),
            max_fee=str(fee),
            nonce=secrets.randbits(NONCE_BITS),
            expiry=int(self._clock.now().timestamp()) + good_seconds,
            chain_id=domain.chain_id,
        )
        request.signature = key.sign(statement_of(request, domain))
        return headers_of(request)

    def auth(self, provider: str) -> httpx.Auth:
        """Return what signs every request of an ``httpx`` client, and so of an `openai` client that is given it."""
        return _WalletAuth(self, provider)

    async def process_response(self, provider: str, response: Response, chat_id: str = "") -> Verification:
        """Return whether a response is what was signed for it, streams included, once all of it was read.

        ``chat_id`` is the key of its signature; by default what the response's header says, or its `id`.
        """
        return await self.verify(
            provider, response.request.content, response.content, chat_id or response.headers.get(RESULT_KEY, "")
        )

    async def verify(self, provider: str, sent: bytes, received: bytes, chat_id: str = "") -> Verification:
        """Return whether the bytes are those that were signed, and whether the provider's acknowledged signer gave this answer.

        Recomputes all hashes from ``sent`` and ``received``. What cannot be had is told as the reason why it is not verifiable.
        """
        try:
            return await self._verify(provider, sent, received, chat_id)
        except _NotVerifiable as error:
            return Verification("not verifiable", str(error))

    async def _verify(self, provider: str, sent: bytes, received: bytes, chat_id: str) -> Verification:
        try:
            answer, fields = read_answer(received), _fields(sent.decode())
        except (ValueError, InvalidField) as error:
            raise _NotVerifiable(f"the request or the response is no chat: {error}") from error
        if not answer.job:
            raise _NotVerifiable("the response names no job")
        signed = await self._signature(chat_id or f"cmpl-{answer.job.removeprefix('jobs/')}")
        bad = check_exchange(sent, received, signed, signer=self._answers_signer)
        if bad is not None:
            return bad
        signer = await self._acknowledged(provider)
        try:
            with told():
                bundle = await self._client.dispatcher.GetReceipt(GetReceiptRequest(name=answer.job), timeout=CALL_SECONDS)
        except (JobNotFound, ReceiptNotFound) as error:
            raise _NotVerifiable(error.message) from error
        return check_answer(fields, answer, bundle, signer=signer)

    async def _acknowledged(self, provider: str) -> str:
        try:
            signer = (await self.get_account(provider)).provider_signer
        except AccountNotFound:
            signer = ""
        if not signer:
            raise _NotVerifiable(f"no signer of {provider} was acknowledged")
        return signer

    async def _service(self, provider: str, model: str) -> Service:
        offered = [one for one in await self.list_service(model=model) if one.provider.lower() == provider.lower()]
        if not offered:
            raise OtherProvider(provider, model)
        return offered[0]

    async def _highest_fee(self, fields: Mapping[str, Any]) -> int:
        with told():
            model = await self._client.registry.GetModel(GetModelRequest(name=str(fields["model"])), timeout=CALL_SECONDS)
        return highest_fee(fields, model)

    async def _signature(self, chat_id: str) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=CALL_SECONDS) as client:
                reply = await client.get(f"{self._url}/v1/proxy/signature/{chat_id}")
        except httpx.HTTPError as error:
            raise ServiceUnavailable("gateway") from error
        if reply.status_code == NOT_FOUND:
            raise _NotVerifiable("the network has no signature over this answer, or none any more")
        if not reply.is_success:
            raise ServiceUnavailable("gateway")
        return cast("dict[str, Any]", reply.json())

    async def _request_domain(self) -> Contract:
        if self._domain is None:
            with told():
                said = await self._requests.GetRequestDomain(GetRequestDomainRequest(), timeout=CALL_SECONDS)
            self._domain = Contract(said.name, said.chain_id, said.verifying_contract)
        return self._domain

    async def _own_account(self) -> str:
        if not self._account:
            with told():
                own = await self._client.broker.GetAccount(GetAccountRequest(name="accounts/-"), timeout=CALL_SECONDS)
            self._account = own.name
        return self._account

    def _key(self) -> OperatorKey:
        if self._wallet is None:
            raise InvalidField("wallet", "is missing: create_broker takes the key that signs requests")
        return self._wallet

    # the names that they always had
    listService = InferenceBroker.list_service  # noqa: N815
    acknowledgeProviderSigner = InferenceBroker.acknowledge_provider_signer  # noqa: N815
    getServiceMetadata = get_service_metadata  # noqa: N815
    getRequestHeaders = get_request_headers  # noqa: N815
    processResponse = process_response  # noqa: N815


class _WalletAuth(httpx.Auth):
    requires_request_body = True

    def __init__(self, broker: WalletInference, provider: str) -> None:
        self._broker, self._provider = broker, provider

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if request.method == "POST":
            request.headers.update(await self._broker.get_request_headers(self._provider, request.content.decode()))
        yield request


def _fields(body: Mapping[str, Any] | str) -> Mapping[str, Any]:
    found = body
    if isinstance(body, str):
        try:
            found = json.loads(body)
        except ValueError as error:
            raise InvalidField("body", "must be JSON", value=body) from error
    if not isinstance(found, Mapping) or not isinstance(found.get("model"), str):
        problem = "must be the whole body, an object with a model: a list of messages alone says not what is paid for"
        raise InvalidField("body", problem, value=found)
    return found
