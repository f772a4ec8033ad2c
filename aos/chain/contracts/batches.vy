# pragma version ~=0.4.3
# pragma nonreentrancy on
"""
@title Batches
@notice What an operator signs to be paid: for each user one root over receipts; and how one receipt is proven to be under it.
@dev A module of pure functions. The tree carries sums: a root stands for exactly the fees under it, and an index for one leaf.
"""

struct Line:
    user: address
    root: bytes32
    total: uint256
    count: uint256

struct Leaf:
    index: uint256
    receipt: bytes32
    fee: uint256

struct Sibling:
    digest: bytes32
    total: uint256

MAX_LINES: constant(uint256) = 64
MAX_DEPTH: constant(uint256) = 20
MAX_RECEIPTS: constant(uint256) = 2**MAX_DEPTH

LINE_TYPE: constant(bytes32) = keccak256("Line(address user,bytes32 root,uint256 total,uint256 count)")
BATCH_TYPE: constant(bytes32) = keccak256(
    "Batch(address provider,Line[] lines,uint256 nonce,uint256 deadline)Line(address user,bytes32 root,uint256 total,uint256 count)"
)
# The receipt, as operators sign it wherever they run: its domain is bound to no chain (docs/reference/receipt.md).
# keccak256 of keccak256("EIP712Domain(string name,string version)"), keccak256("AOS"), keccak256("1"), abi-encoded.
RECEIPT_DOMAIN: constant(bytes32) = 0x3f412b8cecdfd1451999d5525b452be250478ae37ad6f724e05871a40f5769c5
RECEIPT_TYPE: constant(bytes32) = keccak256(
    "Receipt(bytes32 job,bytes32 requestDigest,bytes32 modelDigest,string profile,string parameters,uint64 seed,bytes32 controllerDigest,bytes32 argumentDigest,bytes32 promptDigest,bytes32 outputDigest,bytes32 outputTokensDigest,bytes32 stateRoot,uint32 promptTokens,uint32 completionTokens,string finishReason,uint256 price,bytes32 clock,uint64 issuedAt,address operator)"
)
RECEIPT_WORDS: constant(uint256) = 19
RECEIPT_JOB: constant(uint256) = 0
RECEIPT_PRICE: constant(uint256) = 15
RECEIPT_ISSUED_AT: constant(uint256) = 17
RECEIPT_OPERATOR: constant(uint256) = 18


@internal
@pure
def _lines_digest(lines: DynArray[Line, MAX_LINES]) -> bytes32:
    digests: DynArray[bytes32, MAX_LINES] = []
    for line: Line in lines:
        digests.append(keccak256(abi_encode(LINE_TYPE, line)))
    return keccak256(slice(abi_encode(digests, ensure_tuple=False), 32, 32 * len(digests)))


@internal
@pure
def _is_under(line: Line, leaf: Leaf, proof: DynArray[Sibling, MAX_DEPTH]) -> bool:
    if leaf.index >= line.count:
        return False
    digest: bytes32 = keccak256(concat(x"00", leaf.receipt, convert(leaf.fee, bytes32)))
    total: uint256 = leaf.fee
    place: uint256 = leaf.index
    width: uint256 = line.count
    used: uint256 = 0
    for _: uint256 in range(MAX_DEPTH):
        if width == 1:
            break
        # The last of an odd number goes up as it is.
        if place % 2 == 1 or place + 1 < width:
            if used == len(proof):
                return False
            other: Sibling = proof[used]
            used += 1
            # A sum beyond 2^256 is no sum of fees.
            if other.total > max_value(uint256) - total:
                return False
            if place % 2 == 1:
                digest = self._inner(other.digest, other.total, digest, total)
            else:
                digest = self._inner(digest, total, other.digest, other.total)
            total += other.total
        place = place // 2
        width = (width + 1) // 2
    return used == len(proof) and width == 1 and digest == line.root and total == line.total


@internal
@pure
def _inner(left: bytes32, left_total: uint256, right: bytes32, right_total: uint256) -> bytes32:
    return keccak256(concat(x"01", left, convert(left_total, bytes32), right, convert(right_total, bytes32)))


@internal
@pure
def _receipt_digest(words: bytes32[RECEIPT_WORDS]) -> bytes32:
    return keccak256(concat(x"1901", RECEIPT_DOMAIN, keccak256(abi_encode(RECEIPT_TYPE, words))))
