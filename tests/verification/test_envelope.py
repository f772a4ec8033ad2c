"""Envelopes of the WebSocket protocol: who wrote them, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadSignature, InvalidField
from aos.verification.envelope import ENVELOPE_BYTES, Envelope, check, open_envelope, personal, read
from aos.verification.keys import OperatorKey

KEY = OperatorKey(Account.from_key("01" * 32))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# Two messages of the older network, signed by its own code.
DISPATCHED = (
    '{"id":"555ebf10-f165-41f6-ae05-918a9232d862","method":"dispatch_job","params":[{'
    '"user":"b77f1799de0148c07bc6ef630fb75ac267f31d147cd28797ad145afe72302632","seed":"","tag":"","position":"","signature":"",'
    '"clock":{"1":"1"},"job_id":"4a16467fc69713bd4ed0b45a4ddab8ed2b69ae14e48236973a75e941f20971fd",'
    '"job":{"tag":"tee","prompt":"What is AI?","model":"ss","params":{"temperature":1.0,"top_p":0.5,"max_tokens":1024}}}],'
    '"result":null,"address":"0x1DdBd306eFFbb5FF29E41398A6a1198Ee6Fb51ce","hash":"","signature":"'
    "b5bb37c94af82989f6406de94c921224b00e6cd1ca8079b496507c23f306c568"
    '78d5894c8e5ff2fb9296bad91a908a0e6d0ddd516f7286557eaecf36cfcf49401c"}'
)
REPLIED = (
    '{"id":"9aaba61d-d097-4287-8569-1cb1a186328d","method":null,"params":null,"result":{"code":200,"message":"success"},'
    '"address":"0x02a5592a6dE1568F6eFdC536DA3EF887f98414cb","hash":"","signature":"'
    "d80b17bf06103bcb4c57563fea0940d46e9c16c602f2aee38ddf30b1a1b2e187"
    '5930fd2b9f3c5be5fe0074d26265afb30c0a057cf77edf284575c293dfb30f6a1c"}'
)


def seal(envelope: Envelope, key: OperatorKey) -> Envelope:
    """The message as an operator of the older network signs it."""
    said = replace(envelope, address=key.address)
    return replace(said, hash=keccak(said.unsigned).hex(), signature=key.sign(personal(said.unsigned)).hex())


SEALED = seal(Envelope("1", "job_result", params=[{"job_id": "ab", "result": "it is", "temperature": 1e-5}]), KEY)

PINNED = (
    "90676f3fefdd790eed3a651ee5608b64650e0108a3fa59b0a72345d2d137d99648"
    "5090a868a1013c3e7e48835f20f8c6ca44398b48a8a887d19ce00d9129a4b41b"
)


class TestPublishedVectors:
    @pytest.mark.parametrize("text", [DISPATCHED, REPLIED])
    def test_they_open(self, text):
        """The older network's messages recover to the addresses that they name, as text and as bytes."""
        assert open_envelope(text) == open_envelope(text.encode())
        assert check(open_envelope(text)) == open_envelope(text).address

    def test_what_was_signed(self):
        """The bytes under the first signature are those that its writer hashed."""
        unsigned = open_envelope(DISPATCHED).unsigned

        assert len(unsigned) == 507
        assert keccak(unsigned).hex() == "8ffdf9549745d1a7c08bd432603c55d2edd6cb5ca432c05cbc7d2ec4035f13eb"

    @pytest.mark.parametrize("text", [DISPATCHED, REPLIED])
    def test_a_prefix_and_upper_case_change_nothing(self, text):
        """Remote signers write `0x` before the signature, and nothing rests on the hash."""
        envelope = read(text)
        for other in (
            replace(envelope, signature=f"0x{envelope.signature}"),
            replace(envelope, signature=envelope.signature.upper()),
            replace(envelope, hash="anything"),
        ):
            assert check(other) == envelope.address


