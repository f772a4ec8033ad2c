"""What the broker's calls share: whose account a caller may see, and how things are shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from aos.broker import accounts
from aos.broker.accounts import Balance, Hold, Movement, State
from aos.broker.deciding import Decisions
from aos.broker.ledger import Books, SubAccount
from aos.broker.metrics import BrokerMetrics
from aos.broker.requests import check_account, check_project_account, is_operators
from aos.broker.settings import BrokerSettings
from aos.broker.settlement import Earned, Standing
from aos.broker.store import BrokerStore, Entry, LedgerStore
from aos.clock import Clock
from aos.errors import PermissionDenied
from aos.rpc.auth import Kind, caller, own_project
from aos.v1 import broker_pb2 as pb
from aos.v1 import broker_pb2_grpc
from aos.v1.receipt_pb2 import Receipt

if TYPE_CHECKING:
    from aos.broker.chain_calls import OnChain

OWN: Final = "accounts/-"
STATES: Final = {
    State.HELD: pb.HOLD_STATE_HELD,
    State.COMMITTED: pb.HOLD_STATE_COMMITTED,
    State.RELEASED: pb.HOLD_STATE_RELEASED,
}
STANDINGS: Final = {
    Standing.OPEN: pb.RECEIPT_STANDING_OPEN,
    Standing.FROZEN: pb.RECEIPT_STANDING_FROZEN,
    Standing.OVERTURNED: pb.RECEIPT_STANDING_OVERTURNED,
    Standing.PAID: pb.RECEIPT_STANDING_PAID,
}


class Calls(broker_pb2_grpc.BrokerServicer):
    """What each part of the service is given."""

    def __init__(
        self,
        store: BrokerStore,
        ledgers: LedgerStore,
        *,
        settings: BrokerSettings,
        clock: Clock,
        new_id: Callable[[], str],
        metrics: BrokerMetrics,
        on_chain: OnChain | None = None,
    ) -> None:
        self._store, self._ledgers, self._settings, self._rules = store, ledgers, settings, settings.rules
        self._clock, self._metrics = clock, metrics
        self._on_chain = on_chain
        self.decisions = Decisions(settings=settings, clock=clock, new_id=new_id, on_chain=on_chain is not None)
        """What is decided about holds."""

    def _movement(self) -> Movement:
        return self.decisions.movement()

    def _kept(self, receipt: Receipt) -> bytes:
        """Return the receipt as it is kept for a dispute; nothing on a network without a chain."""
        return receipt.SerializeToString() if self._on_chain else b""


def visible(name: str, at: str) -> str:
    """Return the account's full name. Raises PermissionDenied unless the caller may see it."""
    if name == OWN:
        name = accounts.account_of(own_project())
    elif caller().kind is not Kind.PROJECT:
        return check_account(name, at)
    # an id in the form of an address names an operator's account, whoever's project it is
    if check_account(name, at) != accounts.account_of(own_project()) or is_operators(name):
        raise PermissionDenied("the account's own project, or the administrator")
    return name


def owner(name: str, at: str) -> str:
    """Return the account that has, or may have, a ledger; empty means the caller's own. Raises as ``visible``, and InvalidField."""
    return check_project_account(visible(name or OWN, at), at)


def stamp(time: datetime) -> Timestamp:
    """Return the time as a message."""
    told = Timestamp()
    told.FromDatetime(time)
    return told


def account_shown(name: str, balance: Balance) -> pb.Account:
    """Return an account as it is shown."""
    return pb.Account(name=name, available=str(balance.available), held=str(balance.held))


def hold_shown(hold: Hold) -> pb.Hold:
    """Return a hold as it is shown."""
    return pb.Hold(
        name=hold.name,
        account=hold.account,
        amount=str(hold.amount),
        state=STATES[hold.state],
        paid=str(hold.paid),
        pot=str(hold.pot),
    )


def entry_shown(entry: Entry) -> pb.Entry:
    """Return a line of the journal as it is shown."""
    line = entry.line
    return pb.Entry(
        sequence=entry.sequence,
        transfer=entry.transfer,
        time=stamp(entry.time),
        account=line.account,
        pot=str(line.pot),
        amount=str(line.amount),
        reason=line.reason.value,
        cause=entry.cause,
    )


def ledger_shown(books: Books, now: datetime) -> pb.Ledger:
    """Return a ledger as it is shown. Raises LedgerNotFound."""
    ledger = books.owned()
    return pb.Ledger(
        account=books.account,
        available_balance=str(books.balance.available),
        total_balance=str(books.total),
        held_balance=str(books.balance.held),
        inference_signer=[str(one) for one in ledger.signer],
        additional_info=ledger.additional_info,
        sub_accounts=[sub_shown(sub, now) for sub in books.subs.values()],
        created=stamp(ledger.created),
    )


def sub_shown(sub: SubAccount, now: datetime) -> pb.SubAccount:
    """Return a sub-account as it is shown."""
    return pb.SubAccount(
        account=sub.account,
        service=sub.key.service.value,
        provider=sub.key.provider,
        balance=str(sub.balance),
        pending_refund=str(sub.pending),
        claimable=str(sub.claimable(now)),
        signer=sub.signer,
        refunds=[
            pb.PendingRefund(index=one.index, amount=str(one.amount), created=stamp(one.created), release=stamp(one.release))
            for one in sub.refunds
        ],
    )


def earned_shown(earned: Earned) -> pb.PaidReceipt:
    """Return a paid receipt as it is shown, without its proof."""
    return pb.PaidReceipt(
        name=f"receipts/{earned.receipt}",
        account=earned.payer,
        pot=str(earned.pot),
        operator=earned.operator,
        price=str(earned.price),
        time=stamp(earned.time),
        standing=STANDINGS[earned.standing],
        settlement=f"settlements/{earned.batch}" if earned.batch else "",
    )
