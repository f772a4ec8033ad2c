# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Inference serving
@notice Services on offer, users' sub-accounts with their providers, and settlement of receipts in batches.
@custom:kill Nobody can: there is no owner, and nothing can be changed after deployment.
@dev A batch is believed at first: what it charges is held for WINDOW seconds, in which each user can have any receipt of it
     shown. Money goes one way only: from a sub-account to what is held, from there to the provider or back to the user.
"""

import disputes
import inference_offers
import settlements
import signing
import subaccounts

initializes: signing
initializes: subaccounts
initializes: inference_offers
initializes: settlements[signing := signing, subaccounts := subaccounts]
initializes: disputes[settlements := settlements, signing := signing, subaccounts := subaccounts]

exports: signing.domainSeparator
exports: (
    inference_offers.addOrUpdateService,
    inference_offers.getAllServices,
    inference_offers.getService,
    inference_offers.quoteFee,
    inference_offers.removeService,
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
exports: (
    settlements.claim,
    settlements.getLine,
    settlements.isSettled,
    settlements.settleBatch,
    settlements.settleFees,
)
exports: (
    disputes.answerDispute,
    disputes.closeDispute,
    disputes.demandReceipt,
    disputes.disputeReceipt,
    disputes.getDispute,
)

interface LedgerOf:
    def additionalInfoOf(user: address) -> String[MAX_INFO]: view

struct Account:
    user: address
    provider: address
    nonce: uint256
    balance: uint256
    pendingRefund: uint256
    signer: uint256[2]
    refunds: DynArray[subaccounts.Refund, MAX_REFUNDS]
    additionalInfo: String[MAX_INFO]
    providerSigner: address

MAX_INFO: constant(uint256) = 1024
MAX_REFUNDS: constant(uint256) = 5

# INVARIANT: self.balance is at least sub-accounts, what is to be withdrawn, paid lines that are not claimed, and open bonds.


@deploy
def __init__(ledger: address, lock_time: uint256, window: uint256, answer_time: uint256, bond: uint256):
    """
    @param lock_time Seconds between a refund's request and its release.
    @param window Seconds in which a settled receipt can be disputed.
    @param answer_time Seconds to answer a dispute.
    @param bond What opening a dispute costs, in wei: at least what answering one costs.
    """
    signing.__init__("AOS Inference Serving")
    subaccounts.__init__(ledger, lock_time)
    settlements.__init__(window)
    disputes.__init__(answer_time, bond)


@external
@view
def terms() -> (uint256, uint256, uint256):
    """
    @notice Seconds in which a receipt can be disputed, seconds to answer, and the bond in wei.
    """
    return settlements.WINDOW, disputes.ANSWER_TIME, disputes.BOND


@external
@payable
def fund(user: address, provider: address, signer: uint256[2], cancelled: uint256):
    """
    @notice The ledger's: put what is sent along into a sub-account, made if it is not there.
    """
    key: bytes32 = subaccounts._key(user, provider)
    if not subaccounts.exists[key]:
        disputes.request_keys[key] = signer
    subaccounts._fund(user, provider, key, cancelled)


@external
@view
def getAccount(user: address, provider: address) -> Account:
    key: bytes32 = subaccounts._key(user, provider)
    assert subaccounts.exists[key], "accounts: no sub-account"
    return Account(
        user=user,
        provider=provider,
        nonce=disputes.highest_nonce[key],
        balance=subaccounts.balances[key],
        pendingRefund=subaccounts.pending[key],
        signer=disputes.request_keys[key],
        refunds=subaccounts.refunds[key],
        additionalInfo=staticcall LedgerOf(subaccounts.LEDGER).additionalInfoOf(user),
        providerSigner=subaccounts.signers[key].current,
    )
