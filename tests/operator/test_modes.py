"""In which ways a model is run, and what a receipt says of it."""

from __future__ import annotations

import pytest

from aos.errors import ModelUnsuitable
from aos.operator.modes import BLOCKS, F16, FASTEST, MIXED, Q8_0, Layout, Mode, layouts, mode_for
from aos.v1.types_pb2 import DETERMINISM_BEST_EFFORT, DETERMINISM_EXACT, DETERMINISM_UNSPECIFIED

EVEN, ODD = (64, 64), (80, 80)


class TestLayouts:
    @pytest.mark.parametrize(
        ("heads", "threads", "expected"),
        [
            (EVEN, 1, (BLOCKS, Q8_0, MIXED, FASTEST)),
            (EVEN, 2, (BLOCKS, Q8_0, MIXED, FASTEST)),
            (EVEN, 3, (Q8_0, MIXED, FASTEST)),
            (ODD, 1, (BLOCKS, MIXED, FASTEST)),
            (ODD, 16, (MIXED, FASTEST)),
        ],
    )
    def test_exact(self, heads, threads, expected):
        """Few threads take the f16 cache, many the quantised one, which heads of odd sizes cannot; what is left is best effort."""
        assert layouts(Mode.EXACT, heads=heads, threads=threads) == expected

    def test_best_effort(self):
        """Who asks for the fastest way gets it untried."""
        assert layouts(Mode.BEST_EFFORT, heads=EVEN, threads=8) == (FASTEST,)


class TestProfile:
    @pytest.mark.parametrize("layout", [BLOCKS, F16, Q8_0, MIXED, FASTEST])
    def test_there_and_back(self, layout):
        """What a receipt names is found again."""
        assert Layout.of(f"llama.cpp/0.3.36 x86_64 avx2 {layout.profile}") == layout

    @pytest.mark.parametrize("profile", ["", "scripted/m", "llama.cpp/0.3.36 kv=q8_0 fa=on ubatch=256", "kv=f32 determinism=exact"])
    def test_others(self, profile):
        """Of other profiles, and of those from before there was a choice, nothing is made up."""
        assert Layout.of(profile) is None


class TestModeFor:
    @pytest.mark.parametrize(
        ("asked", "exact", "mode"),
        [
            (DETERMINISM_UNSPECIFIED, True, Mode.EXACT),
            (DETERMINISM_UNSPECIFIED, False, Mode.BEST_EFFORT),
            (DETERMINISM_EXACT, True, Mode.EXACT),
            (DETERMINISM_BEST_EFFORT, True, Mode.BEST_EFFORT),
            (DETERMINISM_BEST_EFFORT, False, Mode.BEST_EFFORT),
        ],
    )
    def test_modes(self, asked, exact, mode):
        """Unasked, a model is exact if it can be."""
        assert mode_for(asked, model="m", exact=exact) is mode

    def test_refused(self):
        """Exactness that the model does not have is refused."""
        with pytest.raises(ModelUnsuitable, match="same bits"):
            mode_for(DETERMINISM_EXACT, model="m", exact=False)
