"""Failures about money: accounts, holds, ledgers and what was settled. Everybody has them from aos/errors.py."""

from __future__ import annotations

from aos.failure import AosError


class InsufficientBalance(AosError):
    """What is free does not cover the most that a job may cost, or the amount that is to be moved."""

    reason, code = "INSUFFICIENT_BALANCE", "FAILED_PRECONDITION"

    def __init__(self, project: str, available: int, needed: int, *, pot: str = "") -> None:
        """``pot``: from where an amount is to be moved; empty: it is to be held for a job."""
        message = (
            f"{project!r} has {available} neurons free in {pot!r}; this takes {needed}."
            if pot
            else f"{project!r} has {available} neurons available; this may cost up to {needed}. Deposit, or ask for fewer tokens."
        )
        super().__init__(message, project=project, available=available, needed=needed, pot=pot)


class AccountNotFound(AosError):
    """No such account."""

    reason, code = "ACCOUNT_NOT_FOUND", "NOT_FOUND"

    def __init__(self, account: str) -> None:
        super().__init__(f"There is no account {account!r}.", account=account)


class HoldNotFound(AosError):
    """No such hold."""

    reason, code = "HOLD_NOT_FOUND", "NOT_FOUND"

    def __init__(self, hold: str) -> None:
        super().__init__(f"There is no hold {hold!r}.", hold=hold)


class HoldSettled(AosError):
    """The hold was settled otherwise before."""

    reason, code = "HOLD_SETTLED", "FAILED_PRECONDITION"

    def __init__(self, hold: str, state: str) -> None:
        super().__init__(f"The hold {hold!r} is {state} already.", hold=hold, state=state)


class LedgerNotFound(AosError):
    """The account has no ledger."""

    reason, code = "LEDGER_NOT_FOUND", "NOT_FOUND"

    def __init__(self, account: str) -> None:
        super().__init__(f"{account!r} has no ledger; add one first.", account=account)


class LedgerExists(AosError):
    """The account has a ledger already."""

    reason, code = "LEDGER_EXISTS", "ALREADY_EXISTS"

    def __init__(self, account: str) -> None:
        super().__init__(f"{account!r} has a ledger already.", account=account)


class LedgerNotEmpty(AosError):
    """A ledger whose money is not all available cannot be deleted."""

    reason, code = "LEDGER_NOT_EMPTY", "FAILED_PRECONDITION"

    def __init__(self, account: str, bound: int) -> None:
        super().__init__(
            f"{account!r} still has {bound} neurons in sub-accounts or set aside for jobs; retrieve them first.",
            account=account, bound=bound,
        )  # fmt: skip


class LedgerLimit(AosError):
    """A ledger has as many of something as it may have."""

    reason, code = "LEDGER_LIMIT", "RESOURCE_EXHAUSTED"

    def __init__(self, account: str, what: str, limit: int) -> None:
        super().__init__(
            f"{account!r} has {limit} {what}, which is the most there may be.", account=account, what=what, limit=limit
        )


class SignerNotAcknowledged(AosError):
    """The account's owner has acknowledged no signer of the provider, or another one."""

    reason, code = "SIGNER_NOT_ACKNOWLEDGED", "FAILED_PRECONDITION"

    def __init__(self, account: str, provider: str, signer: str) -> None:
        super().__init__(
            f"{account!r} has not acknowledged {signer!r} as the signer of {provider!r}.",
            account=account, provider=provider, signer=signer,
        )  # fmt: skip


class SignerChangedRecently(AosError):
    """A provider's signer was changed less than the lock time ago, and the one before is still good."""

    reason, code = "SIGNER_CHANGED_RECENTLY", "FAILED_PRECONDITION"

    def __init__(self, provider: str, former: str, *, retry_after: float) -> None:
        super().__init__(
            f"The signer of {provider!r} can be changed again in {retry_after:.0f} s: until then {former!r} is still good, too.",
            provider=provider, former=former,
        )  # fmt: skip
        self.retry_after = retry_after


class ReceiptUsed(AosError):
    """The receipt was settled before, or is past being disputed."""

    reason, code = "RECEIPT_USED", "FAILED_PRECONDITION"

    def __init__(self, receipt: str, state: str) -> None:
        super().__init__(f"The receipt {receipt!r} is {state}.", receipt=receipt, state=state)


class ReceiptNotPaid(AosError):
    """Nothing was paid by the receipt."""

    reason, code = "RECEIPT_NOT_PAID", "NOT_FOUND"

    def __init__(self, receipt: str) -> None:
        super().__init__(f"Nothing was paid by the receipt {receipt!r}.", receipt=receipt)


class SettlementNotFound(AosError):
    """No such batch of receipts, or the receipt is in none yet."""

    reason, code = "SETTLEMENT_NOT_FOUND", "NOT_FOUND"

    def __init__(self, settlement: str) -> None:
        super().__init__(f"There is no settlement of {settlement!r}.", settlement=settlement)


class ChainRefused(AosError):
    """A contract refuses the call."""

    reason, code = "CHAIN_REFUSED", "FAILED_PRECONDITION"

    def __init__(self, words: str) -> None:
        super().__init__(f"The contract refuses: {words}.", words=words)


class TransactionPending(AosError):
    """A transaction was sent, and is in no block yet."""

    reason, code = "TRANSACTION_PENDING", "UNAVAILABLE"
    retry_after = 15.0

    def __init__(self, key: str, limit: float) -> None:
        super().__init__(
            f"The transaction for {key!r} was in no block within {limit:g} s; the same call goes on waiting for it.",
            key=key, limit=f"{limit:g}",
        )  # fmt: skip


class NoChain(AosError):
    """The network settles on no chain."""

    reason, code = "NO_CHAIN", "FAILED_PRECONDITION"

    def __init__(self) -> None:
        super().__init__("This network settles on no chain; start it with --chain or --chain-rpc.")


class BadSettlement(AosError):
    """A settled receipt's proof does not lead where it should."""

    reason, code = "BAD_SETTLEMENT", "INVALID_ARGUMENT"

    def __init__(self, receipt: str, why: str) -> None:
        super().__init__(f"The proof of {receipt!r} proves nothing: {why}.", receipt=receipt, why=why)
