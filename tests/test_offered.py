"""How options write the models that an operator offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.offered import AdapterFile, ModelFile, check_offered

names = st.text("abcXYZ019._:-", min_size=1, max_size=12)
paths = st.text("abc/._:- 019", min_size=1, max_size=20).map(Path)


class TestReading:
    @pytest.mark.parametrize(
        ("text", "model"),
        [
            ("models/tiny.Q8_0.gguf", ModelFile("tiny.Q8_0", Path("models/tiny.Q8_0.gguf"))),
            ("org/big:8b=/m/x=1.gguf", ModelFile("org/big:8b", Path("/m/x=1.gguf"))),
            ("/m/x=1/tiny.gguf", ModelFile("tiny", Path("/m/x=1/tiny.gguf"))),
        ],
    )
    def test_models(self, text, model):
        """A name before `=`, or the file's own."""
        assert ModelFile.read(text) == model

    @pytest.mark.parametrize(
        ("text", "adapter"),
        [
            ("new=base:lora.gguf", AdapterFile("new", "base", Path("lora.gguf"))),
            ("new=base:lora.gguf:-0.5", AdapterFile("new", "base", Path("lora.gguf"), -0.5)),
            ("new=base:8b:a:b.gguf", AdapterFile("new", "base:8b", Path("a:b.gguf"))),
        ],
    )
    def test_adapters(self, text, adapter):
        """The longest model's name that fits is the base; a number behind the last colon is the scale."""
        assert AdapterFile.read(text, ["base", "base:8b"]) == adapter

    @given(names, names, paths, st.floats(-1000, 1000))
    def test_what_is_written_is_read(self, name, base, path, scale):
        """`aos up` tells its operators by the same words."""
        model, adapter = ModelFile(name, path), AdapterFile(name, base, path, scale)
        assert ModelFile.read(str(model)) == model
        assert AdapterFile.read(str(adapter), [base]) == adapter

    @pytest.mark.parametrize("text", ["base:x.gguf", "new=x.gguf", "new=other:x.gguf", ""])
    def test_no_adapter(self, text):
        """What has no name, or no model that there is, is refused with the models that there are."""
        with pytest.raises(ValueError, match="BASE one of base, other:8b"):
            AdapterFile.read(text, ["other:8b", "base"])


class TestChecking:
    @pytest.mark.parametrize(
        ("models", "adapters", "words"),
        [
            ([], [], "1 to 64 models"),
            ([ModelFile(f"m{number}", Path("x")) for number in range(65)], [], "not 65"),
            ([ModelFile("my model", Path("x"))], [], "'my model'; give NAME=PATH"),
            ([ModelFile("m", Path("x"))], [AdapterFile("m", "m", Path("x"))], "'m' is offered twice"),
            ([ModelFile("m", Path("x"))], [AdapterFile("a", "n", Path("x"))], "which is no language model here"),
            ([ModelFile("m", Path("x"))], [AdapterFile("a", "m", Path("x"), float("nan"))], "from -1000 to 1000"),
        ],
    )
    def test_what_cannot_be_offered(self, models, adapters, words):
        """The option and the value are named."""
        with pytest.raises(ValueError, match=words):
            check_offered(models, adapters)
