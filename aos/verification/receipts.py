"""Receipts: what an operator states, how it is signed, and what can be checked with nothing else at hand. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from eth_account.messages import SignableMessage

from aos.control_order import argument_digest
from aos.errors import BadReceipt, BadSignature
from aos.order import canonical_sampling, cost, digest_order, digest_tokens, draws
from aos.picture_order import digest_input, digest_pictures, files, picture_tokens
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Determinism, Embedding, FinishReason
from aos.vectors import packed
from aos.verification.clock import NODE, NODE_CHARS
from aos.verification.keys import OperatorKey, digest_of, signer, statement
from aos.verification.states import check_state
from aos.verification.upstream import is_upstream, name_digest

T = TypeVar("T")

DIGEST_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
PRICE_DIGITS: Final = 78
"""Of 2^256."""
REMEMBERED: Final = 512
"""Of so many statements and signatures it is remembered what was found; of none that is false."""
REMEMBERED_BYTES: Final = 4096
"""Larger ones are looked at anew each time."""
# whatever could be written in two ways would let a receipt be changed under its signature
_PRICE: Final = re.compile(rf"0|[1-9][0-9]{{0,{PRICE_DIGITS - 1}}}")
DIGESTS: Final = (
    "job", "request_digest", "model_digest", "prompt_digest", "output_digest", "output_tokens_digest", "state_root",
)  # fmt: skip

FIELDS: Final = [
    ("job", "bytes32"),
    ("requestDigest", "bytes32"),
    ("modelDigest", "bytes32"),
    ("profile", "string"),
    ("parameters", "string"),
    ("seed", "uint64"),
    ("controllerDigest", "bytes32"),
    ("argumentDigest", "bytes32"),
    ("promptDigest", "bytes32"),
    ("outputDigest", "bytes32"),
    ("outputTokensDigest", "bytes32"),
    ("stateRoot", "bytes32"),
    ("promptTokens", "uint32"),
    ("completionTokens", "uint32"),
    ("finishReason", "string"),
    ("price", "uint256"),
    ("clock", "bytes32"),
    ("issuedAt", "uint64"),
    ("operator", "address"),
]
"""The EIP-712 struct `Receipt`, in its order."""
UNCONTROLLED: Final = bytes(DIGEST_BYTES)
"""Signed for a digest of a controller, or of its argument, where there is none."""


def address(receipt: Receipt) -> str:
    """Return the operator's address as `0x` and 40 lower-case hex digits."""
    return f"0x{receipt.operator.hex()}"


def receipt_statement(receipt: Receipt) -> SignableMessage:
    """Return what the operator signs. Raises BadReceipt for a field that does not fit its type."""
    return _remembered(_stated, receipt)


def receipt_message(receipt: Receipt) -> dict[str, Any]:
    """Return the values of FIELDS. Raises BadReceipt for a field that does not fit its type."""
    job = f"jobs/{receipt.job.hex()}"
    for name in DIGESTS:
        if len(getattr(receipt, name)) != DIGEST_BYTES:
            raise BadReceipt(job, name, f"must have {DIGEST_BYTES} bytes")
    _check_controlled(receipt, job)
    if len(receipt.operator) != ADDRESS_BYTES:
        raise BadReceipt(job, "operator", f"must have {ADDRESS_BYTES} bytes")
    price = receipt.price
    if not (_PRICE.fullmatch(price) and int(price) < 1 << 256):
        raise BadReceipt(job, "price", "must be an integer below 2^256, as decimal digits without leading zeros")
    if receipt.usage.cached_tokens:
        # what was reused is nothing that a receipt speaks of; unsigned, it could be changed
        raise BadReceipt(job, "usage.cached_tokens", "is no part of a receipt")
    if receipt.finish_reason not in FinishReason.values():
        raise BadReceipt(job, "finish_reason", "is unknown")
    for node in receipt.clock.counts:
        if not NODE.fullmatch(node):
            raise BadReceipt(job, "clock", f"has a node whose id is not 1 to {NODE_CHARS} printable ASCII characters without `=`")
    counts = "".join(f"{node}={count}\n" for node, count in sorted(receipt.clock.counts.items()))
    return {
        "job": receipt.job,
        "requestDigest": receipt.request_digest,
        "modelDigest": receipt.model_digest,
        "profile": receipt.profile,
        "parameters": receipt.parameters,
        "seed": receipt.seed,
        "controllerDigest": receipt.controller_digest or UNCONTROLLED,
        "argumentDigest": receipt.argument_digest or UNCONTROLLED,
        "promptDigest": receipt.prompt_digest,
        "outputDigest": receipt.output_digest,
        "outputTokensDigest": receipt.output_tokens_digest,
        "stateRoot": receipt.state_root,
        "promptTokens": receipt.usage.prompt_tokens,
        "completionTokens": receipt.usage.completion_tokens,
        "finishReason": FinishReason.Name(receipt.finish_reason).removeprefix("FINISH_REASON_").lower(),
        "price": int(receipt.price),
        "clock": hashlib.sha256(counts.encode()).digest(),
        "issuedAt": receipt.issued_at,
        "operator": address(receipt),
    }


