"""What a broker gives its customers: the documented structures, with integers for money. Made from the API's messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aos.v1 import broker_pb2 as pb


@dataclass(frozen=True, slots=True)
class Refund:
    """An amount on its way back from a provider. It is due at ``release``, which was fixed when it was asked for."""

    index: int
    amount: int
    created_at: datetime
    release_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """A sub-account: what a user has with one provider for one service. Amounts are in neurons."""

    user: str
    """`accounts/…`."""
    provider: str
    service: str
    """`inference` or `fine-tuning`."""
    balance: int
    pending_refund: int
    """The part of the balance that is on its way back."""
    claimable: int
    """The part of that which retrieving would make available now."""
    provider_signer: str
    """The acknowledged address; empty: none."""
    refunds: tuple[Refund, ...]

    @property
    def spendable(self) -> int:
        """What new work can be paid from."""
        return self.balance - self.pending_refund


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a user has. Amounts are in neurons."""

    user: str
    """`accounts/…`."""
    available_balance: int
    total_balance: int
    """All that has not been spent."""
    held_balance: int
    """Set aside for jobs that have not ended."""
    inference_signer: tuple[int, int]
    additional_info: str
    accounts: tuple[Account, ...]
    """All sub-accounts."""

    @property
    def inference_providers(self) -> tuple[str, ...]:
        """Addresses that the ledger has an inference sub-account with."""
        return tuple(one.provider for one in self.accounts if one.service == "inference")

    @property
    def fine_tuning_providers(self) -> tuple[str, ...]:
        """Addresses that the ledger has a fine-tuning sub-account with."""
        return tuple(one.provider for one in self.accounts if one.service == "fine-tuning")


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What retrieving did with one provider. Amounts are in neurons."""

    provider: str
    released: int
    """Available again."""
    requested: int
    """On its way back from now on."""
    refused: str
    """The ErrorReason why nothing was asked for; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Movement:
    """All journal lines of one reason and pot. Amounts are in neurons."""

    reason: str
    pot: str
    lines: int
    credited: int
    debited: int


@dataclass(frozen=True, slots=True)
class ChainPayment:
    """Receipts of one payer that one transaction settled. ``root`` is in hex."""

    transaction: str
    block: int
    user: str
    provider: str
    root: str
    receipts: int
    amount: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What happened in a time: opening balances and movements add up to closing balances."""

    account: str
    start: datetime | None
    end: datetime | None
    opening: dict[str, int]
    """By pot: `available`, `held`, and one a sub-account."""
    closing: dict[str, int]
    movements: tuple[Movement, ...]
    chain_payments: tuple[ChainPayment, ...] = ()
    """What was settled on a chain, the latest first."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a provider offers, in the documented fields. Prices are in neurons a token."""

    provider: str
    service_type: str
    """`chatbot`, `embedding`, `text-to-image` or `image-edit`."""
    model: str
    input_price: int
    output_price: int
    updated_at: datetime
    """When it first registered."""
    verifiability: str
    """`TeeML` for a key in a TEE, `OpML` for an answer that can be run again and disputed, else empty."""
    routable: bool
    """Whether jobs can be sent there now."""


def ledger(message: pb.Ledger) -> Ledger:
    """Return a ledger."""
    low, high = [int(one) for one in message.inference_signer] or (0, 0)
    return Ledger(
        user=message.account,
        available_balance=int(message.available_balance),
        total_balance=int(message.total_balance),
        held_balance=int(message.held_balance),
        inference_signer=(low, high),
        additional_info=message.additional_info,
        accounts=tuple(account(one) for one in message.sub_accounts),
    )


def account(message: pb.SubAccount) -> Account:
    """Return a sub-account."""
    return Account(
        user=message.account,
        provider=message.provider,
        service=message.service,
        balance=int(message.balance),
        pending_refund=int(message.pending_refund),
        claimable=int(message.claimable),
        provider_signer=message.signer,
        refunds=tuple(
            Refund(one.index, int(one.amount), one.created.ToDatetime(tzinfo=UTC), one.release.ToDatetime(tzinfo=UTC))
            for one in message.refunds
        ),
    )


def retrieved(message: pb.RetrieveResult) -> Retrieved:
    """Return what retrieving did."""
    return Retrieved(message.provider, int(message.released), int(message.requested), message.refused)


def statement(message: pb.Statement) -> Statement:
    """Return a statement."""
    return Statement(
        account=message.account,
        start=message.start.ToDatetime(tzinfo=UTC) if message.HasField("start") else None,
        end=message.end.ToDatetime(tzinfo=UTC) if message.HasField("end") else None,
        opening={one.pot: int(one.opening) for one in message.pots},
        closing={one.pot: int(one.closing) for one in message.pots},
        movements=tuple(Movement(one.reason, one.pot, one.lines, int(one.credited), int(one.debited)) for one in message.movements),
        chain_payments=tuple(
            ChainPayment(one.transaction, one.block, one.user, one.provider, one.root.hex(), one.receipts, int(one.amount))
            for one in message.chain_payments
        ),
    )
