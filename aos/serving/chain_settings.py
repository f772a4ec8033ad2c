"""What a broker alone in its process can be told of a chain. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aos.serving.reading import SECRET_URL
from aos.settings import ADDRESS, CONFIRMATIONS

SIGNERS: Final = 64
"""Most operators whose receipts one broker settles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerChain:
    """Where receipts are settled. Raises ValueError, naming the setting."""

    rpc: str = field(default="", repr=False, metadata=SECRET_URL)
    """URL of a node whose chain receipts are settled on; empty: on none."""
    contracts: str = ""
    """The contracts: the ledger's address, or a JSON file that names them."""
    key: Path | None = None
    """File of the key that pays for transactions; made if it is not there. Each broker needs one of its own."""
    folder: Path | None = None
    """Folder for what was sent with that key; keep it with the database."""
    signers: tuple[str, ...] = ()
    """Files with the keys of operators whose receipts are settled: a batch is signed by its operator."""
    payers: tuple[str, ...] = ()
    """Wallets that pay for projects which bound none themselves, as `PROJECT=WALLET`."""
    confirmations: int = 0
    """Blocks that must be on top of a transaction's own before it counts."""

    def __post_init__(self) -> None:
        rest = ("contracts", "key", "folder", "signers")
        if not self.rpc:
            if given := [name for name in (*rest, "payers", "confirmations") if getattr(self, name)]:
                raise ValueError(f"chain.{given[0]}: goes with chain.rpc")
            return
        if not self.rpc.startswith(("http://", "https://")):
            raise ValueError("chain.rpc: must be an http or https URL")
        if missing := [name for name in rest if not getattr(self, name)]:
            raise ValueError(f"chain.{missing[0]}: is needed with chain.rpc")
        if len(self.signers) > SIGNERS:
            raise ValueError(f"chain.signers: must be at most {SIGNERS} files, not {len(self.signers)}")
        if not 0 <= self.confirmations <= CONFIRMATIONS:
            raise ValueError(f"chain.confirmations: must be 0 to {CONFIRMATIONS}, not {self.confirmations}")
        for one in self.payers:
            project, _, wallet = one.partition("=")
            if not project or not ADDRESS.fullmatch(wallet):
                raise ValueError(f"chain.payers: must be PROJECT=WALLET, a wallet being 0x and 40 hex digits, not {one!r}")

    def wallets(self) -> dict[str, str]:
        """Return which wallet pays for which account."""
        pairs = (one.partition("=") for one in self.payers)
        return {f"accounts/{project}": wallet for project, _, wallet in pairs}
