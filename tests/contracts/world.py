"""The contracts on anvil, played by named accounts: a move is called first, so that a refusal shows its reason, then sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
import requests
from eth_abi import decode
from eth_utils.abi import get_abi_output_types
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.contract import Contract as DeployedContract
from web3.exceptions import ContractLogicError

from aos.chain.artifacts import artifact
from aos.chain.deploy import Addresses, Terms, creations, planned
from aos.testing.anvil import KEYS, Anvil
from aos.verification import sums
from aos.verification.keys import OperatorKey
from aos.verification.wallets import FINE_TUNING, INFERENCE, Contract, batch_statement, request_statement

GAS = 12_000_000
ZERO = f"0x{'0' * 40}"
LOCK, WINDOW, ANSWER, BOND, ACKNOWLEDGE = 1000, 500, 200, 10**6, 300
TERMS = Terms(LOCK, WINDOW, ANSWER, BOND, ACKNOWLEDGE, 30)
FAR = 2**40
"""A deadline, or an expiry, that no test reaches."""


class Refused(Exception):
    """A move that the contract did not take. Its text is the reason."""


@dataclass(frozen=True)
class Line:
    user: str
    root: bytes
    total: int
    count: int

    def words(self):
        return (self.user, self.root, self.total, self.count)


@dataclass(frozen=True)
class Settled:
    """A batch as the contract wants it brought along, and what it takes to open its lines."""

    provider: str
    signer: str
    nonce: int
    closes_at: int
    paid: int
    lines: tuple[Line, ...]
    id: bytes
    gas: int = 0

    def words(self):
        return (self.provider, self.signer, self.nonce, self.closes_at, self.paid, [line.words() for line in self.lines])


class World:
    """Three contracts, and those who use them."""

    def __init__(self, anvil: Anvil, terms: Terms = TERMS) -> None:
        self._session, self._http = requests.Session(), httpx.Client(timeout=30)
        self.web3 = Web3(HTTPProvider(anvil.url, session=self._session))
        self.keys = [OperatorKey(Web3().eth.account.from_key(key)) for key in KEYS]
        self.names = [key.address for key in self.keys]
        self.deployer, self.user, self.provider, self.stranger, self.other_user, self.other_provider = self.names[:6]
        self.user_key, self.provider_key, self.stranger_key, self.other_key = self.keys[1], self.keys[2], self.keys[3], self.keys[4]
        self.signer_key = self.keys[6]
        self.signer = self.signer_key.address
        self.terms, self.anvil = terms, anvil
        # a block a second, however long the machine takes: the chain's time is the test's own
        self.rpc("anvil_setBlockTimestampInterval", 1)
        self.addresses = self._deploy(terms)
        self.ledger = self._at(self.addresses.ledger, "Ledger")
        self.inference = self._at(self.addresses.inference, "InferenceServing")
        self.tuning = self._at(self.addresses.fine_tuning, "FineTuningServing")
        self.services = {"inference": self.inference, "fine-tuning": self.tuning}

    def _at(self, address: str, name: Any) -> DeployedContract:
        return self.web3.eth.contract(address=Web3.to_checksum_address(address), abi=artifact(name).abi)

    def _deploy(self, terms: Terms) -> Addresses:
        addresses = planned(self.deployer, self.web3.eth.get_transaction_count(Web3.to_checksum_address(self.deployer)))
        for name, arguments in creations(addresses, terms):
            created = self.web3.eth.contract(abi=artifact(name).abi, bytecode=HexBytes(artifact(name).bytecode))
            self.create(created, *arguments)
        return addresses

    def create(self, made: Any, *arguments: Any) -> str:
        hash_ = made.constructor(*arguments).transact({"from": self.deployer, "gas": GAS})
        return str(self.web3.eth.wait_for_transaction_receipt(hash_, poll_latency=0.002)["contractAddress"])

    def do(self, actor: str, call: Any, value: int = 0) -> Any:
        """Make the move and return what it returns. Raises Refused, and then nothing has changed."""
        result, _ = self.measured(actor, call, value)
        return result

    def measured(self, actor: str, call: Any, value: int = 0) -> tuple[Any, Any]:
        """Make the move; return what it returns, and the transaction's receipt."""
        sent = {"from": actor, "to": call.address, "data": call._encode_transaction_data(), "value": hex(value), "gas": hex(GAS)}
        answer = self.post([("eth_call", [sent, "latest"])])[0]
        if "error" in answer:
            raise Refused(answer["error"]["message"].removeprefix("execution reverted").removeprefix(": "))
        outputs = get_abi_output_types(call.abi)
        found = decode(outputs, bytes.fromhex(answer["result"][2:]))
        result = [list(one) if isinstance(one, tuple) else one for one in found]
        hash_ = self.post([("eth_sendTransaction", [sent | {"gasPrice": hex(2 * 10**9)}])])[0]["result"]
        receipt = self.web3.eth.wait_for_transaction_receipt(hash_, poll_latency=0.002)
        assert receipt["status"] == 1
        return (result[0] if len(result) == 1 else result or None), receipt

    def post(self, calls: list[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
        """Several calls in one request; their answers in their order."""
        asked = [{"jsonrpc": "2.0", "id": at, "method": method, "params": params} for at, (method, params) in enumerate(calls)]
        found = self._http.post(self.anvil.url, content=json.dumps(asked), headers={"content-type": "application/json"}).json()
        return sorted(found, key=lambda one: one["id"])

    def look(self, *calls: Any) -> list[Any]:
        """Ask views that return integers, or lists of refunds, in one request; a view that is refused gives None."""
        asked = [("eth_call", [{"to": call.address, "data": call._encode_transaction_data()}, "latest"]) for call in calls]
        shown = []
        for call, answer in zip(calls, self.post(asked), strict=True):
            found = decode(get_abi_output_types(call.abi), bytes.fromhex(answer["result"][2:])) if "result" in answer else [None]
            shown.append(found[0] if len(found) == 1 else found)
        return shown

    def close(self) -> None:
        self._session.close()
        self._http.close()

    def rpc(self, method: str, *arguments: Any) -> Any:
        return self.web3.provider.make_request(method, list(arguments))["result"]  # pyright: ignore[reportArgumentType]

    @property
    def now(self) -> int:
        return self.web3.eth.get_block("latest")["timestamp"]

    def advance(self, seconds: int) -> None:
        self.rpc("evm_setNextBlockTimestamp", self.now + seconds)
        self.rpc("evm_mine")

    # --- what most tests begin with ---

    def open_account(self, user: str, provider: str, amount: int, service: str = "inference", signer: str = "") -> None:
        """A ledger if there is none, ``amount`` with the provider, and the provider's signer acknowledged."""
        if not self.has_ledger(user):
            self.do(user, self.ledger.functions.addLedger((0, 0), "info"), 10 * amount)
        self.do(user, self.ledger.functions.transferFund(provider, service, amount))
        self.do(user, self.services[service].functions.acknowledgeProviderSigner(provider, signer or self.signer))

    def has_ledger(self, user: str) -> bool:
        try:
            self.ledger.functions.getLedger(user).call()
        except ContractLogicError:
            return False
        return True

    def balance(self, user: str, provider: str, service: str = "inference") -> tuple[int, int]:
        """Balance and pending refund of a sub-account."""
        return tuple(self.services[service].functions.balanceOf(user, provider).call())

    def ledger_of(self, user: str) -> tuple[int, int]:
        """Available and total."""
        shown = self.ledger.functions.getLedger(user).call()
        return shown[1], shown[2]

    def where(self, service: str = "inference") -> Contract:
        names = {"inference": INFERENCE, "fine-tuning": FINE_TUNING}
        return Contract(names[service], self.anvil.chain_id, self.services[service].address)

    def line(self, user: str, fees: list[int], salt: str = "") -> tuple[Line, list[sums.SumNode]]:
        """A line over receipts that are known by their digests alone."""
        leaves = [sums.leaf(bytes(Web3.keccak(text=f"{salt}{user}{at}")), fee) for at, fee in enumerate(fees)]
        top = sums.root(leaves)
        return Line(user, top.digest, top.total, len(leaves)), leaves

    def sign_batch(
        self, lines: list[Line], nonce: int, *, provider: str = "", key: OperatorKey | None = None, deadline: int = FAR
    ) -> bytes:
        said = batch_statement(self.where(), provider or self.provider, lines, nonce, deadline)
        return (key or self.signer_key).sign(said)

    def settle(
        self, lines: list[Line], nonce: int, *, provider: str = "", key: OperatorKey | None = None, deadline: int = FAR
    ) -> Settled:
        """Settle a batch, and return it as it was settled."""
        provider, key = provider or self.provider, key or self.signer_key
        signature = self.sign_batch(lines, nonce, provider=provider, key=key, deadline=deadline)
        call = self.inference.functions.settleBatch(provider, [line.words() for line in lines], nonce, deadline, signature)
        _, receipt = self.measured(self.stranger, call)
        event = self.inference.events.BatchSettled().process_log(receipt["logs"][-1])["args"]
        return Settled(
            provider, key.address, nonce, event["closesAt"], event["paid"], tuple(lines), event["batch"], receipt["gasUsed"]
        )

    def refusals(self, settled: Settled) -> list[str]:
        """Why lines of a batch were not paid, in their order."""
        events = self.inference.events.LineRefused().get_logs(from_block=0, argument_filters={"batch": settled.id})
        return [event["args"]["reason"] for event in events]

    def request(
        self, key: OperatorKey, *, max_fee: int, nonce: int, expiry: int = FAR, provider: str = ""
    ) -> tuple[tuple[Any, ...], bytes]:
        """What a user signs for one answer, as words of the contract, and the signature."""
        body = bytes(Web3.keccak(text="body"))
        said = request_statement(
            self.where(), user=key.address, provider=provider or self.provider, service="chat", body_hash=body,
            max_fee=max_fee, nonce=nonce, expiry=expiry,
        )  # fmt: skip
        return (bytes(Web3.keccak(text="chat")), body, max_fee, nonce, expiry), key.sign(said)

    def owed(self, contract: DeployedContract) -> int:
        return self.web3.eth.get_balance(contract.address)
