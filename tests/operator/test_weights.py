"""Weights in memory: shared by models, freed with the last, and what may be asked of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aos.errors import EngineFailed, InvalidField, ShuttingDown
from aos.operator.batch import Row
from aos.operator.llama import Gpu, Weights
from aos.operator.modes import Mode
from tests.operator.orders import asking
from tests.operator.weights import write_model

ROW = [Row(0, 0, 0, [5, 6, 7], draws=True)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", heads=1)


class TestSharing:
    def test_models_are_apart(self, tiny):
        """Models over the same weights have sequences of their own, and the same logits for the same tokens."""
        weights = Weights(tiny)
        one, other = weights.open(slots=1), weights.open(slots=1)
        first = one.decode(ROW)[0].copy()
        other.decode([Row(0, 0, 0, [9] * 20, draws=False)])
        other.clear()
        second = other.decode(ROW)[0].copy()
        for each in (one, other, weights):
            each.close()

        assert np.array_equal(first, second)

    def test_freed_with_the_last(self, tiny):
        """Weights that are closed stay for the models that run over them, and for those only."""
        weights = Weights(tiny)
        model = weights.open(slots=1, mode=Mode.BEST_EFFORT)
        weights.close()
        assert model.tokenise(asking("a"))
        assert model.decode(ROW)
        with pytest.raises(ShuttingDown):
            weights.open()
        model.close()
        model.close()

        with pytest.raises(ShuttingDown):
            weights.tokenise(asking("a"))

    def test_no_memory(self, tiny):
        """Sequences that cannot be had are refused, and the weights go on."""
        weights = Weights(tiny)
        with pytest.raises(EngineFailed, match=r"cannot make \d+ sequences"):
            weights.open(slots=100_000)
        model = weights.open(slots=1)
        found = model.decode(ROW)
        model.close()
        weights.close()

        assert len(found) == 1


class TestAdapters:
    def test_not_a_file(self, tiny, tmp_path):
        """An adapter that is not there is refused by name."""
        weights = Weights(tiny)
        with pytest.raises(InvalidField, match=r"none\.gguf cannot be read"):
            weights.adapter(tmp_path / "none.gguf")
        weights.close()

    def test_not_an_adapter(self, tiny):
        """So is a file that is a model and no adapter, in llama.cpp's own words."""
        weights = Weights(tiny)
        with pytest.raises(EngineFailed, match=r"cannot load the adapter tiny\.gguf: .+"):
            weights.adapter(tiny)
        weights.close()

    @pytest.mark.parametrize("scale", [math.inf, math.nan])
    def test_scale(self, tiny, scale):
        """A scale must be a number that one can multiply with."""
        weights = Weights(tiny)
        with pytest.raises(InvalidField, match=r"adapter\.scale"):
            weights.adapter(tiny, scale=scale)
        weights.close()


class TestGpu:
    def test_none_built_in(self, tiny):
        """Layers cannot go where this build cannot put them: to run on the CPU instead would pass for a slow GPU."""
        with pytest.raises(InvalidField, match=r"gpu\.layers.*without GPU support"):
            Weights(tiny, gpu=Gpu(layers=4))

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"layers": -2}, r"gpu\.layers"),
            ({"main": -1}, r"gpu\.main"),
            ({"split": "columns"}, r"gpu\.split"),
            ({"tensor_split": (1.0, -1.0)}, r"gpu\.tensor_split"),
            ({"tensor_split": (math.nan,)}, r"gpu\.tensor_split"),
        ],
    )
    def test_settings(self, settings, field):
        """What llama.cpp would misread is refused by name."""
        with pytest.raises(InvalidField, match=field):
            Gpu(**settings)