class TestSealing:
    def test_the_format_never_changes(self):
        """Text, hash and signature of a message are pinned, for other implementations to be checked against."""
        assert SEALED.text == (
            '{"id":"1","method":"job_result","params":[{"job_id":"ab","result":"it is","temperature":0.00001}],"result":null,'
            f'"address":"{KEY.address}","hash":"{keccak(SEALED.unsigned).hex()}","signature":"{SEALED.signature}"}}'
        )
        assert SEALED.signature == PINNED

    def test_addresses_in_one_case(self):
        """Some signers write their address in lower case: it is signed as it stands, and compared whatever its case."""
        said = replace(SEALED, address=KEY.address.lower())
        signed = replace(said, signature=KEY.sign(personal(said.unsigned)).hex())

        assert check(signed) == KEY.address

    @settings(max_examples=20, deadline=None)
    @given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers() | st.floats(0, 1), max_size=5))
    def test_what_is_sealed_opens(self, params):
        """Whatever is said, the reader sees who said it, and the message is the same when it is written again."""
        sealed = seal(Envelope("1", "m", params=[params], result={"ü": "\n"}), KEY)
        opened = open_envelope(sealed.text)

        assert check(opened) == KEY.address
        assert opened.text == sealed.text
        assert json.loads(opened.text)["params"] == [params]

    @pytest.mark.parametrize(
        "change",
        [
            {"id": "2"},
            {"method": None},
            {"params": [{"job_id": "ab", "result": "it is not", "temperature": 1e-5}]},
            {"params": None},
            {"result": {}},
            {"address": "0x02a5592a6dE1568F6eFdC536DA3EF887f98414cb"},
            {"address": ""},
        ],
    )
    def test_every_field_is_signed_for(self, change):
        """A message with any field changed is nobody's."""
        with pytest.raises(BadSignature):
            check(replace(SEALED, **change))

    def test_keys_keep_their_order(self):
        """The same object with its keys in another order is another message."""
        swapped = replace(SEALED, params=[dict(reversed(list(SEALED.params[0].items())))])
        with pytest.raises(BadSignature):
            check(swapped)


class TestSignatures:
    @pytest.mark.parametrize(
        "signature",
        [
            "",
            "0x",
            "00",
            "zz" * 65,
            SEALED.signature[:-2],
            SEALED.signature + "00",
            SEALED.signature[:-2] + "00",
            SEALED.signature[:-2] + "1d",
            " " + SEALED.signature,
            SEALED.signature + "\n",
            "00" * 64 + "1b",
            "ff" * 64 + "1b",
        ],
    )
    def test_one_that_cannot_be_read_is_bad(self, signature):
        """A signature that does not parse is refused like a wrong one: nothing passes unsigned."""
        with pytest.raises(BadSignature):
            check(replace(SEALED, signature=signature))

    def test_it_has_one_spelling(self):
        """The other root of the same signature, which recovers to the same key, is refused."""
        other = ORDER - int(SEALED.signature[64:128], 16)
        flipped = "1b" if SEALED.signature.endswith("1c") else "1c"
        with pytest.raises(BadSignature, match="upper half"):
            check(replace(SEALED, signature=f"{SEALED.signature[:64]}{other:064x}{flipped}"))


class TestReading:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "[]",
            "{}",
            '{"id":1,"address":"","hash":"","signature":""}',
            '{"id":"","address":"","hash":"","signature":""}',
            f'{{"id":"{"x" * 129}","address":"","hash":"","signature":""}}',
            '{"id":"1","address":"","hash":"","signature":null}',
            '{"id":"1","method":5,"address":"","hash":"","signature":""}',
            '{"id":"1","address":"","hash":"","signature":"","jsonrpc":"2.0"}',
            '{"id":"1","id":"2","address":"","hash":"","signature":""}',
            b"\xff",
            '{"id":"\\ud800","address":"","hash":"","signature":""}',
            "[" * 100_000,
            f'{{"id":"1","params":{"[" * 80}{"]" * 80},"address":"","hash":"","signature":"{SEALED.signature}"}}',
        ],
    )
    def test_what_is_no_envelope(self, text):
        """It is refused with the field that is wrong, or as unsigned, and never crashes the reader."""
        with pytest.raises((InvalidField, BadSignature)):
            open_envelope(text)

    def test_size(self):
        """A message over the limit is refused before it is read."""
        with pytest.raises(InvalidField, match="at most"):
            read("x" * (ENVELOPE_BYTES + 1))

    def test_replies_may_leave_out_what_is_null(self):
        """Replies of older dispatchers lack `method` and `params`, and are unsigned: readable, and nobody's."""
        envelope = read('{"id":"1","result":{"code":200},"address":"","hash":"","signature":""}')

        assert (envelope.method, envelope.params) == (None, None)
        with pytest.raises(BadSignature):
            check(envelope)
