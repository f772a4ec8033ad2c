# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Sub-accounts
@notice What users have put aside for one provider each: balance, refunds under way, and the signer that the user acknowledged.
@dev A module. The ledger alone puts money in and takes refunds out; the host decides when a fee is due, through _charge.
"""

struct Refund:
    index: uint256
    amount: uint256
    createdAt: uint256
    processed: bool

struct Claimable:
    provider: address
    due: uint256
    waiting: uint256
    nextRelease: uint256

struct Signer:
    current: address
    former: address
    formerUntil: uint256

event SubAccountFunded:
    user: indexed(address)
    provider: indexed(address)
    amount: uint256
    cancelled: uint256

event RefundRequested:
    user: indexed(address)
    provider: indexed(address)
    index: indexed(uint256)
    amount: uint256
    releaseAt: uint256

event RefundReleased:
    user: indexed(address)
    provider: indexed(address)
    amount: uint256

event RefundDeferred:
    user: indexed(address)
    provider: indexed(address)
    amount: uint256

event SubAccountClosed:
    user: indexed(address)
    provider: indexed(address)

event SignerAcknowledged:
    user: indexed(address)
    provider: indexed(address)
    signer: address
    former: address
    formerUntil: uint256

event Withdrawn:
    payee: indexed(address)
    to: indexed(address)
    amount: uint256

MAX_REFUNDS: constant(uint256) = 5
MAX_RETRIEVED: constant(uint256) = 20
MAX_PROVIDERS: constant(uint256) = 50

# Who alone may move money between a sub-account and the ledger. Fixed: nobody can appoint another.
LEDGER: immutable(address)
# Seconds between a refund's request and its release. Fixed, so that no change can reach back to open refunds.
LOCK_TIME: immutable(uint256)

# INVARIANT: pending[key] is the sum of refunds[key], and at most balances[key].
# INVARIANT: the sum of balances and of payable_to never exceeds self.balance.
balances: HashMap[bytes32, uint256]
pending: HashMap[bytes32, uint256]
refunds: HashMap[bytes32, DynArray[Refund, MAX_REFUNDS]]
refunds_made: HashMap[bytes32, uint256]
signers: HashMap[bytes32, Signer]
exists: HashMap[bytes32, bool]
payable_to: HashMap[address, uint256]


@deploy
def __init__(ledger: address, lock_time: uint256):
    assert ledger != empty(address), "accounts: ledger is address zero"
    LEDGER = ledger
    LOCK_TIME = lock_time


@external
@view
def ledger() -> address:
    return LEDGER


@external
@view
def lockTime() -> uint256:
    """
    @notice Seconds between a refund's request and its release.
    """
    return LOCK_TIME


@external
@view
def accountExists(user: address, provider: address) -> bool:
    return self.exists[self._key(user, provider)]


@external
@view
def balanceOf(user: address, provider: address) -> (uint256, uint256):
    """
    @notice Balance, and the part of it that is being refunded.
    """
    key: bytes32 = self._key(user, provider)
    return self.balances[key], self.pending[key]


@external
@view
def balanceOfAll(user: address, providers: DynArray[address, MAX_PROVIDERS]) -> uint256:
    total: uint256 = 0
    for provider: address in providers:
        total += self.balances[self._key(user, provider)]
    return total


@external
@view
def getRefunds(user: address, provider: address) -> DynArray[Refund, MAX_REFUNDS]:
    """
    @notice Refunds under way, oldest first.
    """
    return self.refunds[self._key(user, provider)]


@external
@view
def claimable(user: address, providers: DynArray[address, MAX_RETRIEVED]) -> DynArray[Claimable, MAX_RETRIEVED]:
    """
    @notice For each provider: what retrieveFund would release now, what still waits, and when the next of it is released (0: nothing waits).
    """
    found: DynArray[Claimable, MAX_RETRIEVED] = []
    for provider: address in providers:
        one: Claimable = Claimable(provider=provider, due=0, waiting=0, nextRelease=0)
        for refund: Refund in self.refunds[self._key(user, provider)]:
            if refund.createdAt + LOCK_TIME <= block.timestamp:
                one.due += refund.amount
            else:
                one.waiting += refund.amount
                if one.nextRelease == 0:
                    one.nextRelease = refund.createdAt + LOCK_TIME
        found.append(one)
    return found


@external
@view
def getSigner(user: address, provider: address) -> Signer:
    """
    @notice The acknowledged signer; and the one before, with the time until which what it signed is still taken.
    """
    return self.signers[self._key(user, provider)]


@external
@view
def withdrawable(payee: address) -> uint256:
    return self.payable_to[payee]


@external
def withdraw(to: address) -> uint256:
    """
    @notice Take out all that is yours here. Contracts can receive it: no gas is held back.
    """
    assert to != empty(address), "accounts: address zero"
    # INVARIANT: the ledger holds nothing that is nobody's: it would take this for a refund.
    assert to != LEDGER, "accounts: the ledger is no wallet"
    amount: uint256 = self.payable_to[msg.sender]
    assert amount > 0, "accounts: nothing to withdraw"
    self.payable_to[msg.sender] = 0
    log Withdrawn(payee=msg.sender, to=to, amount=amount)
    # Last, so that whoever is called finds nothing left.
    raw_call(to, b"", value=amount)
    return amount


@external
def acknowledgeProviderSigner(provider: address, signer: address):
    """
    @notice Say whose signature may charge your sub-account. Of another than before, the old one stays good for the lock time.
    """
    key: bytes32 = self._key(msg.sender, provider)
    assert self.exists[key], "accounts: no sub-account"
    # INVARIANT: nobody ever acknowledges the address that junk recovers to.
    assert signer != empty(address), "accounts: address zero"
    held: Signer = self.signers[key]
    if held.current == signer:
        return
    # INVARIANT: a user cannot change his way out of paying for what was done.
    assert held.formerUntil <= block.timestamp, "accounts: signer changed recently"
    former_until: uint256 = 0 if held.current == empty(address) else block.timestamp + LOCK_TIME
    self.signers[key] = Signer(current=signer, former=held.current, formerUntil=former_until)
    log SignerAcknowledged(
        user=msg.sender, provider=provider, signer=signer, former=held.current, formerUntil=former_until
    )


@external
def retrieve(user: address, providers: DynArray[address, MAX_RETRIEVED]) -> uint256:
    """
    @notice The ledger's: release what is due, request the rest, and pay what was released to the ledger.
    @dev No provider's state can make it fail for another.
    """
    assert msg.sender == LEDGER, "accounts: not the ledger"
    released: uint256 = 0
    for provider: address in providers:
        key: bytes32 = self._key(user, provider)
        released += self._release(user, provider, key)
        self._request(user, provider, key)
    if released > 0:
        raw_call(LEDGER, b"", value=released)
    return released


@external
def closeAccounts(user: address, providers: DynArray[address, MAX_PROVIDERS]):
    """
    @notice The ledger's: forget empty sub-accounts, acknowledgements included. Used nonces are remembered for ever.
    """
    assert msg.sender == LEDGER, "accounts: not the ledger"
    for provider: address in providers:
        key: bytes32 = self._key(user, provider)
        # INVARIANT: what is forgotten held nothing.
        assert self.balances[key] == 0, "accounts: sub-account holds funds"
        self.exists[key] = False
        self.signers[key] = empty(Signer)
        log SubAccountClosed(user=user, provider=provider)


@internal
@pure
def _key(user: address, provider: address) -> bytes32:
    return keccak256(abi_encode(user, provider))


@internal
@payable
def _fund(user: address, provider: address, key: bytes32, cancelled: uint256):
    assert msg.sender == LEDGER, "accounts: not the ledger"
    self.exists[key] = True
    if cancelled > 0:
        self._shrink_refunds(key, cancelled)
    self.balances[key] += msg.value
    log SubAccountFunded(user=user, provider=provider, amount=msg.value, cancelled=cancelled)


@internal
@view
def _may_charge(key: bytes32, signer: address) -> bool:
    if signer == empty(address):
        return False
    held: Signer = self.signers[key]
    return signer == held.current or (signer == held.former and block.timestamp < held.formerUntil)


@internal
def _charge(key: bytes32, amount: uint256):
    balance: uint256 = self.balances[key]
    # INVARIANT: a fee is paid whole or not at all.
    assert amount <= balance, "accounts: insufficient balance"
    left: uint256 = balance - amount
    self.balances[key] = left
    pending: uint256 = self.pending[key]
    if pending > left:
        self._shrink_refunds(key, pending - left)


@internal
def _shrink_refunds(key: bytes32, amount: uint256):
    # INVARIANT: what is taken from a refund is taken from its record: it can never be paid out as well.
    left: uint256 = amount
    for _: uint256 in range(MAX_REFUNDS):
        if left == 0:
            break
        last: Refund = self.refunds[key].pop()
        if last.amount > left:
            last.amount -= left
            left = 0
            self.refunds[key].append(last)
        else:
            left -= last.amount
    self.pending[key] -= amount


@internal
def _release(user: address, provider: address, key: bytes32) -> uint256:
    due: uint256 = 0
    kept: DynArray[Refund, MAX_REFUNDS] = []
    for refund: Refund in self.refunds[key]:
        if refund.createdAt + LOCK_TIME <= block.timestamp:
            due += refund.amount
        else:
            kept.append(refund)
    if due > 0:
        self.refunds[key] = kept
        self.pending[key] -= due
        self.balances[key] -= due
        log RefundReleased(user=user, provider=provider, amount=due)
    return due


@internal
def _request(user: address, provider: address, key: bytes32):
    free: uint256 = self.balances[key] - self.pending[key]
    if free == 0:
        return
    if len(self.refunds[key]) == MAX_REFUNDS:
        # Told, not refused: a refusal here would hold up the other providers' refunds.
        log RefundDeferred(user=user, provider=provider, amount=free)
        return
    index: uint256 = self.refunds_made[key]
    self.refunds_made[key] = index + 1
    self.refunds[key].append(Refund(index=index, amount=free, createdAt=block.timestamp, processed=False))
    self.pending[key] += free
    log RefundRequested(
        user=user, provider=provider, index=index, amount=free, releaseAt=block.timestamp + LOCK_TIME
    )
