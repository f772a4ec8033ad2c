"""Who is drawn to check a job, and what shows that a claim was false."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.dispatcher.lottery import (
    RECORD_BYTES,
    Claim,
    Evidence,
    Falsehood,
    Ticket,
    check,
    holds,
    read_claim,
    read_evidence,
    sampled,
)
from aos.errors import InvalidField
from aos.verification.draw import WHOLE, Draw, hash_prompt, share
from aos.verification.vrf import Suite, VrfKey, proof_to_hash

OPERATOR = "0x" + "ab" * 20
KEY, OTHER = VrfKey(b"k" * 32), VrfKey(b"o" * 32)
DRAW = Draw(bytes(32), hash_prompt("What is AI?"), 1, share(1, 2))
OLD = Draw(bytes(32), hash_prompt("What is AI?"), 1, 60_000, Suite.DRAFT04)
DRAWS = pytest.mark.parametrize("draw", [DRAW, OLD], ids=["RFC 9381", "draft 04"])
jobs = st.binary(min_size=32, max_size=32)
tickets = st.lists(st.builds(Ticket, st.integers(0, 20), st.sampled_from("abcdefgh")), max_size=12)


def claim(draw: Draw = DRAW, key: VrfKey = KEY) -> Claim:
    """What an honest operator says."""
    proof = key.prove(draw.alpha, draw.suite)
    output = proof_to_hash(proof, draw.suite)
    return Claim(OPERATOR, key.public, output, proof, draw.wins(output))


def false_claims(draw: Draw) -> list[tuple[Falsehood, Claim]]:
    """One a falsehood, and more of the tempting ones."""
    true, another = claim(draw), claim(draw, OTHER)
    asked_else = replace(draw, prompt_hash=hash_prompt("another"))
    return [
        (Falsehood.OTHER_KEY, another),
        (Falsehood.BAD_PROOF, replace(true, proof=another.proof)),
        (Falsehood.BAD_PROOF, replace(true, proof=bytes(80))),
        (Falsehood.BAD_PROOF, claim(asked_else)),
        (Falsehood.OTHER_OUTPUT, replace(true, output=another.output)),
        (Falsehood.OTHER_OUTPUT, replace(true, output=bytes(64))),
        (Falsehood.OTHER_RESULT, replace(true, selected=not true.selected)),
    ]


class TestTrueClaims:
    @settings(max_examples=20, deadline=None)
    @given(jobs, st.integers(0, 2**64 - 1), st.integers(0, 100), st.sampled_from(Suite))
    def test_an_honest_operator_always_has_a_ticket(self, job, epoch, percent, suite):
        """Whatever the draw, drawn or not, what is true is never evidence."""
        draw = Draw(job, hash_prompt("p"), epoch, 0, suite)
        draw = replace(draw, threshold=share(percent, 100, of=draw.range))
        honest = claim(draw)

        assert check(honest, draw, key=KEY.public) == Ticket(draw.value(honest.output), OPERATOR)
        assert not any(holds(Evidence(what, honest, draw, KEY.public)) for what in Falsehood)

    def test_a_claim_is_good_for_its_job_alone(self):
        """The same claim for another job, or the same job in another epoch, is false."""
        for other in (replace(DRAW, job=b"x" * 32), replace(DRAW, epoch=2)):
            found = check(claim(), other, key=KEY.public)
            assert isinstance(found, Evidence)
            assert found.what is Falsehood.BAD_PROOF


class TestFalseClaims:
    @DRAWS
    @pytest.mark.parametrize("index", range(7))
    def test_each_is_found_and_shown(self, draw, index):
        """The record names what is false, and whoever reads it, from its bytes alone, comes to the same."""
        what, lie = false_claims(draw)[index]
        found = check(lie, draw, key=KEY.public)

        assert isinstance(found, Evidence)
        assert found.what is what
        assert read_evidence(found.canonical) == found
        assert holds(read_evidence(found.canonical))

    def test_a_made_up_record_does_not_hold(self):
        """Who accuses an operator of something else than it did is found out in the same way."""
        _, lie = false_claims(DRAW)[-1]
        for what in set(Falsehood) - {Falsehood.OTHER_RESULT}:
            assert not holds(Evidence(what, lie, DRAW, KEY.public))

    def test_the_format_never_changes(self):
        """A record's fields are pinned."""
        found = check(replace(claim(), selected=not claim().selected), DRAW, key=KEY.public)
        assert isinstance(found, Evidence)
        assert json.loads(found.canonical) == {
            "version": 1,
            "what": "other_result",
            "operator": OPERATOR,
            "registered_key": KEY.public.hex(),
            "job_id": "00" * 32,
            "epoch": "1",
            "threshold": str(1 << 63),
            "suite": "ECVRF-EDWARDS25519-SHA512-TAI",
            "vrf": {
                "selected": not claim().selected,
                "vrf_prompt_hash": hash_prompt("What is AI?").hex(),
                "vrf_random_value": claim().output.hex(),
                "vrf_verify_pubkey": KEY.public.hex(),
                "vrf_proof": claim().proof.hex(),
            },
        }

    @pytest.mark.parametrize(
        "change", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b" " * (RECORD_BYTES + 1), b'{"version":1}']
    )
    def test_what_is_no_record(self, change):
        """Other bytes are refused."""
        with pytest.raises(InvalidField, match="no record"):
            read_evidence(change)

    def test_a_record_has_one_spelling(self):
        """The same record written otherwise is refused: its digest is its name."""
        found = check(replace(claim(), selected=not claim().selected), DRAW, key=KEY.public)
        assert isinstance(found, Evidence)
        for other in (found.canonical + b" ", found.canonical.replace(b'"version":1', b'"version":2')):
            with pytest.raises(InvalidField, match="one way"):
                read_evidence(other)


