"""Whose result it is."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.errors import BadSignature
from aos.verification.attribution import Attributed, check_result, sign_result, statement_of
from aos.verification.keys import OperatorKey

KEY = OperatorKey(Account.from_key("01" * 32))
SAID = Attributed(
    job_id="4a16467fc69713bd4ed0b45a4ddab8ed2b69ae14e48236973a75e941f20971fd",
    request_digest="ab" * 32,
    operator=KEY.address,
    result="It is mathematics.",
    state_root="0x" + "cd" * 32,
    tag="suspicion",
    vrf={"selected": True, "vrf_proof": "00"},
    clock={"1": 3, "0xab": 2**60},
)
STATEMENT = (
    "aos result 1\n"
    '{"clock":{"0xab":"1152921504606846976","1":"3"},"job_id":"4a16467fc69713bd4ed0b45a4ddab8ed2b69ae14e48236973a75'
    'e941f20971fd","operator":"0x1a642f0e3c3af545e7acbd38b07251b3990914f1","reason":"","request_digest":"ababababab'
    'ababababababababababababababababababababababababababab","result_digest":"c00440ee1d71e5ff97333ef69556c495d0625'
    '7d7a094551ace63c405f87a9890","state_root":"0xcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"'
    ',"tag":"suspicion","vrf":{"selected":true,"vrf_proof":"00"}}'
)
SIGNATURE = (
    "0x3b756c9562395e0a5d7ec04c212c8897fe23687b0f06b00408dca913d93011d6"
    "0265fab7014e4d930cb0386c3147fc181ff9544ee26e8d1ac3226e7a81ab1ee21b"
)


class TestResult:
    def test_the_format_never_changes(self):
        """What is signed and the signature are pinned, for other implementations to be checked against."""
        assert statement_of(SAID).decode() == STATEMENT
        assert sign_result(SAID, KEY) == SIGNATURE

    @settings(max_examples=20, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.sampled_from("ab"), st.integers(0, 2**63 - 1)))
    def test_a_signed_result_is_the_signers(self, result, clock):
        """Whatever it says, and whatever the case of the address."""
        said = replace(SAID, result=result, clock=clock)
        signature = sign_result(said, KEY)

        assert check_result(said, signature) == KEY.address
        assert check_result(replace(said, operator=KEY.address.lower()), signature) == KEY.address

    @pytest.mark.parametrize("name", [field.name for field in fields(Attributed)])
    def test_every_field_is_signed_for(self, name):
        """Changing any of them makes it nobody's."""
        changed = {
            "job_id": "00" * 32, "request_digest": "00" * 32, "operator": "0x" + "ab" * 20, "vrf": {"selected": False},
            "clock": {"1": 4}, "result_digest": "00" * 32,
        }.get(name, "other")  # fmt: skip
        with pytest.raises(BadSignature):
            check_result(replace(SAID, **{name: changed}), sign_result(SAID, KEY))

    @pytest.mark.parametrize("signature", ["", "0x", "0x" + "00" * 65, "00" * 65, sign_result(SAID, KEY)[2:], "0x" + "zz" * 65])
    def test_a_malformed_signature_is_bad(self, signature):
        """Nothing passes unsigned."""
        with pytest.raises(BadSignature):
            check_result(SAID, signature)

    def test_nobody_signs_for_another(self):
        """A key signs under its own address only."""
        with pytest.raises(BadSignature, match="the key is that of"):
            sign_result(replace(SAID, operator="0x" + "ab" * 20), KEY)

    @pytest.mark.parametrize("change", [{"result": "\ud800"}, {"vrf": {"x": object()}}, {"job_id": "AB" * 32}, {"job_id": ""}])
    def test_what_has_no_one_spelling(self, change):
        """It cannot be signed, and no signature is good for it."""
        with pytest.raises(BadSignature):
            statement_of(replace(SAID, **change))
