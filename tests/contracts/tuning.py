"""Fine-tuning, as tests play it: tasks that users sign, deliverables, and what the provider's signer signs to settle them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aos.verification.keys import OperatorKey
from aos.verification.wallets import settlement_statement, task_statement
from tests.contracts.world import World

ROOT = b"\x11" * 32
SECRET = bytes(range(129))


@dataclass(frozen=True)
class Tuning:
    """One user's fine-tuning with one provider."""

    world: World
    fee: int = 1000

    @property
    def f(self) -> Any:
        return self.world.tuning.functions

    def open(self, amount: int = 10_000) -> None:
        self.world.open_account(self.world.user, self.world.provider, amount, "fine-tuning")

    def task(self, nonce: int, *, key: OperatorKey | None = None, provider: str = "") -> tuple[tuple[Any, ...], bytes]:
        said = task_statement(
            self.world.where("fine-tuning"), user=self.world.user, provider=provider or self.world.provider,
            contents=b"\x22" * 32, max_fee=self.fee, nonce=nonce,
        )  # fmt: skip
        return (b"\x22" * 32, self.fee, nonce), (key or self.world.user_key).sign(said)

    def deliver(self, nonce: int, id_: str = "", root: bytes = ROOT) -> int:
        task, signature = self.task(nonce)
        call = self.f.addDeliverable(self.world.user, id_ or f"task-{nonce}", root, task, signature)
        return self.world.do(self.world.provider, call)

    def acknowledge(self, index: int) -> None:
        self.world.do(self.world.user, self.f.acknowledgeDeliverable(self.world.provider, index))

    def settlement(self, index: int, nonce: int, **changed: Any) -> Any:
        """The call that settles; ``changed`` is signed and sent otherwise, ``sent`` is changed behind the signature."""
        sent = changed.pop("sent", {})
        key = changed.pop("key", self.world.signer_key)
        where = changed.pop("where", self.world.where("fine-tuning"))
        said: dict[str, Any] = {"secret": SECRET, "root": ROOT, "fee": self.fee, "id_": f"task-{nonce}"} | changed
        said |= {"user": self.world.user, "provider": self.world.provider, "nonce": nonce}
        signature = sent.pop("signature", None) or key.sign(settlement_statement(where, **said))
        shown = said | {"signer": self.world.signer} | sent
        return self.f.settleFees(
            (index, shown["secret"], shown["root"], shown["nonce"], shown["signer"], signature, shown["fee"], self.world.user)
        )

    def settle(self, index: int, nonce: int, **changed: Any) -> int:
        return self.world.do(self.world.provider, self.settlement(index, nonce, **changed))

    def earned(self) -> int:
        return self.f.withdrawable(self.world.provider).call()

    def balance(self) -> int:
        return self.world.balance(self.world.user, self.world.provider, "fine-tuning")[0]
