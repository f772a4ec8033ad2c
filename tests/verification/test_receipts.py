from __future__ import annotations

import hashlib

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from aos.errors import BadReceipt, BadSignature
from aos.order import canonical_sampling, digest_order, digest_tokens, with_defaults
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import DETERMINISM_EXACT, FINISH_REASON_LENGTH, Order, Price, Sampling
from aos.verification.keys import OperatorKey
from aos.verification.receipts import address, check_bundle, check_signature, digest, sign, text_digest
from aos.verification.states import state_root
from tests.receipts import JOB, PROMPT, a_receipt, a_trace

KEY = OperatorKey(Account.from_key(bytes([1]) * 32))


def by_hand(receipt: Receipt) -> bytes:
    """The EIP-712 digest from the standard's words, with nothing of ours but the struct in docs/reference/receipt.md."""

    def number(value: int) -> bytes:
        return value.to_bytes(32, "big")

    def text(value: str) -> bytes:
        return keccak(value.encode())

    struct = (
        "Receipt(bytes32 job,bytes32 requestDigest,bytes32 modelDigest,string profile,string parameters,uint64 seed,"
        "bytes32 controllerDigest,bytes32 argumentDigest,bytes32 promptDigest,bytes32 outputDigest,bytes32 outputTokensDigest,"
        "bytes32 stateRoot,uint32 promptTokens,uint32 completionTokens,string finishReason,uint256 price,bytes32 clock,"
        "uint64 issuedAt,address operator)"
    )
    domain = keccak(text("EIP712Domain(string name,string version)") + text("AOS") + text("1"))
    members = [
        text(struct),
        receipt.job,
        receipt.request_digest,
        receipt.model_digest,
        text(receipt.profile),
        text(receipt.parameters),
        number(receipt.seed),
        receipt.controller_digest or bytes(32),
        receipt.argument_digest or bytes(32),
        receipt.prompt_digest,
        receipt.output_digest,
        receipt.output_tokens_digest,
        receipt.state_root,
        number(receipt.usage.prompt_tokens),
        number(receipt.usage.completion_tokens),
        text("stop"),
        number(int(receipt.price)),
        hashlib.sha256(b"0xab=5\n1=2\n").digest(),
        number(receipt.issued_at),
        bytes(12) + receipt.operator,
    ]
    return keccak(b"\x19\x01" + domain + keccak(b"".join(members)))


def longer(digits: bytes) -> bytes:
    return digits[:-1] + bytes([digits[-1] ^ 1])


def changed(receipt: Receipt, field: str) -> Receipt:
    """The receipt with one field, named as in the proto, made another."""
    other = Receipt()
    other.CopyFrom(receipt)
    match field:
        case "usage.prompt_tokens":
            other.usage.prompt_tokens += 1
        case "usage.completion_tokens":
            other.usage.completion_tokens += 1
        case "usage.cached_tokens":
            other.usage.cached_tokens += 1
        case "clock.counts":
            other.clock.counts["1"] += 1
        case "finish_reason":
            other.finish_reason = FINISH_REASON_LENGTH
        case "price":
            other.price = str(int(receipt.price) + 1)
        case _:
            value = getattr(receipt, field)
            new = longer(value) if isinstance(value, bytes) else value + 1 if isinstance(value, int) else f"{value}."
            setattr(other, field, new)
    return other


def fields_of(descriptor) -> list[str]:
    names = []
    for field in descriptor.fields:
        inner = field.message_type
        names += [field.name] if inner is None else [f"{field.name}.{one.name}" for one in inner.fields]
    return names


class TestDigest:
    def test_it_is_eip_712s(self):
        """The digest is what the standard gives, computed here by hand."""
        receipt = sign(a_receipt(), KEY)
        assert digest(receipt) == by_hand(receipt)

    def test_it_never_changes(self):
        """A receipt signed today can be checked by every later version: this one is pinned, key, digest and signature."""
        receipt = sign(a_receipt(), KEY)

        assert address(receipt) == "0x1a642f0e3c3af545e7acbd38b07251b3990914f1"
        assert digest(receipt).hex() == "1025db7ddd6d84677f6e887ee15a2e1c1da3a4522afb70d05dca1b9e5ab1be98"
        assert receipt.signature.hex() == (
            "cf61dc20514528c8f95b194c49ae66bf5378168c07cb2b62d67b68fb847b5b73"
            "04671601a9cd0ea457345c503b29a3b1bca7c15826aff711f564300f93ac857a"
            "1b"
        )

    def test_the_order_of_a_clocks_nodes_does_not_matter(self):
        """A map has no order, so the digest has none of it."""
        one, two = a_receipt(), a_receipt()
        two.clock.counts.clear()
        for node, count in (("0xab", 5), ("1", 2)):
            two.clock.counts[node] = count
        assert digest(sign(one, KEY)) == digest(sign(two, KEY))


