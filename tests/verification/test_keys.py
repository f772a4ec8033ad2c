from __future__ import annotations

import stat

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from aos.errors import BadSignature
from aos.v1.registry_pb2 import Offer
from aos.v1.types_pb2 import Price
from aos.verification.keys import DOMAIN, OperatorKey, attach_statement, check_proof, digest_offers, prove, signer, statement

SECRET = "01" * 32
KEY = OperatorKey(Account.from_key(SECRET))
NOW = 1_767_225_600
OFFER = Offer(
    model="m", digest="aa" * 32, context_length=1024, chat=True, price=Price(prompt_token="1", completion_token="2"), slots=4
)


class TestKeyFile:
    def test_a_new_key_is_its_owners_alone(self, tmp_path):
        """The file that is made can be read by its owner only, whatever folders had to be made for it."""
        path = tmp_path / "deep" / "er" / "operator.key"
        OperatorKey.load(path)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [one.name for one in path.parent.iterdir()] == ["operator.key"]

    def test_the_key_stays_the_same(self, tmp_path):
        """Loading again gives the same operator."""
        path = tmp_path / "operator.key"
        assert OperatorKey.load(path).address == OperatorKey.load(path).address

    def test_the_file_is_64_hex_digits(self, tmp_path):
        """A key can be brought along, with `0x` or without."""
        path = tmp_path / "operator.key"
        for text in (SECRET, f"0x{SECRET}\n"):
            path.write_text(text)
            assert OperatorKey.load(path).address == KEY.address
        made = tmp_path / "made.key"
        OperatorKey.load(made)
        assert len(bytes.fromhex(made.read_text())) == 32

    @pytest.mark.parametrize("text", ["", "01" * 31, "01" * 33, "zz" * 32, "00" * 32, "ff" * 32])
    def test_another_file_is_refused_without_showing_it(self, tmp_path, text):
        """A damaged key file is named, left alone, and its contents stay out of the message."""
        path = tmp_path / "operator.key"
        path.write_text(text)
        with pytest.raises(ValueError, match="holds no key") as caught:
            OperatorKey.load(path)
        assert not text or text not in str(caught.value)
        assert path.read_text() == text

    def test_a_key_shows_its_address_only(self):
        """The secret appears neither in repr nor in str."""
        assert repr(KEY) == str(KEY) == f"OperatorKey({KEY.address})"
        assert SECRET not in repr(KEY)


class TestSigning:
    @given(st.integers(1, 2**200), st.binary(min_size=32, max_size=32))
    def test_is_that_of_the_library(self, secret, nonce):
        """Whatever the key and the statement, a wallet's library signs with the same bytes."""
        account = Account.from_key(secret.to_bytes(32, "big"))
        said = attach_statement(nonce, "d", account.address)

        assert OperatorKey(account).sign(said) == bytes(account.sign_message(said).signature)


class TestAttach:
    def test_the_answer_to_a_challenge(self):
        """Only the key's holder can answer, and only for this challenge and this dispatcher."""
        said = attach_statement(b"n" * 32, "1", KEY.address)
        signature = KEY.sign(said)

        assert signer(said, signature, KEY.address.lower()) == KEY.address
        for other in (
            attach_statement(b"m" * 32, "1", KEY.address),
            attach_statement(b"n" * 32, "2", KEY.address),
            attach_statement(b"n" * 32, "1", "0x" + "ab" * 20),
        ):
            with pytest.raises(BadSignature):
                signer(other, signature, KEY.address)