def _check_controlled(receipt: Receipt, job: str) -> None:
    for name, other in (("controller_digest", "argument_digest"), ("argument_digest", "controller_digest")):
        found = getattr(receipt, name)
        if not found and getattr(receipt, other):
            raise BadReceipt(job, name, f"must be there, as {other} is")
        # no digest and one of zeros are signed alike: only one of them is a receipt's
        if found and (len(found) != DIGEST_BYTES or found == UNCONTROLLED):
            raise BadReceipt(job, name, f"must have {DIGEST_BYTES} bytes, not all zero, or be empty")


def digest(receipt: Receipt) -> bytes:
    """Return the receipt's 32-byte EIP-712 digest: its key in every store, ledger and dispute."""
    return digest_of(receipt_statement(receipt))


def sign(receipt: Receipt, key: OperatorKey) -> Receipt:
    """Return the receipt with the operator and its signature filled in."""
    signed = Receipt()
    signed.CopyFrom(receipt)
    signed.operator = bytes.fromhex(key.address[2:])
    signed.signature = key.sign(_stated(signed))  # nobody asks for it without its signature again
    return signed


def check_signature(receipt: Receipt) -> str:
    """Return the signing operator's address. Raises BadReceipt or BadSignature."""
    return _remembered(_signed, receipt)


def check_and_digest(receipt: Receipt) -> tuple[str, bytes]:
    """Return what ``check_signature`` and ``digest`` do, in little more than the time of one. Raises BadReceipt or BadSignature."""
    return check_signature(receipt), digest(receipt)


def _stated(receipt: Receipt) -> SignableMessage:
    return statement("Receipt", FIELDS, receipt_message(receipt))


def _signed(receipt: Receipt) -> str:
    return signer(receipt_statement(receipt), receipt.signature, address(receipt))


def _remembered(find: Callable[[Receipt], T], receipt: Receipt) -> T:
    """Return what ``find`` finds, which depends on nothing but the receipt's bytes: one process may want it several times."""
    if receipt.ByteSize() > REMEMBERED_BYTES:
        return find(receipt)
    return cast("T", _found(cast("Callable[[Receipt], object]", find), receipt.SerializeToString(deterministic=True)))


@lru_cache(maxsize=REMEMBERED)
def _found(find: Callable[[Receipt], object], written: bytes) -> object:
    return find(Receipt.FromString(written))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``good`` is None for what could not be checked with what was at hand."""

    what: str
    good: bool | None
    why: str = ""


def check_bundle(bundle: ReceiptBundle) -> Iterator[Finding]:
    """Check all that a bundle proves by itself. It may be anybody's: whatever it holds, this raises nothing."""
    receipt, order, tokens, usage = bundle.receipt, bundle.order, list(bundle.output_tokens), bundle.receipt.usage
    try:
        yield Finding(f"signed by operator {check_signature(receipt)}", good=True)
    except (BadReceipt, BadSignature) as error:
        yield Finding("the operator's signature", good=False, why=error.message)
    yield _equal("the request is the one that was signed for", receipt.request_digest, lambda: digest_order(order))
    yield _equal("the parameters are the request's", receipt.parameters, lambda: canonical_sampling(order.sampling))
    if order.determinism == Determinism.DETERMINISM_EXACT:
        kept = not receipt.profile.endswith(" determinism=best_effort")
        yield Finding("the answer is exact, as was asked", good=kept, why="" if kept else f"the receipt says {receipt.profile}")
    yield _equal("the seed is the request's", receipt.seed, lambda: order.sampling.seed)
    if order.HasField("embedding"):
        vectors = bundle.embeddings
        yield _equal("the vectors are the ones that were signed for", receipt.output_digest, lambda: embeddings_digest(vectors))
        yield _equal("there is one vector a text", len(vectors), lambda: len(order.embedding.texts))
    elif order.HasField("picture"):
        yield from _pictures(bundle)
    else:
        yield _equal("the answer's text is the one that was signed for", receipt.output_digest, lambda: text_digest(bundle.output))
    yield _equal(
        "the answer's tokens are the ones that were signed for", receipt.output_tokens_digest, lambda: digest_tokens(tokens)
    )
    yield from _upstream(bundle)
    yield from _controlled(bundle)
    if not (is_upstream(receipt) or order.HasField("picture") or order.HasField("control")):
        yield _equal("the count of answer tokens", usage.completion_tokens, lambda: len(tokens))
    yield _state(bundle)
    yield _equal(
        f"the price is {usage.prompt_tokens} + {usage.completion_tokens} tokens at the operator's rate",
        receipt.price,
        lambda: str(cost(bundle.price, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)),
    )