class TestSignature:
    def test_it_recovers_to_the_operator(self):
        """A signed receipt tells who signed it."""
        assert check_signature(sign(a_receipt(), KEY)) == KEY.address

    def test_signing_leaves_the_draft_alone(self):
        """Signing gives a new receipt."""
        draft = a_receipt()
        sign(draft, KEY)
        assert draft == a_receipt()

    @pytest.mark.parametrize("field", fields_of(Receipt.DESCRIPTOR))
    def test_no_field_can_be_changed(self, field):
        """Changing any field, whichever it is, breaks the signature."""
        forged = changed(sign(a_receipt(), KEY), field)
        with pytest.raises((BadSignature, BadReceipt)):
            check_signature(forged)

    def test_another_key_cannot_sign_for_an_operator(self):
        """A receipt in one operator's name, signed by another, is refused."""
        forged = sign(a_receipt(), OperatorKey.create())
        forged.operator = bytes.fromhex(KEY.address[2:])
        with pytest.raises(BadSignature, match="another key made it"):
            check_signature(forged)

    @pytest.mark.parametrize("signature", [b"", b"x", bytes(64), bytes(65), b"\xff" * 65, bytes(66)])
    def test_a_malformed_signature_is_a_bad_one(self, signature):
        """Junk in place of a signature is refused, not stumbled over."""
        receipt = sign(a_receipt(), KEY)
        receipt.signature = signature
        with pytest.raises(BadSignature):
            check_signature(receipt)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *((name, bad) for name in ("job", "model_digest", "output_tokens_digest") for bad in (b"", bytes(31), bytes(33))),
            *((name, bad) for name in ("controller_digest", "argument_digest") for bad in (b"", bytes(31), bytes(32))),
            ("operator", b""),
            ("operator", bytes(21)),
            *(("price", bad) for bad in ("", "-1", "1.0", "011", "00", "٣", " 1", "1\n", str(1 << 256), "9" * 79)),
            ("finish_reason", 99),
        ],
    )
    def test_a_field_that_does_not_fit_is_named(self, field, value):
        """A value outside its field's type is a bad receipt, and the error says which field."""
        receipt = sign(a_receipt(), KEY)
        setattr(receipt, field, value)
        with pytest.raises(BadReceipt) as caught:
            check_signature(receipt)
        assert caught.value.facts["field"] == field

    @pytest.mark.parametrize("node", ["", "a=1\nb", "a=", "a b", "ü", "a" * 129])
    def test_a_clock_cannot_be_written_in_two_ways(self, node):
        """Node ids that could pass for other lines of the clock are refused."""
        receipt = a_receipt()
        receipt.clock.counts[node] = 1
        with pytest.raises(BadReceipt) as caught:
            sign(receipt, KEY)
        assert caught.value.facts["field"] == "clock"

    @pytest.mark.parametrize("price", ["0", "1", str((1 << 256) - 1)])
    def test_prices_to_the_last_of_256_bits(self, price):
        """The whole range of the type can be signed."""
        assert check_signature(sign(a_receipt(price=price), KEY)) == KEY.address


ORDER = with_defaults(Order(model="m", prompt="What is AI?", sampling=Sampling(seed=7, stop=["\n"])), job=JOB)
TOKENS = [5, 70_000, 0, 9]
PRICE = Price(prompt_token="1", completion_token="2")


