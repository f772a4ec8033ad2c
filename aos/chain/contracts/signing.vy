# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Signing
@notice EIP-712 in the domain of the contract that uses this module, and signers that cannot be faked.
@dev A module. The domain has the chain's id and the contract's address: nothing signed for one deployment is good in another.
"""

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
VERSION: constant(bytes32) = keccak256("1")
# Half of the order of secp256k1: above it lies the mirror image of a signature that is below.
LOW_S: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
SIGNATURE_BYTES: constant(uint256) = 65

_name: immutable(bytes32)


@deploy
def __init__(name: String[64]):
    _name = keccak256(name)


@external
@view
def domainSeparator() -> bytes32:
    """
    @notice The domain in which this contract's statements are signed.
    """
    return self._domain()


@internal
@view
def _domain() -> bytes32:
    # Made anew each time, so that a fork of the chain has its own.
    return keccak256(abi_encode(DOMAIN_TYPE, _name, VERSION, chain.id, self))


@internal
@view
def _digest(contents: bytes32) -> bytes32:
    return keccak256(concat(x"1901", self._domain(), contents))


@internal
@pure
def _signer(digest: bytes32, signature: Bytes[65]) -> address:
    assert len(signature) == SIGNATURE_BYTES, "signing: signature is not 65 bytes"
    s: uint256 = extract32(signature, 32, output_type=uint256)
    # INVARIANT: one statement has one signature by one key.
    assert s <= LOW_S, "signing: s is too high"
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    assert v == 27 or v == 28, "signing: v is neither 27 nor 28"
    found: address = ecrecover(digest, v, extract32(signature, 0, output_type=uint256), s)
    # INVARIANT: junk is nobody's signature, not address zero's.
    assert found != empty(address), "signing: signature is nobody's"
    return found
