"""The customer's broker: one connection, and what can be done over it by subject."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aos.client import Client
from aos.compute.inference import WalletInference
from aos.compute.ledger import LedgerBroker
from aos.compute.services import FineTuningBroker
from aos.rpc.channel import channel
from aos.v1 import requests_pb2_grpc
from aos.verification.keys import OperatorKey


class ComputeBroker:
    """What a customer does: pay in and move money (``ledger``), ask models (``inference``), train them (``fine_tuning``).

    Every method raises AosError (aos/errors.py) with the server's reason; a call that nobody answers in time is ServiceUnavailable.
    """

    def __init__(
        self,
        client: Client,
        requests: requests_pb2_grpc.RequestsAsyncStub,
        *,
        bank: Client | None = None,
        new_id: Callable[[], str],
        url: str,
        wallet: OperatorKey | None = None,
        answers_signer: str = "",
    ) -> None:
        """``bank`` is connected as the administrator, by whose word alone money enters; None: nothing can be paid in."""
        self.ledger = LedgerBroker(client.broker, bank=None if bank is None else bank.broker, new_id=new_id)
        self.inference = WalletInference(client, requests, self.ledger, url=url, wallet=wallet, answers_signer=answers_signer)
        self.fine_tuning = FineTuningBroker(client)


@asynccontextmanager
async def create_broker(
    address: str,
    token: str = "",
    *,
    admin_token: str = "",
    wallet: OperatorKey | None = None,
    url: str = "",
    answers_signer: str = "",
) -> AsyncGenerator[ComputeBroker]:
    """Give a broker of the network at ``host:port`` or ``unix:path``, and close its connections with the block.

    ``token`` is the project's, whose account is the customer's ledger. Without the administrator's token nothing can be paid in.
    ``wallet`` signs requests for answers. REST is served at ``url``, by default at the address. ``answers_signer`` is the
    address that has to sign the hashes of answers; by default any does, and what the provider signed has to agree.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(channel(address, token))
        client, requests = Client(opened), requests_pb2_grpc.RequestsStub(opened)
        bank = Client(await stack.enter_async_context(channel(address, admin_token))) if admin_token else None
        yield ComputeBroker(
            client,
            requests,
            bank=bank,
            new_id=lambda: secrets.token_hex(16),
            url=url or f"http://{address}",
            wallet=wallet,
            answers_signer=answers_signer,
        )


createZGComputeNetworkBroker = create_broker  # noqa: N816
"""The name that it always had."""