@pytest.fixture
def bundle() -> ReceiptBundle:
    receipt = a_receipt()
    receipt.controller_digest = receipt.argument_digest = b""
    receipt.request_digest = digest_order(ORDER)
    receipt.parameters = canonical_sampling(ORDER.sampling)
    receipt.output_digest = text_digest("It is a field.")
    receipt.output_tokens_digest = digest_tokens(TOKENS)
    receipt.prompt_digest = digest_tokens(PROMPT)
    receipt.operator = bytes.fromhex(KEY.address[2:])
    made = ReceiptBundle(order=ORDER, output="It is a field.", output_tokens=TOKENS, price=PRICE, trace=a_trace(TOKENS))
    receipt.state_root = state_root(receipt, made.trace)
    made.receipt.CopyFrom(sign(receipt, KEY))
    return made


def bad(bundle: ReceiptBundle) -> list[str]:
    return [finding.what for finding in check_bundle(bundle) if finding.good is not True]


class TestBundle:
    def test_a_good_one_has_only_good_findings(self, bundle):
        """Signature, request, parameters, seed, text, tokens, count, state_root and price, each looked at and found right."""
        findings = list(check_bundle(bundle))
        assert len(findings) == 9
        assert bad(bundle) == []
        assert findings[0].what == f"signed by operator {KEY.address}"

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda it: setattr(it.order, "prompt", "What is ML?"), ["the request is the one"]),
            (lambda it: setattr(it.order, "model", "n"), ["the request is the one"]),
            (
                lambda it: setattr(it.order.sampling, "temperature", 1.0),
                ["the request is the one", "the parameters are"],
            ),
            (
                lambda it: setattr(it.order.sampling, "seed", 8),
                ["the request is the one", "the parameters are", "the seed is"],
            ),
            (lambda it: setattr(it, "output", "It is a farm."), ["the answer's text"]),
            (lambda it: it.output_tokens.append(1), ["the answer's tokens", "the count of"]),
            (lambda it: it.output_tokens.__setitem__(0, 6), ["the answer's tokens"]),
            (lambda it: it.trace.prompt_tokens.__setitem__(0, 6), ["state_root is"]),
            (lambda it: setattr(it.trace, "steps", it.trace.steps[:-1] + b"\1"), ["state_root is"]),
            (lambda it: it.trace.Clear(), ["state_root is"]),
            (lambda it: setattr(it.price, "prompt_token", "2"), ["the price is"]),
            (lambda it: setattr(it.receipt, "seed", 8), ["the operator's signature", "the seed is", "state_root is"]),
            (lambda it: setattr(it.receipt, "price", "12"), ["the operator's signature", "the price is"]),
            (lambda it: setattr(it.receipt, "profile", "another"), ["the operator's signature"]),
            (lambda it: setattr(it.receipt, "signature", b""), ["the operator's signature"]),
        ],
    )
    def test_each_lie_is_found_where_it_is(self, bundle, change, found):
        """What was changed is named, and nothing else is."""
        change(bundle)
        names = bad(bundle)
        assert len(names) == len(found)
        assert all(name.startswith(start) for name, start in zip(names, found, strict=True))

    @pytest.mark.parametrize(("ran", "kept"), [("exact", True), ("best_effort", False)])
    def test_what_was_to_be_exact(self, bundle, ran, kept):
        """An answer that was to be exact, and was not run so, is found."""
        bundle.order.determinism = DETERMINISM_EXACT
        bundle.receipt.profile = f"llama.cpp/0.3.36 x86_64 avx2 kv=f16 fa=on ubatch=256 determinism={ran}"

        (finding,) = (one for one in check_bundle(bundle) if one.what == "the answer is exact, as was asked")

        assert finding.good is kept

    def test_a_bad_finding_says_both_values(self, bundle):
        """What the receipt says stands beside what was found."""
        bundle.price.prompt_token = "2"
        (finding,) = (finding for finding in check_bundle(bundle) if not finding.good)
        assert finding.why == "the receipt says 11, what is here gives 14"

    def test_whatever_it_holds_it_is_judged(self):
        """Empty and absurd bundles get findings, never an exception."""
        assert len(bad(ReceiptBundle())) >= 1
        absurd = ReceiptBundle(order=Order(sampling=Sampling(temperature=float("nan"))), price=Price(prompt_token="many"))
        absurd.receipt.finish_reason = 99
        names = bad(absurd)
        assert "the operator's signature" in names
        assert any(name.startswith("the price is") for name in names)
        assert any(name.startswith("the request is") for name in names)
