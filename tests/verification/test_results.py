"""Draws and claims as messages carry them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from aos.errors import InvalidField
from aos.operator.drawing import Drawer
from aos.order import canonical_order
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Finish
from aos.v1.receipt_pb2 import Receipt
from aos.v1.types_pb2 import Chat, ChatMessage, Order, VectorClock
from aos.verification.attribution import check_result
from aos.verification.keys import OperatorKey, load_vrf_key
from aos.verification.results import hash_input, read_draw, said_of_claim, said_of_result, tag_name, vrf_object
from aos.verification.vrf import VrfKey, verify

KEY, VRF = OperatorKey.create(), VrfKey(b"\x01" * 32)
DRAW = pb.Draw(job=bytes(range(32)), prompt_hash=hashlib.sha512(b"What is AI?").digest(), epoch=7, width=2500)
ASKED = pb.DrawAsked(draw=DRAW, request_digest=bytes(32), tag=pb.RISK_TAG_SUSPICION)
CLOCK = VectorClock(counts={"1": 3})


class TestDraw:
    def test_it_is_about_the_prompt(self):
        """A prompt's hash is that of its text; an order without one is hashed as the receipt's request is written."""
        chat = Order(model="m", chat=Chat(messages=[ChatMessage(role="user", content="Hi.")]))
        assert hash_input(Order(model="m", prompt="What is AI?")) == DRAW.prompt_hash
        assert hash_input(chat) == hashlib.sha512(canonical_order(chat)).digest()

    def test_a_width_is_a_share_of_all_values(self):
        """A quarter of the operators is a quarter of the values; the whole draws everyone."""
        assert read_draw(DRAW).threshold == 2**62
        assert read_draw(pb.Draw(job=DRAW.job, prompt_hash=DRAW.prompt_hash, epoch=7, width=10_000)).threshold == 2**64

    @pytest.mark.parametrize("change", [{"width": 10_001}, {"job": b"short"}, {"prompt_hash": b""}])
    def test_one_that_cannot_be(self, change):
        """It is refused by name, by whoever reads it: an operator proves nothing for it."""
        fields = {"job": DRAW.job, "prompt_hash": DRAW.prompt_hash, "epoch": 7, "width": 1} | change
        with pytest.raises(InvalidField, match="draw"):
            read_draw(pb.Draw(**fields))
        with pytest.raises(InvalidField):
            Drawer(KEY, VRF).claim(pb.DrawAsked(draw=pb.Draw(**fields), request_digest=bytes(32)), CLOCK)


class TestClaim:
    def test_it_is_proved_and_signed(self):
        """Anyone can check the proof with the key, and the signature with the address."""
        claimed = Drawer(KEY, VRF).claim(ASKED, CLOCK)

        draw = read_draw(DRAW)
        assert verify(VRF.public, draw.alpha, claimed.vrf.proof) == claimed.vrf.random_value
        assert claimed.vrf.selected == draw.wins(claimed.vrf.random_value)
        said = said_of_claim(KEY.address, claimed.vrf, job=DRAW.job, request_digest=bytes(32), tag=ASKED.tag, clock=CLOCK)
        assert check_result(said, claimed.signature) == KEY.address
        assert (said.reason, said.tag) == ("draw", "suspicion")

    def test_the_wire(self):
        """The jobs dialect's object has the documented names and lower-case hex; no claim is an empty one."""
        vrf = Drawer(KEY, VRF).claim(ASKED, CLOCK).vrf
        shown = vrf_object(vrf)
        assert list(shown) == ["selected", "vrf_prompt_hash", "vrf_random_value", "vrf_verify_pubkey", "vrf_proof"]
        assert [len(str(one)) for one in list(shown.values())[1:]] == [128, 128, 64, 160]
        assert vrf_object(pb.Vrf()) == {}

    def test_tags(self):
        """They have their documented names."""
        tags = (pb.RISK_TAG_UNSPECIFIED, pb.RISK_TAG_SUSPICION, pb.RISK_TAG_MALICIOUS)
        assert [tag_name(one) for one in tags] == ["", "suspicion", "malicious"]


class TestResult:
    RECEIPT = Receipt(
        job=DRAW.job,
        request_digest=bytes(32),
        output_digest=hashlib.sha256(b"It is.").digest(),
        operator=bytes.fromhex(KEY.address[2:]),
        state_root=b"\x05" * 32,
        clock=CLOCK,
    )

    def test_it_is_the_receipts_and_the_claims(self):
        """The text by its digest is enough: who has the text comes to the same statement."""
        lease = pb.Lease(id="a/1", draw=DRAW, tag=pb.RISK_TAG_MALICIOUS)
        sent = Drawer(KEY, VRF).finished(lease, Finish(receipt=self.RECEIPT))

        said = said_of_result(self.RECEIPT, sent.vrf, tag=lease.tag)
        assert check_result(said, sent.signature) == KEY.address
        assert check_result(replace(said, result_digest="", result="It is."), sent.signature) == KEY.address
        assert said.state_root == "0x" + "05" * 32

    def test_without_a_draw(self):
        """A lease without one gets the receipt alone."""
        sent = Drawer(KEY, VRF).finished(pb.Lease(id="a/1"), Finish(receipt=self.RECEIPT))
        assert not sent.HasField("vrf")
        assert sent.signature == ""


class TestKeyFile:
    def test_it_stays_the_same(self, tmp_path):
        """The first look makes it, its owner's alone; later ones find it."""
        path = tmp_path / "operator.key.vrf"
        first = load_vrf_key(path)
        assert load_vrf_key(path).public == first.public
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("text", ["", "01" * 31, "zz" * 32])
    def test_another_file_is_refused_without_showing_it(self, tmp_path, text):
        """A damaged key file is named, and its contents stay out of the message."""
        path = tmp_path / "operator.key.vrf"
        path.write_text(text)
        with pytest.raises(ValueError, match="holds no VRF key") as caught:
            load_vrf_key(path)
        assert not text or text not in str(caught.value)