class TestSampled:
    @given(tickets, st.integers(0, 20), st.integers(0, 10), st.none() | st.integers(0, 10))
    def test_lowest_values_first(self, given_, threshold, least, most):
        """All below the threshold, filled up to the least and cut at the most, one an operator; nobody outside is lower."""
        if most is not None and most < least:
            return
        draw = replace(DRAW, threshold=threshold)
        chosen = sampled(given_, draw, least=least, most=most)
        operators = {ticket.operator for ticket in given_}
        below = {ticket.operator for ticket in given_ if ticket.value < threshold}

        assert chosen == sorted(chosen)
        assert len({ticket.operator for ticket in chosen}) == len(chosen)
        wanted = min(len(operators), max(least, len(below)))
        assert len(chosen) == (wanted if most is None else min(wanted, most))
        left_out = {min(ticket for ticket in given_ if ticket.operator == one) for one in operators}.difference(chosen)
        assert all(one > last for one in left_out for last in chosen[-1:])

    @given(tickets, st.randoms(use_true_random=False))
    def test_the_order_they_come_in_does_not_matter(self, given_, random):
        """Who answers first gains nothing."""
        shuffled = list(given_)
        random.shuffle(shuffled)
        draw = replace(DRAW, threshold=10)
        assert sampled(shuffled, draw, least=2, most=4) == sampled(given_, draw, least=2, most=4)

    @pytest.mark.parametrize(("least", "most"), [(-1, None), (3, 2)])
    def test_what_cannot_be(self, least, most):
        """More than the most cannot be needed."""
        with pytest.raises(ValueError, match="cannot be"):
            sampled([], DRAW, least=least, most=most)

    def test_k_of_n_in_the_long_run(self):
        """Of 20 operators, 5 are drawn on average: over 30 jobs, within four standard deviations."""
        keys = [VrfKey(bytes([index]) * 32) for index in range(20)]
        drawn = 0
        for job in range(30):
            draw = Draw(bytes([job]) * 32, hash_prompt("p"), 1, share(5, 20))
            values = [draw.value(proof_to_hash(key.prove(draw.alpha))) for key in keys]
            drawn += len(sampled([Ticket(value, str(index)) for index, value in enumerate(values)], draw))
        assert abs(drawn - 150) < 4 * (600 * 0.25 * 0.75) ** 0.5

    def test_the_whole(self):
        """At the largest threshold all are drawn."""
        everyone = [Ticket(WHOLE - 1, "a"), Ticket(0, "b")]
        assert sampled(everyone, replace(DRAW, threshold=WHOLE)) == sorted(everyone)


class TestReading:
    @DRAWS
    def test_round_trip(self, draw):
        """What the wire carries reads back the same."""
        assert read_claim(OPERATOR, claim(draw).wire) == claim(draw)

    @pytest.mark.parametrize("name", ["selected", "vrf_random_value", "vrf_verify_pubkey", "vrf_proof"])
    @pytest.mark.parametrize("value", [None, 1, "", "zz" * 32, "0" * 63, " " * 64, "00" * 81, "AB" * 80, "true"])
    def test_what_is_malformed(self, name, value):
        """It is refused with the field; it is no claim, so it is no evidence either."""
        with pytest.raises(InvalidField, match=name):
            read_claim(OPERATOR, claim().wire | {name: value})

    @pytest.mark.parametrize("name", ["public", "output", "proof"])
    def test_lengths(self, name):
        """No claim is made of parts of another length, from the wire or otherwise."""
        with pytest.raises(ValueError, match="bytes"):
            replace(claim(), **{name: b""})

    @pytest.mark.parametrize("name", ["selected", "vrf_proof"])
    def test_what_is_missing(self, name):
        """All four fields are needed."""
        vrf = claim().wire
        del vrf[name]
        with pytest.raises(InvalidField, match=name):
            read_claim(OPERATOR, vrf)
