"""An image model's file as one of an operator's models."""

from __future__ import annotations

from pathlib import Path

import pytest

from aos.errors import InvalidField
from aos.offered import AdapterFile, ModelFile
from aos.operate import sources
from aos.operator.image_source import WORKING_BYTES, ImageSource
from aos.operator.modes import Mode
from aos.operator.pool import Pool
from aos.operator.shelf import LlamaSource
from aos.settings import NetworkSettings, bundled_models


class TestFile:
    def test_missing(self, tmp_path):
        """A file that is not there is refused by its name."""
        with pytest.raises(InvalidField, match=r"model: there is no file .*none\.onnx"):
            ImageSource("m", tmp_path / "none.onnx").measure()

    async def test_no_image_model(self, tmp_path):
        """A file that is something else is refused when the operator starts."""
        file = tmp_path / "m.onnx"
        file.write_bytes(b"no model")
        with pytest.raises(Exception, match=r"m\.onnx is no image model"):
            async with Pool({"m": ImageSource("m", file)}):
                pass

    def test_memory(self, tmp_path):
        """It takes its file and room to work, the same in every mode."""
        file = tmp_path / "m.onnx"
        file.write_bytes(bytes(1000))
        source = ImageSource("m", file)
        source.measure()
        assert source.parts(Mode.EXACT) == source.parts(Mode.BEST_EFFORT) == {f"pictures of {file}": 1000 + WORKING_BYTES}


class TestOffered:
    def test_by_the_ending(self):
        """A model whose file ends in `.onnx` makes pictures, any other is llama.cpp's."""
        settings = NetworkSettings(models=(ModelFile("text", Path("a.gguf")), ModelFile("pictures", Path("b.ONNX"))))
        found = sources(settings)
        assert isinstance(found["text"], LlamaSource)
        assert isinstance(found["pictures"], ImageSource)

    def test_no_adapters(self):
        """LoRA adapters are for language models."""
        with pytest.raises(ValueError, match="is no language model here"):
            NetworkSettings(
                models=(ModelFile("text", Path("a.gguf")), ModelFile("pictures", Path("b.onnx"))),
                adapters=(AdapterFile("polite", "pictures", Path("c.gguf")),),
            )

    def test_what_comes_with_the_package(self):
        """Without a word, the bundled models are offered, the language model first."""
        assert NetworkSettings().models == bundled_models()
        assert [one.images for one in bundled_models()] in ([False], [False, True])
