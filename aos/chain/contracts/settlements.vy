# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Settlements
@notice Batches of receipts: what they charge is held for WINDOW seconds, then the provider's.
@dev A module. What disputes take from a line stands in its LineState, which the module of disputes writes.
"""

import batches
import signing
import subaccounts

uses: signing
uses: subaccounts

# A batch as it was settled. The chain keeps its hash; who acts on it brings it along.
struct Batch:
    provider: address
    signer: address
    nonce: uint256
    closesAt: uint256
    # Bit i: line i was paid.
    paid: uint256
    lines: DynArray[batches.Line, MAX_LINES]

struct LineState:
    frozen: uint256
    returned: uint256
    # How many indices the user has asked for and not been shown.
    demands: uint256
    void: bool

event BatchSettled:
    batch: indexed(bytes32)
    provider: indexed(address)
    signer: indexed(address)
    nonce: uint256
    closesAt: uint256
    paid: uint256

event LinePaid:
    batch: indexed(bytes32)
    user: indexed(address)
    root: bytes32
    total: uint256
    count: uint256

event LineRefused:
    batch: indexed(bytes32)
    user: indexed(address)
    root: bytes32
    total: uint256
    reason: String[32]

event Claimed:
    batch: indexed(bytes32)
    provider: indexed(address)
    amount: uint256

MAX_LINES: constant(uint256) = 64

# Seconds in which a settled receipt can be disputed.
WINDOW: immutable(uint256)

# INVARIANT: of a line, what is frozen, returned and claimed is never more than what was paid.
# By batch. Its being there is what makes a nonce used.
settled: HashMap[bytes32, bytes32]
claimed: HashMap[bytes32, uint256]
# Bit i: line i has a LineState, so that those without one cost nothing to claim.
touched: HashMap[bytes32, uint256]
line_states: HashMap[bytes32, HashMap[uint256, LineState]]


@deploy
def __init__(window: uint256):
    WINDOW = window


@external
def settleBatch(
    provider: address, lines: DynArray[batches.Line, MAX_LINES], nonce: uint256, deadline: uint256, signature: Bytes[65]
) -> uint256:
    """
    @notice Charge each line's user for the receipts under its root. A line is paid whole or not at all, and none holds up
            another. Anyone may send it: it is worth what its signature is worth. Returns the lines paid: bit i is line i.
    """
    return self._settle(provider, lines, nonce, deadline, signature)


@external
def settleFees(
    provider: address, line: batches.Line, nonce: uint256, deadline: uint256, signature: Bytes[65]
) -> uint256:
    """
    @notice A batch of one line.
    """
    return self._settle(provider, [line], nonce, deadline, signature)


@external
def claim(batch: Batch) -> uint256:
    """
    @notice After the window: what is not disputed becomes the provider's to withdraw. Anyone may send it, once more for lines that
            were frozen the first time.
    """
    id: bytes32 = self._check_batch(batch)
    assert block.timestamp >= batch.closesAt, "inference: window is open"
    claimed: uint256 = self.claimed[id]
    touched: uint256 = self.touched[id]
    amount: uint256 = 0
    for i: uint256 in range(len(batch.lines), bound=MAX_LINES):
        bit: uint256 = 1 << i
        if batch.paid & bit == 0 or claimed & bit != 0:
            continue
        taken: uint256 = 0
        if touched & bit != 0:
            state: LineState = self.line_states[id][i]
            if state.demands > 0 or state.void:
                continue
            taken = state.frozen + state.returned
        claimed |= bit
        # INVARIANT: of a line, what is frozen, returned and claimed is never more than what was paid.
        amount += batch.lines[i].total - taken
    assert amount > 0, "inference: nothing to claim"
    self.claimed[id] = claimed
    subaccounts.payable_to[batch.provider] += amount
    log Claimed(batch=id, provider=batch.provider, amount=amount)
    return amount


@external
@view
def getLine(batch: bytes32, line: uint256) -> (LineState, bool):
    """
    @notice What disputes did to a line, and whether the rest of it was claimed.
    """
    return self.line_states[batch][line], self.claimed[batch] & (1 << line) != 0


@external
@view
def isSettled(provider: address, signer: address, nonce: uint256) -> bool:
    """
    @notice Whether this nonce was used by this signer for this provider.
    """
    return self.settled[self._batch_id(provider, signer, nonce)] != empty(bytes32)


@internal
@pure
def _batch_id(provider: address, signer: address, nonce: uint256) -> bytes32:
    return keccak256(abi_encode(provider, signer, nonce))


@internal
def _settle(
    provider: address, lines: DynArray[batches.Line, MAX_LINES], nonce: uint256, deadline: uint256, signature: Bytes[65]
) -> uint256:
    assert block.timestamp <= deadline, "inference: deadline has passed"
    # INVARIANT: money is held for somebody who can take it.
    assert provider != empty(address), "accounts: address zero"
    assert len(lines) > 0, "inference: no lines"
    digest: bytes32 = batches._lines_digest(lines)
    signer: address = signing._signer(
        signing._digest(keccak256(abi_encode(batches.BATCH_TYPE, provider, digest, nonce, deadline))), signature
    )
    id: bytes32 = self._batch_id(provider, signer, nonce)
    # INVARIANT: a nonce is good once.
    assert self.settled[id] == empty(bytes32), "inference: nonce was used"
    closes_at: uint256 = block.timestamp + WINDOW
    paid: uint256 = 0
    for i: uint256 in range(len(lines), bound=MAX_LINES):
        line: batches.Line = lines[i]
        key: bytes32 = subaccounts._key(line.user, provider)
        reason: String[32] = ""
        if not subaccounts.exists[key]:
            reason = "no sub-account"
        elif not subaccounts._may_charge(key, signer):
            reason = "signer not acknowledged"
        elif line.count == 0 or line.count > batches.MAX_RECEIPTS:
            reason = "count out of range"
        elif subaccounts.balances[key] < line.total:
            reason = "insufficient balance"
        if len(reason) > 0:
            log LineRefused(batch=id, user=line.user, root=line.root, total=line.total, reason=reason)
            continue
        subaccounts._charge(key, line.total)
        paid |= 1 << i
        log LinePaid(batch=id, user=line.user, root=line.root, total=line.total, count=line.count)
    self.settled[id] = self._commitment(provider, signer, closes_at, paid, digest)
    log BatchSettled(batch=id, provider=provider, signer=signer, nonce=nonce, closesAt=closes_at, paid=paid)
    return paid


@internal
@pure
def _commitment(provider: address, signer: address, closes_at: uint256, paid: uint256, lines: bytes32) -> bytes32:
    return keccak256(abi_encode(provider, signer, closes_at, paid, lines))


@internal
@view
def _check_batch(batch: Batch) -> bytes32:
    id: bytes32 = self._batch_id(batch.provider, batch.signer, batch.nonce)
    held: bytes32 = self._commitment(
        batch.provider, batch.signer, batch.closesAt, batch.paid, batches._lines_digest(batch.lines)
    )
    # INVARIANT: whoever acts on a batch acts on what was settled.
    assert self.settled[id] == held, "inference: not the batch that was settled"
    return id
