# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Disputes
@notice A user has a settled receipt shown: the provider proves that it was asked for, at this price, or the fee goes back.
@dev A module. Money that is frozen is neither the provider's nor the user's until the dispute is answered or closed.
"""

import batches
import settlements
import signing
import subaccounts

uses: settlements
uses: signing
uses: subaccounts

# What a user signs to ask for one answer, its service by its hash.
struct Request:
    service: bytes32
    bodyHash: bytes32
    maxFee: uint256
    nonce: uint256
    expiry: uint256

struct Dispute:
    # 0: none; else when the provider's time to answer ends.
    answerBy: uint256
    amount: uint256
    closed: bool
    # The user could not open the leaf, and asked for it by its index.
    demanded: bool

event ReceiptDisputed:
    batch: indexed(bytes32)
    user: indexed(address)
    index: indexed(uint256)
    line: uint256
    amount: uint256
    demanded: bool
    answerBy: uint256

event DisputeAnswered:
    batch: indexed(bytes32)
    user: indexed(address)
    index: indexed(uint256)
    line: uint256
    receipt: bytes32
    released: uint256

event DisputeWon:
    batch: indexed(bytes32)
    user: indexed(address)
    index: indexed(uint256)
    line: uint256
    returned: uint256

MAX_DEPTH: constant(uint256) = 20
REQUEST_TYPE: constant(bytes32) = keccak256(
    "Request(address user,address provider,string service,bytes32 bodyHash,uint256 maxFee,uint256 nonce,uint256 expiry)"
)

# Seconds to answer a dispute.
ANSWER_TIME: immutable(uint256)
# What opening one costs, in wei. The provider's if he answers it, else it comes back.
BOND: immutable(uint256)

# By sub-account: who may sign requests beside the user, as the ledger had it when the sub-account was made.
request_keys: HashMap[bytes32, uint256[2]]
highest_nonce: HashMap[bytes32, uint256]
used_requests: HashMap[bytes32, HashMap[uint256, bool]]
shown_jobs: HashMap[bytes32, HashMap[bytes32, bool]]
disputes: HashMap[bytes32, HashMap[uint256, HashMap[uint256, Dispute]]]


@deploy
def __init__(answer_time: uint256, bond: uint256):
    ANSWER_TIME = answer_time
    BOND = bond


@external
@payable
def disputeReceipt(
    batch: settlements.Batch, line: uint256, leaf: batches.Leaf, proof: DynArray[batches.Sibling, MAX_DEPTH]
):
    """
    @notice The user's: freeze exactly this receipt's fee until the provider shows the receipt and the request that was signed for it.
    """
    id: bytes32 = self._open_dispute(batch, line, leaf.index)
    assert batches._is_under(batch.lines[line], leaf, proof), "inference: receipt is not under the root"
    state: settlements.LineState = settlements.line_states[id][line]
    settlements.line_states[id][line].frozen = state.frozen + leaf.fee
    self._freeze(id, batch.lines[line].user, line, leaf.index, leaf.fee, False)


@external
@payable
def demandReceipt(batch: settlements.Batch, line: uint256, index: uint256):
    """
    @notice The user's, for a receipt that was not given out: hold the line until it is shown. Not shown, the line comes back whole.
    """
    id: bytes32 = self._open_dispute(batch, line, index)
    settlements.line_states[id][line].demands += 1
    self._freeze(id, batch.lines[line].user, line, index, 0, True)


@external
def answerDispute(
    batch: settlements.Batch,
    line: uint256,
    leaf: batches.Leaf,
    proof: DynArray[batches.Sibling, MAX_DEPTH],
    receipt: bytes32[19],
    request: Request,
    signature: Bytes[65],
):
    """
    @notice Show the receipt under the root, with this fee for its price, and the user's request that allows it. Frees what is frozen.
    @param receipt The words of the receipt's EIP-712 struct, its strings by their hashes.
    """
    id: bytes32 = settlements._check_batch(batch)
    dispute: Dispute = self.disputes[id][line][leaf.index]
    assert dispute.answerBy != 0 and not dispute.closed, "inference: no open dispute"
    assert block.timestamp <= dispute.answerBy, "inference: time to answer is over"
    shown: batches.Line = batch.lines[line]
    assert batches._is_under(shown, leaf, proof), "inference: receipt is not under the root"
    # INVARIANT: a leaf is a receipt of this operator, and its fee is the receipt's price.
    assert batches._receipt_digest(receipt) == leaf.receipt, "inference: words are not the receipt's"
    assert convert(receipt[batches.RECEIPT_PRICE], uint256) == leaf.fee, "inference: fee is not the price"
    assert receipt[batches.RECEIPT_OPERATOR] == convert(batch.signer, bytes32), "inference: receipt is another's"
    # INVARIANT: no receipt costs more than its user signed for, and one signature pays for one receipt.
    assert leaf.fee <= request.maxFee, "inference: fee is above the maximum"
    assert convert(receipt[batches.RECEIPT_ISSUED_AT], uint256) <= request.expiry, "inference: request had expired"
    key: bytes32 = subaccounts._key(shown.user, batch.provider)
    assert not self.used_requests[key][request.nonce], "inference: request was used"
    assert self._asked(key, shown.user, batch.provider, request, signature), "inference: request is not the user's"
    # INVARIANT: one job pays for one receipt, however many were signed for it.
    assert not self.shown_jobs[key][receipt[batches.RECEIPT_JOB]], "inference: job was shown"
    self.used_requests[key][request.nonce] = True
    self.highest_nonce[key] = max(self.highest_nonce[key], request.nonce)
    self.shown_jobs[key][receipt[batches.RECEIPT_JOB]] = True
    self.disputes[id][line][leaf.index].closed = True
    if dispute.demanded:
        settlements.line_states[id][line].demands -= 1
    else:
        settlements.line_states[id][line].frozen -= dispute.amount
        # The rest of the line has gone its way: what was frozen does not wait for it.
        if settlements.line_states[id][line].void or settlements.claimed[id] & (1 << line) != 0:
            subaccounts.payable_to[batch.provider] += dispute.amount
    subaccounts.payable_to[batch.provider] += BOND
    log DisputeAnswered(
        batch=id, user=shown.user, index=leaf.index, line=line, receipt=leaf.receipt, released=dispute.amount
    )


@external
def closeDispute(batch: settlements.Batch, line: uint256, index: uint256):
    """
    @notice Not answered in time: the fee, or the line that was kept from view, and the bond are the user's to withdraw.
    """
    id: bytes32 = settlements._check_batch(batch)
    dispute: Dispute = self.disputes[id][line][index]
    assert dispute.answerBy != 0 and not dispute.closed, "inference: no open dispute"
    assert block.timestamp > dispute.answerBy, "inference: time to answer is not over"
    self.disputes[id][line][index].closed = True
    state: settlements.LineState = settlements.line_states[id][line]
    user: address = batch.lines[line].user
    returned: uint256 = 0
    if dispute.demanded:
        state.demands -= 1
        if not state.void:
            # What is frozen goes its own way: it is counted in its own dispute.
            returned = batch.lines[line].total - state.frozen - state.returned
            state.void = True
    else:
        returned = dispute.amount
        state.frozen -= dispute.amount
    state.returned += returned
    settlements.line_states[id][line] = state
    subaccounts.payable_to[user] += returned + BOND
    log DisputeWon(batch=id, user=user, index=index, line=line, returned=returned)


@external
@view
def getDispute(batch: bytes32, line: uint256, index: uint256) -> Dispute:
    return self.disputes[batch][line][index]


@internal
@payable
def _open_dispute(batch: settlements.Batch, line: uint256, index: uint256) -> bytes32:
    id: bytes32 = settlements._check_batch(batch)
    assert line < len(batch.lines) and batch.paid & (1 << line) != 0, "inference: line was not paid"
    assert msg.sender == batch.lines[line].user, "inference: not your line"
    assert block.timestamp < batch.closesAt, "inference: window is closed"
    assert msg.value == BOND, "inference: bond is not exact"
    assert index < batch.lines[line].count, "inference: no such receipt"
    # INVARIANT: a receipt is disputed once.
    assert self.disputes[id][line][index].answerBy == 0, "inference: disputed already"
    assert not settlements.line_states[id][line].void, "inference: line is void"
    settlements.touched[id] |= 1 << line
    return id


@internal
def _freeze(id: bytes32, user: address, line: uint256, index: uint256, amount: uint256, demanded: bool):
    answer_by: uint256 = block.timestamp + ANSWER_TIME
    self.disputes[id][line][index] = Dispute(answerBy=answer_by, amount=amount, closed=False, demanded=demanded)
    log ReceiptDisputed(
        batch=id, user=user, index=index, line=line, amount=amount, demanded=demanded, answerBy=answer_by
    )


@internal
@view
def _asked(key: bytes32, user: address, provider: address, request: Request, signature: Bytes[65]) -> bool:
    contents: bytes32 = keccak256(
        abi_encode(
            REQUEST_TYPE,
            user,
            provider,
            request.service,
            request.bodyHash,
            request.maxFee,
            request.nonce,
            request.expiry,
        )
    )
    found: address = signing._signer(signing._digest(contents), signature)
    return found == user or convert(found, uint256) == self.request_keys[key][0]
