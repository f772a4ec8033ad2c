"""Providers and whose signatures count as theirs, for inference and for fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Final

from aos.client import CALL_SECONDS, Client, told
from aos.compute import shapes
from aos.compute.ledger import ServiceType
from aos.compute.shapes import Account, Service
from aos.v1 import broker_pb2, registry_pb2

PAGE: Final = 1000


class _Services:
    """What both kinds have."""

    service_type: ServiceType

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get_account(self, provider: str) -> Account:
        """Return the sub-account with the provider. Raises AccountNotFound."""
        request = broker_pb2.GetSubAccountRequest(provider=provider, service=self.service_type)
        with told():
            return shapes.account(await self._client.broker.GetSubAccount(request, timeout=CALL_SECONDS))

    async def acknowledge_provider_signer(self, provider: str, signer: str = "") -> Account:
        """Take the signer's signatures for the provider's, and return the sub-account, which has to be there.

        An operator of this network signs with its own key: without a ``signer`` it is the provider's address. Raises
        AccountNotFound before anything was transferred, and SignerChangedRecently while the signer before is still good.
        """
        request = broker_pb2.AcknowledgeSignerRequest(provider=provider, service=self.service_type, signer=signer or provider)
        with told():
            return shapes.account(await self._client.broker.AcknowledgeSigner(request, timeout=CALL_SECONDS))

    async def ensure_acknowledged(self, provider: str, signer: str = "") -> Account:
        """Return the sub-account, made if it was not there, with the signer acknowledged. Again: changes nothing."""
        request = broker_pb2.TransferFundRequest(provider=provider, service=self.service_type, amount="0")
        with told():
            await self._client.broker.TransferFund(request, timeout=CALL_SECONDS)
        return await self.acknowledge_provider_signer(provider, signer)


class InferenceBroker(_Services):
    """``broker.inference``."""

    service_type = "inference"

    async def list_service(self, *, model: str = "", verifiability: str = "", routable: bool = False) -> list[Service]:
        """Return what providers offer, one a provider and model, by provider. A filter that is given keeps only what fits."""
        found: list[Service] = []
        request = registry_pb2.ListOperatorsRequest(page_size=PAGE)
        while True:
            with told():
                page = await self._client.registry.ListOperators(request, timeout=CALL_SECONDS)
            found += [service for operator in page.operators for service in _services(operator)]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return [
            one
            for one in found
            if model in ("", one.model) and verifiability in ("", one.verifiability) and (one.routable or not routable)
        ]


class FineTuningBroker(_Services):
    """``broker.fine_tuning``."""

    service_type = "fine-tuning"


def _services(operator: registry_pb2.OperatorInfo) -> Iterator[Service]:
    for offer in operator.offers:
        kind = "embedding" if offer.embeddings and not offer.chat else "chatbot"
        if offer.images or offer.image_edits:
            kind = "text-to-image" if offer.images else "image-edit"
        verifiability = "TeeML" if operator.HasField("attested") else "OpML" if offer.exact else ""
        yield Service(
            provider=operator.name.removeprefix("operators/"),
            service_type=kind,
            model=offer.model,
            input_price=int(offer.price.prompt_token),
            output_price=int(offer.price.completion_token),
            updated_at=operator.registered.ToDatetime(tzinfo=UTC),
            verifiability=verifiability,
            routable=operator.routable,
        )
