"""Requests that wallets sign, and signatures over answers, against vectors made elsewhere."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import BadHeader, OtherChain, RequestExpired, RequestSignature, SignatureHighS
from aos.v1.requests_pb2 import SignedRequest
from aos.verification.keys import OperatorKey
from aos.verification.requests import (
    EMBEDDED,
    HALF_ORDER,
    LONGEST_SECONDS,
    body_hash,
    check_request,
    exchange_signer,
    exchange_statement,
    exchange_text,
    headers_of,
    read_headers,
    statement_of,
)

NOW = 1_700_000_000
KEY = OperatorKey.create()
SIGNER_KEY = "4c0883a69102937d6231471b5dbb6204fe512961708279b7e1a8d7d7a3c2b9e3"
SIGNER = "0x325744be57db298C2652c672B32Eb12875d92D83"
TEXT = (
    "6ae0f660046dadcf5fe8462c0e00a062db4c8d67be82f4098c5ea4208d19b076:"
    "45fb0254ec0f0ce1c7c6ce6379dfe8afa7ee7dfa13537d323c487f1d76357676"
)
SIGNATURE = (
    "2ba5a62e3215d4129f101453e805d0a77142bf8a8c970cae8042b8174921ee6e"
    "7db2812cfb79da60188b421f5e3c487ade8ff102601c7ed19408d1041f905e061b"
)


def a_request(**other: object) -> SignedRequest:
    """A good request; ``other`` are set after it was signed."""
    request = SignedRequest(
        account="accounts/demo",
        user=KEY.address,
        provider="0x" + "ab" * 20,
        service="m",
        body_hash=body_hash({"model": "m"}),
        max_fee="1000",
        nonce=17_000_000_000_000_040,
        expiry=NOW + 60,
        chain_id=0,
    )
    request.signature = KEY.sign(statement_of(request, EMBEDDED))
    for name, value in other.items():
        setattr(request, name, value)
    return request


class TestAnswers:
    def test_text_and_signature_of_the_vector(self, tmp_path):
        """Hashes of request and response, and the EIP-191 signature over them, are those that others compute."""
        (tmp_path / "key").write_text(SIGNER_KEY)
        key = OperatorKey.load(tmp_path / "key")
        text = exchange_text(hashlib.sha256(b'{"q":1}').digest(), hashlib.sha256(b'{"id":"c1"}').digest())
        assert text == TEXT
        assert key.sign(exchange_statement(text)).hex() == SIGNATURE

    @pytest.mark.parametrize("prefix", ["", "0x"])
    def test_the_signer_is_found(self, prefix):
        """With the prefix or without; what is no signature is nobody's."""
        assert exchange_signer(TEXT, prefix + SIGNATURE) == SIGNER
        assert exchange_signer(TEXT + "0", prefix + SIGNATURE) != SIGNER
        assert exchange_signer(TEXT, prefix + SIGNATURE[2:]) == exchange_signer(TEXT, "x") == ""


class TestHeaders:
    @given(
        nonce=st.integers(0, 2**63 - 1),
        fee=st.integers(0, 10**38 - 1),
        expiry=st.integers(0, 10**12 - 1),
        chain=st.integers(0, 10**18 - 1),
    )
    def test_say_the_request(self, nonce, fee, expiry, chain):
        """What was said is what is read, to the last digit."""
        request = a_request(nonce=nonce, max_fee=str(fee), expiry=expiry, chain_id=chain)
        assert read_headers({name.lower(): value for name, value in headers_of(request).items()}) == request

    def test_an_old_name_for_the_service(self):
        """`Service-Name` does where the other is not."""
        headers = {name.lower(): value for name, value in headers_of(a_request()).items()}
        headers["service-name"] = headers.pop("x-aos-service")
        assert read_headers(headers) == a_request()

    def test_numbers_that_are_too_long(self):
        """They are refused, not cut."""
        headers = {name.lower(): value for name, value in headers_of(a_request()).items()}
        for name, value in (
            ("nonce", str(2**63)),
            ("fee", "1" * 39),
            ("nonce", "1e3"),
            ("fee", "-1"),
            ("fee", "0.5"),
            ("nonce", "\uff11"),
        ):
            with pytest.raises(BadHeader, match=name.title()):
                read_headers(headers | {name: value})


class TestBodies:
    def test_the_form_is_of_no_matter(self):
        """Order and number form say nothing; every value does."""
        assert body_hash({"a": 1, "b": "é"}) == body_hash({"b": "é", "a": 1.0})
        assert body_hash({"a": 1}) != body_hash({"a": "1"})


class TestChecks:
    def test_a_good_one(self):
        """It passes until the second in which it expires."""
        check_request(a_request(), EMBEDDED, now=NOW)
        with pytest.raises(RequestExpired):
            check_request(a_request(), EMBEDDED, now=NOW + 60)
        with pytest.raises(RequestExpired):
            check_request(a_request(), EMBEDDED, now=NOW + 59 - LONGEST_SECONDS)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("user", SIGNER),
            ("provider", SIGNER),
            ("service", "n"),
            ("body_hash", bytes(32)),
            ("max_fee", "1001"),
            ("nonce", 1),
            ("expiry", NOW + 61),
            ("signature", b""),
            ("signature", bytes(65)),
            ("provider", "x"),
        ],
    )
    def test_nothing_signed_can_be_changed(self, name, value):
        """Each field is covered."""
        with pytest.raises(RequestSignature):
            check_request(a_request(**{name: value}), EMBEDDED, now=NOW)

    def test_another_chain(self):
        """It says so itself."""
        with pytest.raises(OtherChain):
            check_request(a_request(chain_id=1), EMBEDDED, now=NOW)

    def test_the_upper_half(self):
        """From one above the half of the order on."""
        good = a_request().signature
        high = good[:32] + (HALF_ORDER + 1).to_bytes(32, "big") + good[64:]
        with pytest.raises(SignatureHighS):
            check_request(a_request(signature=high), EMBEDDED, now=NOW)