class TestProof:
    def test_it_names_the_operator(self):
        """A fresh proof gives the address."""
        assert check_proof(prove(KEY, "register", [OFFER], issued_at=NOW), "register", [OFFER], now=NOW, last=0) == KEY.address

    def test_the_format_never_changes(self):
        """Offers' digest and signature are pinned, so that other implementations can be checked against them."""
        assert digest_offers([OFFER]).hex() == "be17153bc7d0ff27f8162b125eee1a8362ddf1cf1e93fa942829be19976a4360"
        assert prove(KEY, "register", [OFFER], issued_at=NOW).signature.hex() == (
            "1108c31514b1a4be201470a7e3652b08edc50c3e9f669bd7762361b119ea4ed3"
            "3a4970e0c8803d4ec367ed93d209867ab9a43cb9e85747b28e3ded1f8d2df05d"
            "1c"
        )
        assert digest_offers([]) == bytes(32)

    def test_abilities_appear_where_they_are_there(self):
        """What an offer says of exact and embeddings is signed; one that says neither keeps its digest."""
        able = [Offer(), Offer(exact=True), Offer(embeddings=True), Offer(exact=True, embeddings=True)]
        for one in able:
            one.MergeFrom(OFFER)

        assert digest_offers(able[:1]) == digest_offers([OFFER])
        assert len({digest_offers([one]) for one in able}) == 4

    @pytest.mark.parametrize("shift", [-60, 0, 60])
    def test_a_minute_either_way_is_fresh(self, shift):
        """Clocks may differ by a minute."""
        proof = prove(KEY, "renew", [], issued_at=NOW + shift)
        assert check_proof(proof, "renew", [], now=NOW, last=0) == KEY.address

    @pytest.mark.parametrize("shift", [-61, 61, -NOW])
    def test_beyond_a_minute_it_is_stale(self, shift):
        """Old proofs, and those from the future, are refused."""
        proof = prove(KEY, "renew", [], issued_at=NOW + shift)
        with pytest.raises(BadSignature, match="more than 60 s"):
            check_proof(proof, "renew", [], now=NOW, last=0)

    def test_an_earlier_one_is_refused(self):
        """Once a later proof was taken, earlier ones are worthless."""
        proof = prove(KEY, "renew", [], issued_at=NOW)
        with pytest.raises(BadSignature, match="a later one was used"):
            check_proof(proof, "renew", [], now=NOW, last=NOW + 1)

    @pytest.mark.parametrize("field", [*Offer.DESCRIPTOR.fields_by_name])
    def test_every_field_of_an_offer_is_signed_for(self, field):
        """Changing any field of an offer breaks the proof."""
        other = Offer()
        other.CopyFrom(OFFER)
        match field:
            case "price":
                other.price.completion_token = "3"
            case "chat":
                other.chat = False
            case "model" | "digest":
                setattr(other, field, "other")
            case "replicas":
                other.replicas.append("other")
            case _:
                setattr(other, field, 5)
        proof = prove(KEY, "register", [OFFER], issued_at=NOW)
        with pytest.raises(BadSignature):
            check_proof(proof, "register", [other], now=NOW, last=0)

    @pytest.mark.parametrize(
        "change",
        [
            lambda proof: setattr(proof, "issued_at", NOW + 1),
            lambda proof: setattr(proof, "operator", "0x" + "ab" * 20),
            lambda proof: setattr(proof, "operator", "0x12"),
            lambda proof: setattr(proof, "operator", ""),
            lambda proof: setattr(proof, "signature", b""),
        ],
    )
    def test_a_changed_proof_is_refused(self, change):
        """Time, operator and signature belong together."""
        proof = prove(KEY, "renew", [], issued_at=NOW)
        change(proof)
        with pytest.raises(BadSignature):
            check_proof(proof, "renew", [], now=NOW, last=0)

    def test_an_action_is_signed_for(self):
        """A renewal is no unregistration."""
        proof = prove(KEY, "renew", [], issued_at=NOW)
        with pytest.raises(BadSignature):
            check_proof(proof, "unregister", [], now=NOW, last=0)


VALUES = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes32": st.binary(min_size=32, max_size=32),
    "address": st.binary(min_size=20, max_size=20).map(lambda raw: f"0x{raw.hex()}"),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint256": st.integers(0, 2**256 - 1),
}


class TestStatement:
    @given(st.data())
    def test_is_that_of_the_library(self, data):
        """Whatever the fields and values, a wallet's library states the same bytes."""
        types = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
        fields = [(f"field{at}", type_) for at, type_ in enumerate(types)]
        message = {name: data.draw(VALUES[type_]) for name, type_ in fields}

        typed = encode_typed_data(DOMAIN, {"Kind": [{"name": name, "type": type_} for name, type_ in fields]}, message)
        assert statement("Kind", fields, message) == typed

    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            ("bytes32", bytes(31)),
            ("bytes32", bytes(33)),
            ("address", "0x12"),
            ("address", "12" * 21),
            ("uint32", 2**32),
            ("uint64", -1),
        ],
    )
    def test_refuses_what_does_not_fit(self, type_, value):
        """A value that is too short, too long or too large for its type is stated by nobody."""
        with pytest.raises((ValueError, OverflowError)):
            statement("Kind", [("field", type_)], {"field": value})


class TestSigner:
    @given(st.binary(min_size=32, max_size=32), st.sampled_from([0, 27]))
    def test_both_ways_to_write_v(self, nonce, base):
        """Who signed is found whether v counts from 0 or from 27."""
        said = attach_statement(nonce, "d", KEY.address)
        signature = KEY.sign(said)

        assert signer(said, signature[:-1] + bytes([signature[-1] - 27 + base]), KEY.address) == KEY.address

    @given(st.binary(max_size=70))
    def test_what_is_no_signature(self, signature):
        """Any other bytes are refused as a bad signature."""
        with pytest.raises(BadSignature):
            signer(attach_statement(bytes(32), "d", KEY.address), signature, KEY.address)
