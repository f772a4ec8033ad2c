"""What the broker decides about a job's hold, whoever runs the decision: its own calls, or the jobs' store beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aos.broker import accounts
from aos.broker.accounts import Balance, Claim, Hold, Movement, Pot, State
from aos.broker.ledger import SubAccount, check_signer
from aos.broker.requests import check_amount, check_hold, check_key, check_project_account
from aos.broker.settings import BrokerSettings
from aos.broker.settlement import earn, into
from aos.broker.store import Decided, Reserving, Settled, Settling
from aos.clock import Clock
from aos.errors import AccountNotFound, BadReceipt
from aos.v1.broker_pb2 import ReserveRequest
from aos.v1.receipt_pb2 import Receipt
from aos.verification.receipts import check_and_digest


class Decisions:
    """Reads what is asked about a hold, and gives the decision to run inside a transaction. Satisfies HoldDecisions."""

    def __init__(self, *, settings: BrokerSettings, clock: Clock, new_id: Callable[[], str], on_chain: bool) -> None:
        """``on_chain``: receipts of sub-accounts are kept whole, for a dispute."""
        self._settings, self._clock, self._new_id, self._on_chain = settings, clock, new_id, on_chain

    def movement(self) -> Movement:
        """Return the name and the time of a new transfer."""
        return Movement(self._new_id(), self._clock.now())

    def reserving(self, request: ReserveRequest) -> Reserving:
        """Return how to set money aside for a job, once. Raises InvalidField."""
        key = check_key(request.service, request.provider) if request.service or request.provider else None
        wanted = Hold(
            check_hold(request.hold, "hold"),
            check_project_account(request.account, "account"),
            check_amount(request.amount, "amount", least=0, most=self._settings.largest),
            pot=Pot.AVAILABLE if key is None else key.pot,
        )
        by = self.movement()

        def decide(before: Hold | None, balance: Balance, sub: SubAccount | None) -> Decided:
            if key is not None and sub is None:
                raise AccountNotFound(f"{wanted.account}/{key.pot}")
            return accounts.reserve(before, balance.available if sub is None else sub.free, wanted, by)

        return Reserving(wanted.name, wanted.account, key, decide)

    def settling(self, hold: str, receipt: Receipt | None) -> Settling:
        """Return how to end a hold, once: paid by the receipt, or released. Raises InvalidField, BadReceipt and BadSignature."""
        name = check_hold(hold, "hold")
        claim = None if receipt is None else _claim(name, receipt)
        by, window = self.movement(), self._settings.window

        def decide(hold: Hold, sub: SubAccount | None) -> Settled:
            if claim is None or receipt is None:
                return *accounts.release(hold, by), None
            paid, body = claim, b""
            if hold.pot != Pot.AVAILABLE:
                paid, body = _providers(hold, sub, claim, by), receipt.SerializeToString() if self._on_chain else b""
            after, transfer = accounts.commit(hold, paid, by, into=into(window))
            return after, transfer, earn(paid, hold.account, hold.pot, by.time, window, body=body)

        return Settling(name, decide)


def _claim(hold: str, receipt: Receipt) -> Claim:
    """Return what the receipt says about money. Raises BadReceipt or BadSignature."""
    job = accounts.job_of(hold)
    if f"jobs/{receipt.job.hex()}" != job:
        raise BadReceipt(job, "job", "is another one")
    operator, said = check_and_digest(receipt)
    return Claim(said.hex(), f"accounts/{operator.lower()}", int(receipt.price))


def _providers(hold: Hold, sub: SubAccount | None, claim: Claim, by: Movement) -> Claim:
    """Return the claim of a sub-account's provider, for which its signer speaks. Raises SignerNotAcknowledged."""
    if sub is None:
        raise AccountNotFound(f"{hold.account}/{hold.pot}")
    # the same receipt again is answered as before, whoever is acknowledged by now
    if hold.state is State.HELD:
        check_signer(sub, claim.account.removeprefix("accounts/"), by.time)
    return replace(claim, account=f"accounts/{sub.key.provider}")
