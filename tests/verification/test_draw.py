"""What a VRF is asked about a job, and which outputs are drawn."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.verification.draw import OLD_RANGE, WHOLE, Draw, hash_prompt, share
from aos.verification.vrf import Suite, VrfKey, verify

JOB = bytes(range(32))
PROMPT = "What is AI?"
DRAW = Draw(JOB, hash_prompt(PROMPT), 7, share(1, 10))
KEY = VrfKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
PROVED = (
    "66865978935d0cef482b0f150d28e87ed6aa0e67752d779d649d8c96c878b0532bd4e31797ed7730"
    "5ea3917f41ea78e2a561961b67201b11a2eea71e399814832ef02f2f78b3957946ee249de21a4903"
)
VALUE = 2_002_624_016_034_755_253
outputs = st.binary(min_size=64, max_size=64)
suites = st.sampled_from(Suite)


class TestAlpha:
    def test_layout(self):
        """Tag, job, prompt's SHA-512, epoch: 112 bytes, each part at its place and of one length."""
        assert DRAW.alpha == b"OPMLVRF1" + JOB + hashlib.sha512(PROMPT.encode()).digest() + bytes(7) + b"\x07"
        assert len(DRAW.alpha) == 112

    @pytest.mark.parametrize("change", [{"job": bytes(32)}, {"prompt_hash": bytes(64)}, {"epoch": 8}])
    def test_each_part_counts(self, change):
        """Another job, prompt or epoch asks something else, so that no draw says anything of another."""
        assert replace(DRAW, **change).alpha != DRAW.alpha

    def test_the_format_never_changes(self):
        """An operator's answer to a given draw is pinned, for other implementations to be checked against."""
        proof = KEY.prove(DRAW.alpha)
        assert proof.hex() == PROVED
        assert DRAW.value(verify(KEY.public, DRAW.alpha, proof)) == VALUE

    @pytest.mark.parametrize(
        "change",
        [
            {"job": bytes(31)},
            {"prompt_hash": bytes(32)},
            {"epoch": -1},
            {"epoch": 1 << 64},
            {"threshold": -1},
            {"threshold": WHOLE + 1},
        ],
    )
    def test_parts_of_another_length_are_refused(self, change):
        """A part that is too long or too short would shift the others."""
        with pytest.raises(ValueError, match=r"bytes|from 0"):
            replace(DRAW, **change)


class TestOlderNetwork:
    """The older network's example: one prompt, its proof, and the two widths around its value."""

    OLD = Draw(JOB, hash_prompt(PROMPT), 7, 60_000, Suite.DRAFT04)
    PROOF = (
        "49a33baa23993c9bdef077cd11cebd631612a1de6ed08b2118c066974f1bcf725f7f484da06c50a3"
        "726ab9c080afe2fbd83a9593a184c9531357bb680a286508f47a85a3346fa9d3307b8ca79aa58f0c"
    )
    OUTPUT = (
        "834a7d7a78718276c2db81aa9878b94058dcd29cebe98dc9d3d05246dc1a9dd1"
        "6978e28ca42c3c3fd955ff5ba9b49da6e9ad77e12c7d268a60f3f8ce501c8936"
    )

    def test_it_asks_about_the_prompt_alone(self):
        """Its alpha is the prompt's SHA-512 as 128 hex digits."""
        assert self.OLD.alpha.decode() == (
            "417eeacbe39ffc9add9b4dde388231a2e9d47e6c80c15ad6cd6d194d53ff7b45"
            "802a51a033089c2ba2e4399eab2f8789f1093198e26b9e1ca110cecc234cd7b4"
        )
        assert replace(self.OLD, job=bytes(32), epoch=8).alpha == self.OLD.alpha

    def test_proof_output_and_value(self):
        """Proof and output are the published ones; the last six hex digits, in the range, are the value."""
        proof = KEY.prove(self.OLD.alpha, Suite.DRAFT04)
        output = verify(KEY.public, self.OLD.alpha, proof, Suite.DRAFT04)

        assert (proof.hex(), output.hex()) == (self.PROOF, self.OUTPUT)
        assert self.OLD.value(output) == 70_134

    def test_drawn_at_the_wider_width(self):
        """Not drawn with a range of 60 000; drawn with the 96 000 of a suspected user."""
        output, suspected = bytes.fromhex(self.OUTPUT), share(1_600, 10_000, of=OLD_RANGE)

        assert suspected == 96_000
        assert not self.OLD.wins(output)
        assert replace(self.OLD, threshold=suspected).wins(output)


class TestWinning:
    @given(outputs, suites)
    def test_the_whole_draws_everyone_and_nothing_nobody(self, output, suite):
        """At the largest threshold every output wins, at 0 none."""
        none = Draw(JOB, hash_prompt(""), 0, 0, suite)

        assert not none.wins(output)
        assert replace(none, threshold=none.range).wins(output)

    @given(outputs, st.integers(0, WHOLE), st.integers(0, WHOLE))
    def test_wider_draws_no_fewer(self, output, one, other):
        """Whoever is drawn at a width is drawn at every larger one."""
        narrow, wide = sorted((one, other))
        assert not (replace(DRAW, threshold=narrow).wins(output) and not replace(DRAW, threshold=wide).wins(output))

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 50), st.integers(1, 50))
    def test_share_is_exact(self, k, n):
        """k of n is k / n of all values, rounded down by less than one of them, and never more than all."""
        assert 0 <= min(k, n) * WHOLE - share(k, n) * n < n
        assert share(n, n) == WHOLE

    @pytest.mark.parametrize(("k", "n"), [(-1, 10), (1, 0)])
    def test_no_share(self, k, n):
        """Less than none, or a part of nobody, is refused."""
        with pytest.raises(ValueError, match="is no share"):
            share(k, n)

    @pytest.mark.parametrize("suite", Suite)
    @pytest.mark.parametrize("length", [0, 32, 63, 65])
    def test_an_output_has_64_bytes(self, suite, length):
        """Other outputs are refused rather than cut."""
        with pytest.raises(ValueError, match="64 bytes"):
            replace(DRAW, suite=suite, threshold=0).value(bytes(length))

    def test_about_as_many_as_meant(self):
        """Of 4000 outputs, about a tenth is drawn at a tenth: within four standard deviations."""
        drawn = sum(DRAW.wins(hashlib.sha512(bytes([index % 256, index // 256])).digest()) for index in range(4000))
        assert abs(drawn - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
