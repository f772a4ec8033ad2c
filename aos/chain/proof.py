"""Asking a chain whether it has the root that a receipt was settled by."""

from __future__ import annotations

from hexbytes import HexBytes
from web3.exceptions import TransactionNotFound
from web3.logs import DISCARD

from aos.chain.client import Chain, checked
from aos.errors import BadSettlement
from aos.v1.broker_pb2 import PaidReceipt
from aos.verification.settled import check_settled


async def check_on_chain(chain: Chain, receipt: PaidReceipt) -> int:
    """Return the block in which this chain settled the receipt. Raises BadSettlement, and as Chain.ask does."""
    check_settled(receipt)
    said = receipt.chain
    if not said.transaction or said.chain_id != chain.chain_id:
        raise BadSettlement(receipt.name, f"it is not on chain {chain.chain_id}, as far as it says")
    try:
        found = await chain.ask(chain.web3.eth.get_transaction_receipt(HexBytes(said.transaction)))
    except TransactionNotFound:
        raise BadSettlement(receipt.name, f"the chain has no transaction {said.transaction}") from None
    # an event of another contract proves nothing: only those of this address count
    logs = [log for log in found["logs"] if log["address"] == checked(said.contract)]
    paid = chain.contract("InferenceServing", said.contract).events.LinePaid()
    wanted = (said.batch, checked(said.user), said.root, int(said.total), said.leaves)
    for event in paid.process_receipt({**found, "logs": logs}, errors=DISCARD):
        one = event["args"]
        if (one["batch"], one["user"], one["root"], one["total"], one["count"]) == wanted:
            return int(found["blockNumber"])
    raise BadSettlement(receipt.name, "the transaction paid no line with this root")
