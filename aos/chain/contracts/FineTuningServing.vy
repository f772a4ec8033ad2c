# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Fine-tuning serving
@notice Services on offer, users' sub-accounts with their providers, deliverables and their settlement.
@custom:kill Nobody can: there is no owner, and nothing can be changed after deployment.
@dev A deliverable exists only for a task that its user signed, and costs at most what that says. Deliverables of one account do not
     wait for each other.
"""

import signing
import subaccounts
import tuning_offers

initializes: signing
initializes: subaccounts
initializes: tuning_offers

exports: signing.domainSeparator
exports: (
    tuning_offers.addOrUpdateService,
    tuning_offers.getAllServices,
    tuning_offers.getService,
    tuning_offers.quoteFee,
    tuning_offers.removeService,
)
exports: (
    subaccounts.accountExists,
    subaccounts.acknowledgeProviderSigner,
    subaccounts.balanceOf,
    subaccounts.balanceOfAll,
    subaccounts.claimable,
    subaccounts.closeAccounts,
    subaccounts.getRefunds,
    subaccounts.getSigner,
    subaccounts.ledger,
    subaccounts.lockTime,
    subaccounts.retrieve,
    subaccounts.withdraw,
    subaccounts.withdrawable,
)

interface LedgerOf:
    def additionalInfoOf(user: address) -> String[MAX_INFO]: view

struct Deliverable:
    modelRootHash: Bytes[MAX_ROOT]
    encryptedSecret: Bytes[MAX_SECRET]
    acknowledged: bool

struct Account:
    user: address
    provider: address
    nonce: uint256
    balance: uint256
    pendingRefund: uint256
    refunds: DynArray[subaccounts.Refund, MAX_REFUNDS]
    additionalInfo: String[MAX_INFO]
    providerSigner: address
    deliverables: DynArray[Deliverable, MAX_PAGE]

# What a user signs to have a task run.
struct Task:
    # SHA-256 of the task's canonical JSON: dataset, model, parameters.
    contents: bytes32
    maxFee: uint256
    nonce: uint256

# What is behind a deliverable.
struct Terms:
    id: String[MAX_NAME]
    # Acknowledged when it was delivered; a change later does not reach it.
    signer: address
    maxFee: uint256
    nonce: uint256
    acknowledgeBy: uint256
    paid: uint256
    penalised: bool
    settled: bool
    abandoned: bool

struct VerifierInput:
    index: uint256
    encryptedSecret: Bytes[MAX_SECRET]
    modelRootHash: Bytes[MAX_ROOT]
    nonce: uint256
    providerSigner: address
    signature: Bytes[65]
    taskFee: uint256
    user: address

event DeliverableAdded:
    user: indexed(address)
    provider: indexed(address)
    index: indexed(uint256)
    id: String[MAX_NAME]
    modelRootHash: Bytes[MAX_ROOT]
    acknowledgeBy: uint256

event DeliverableAcknowledged:
    user: indexed(address)
    provider: indexed(address)
    index: indexed(uint256)

event DeliverableAbandoned:
    user: indexed(address)
    provider: indexed(address)
    index: indexed(uint256)

event FeesSettled:
    user: indexed(address)
    provider: indexed(address)
    index: indexed(uint256)
    fee: uint256
    acknowledged: bool
    nonce: uint256

MAX_INFO: constant(uint256) = 1024
MAX_NAME: constant(uint256) = 64
MAX_ROOT: constant(uint256) = 256
MAX_SECRET: constant(uint256) = 256
MAX_PAGE: constant(uint256) = 20
MAX_REFUNDS: constant(uint256) = 5
TASK_TYPE: constant(bytes32) = keccak256(
    "Task(address user,address provider,bytes32 contents,uint256 maxFee,uint256 nonce)"
)
SETTLEMENT_TYPE: constant(bytes32) = keccak256(
    "Settlement(address user,address provider,string id,bytes encryptedSecret,bytes modelRootHash,uint256 nonce,uint256 taskFee)"
)

# Seconds that a user has to acknowledge before the penalty, and the penalty in hundredths of the fee.
ACKNOWLEDGE_TIME: immutable(uint256)
PENALTY: immutable(uint256)

highest_nonce: HashMap[bytes32, uint256]
used_tasks: HashMap[bytes32, HashMap[uint256, bool]]
delivered: HashMap[bytes32, uint256]
deliverables: HashMap[bytes32, HashMap[uint256, Deliverable]]
terms: HashMap[bytes32, HashMap[uint256, Terms]]
# By account and id: the index, from 1.
by_id: HashMap[bytes32, HashMap[bytes32, uint256]]


@deploy
def __init__(ledger: address, lock_time: uint256, acknowledge_time: uint256, penalty: uint256):
    signing.__init__("AOS Fine-Tuning Serving")
    subaccounts.__init__(ledger, lock_time)
    # INVARIANT: an unacknowledged deliverable never costs more than an acknowledged one.
    assert penalty <= 100, "fine-tuning: penalty is above 100"
    ACKNOWLEDGE_TIME = acknowledge_time
    PENALTY = penalty


@external
@view
def penaltyPercentage() -> uint256:
    return PENALTY


@external
@view
def acknowledgeTime() -> uint256:
    """
    @notice Seconds that a user has to acknowledge a deliverable before the penalty.
    """
    return ACKNOWLEDGE_TIME


@external
@payable
def fund(user: address, provider: address, signer: uint256[2], cancelled: uint256):
    """
    @notice The ledger's: put what is sent along into a sub-account, made if it is not there.
    """
    subaccounts._fund(user, provider, subaccounts._key(user, provider), cancelled)


@external
@view
def getAccount(user: address, provider: address) -> Account:
    """
    @notice The sub-account, with its latest 20 deliverables; getDeliverables has them all.
    """
    key: bytes32 = subaccounts._key(user, provider)
    assert subaccounts.exists[key], "accounts: no sub-account"
    count: uint256 = self.delivered[key]
    return Account(
        user=user,
        provider=provider,
        nonce=self.highest_nonce[key],
        balance=subaccounts.balances[key],
        pendingRefund=subaccounts.pending[key],
        refunds=subaccounts.refunds[key],
        additionalInfo=staticcall LedgerOf(subaccounts.LEDGER).additionalInfoOf(user),
        providerSigner=subaccounts.signers[key].current,
        deliverables=self._page(key, count - min(count, MAX_PAGE), MAX_PAGE),
    )


@external
def addDeliverable(
    user: address, id: String[MAX_NAME], modelRootHash: Bytes[MAX_ROOT], task: Task, signature: Bytes[65]
) -> uint256:
    """
    @notice The provider's: deliver the model of a task that the user signed. Returns its index.
    """
    key: bytes32 = subaccounts._key(user, msg.sender)
    assert subaccounts.exists[key], "accounts: no sub-account"
    signer: address = subaccounts.signers[key].current
    # INVARIANT: nobody is charged on a signer that he has not acknowledged.
    assert signer != empty(address), "fine-tuning: signer not acknowledged"
    assert len(modelRootHash) > 0, "fine-tuning: root is empty"
    # INVARIANT: one task, one deliverable.
    assert self.by_id[key][keccak256(id)] == 0, "fine-tuning: delivered already"
    assert not self.used_tasks[key][task.nonce], "fine-tuning: nonce was used"
    contents: bytes32 = keccak256(abi_encode(TASK_TYPE, user, msg.sender, task.contents, task.maxFee, task.nonce))
    assert signing._signer(signing._digest(contents), signature) == user, "fine-tuning: task is not the user's"
    self.used_tasks[key][task.nonce] = True
    self.highest_nonce[key] = max(self.highest_nonce[key], task.nonce)
    index: uint256 = self.delivered[key]
    self.delivered[key] = index + 1
    self.by_id[key][keccak256(id)] = index + 1
    self.deliverables[key][index].modelRootHash = modelRootHash
    by: uint256 = block.timestamp + ACKNOWLEDGE_TIME
    self.terms[key][index] = Terms(
        id=id,
        signer=signer,
        maxFee=task.maxFee,
        nonce=task.nonce,
        acknowledgeBy=by,
        paid=0,
        penalised=False,
        settled=False,
        abandoned=False,
    )
    log DeliverableAdded(
        user=user, provider=msg.sender, index=index, id=id, modelRootHash=modelRootHash, acknowledgeBy=by
    )
    return index


@external
def acknowledgeDeliverable(provider: address, index: uint256):
    """
    @notice The user's alone: the model with this root has arrived. After a penalty too: what is missing of the fee then buys the key.
    """
    key: bytes32 = subaccounts._key(msg.sender, provider)
    self._exists(key, index)
    assert not self.terms[key][index].abandoned, "fine-tuning: abandoned"
    assert not self.deliverables[key][index].acknowledged, "fine-tuning: acknowledged already"
    self.deliverables[key][index].acknowledged = True
    log DeliverableAcknowledged(user=msg.sender, provider=provider, index=index)


@external
def abandonDeliverable(user: address, index: uint256):
    """
    @notice The provider's: give up what is not settled yet.
    """
    key: bytes32 = subaccounts._key(user, msg.sender)
    self._exists(key, index)
    assert not self.terms[key][index].settled, "fine-tuning: settled already"
    # INVARIANT: whoever took the penalty still owes the key to a user who pays the rest.
    assert not self.terms[key][index].penalised, "fine-tuning: penalty was paid"
    assert not self.terms[key][index].abandoned, "fine-tuning: abandoned"
    self.terms[key][index].abandoned = True
    log DeliverableAbandoned(user=user, provider=msg.sender, index=index)


@external
def settleFees(verifierInput: VerifierInput) -> uint256:
    """
    @notice The provider's: the whole fee for an acknowledged deliverable, with the secret; the penalty, without it, for one that was
            not acknowledged in time. Returns what was charged.
    """
    key: bytes32 = subaccounts._key(verifierInput.user, msg.sender)
    index: uint256 = verifierInput.index
    self._exists(key, index)
    terms: Terms = self.terms[key][index]
    # INVARIANT: what is settled is settled, under whatever nonce.
    assert not terms.settled, "fine-tuning: settled already"
    assert not terms.abandoned, "fine-tuning: abandoned"
    assert verifierInput.providerSigner == terms.signer, "fine-tuning: signer not acknowledged"
    assert verifierInput.nonce == terms.nonce, "fine-tuning: nonce is not the task's"
    assert verifierInput.taskFee <= terms.maxFee, "fine-tuning: fee is above the maximum"
    assert (
        keccak256(verifierInput.modelRootHash) == keccak256(self.deliverables[key][index].modelRootHash)
    ), "fine-tuning: root is not the delivered one"
    contents: bytes32 = keccak256(
        abi_encode(
            SETTLEMENT_TYPE,
            verifierInput.user,
            msg.sender,
            keccak256(terms.id),
            keccak256(verifierInput.encryptedSecret),
            keccak256(verifierInput.modelRootHash),
            verifierInput.nonce,
            verifierInput.taskFee,
        )
    )
    assert (
        signing._signer(signing._digest(contents), verifierInput.signature) == terms.signer
    ), "fine-tuning: settlement is not the signer's"
    acknowledged: bool = self.deliverables[key][index].acknowledged
    due: uint256 = verifierInput.taskFee
    if acknowledged:
        # INVARIANT: the whole fee is paid only together with the key.
        assert len(verifierInput.encryptedSecret) > 0, "fine-tuning: secret is missing"
        self.deliverables[key][index].encryptedSecret = verifierInput.encryptedSecret
        self.terms[key][index].settled = True
    else:
        assert not terms.penalised, "fine-tuning: penalty was paid"
        assert block.timestamp > terms.acknowledgeBy, "fine-tuning: time to acknowledge is not over"
        assert len(verifierInput.encryptedSecret) == 0, "fine-tuning: secret without acknowledgement"
        # Rounded down: the rest is due with the key.
        due = verifierInput.taskFee // 100 * PENALTY + verifierInput.taskFee % 100 * PENALTY // 100
        self.terms[key][index].penalised = True
    charged: uint256 = due - min(due, terms.paid)
    subaccounts._charge(key, charged)
    self.terms[key][index].paid = terms.paid + charged
    subaccounts.payable_to[msg.sender] += charged
    log FeesSettled(
        user=verifierInput.user,
        provider=msg.sender,
        index=index,
        fee=charged,
        acknowledged=acknowledged,
        nonce=terms.nonce,
    )
    return charged


@external
@view
def getDeliverable(user: address, provider: address, index: uint256) -> Deliverable:
    key: bytes32 = subaccounts._key(user, provider)
    self._exists(key, index)
    return self.deliverables[key][index]


@external
@view
def getDeliverables(
    user: address, provider: address, offset: uint256, limit: uint256
) -> (DynArray[Deliverable, MAX_PAGE], uint256):
    """
    @notice A page of deliverables, the first at index `offset`, at most 20, and how many there are.
    """
    key: bytes32 = subaccounts._key(user, provider)
    return self._page(key, offset, limit), self.delivered[key]


@external
@view
def getTerms(user: address, provider: address, index: uint256) -> Terms:
    """
    @notice Whose task a deliverable is, what it may cost, and how far its settlement is.
    """
    key: bytes32 = subaccounts._key(user, provider)
    self._exists(key, index)
    return self.terms[key][index]


@external
@view
def indexOf(user: address, provider: address, id: String[MAX_NAME]) -> uint256:
    """
    @notice The index of the deliverable of this task.
    """
    index: uint256 = self.by_id[subaccounts._key(user, provider)][keccak256(id)]
    assert index != 0, "fine-tuning: no such deliverable"
    return index - 1


@internal
@view
def _exists(key: bytes32, index: uint256):
    assert index < self.delivered[key], "fine-tuning: no such deliverable"


@internal
@view
def _page(key: bytes32, offset: uint256, limit: uint256) -> DynArray[Deliverable, MAX_PAGE]:
    count: uint256 = self.delivered[key]
    page: DynArray[Deliverable, MAX_PAGE] = []
    for step: uint256 in range(MAX_PAGE):
        if step >= limit or offset >= count or step >= count - offset:
            break
        page.append(self.deliverables[key][offset + step])
    return page