def _state(bundle: ReceiptBundle) -> Finding:
    what = "state_root is that of the prompt's, the answer's and the steps' trees"
    try:
        check_state(bundle.receipt, bundle.trace, embeds=not draws(bundle.order))
    except BadReceipt as error:
        return Finding(what, good=False, why=error.message)
    if is_upstream(bundle.receipt):
        return Finding("there is no state_root: a model server tells no steps", good=True)
    without = {"embedding": "vectors have no steps", "picture": "pictures are drawn without tokens"}
    why = without.get(bundle.order.WhichOneof("input") or "")
    return Finding(what if why is None else f"there is no state_root: {why}", good=True)


def _controlled(bundle: ReceiptBundle) -> Iterator[Finding]:
    """Say what is different about an answer that a controller steered. Its counts follow from its rounds, as `state_root` does."""
    receipt, order = bundle.receipt, bundle.order
    if order.HasField("control"):
        module, argument = order.control.controller, order.control
        yield _equal("the controller is the one that was asked for", receipt.controller_digest, lambda: module)
        yield _equal("its argument is the request's", receipt.argument_digest, lambda: argument_digest(argument))
    elif receipt.controller_digest or receipt.argument_digest:
        yield Finding("the controller is the one that was asked for", good=False, why="the request names none")


def _pictures(bundle: ReceiptBundle) -> Iterator[Finding]:
    receipt, wanted = bundle.receipt, bundle.order.picture
    yield _equal("the pictures are the ones that were signed for", receipt.output_digest, lambda: digest_pictures(bundle.pictures))
    yield _equal("there are as many pictures as were asked for", len(bundle.pictures), lambda: wanted.count)
    yield _equal("prompt and sources are the ones that were signed for", receipt.prompt_digest, lambda: digest_input(wanted))
    for name, file in files(wanted):
        if file.data:
            what = f"the file of {name} is the one that its name says"
            yield _equal(what, file.sha256, lambda file=file: hashlib.sha256(file.data).digest())
    prompt, completion = picture_tokens(wanted)
    yield _equal("the count of tokens of prompt and sources", receipt.usage.prompt_tokens, lambda: prompt)
    yield _equal("the count of tokens of the pictures", receipt.usage.completion_tokens, lambda: completion)


def _upstream(bundle: ReceiptBundle) -> Iterator[Finding]:
    """Say what is different about an answer that a model server gave."""
    receipt, named = bundle.receipt, bundle.receipt.model_digest == name_digest(bundle.order.model)
    if not is_upstream(receipt):
        if named:
            yield Finding("the profile is that of a model server", good=False, why=f"the receipt says {receipt.profile}")
        return
    yield Finding("the model is one that only its name stands for", good=named, why="" if named else "the receipt names weights")
    yield Finding("there are no tokens", good=not bundle.output_tokens)
    if bundle.order.HasField("picture"):
        why = "a model server gave them: its operator answers for it, and nobody can run it again"
        yield Finding("that the model gives these pictures", good=None, why=why)
        return
    why = "a model server told the text and the counts, and no tokens: its operator answers for it, and nobody can run it again"
    yield Finding("that the model gives this answer, and the counts of tokens", good=None, why=why)


def embeddings_digest(embeddings: Sequence[Embedding]) -> bytes:
    """Return the SHA-256 of vectors: their count, then of each its count of numbers and the numbers.

    Counts are uint32, numbers float32, all little-endian.
    """
    said = hashlib.sha256(len(embeddings).to_bytes(4, "little"))
    for one in embeddings:
        said.update(len(one.values).to_bytes(4, "little") + packed(one))
    return said.digest()


def text_digest(text: str) -> bytes:
    """Return the SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).digest()


def _equal(what: str, stated: object, find: Callable[[], object]) -> Finding:
    try:
        found = find()
    except ValueError as error:  # NaN in an order, a price that is no number
        return Finding(what, good=False, why=f"what is here cannot be compared: {error}")
    if stated == found:
        return Finding(what, good=True)
    return Finding(what, good=False, why=f"the receipt says {_show(stated)}, what is here gives {_show(found)}")


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
