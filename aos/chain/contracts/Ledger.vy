# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Ledger
@notice Users' deposits, and their way to sub-accounts with providers and back.
@custom:kill Nobody can: there is no owner, and nothing can be changed after deployment.
@dev A user's total is not stored but added up from where the money is, so that no call can make the two differ.
"""

interface Serving:
    def fund(user: address, provider: address, signer: uint256[2], cancelled: uint256): payable
    def retrieve(user: address, providers: DynArray[address, MAX_RETRIEVED]) -> uint256: nonpayable
    def closeAccounts(user: address, providers: DynArray[address, MAX_PROVIDERS]): nonpayable
    def balanceOf(user: address, provider: address) -> (uint256, uint256): view
    def balanceOfAll(user: address, providers: DynArray[address, MAX_PROVIDERS]) -> uint256: view

struct Ledger:
    user: address
    availableBalance: uint256
    totalBalance: uint256
    inferenceSigner: uint256[2]
    additionalInfo: String[MAX_INFO]
    inferenceProviders: DynArray[address, MAX_PROVIDERS]
    fineTuningProviders: DynArray[address, MAX_PROVIDERS]

struct Held:
    # Its place in the list of users, from 1; 0: there is no ledger.
    place: uint256
    available: uint256
    signer: uint256[2]
    info: String[MAX_INFO]

event LedgerCreated:
    user: indexed(address)
    amount: uint256

event LedgerInfoUpdated:
    user: indexed(address)

event Deposited:
    user: indexed(address)
    payer: indexed(address)
    amount: uint256

event Refunded:
    user: indexed(address)
    amount: uint256

event Transferred:
    user: indexed(address)
    provider: indexed(address)
    serviceType: String[MAX_SERVICE_TYPE]
    amount: uint256
    cancelled: uint256

event Retrieved:
    user: indexed(address)
    serviceType: String[MAX_SERVICE_TYPE]
    amount: uint256

event LedgerDeleted:
    user: indexed(address)
    paid: uint256

MAX_INFO: constant(uint256) = 1024
MAX_SERVICE_TYPE: constant(uint256) = 32
MAX_PROVIDERS: constant(uint256) = 50
MAX_RETRIEVED: constant(uint256) = 20
MAX_PAGE: constant(uint256) = 20

INFERENCE: immutable(address)
FINE_TUNING: immutable(address)

# INVARIANT: the sum of ledgers[user].available never exceeds self.balance.
ledgers: HashMap[address, Held]
users: DynArray[address, max_value(uint64)]
# By user, then by serving contract.
providers: HashMap[address, HashMap[address, DynArray[address, MAX_PROVIDERS]]]


@deploy
def __init__(inference: address, fine_tuning: address):
    """
    @param inference Where the inference contract is. It may be deployed before or after this one, as may the other.
    """
    assert inference != empty(address) and fine_tuning != empty(address), "ledger: address zero"
    assert inference != fine_tuning, "ledger: one contract for both services"
    INFERENCE = inference
    FINE_TUNING = fine_tuning


@external
@payable
@reentrant
def __default__():
    # Refunds come home while retrieveFund waits for them. Anything else that is sent would be nobody's.
    assert msg.sender == INFERENCE or msg.sender == FINE_TUNING, "ledger: use depositFund"


@external
@view
def services() -> (address, address):
    """
    @notice The inference and the fine-tuning contract.
    """
    return INFERENCE, FINE_TUNING


@external
@payable
def addLedger(inferenceSigner: uint256[2], additionalInfo: String[MAX_INFO]) -> (uint256, uint256):
    """
    @notice Open the caller's ledger with what is sent along, which may be nothing. Returns available and total balance.
    @param inferenceSigner A key that may sign requests for the caller: its address and 0; zeros for none.
    """
    # INVARIANT: an open ledger is never replaced.
    assert self.ledgers[msg.sender].place == 0, "ledger: exists already"
    self.users.append(msg.sender)
    self.ledgers[msg.sender] = Held(
        place=len(self.users), available=msg.value, signer=inferenceSigner, info=additionalInfo
    )
    log LedgerCreated(user=msg.sender, amount=msg.value)
    return msg.value, msg.value


@external
@payable
def depositFund():
    """
    @notice Add what is sent along to the caller's ledger.
    """
    self._deposit(msg.sender)


@external
@payable
def depositFundFor(recipient: address):
    """
    @notice Add what is sent along to another's ledger. It is theirs from then on.
    """
    self._deposit(recipient)


@external
def updateAdditionalInfo(additionalInfo: String[MAX_INFO]):
    self._open(msg.sender)
    self.ledgers[msg.sender].info = additionalInfo
    log LedgerInfoUpdated(user=msg.sender)


@external
def refund(amount: uint256):
    """
    @notice Pay available balance back to the caller, at once.
    """
    self._open(msg.sender)
    assert amount > 0, "ledger: amount is zero"
    available: uint256 = self.ledgers[msg.sender].available
    assert amount <= available, "ledger: insufficient balance"
    self.ledgers[msg.sender].available = available - amount
    log Refunded(user=msg.sender, amount=amount)
    # Last, so that whoever is called finds the new balance.
    raw_call(msg.sender, b"", value=amount)


@external
def transferFund(provider: address, serviceType: String[MAX_SERVICE_TYPE], amount: uint256):
    """
    @notice Put money aside for a provider. Refunds under way are cancelled first, newest first; only what is missing then is moved.
    @param amount May be 0: then the sub-account is made, with nothing in it.
    """
    self._open(msg.sender)
    assert provider != empty(address), "ledger: address zero"
    serving: address = self._serving(serviceType)
    if provider not in self.providers[msg.sender][serving]:
        assert len(self.providers[msg.sender][serving]) < MAX_PROVIDERS, "ledger: too many providers"
        self.providers[msg.sender][serving].append(provider)
    balance: uint256 = 0
    pending: uint256 = 0
    balance, pending = staticcall Serving(serving).balanceOf(msg.sender, provider)
    cancelled: uint256 = min(amount, pending)
    moved: uint256 = amount - cancelled
    available: uint256 = self.ledgers[msg.sender].available
    assert moved <= available, "ledger: insufficient balance"
    self.ledgers[msg.sender].available = available - moved
    log Transferred(
        user=msg.sender, provider=provider, serviceType=serviceType, amount=moved, cancelled=cancelled
    )
    extcall Serving(serving).fund(
        msg.sender, provider, self.ledgers[msg.sender].signer, cancelled, value=moved
    )


@external
def retrieveFund(providers: DynArray[address, MAX_RETRIEVED], serviceType: String[MAX_SERVICE_TYPE]) -> uint256:
    """
    @notice From each provider: take what has waited for its lock time, and ask for the rest. So all is back after two calls, the
            lock time apart; what a provider settles in between is his. Returns what came back now.
    """
    self._open(msg.sender)
    released: uint256 = extcall Serving(self._serving(serviceType)).retrieve(msg.sender, providers)
    if released > 0:
        self.ledgers[msg.sender].available += released
        log Retrieved(user=msg.sender, serviceType=serviceType, amount=released)
    return released


@external
def deleteLedger() -> uint256:
    """
    @notice Close the caller's own ledger and pay out what is in it. Sub-accounts must be empty.
    """
    self._open(msg.sender)
    for serving: address in [INFERENCE, FINE_TUNING]:
        providers: DynArray[address, MAX_PROVIDERS] = self.providers[msg.sender][serving]
        # INVARIANT: no money is left behind where its owner cannot reach it.
        assert staticcall Serving(serving).balanceOfAll(msg.sender, providers) == 0, "ledger: sub-accounts hold funds"
        self.providers[msg.sender][serving] = []
        extcall Serving(serving).closeAccounts(msg.sender, providers)
    paid: uint256 = self.ledgers[msg.sender].available
    last: address = self.users.pop()
    if last != msg.sender:
        place: uint256 = self.ledgers[msg.sender].place
        self.users[place - 1] = last
        self.ledgers[last].place = place
    self.ledgers[msg.sender].place = 0
    self.ledgers[msg.sender].available = 0
    self.ledgers[msg.sender].signer = empty(uint256[2])
    self.ledgers[msg.sender].info = ""
    log LedgerDeleted(user=msg.sender, paid=paid)
    if paid > 0:
        raw_call(msg.sender, b"", value=paid)
    return paid


@external
@view
def getLedger(user: address) -> Ledger:
    self._open(user)
    return self._shown(user)


@external
@view
def getAllLedgers(offset: uint256, limit: uint256) -> (DynArray[Ledger, MAX_PAGE], uint256):
    """
    @notice A page of ledgers, at most 20, and how many there are.
    """
    count: uint256 = len(self.users)
    page: DynArray[Ledger, MAX_PAGE] = []
    for step: uint256 in range(MAX_PAGE):
        if step >= limit or offset >= count or step >= count - offset:
            break
        page.append(self._shown(self.users[offset + step]))
    return page, count


@external
@view
def getLedgerProviders(user: address, serviceType: String[MAX_SERVICE_TYPE]) -> DynArray[address, MAX_PROVIDERS]:
    return self.providers[user][self._serving(serviceType)]


@external
@view
def additionalInfoOf(user: address) -> String[MAX_INFO]:
    return self.ledgers[user].info


@internal
@view
def _open(user: address):
    assert self.ledgers[user].place != 0, "ledger: does not exist"


@internal
@view
def _serving(service_type: String[MAX_SERVICE_TYPE]) -> address:
    if service_type == "inference":
        return INFERENCE
    # INVARIANT: money goes to one of two contracts, both fixed.
    assert service_type == "fine-tuning", "ledger: unknown service type"
    return FINE_TUNING


@internal
@payable
def _deposit(user: address):
    self._open(user)
    assert msg.value > 0, "ledger: amount is zero"
    self.ledgers[user].available += msg.value
    log Deposited(user=user, payer=msg.sender, amount=msg.value)


@internal
@view
def _shown(user: address) -> Ledger:
    held: Held = self.ledgers[user]
    inference: DynArray[address, MAX_PROVIDERS] = self.providers[user][INFERENCE]
    fine_tuning: DynArray[address, MAX_PROVIDERS] = self.providers[user][FINE_TUNING]
    aside: uint256 = staticcall Serving(INFERENCE).balanceOfAll(user, inference)
    aside += staticcall Serving(FINE_TUNING).balanceOfAll(user, fine_tuning)
    return Ledger(
        user=user,
        availableBalance=held.available,
        totalBalance=held.available + aside,
        inferenceSigner=held.signer,
        additionalInfo=held.info,
        inferenceProviders=inference,
        fineTuningProviders=fine_tuning,
    )
