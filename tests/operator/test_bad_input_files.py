"""Model files that are broken or wild: each is refused with its reason, and the process that was asked lives."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest

from aos.errors import EngineFailed, InvalidField
from aos.operator.llama import load
from aos.operator.llama.trial import try_model
from tests.operator.weights import write_model


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.gguf")


def edited(path: Path, key: str, value: bytes) -> Path:
    """The file with other bytes where a key's value stands; ``type of …``: where its type stands."""
    field = gguf.GGUFReader(path).fields[key.removeprefix("type of ")]
    # a key is its length, its characters, the type of its value, and the value
    at = field.offset + 8 + len(key.removeprefix("type of ").encode()) + (0 if key.startswith("type of ") else 4)
    return replaced(path, at, value)


def replaced(path: Path, at: int, value: bytes) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:at] + value + data[at + len(value) :])
    return path


class TestTruncated:
    @pytest.mark.parametrize("length", [4, 5, 8, 16, 23, 24, 40, 100, 500, 3000])
    def test_in_the_header(self, tiny, length):
        """A file that ends in its header is refused in llama.cpp's words."""
        tiny.write_bytes(tiny.read_bytes()[:length])

        with pytest.raises(EngineFailed, match=r"llama\.cpp cannot load tiny\.gguf: .*fail"):
            load(tiny)

    @pytest.mark.parametrize("left", [1, 100, 5000])
    def test_in_the_tensors(self, tiny, left):
        """A file that ends in its tensors is refused: the bounds of the file are checked."""
        tiny.write_bytes(tiny.read_bytes()[:-left])

        with pytest.raises(EngineFailed, match="not within the file bounds"):
            load(tiny)


class TestOtherThings:
    @pytest.mark.parametrize("contents", [b"", b"GG", b"PK\3\4" * 100, b"gguf" * 100, b"\0" * 1000])
    def test_no_gguf(self, tmp_path, contents):
        """A file of another kind, and an empty one, are refused by name."""
        (tmp_path / "other.gguf").write_bytes(contents)

        with pytest.raises(InvalidField, match=r"other\.gguf is not a GGUF file"):
            try_model(tmp_path / "other.gguf", "m")

    def test_what_cannot_be_read(self, tmp_path):
        """Folders, links to nothing, and files that cannot be read say why."""
        (tmp_path / "gone.gguf").symlink_to(tmp_path / "nothing")
        with pytest.raises(InvalidField, match="Is a directory"):
            load(tmp_path)
        with pytest.raises(InvalidField, match="No such file"):
            load(tmp_path / "gone.gguf")
        with pytest.raises(InvalidField, match="Input/output error"):
            load(Path("/proc/self/mem"))


class TestWild:
    @pytest.mark.parametrize(
        ("key", "value", "says"),
        [
            ("GGUF.tensor_count", struct.pack("<Q", 2**64 - 1), "tensor"),
            ("GGUF.kv_count", struct.pack("<Q", 2**63), "key"),
        ],
    )
    def test_counts(self, tiny, key, value, says):
        """A count that cannot be is refused before anything is taken for it."""
        at = {"GGUF.tensor_count": 8, "GGUF.kv_count": 16}[key]

        with pytest.raises(EngineFailed, match=says):
            load(replaced(tiny, at, value))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("general.architecture", struct.pack("<Q", 2**63)),
            ("tokenizer.chat_template", struct.pack("<Q", 2**40)),
            ("tokenizer.ggml.tokens", struct.pack("<IQ", 8, 2**62)),
            ("tokenizer.ggml.tokens", struct.pack("<IQ", 9, 3)),
            ("type of tokenizer.ggml.tokens", struct.pack("<I", 4)),
            ("type of llama.block_count", struct.pack("<I", 2**31)),
            ("llama.embedding_length", struct.pack("<I", 2**32 - 1)),
            ("llama.attention.head_count", struct.pack("<I", 0)),
        ],
    )
    def test_metadata(self, tiny, key, value):
        """Strings and lists longer than the file, types that do not fit and sizes that cannot be are refused."""
        with pytest.raises(EngineFailed, match=r"llama\.cpp cannot load tiny\.gguf"):
            load(edited(tiny, key, value))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("llama.block_count", struct.pack("<I", 65_536)),
            ("llama.attention.layer_norm_rms_epsilon", struct.pack("<f", float("nan"))),
        ],
    )
    def test_what_ends_the_process(self, tiny, key, value):
        """Where llama.cpp ends the process, it was another one; its last words are the reason, without the builder's folders."""
        with pytest.raises(EngineFailed, match=r"llama\.cpp dies of tiny\.gguf \(SIG\w+\): .*ASSERT") as caught:
            try_model(edited(tiny, key, value), "m")

        assert "/" not in caught.value.message.partition("ASSERT")[0].rpartition("): ")[2]

    def test_a_good_file(self, tiny):
        """A file that can be run passes."""
        try_model(tiny, "m")
