"""Modules in a folder: whole or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.storage.modules import ModuleFiles


class TestModuleFiles:
    @given(parts=st.lists(st.binary(max_size=40), max_size=8), size=st.integers(1, 50))
    def test_what_comes_in_parts_goes_out_in_parts(self, parts, size, tmp_path_factory):
        """Whatever the parts, the whole is the same, and its digest its name."""
        files, whole = ModuleFiles(tmp_path_factory.mktemp("modules")), b"".join(parts)
        incoming = files.receive()
        for part in parts:
            incoming.write(part)
        digest = incoming.finish()
        assert not files.has(digest)
        incoming.keep()

        assert digest == hashlib.sha256(whole).digest()
        assert files.has(digest)
        assert b"".join(files.part(digest, start, size) for start in range(0, len(whole), size)) == whole

    def test_what_is_discarded_leaves_nothing(self, tmp_path):
        """Also if it was all there; what is kept stays, even if it is discarded then."""
        files = ModuleFiles(tmp_path)
        for keep in (False, True):
            incoming = files.receive()
            incoming.write(b"a")
            digest = incoming.finish()
            if keep:
                incoming.keep()
            incoming.discard()
            incoming.discard()
            assert files.has(digest) is keep
        assert [path.name for path in tmp_path.iterdir()] == [f"{digest.hex()}.wasm"]

    def test_halves_of_an_earlier_process_go(self, tmp_path):
        """What it had kept stays, and so does a half that may still be coming in."""
        earlier = ModuleFiles(tmp_path)
        kept = earlier.receive()
        kept.write(b"a")
        kept.keep()
        half = earlier.receive()
        half.write(b"b")
        coming = earlier.receive()
        os.utime(half.path, (0, 0))
        later = ModuleFiles(tmp_path)

        assert later.has(kept.finish())
        assert (half.path.exists(), coming.path.exists()) == (False, True)
        half.discard()
        coming.discard()

    def test_there_may_be_none(self, tmp_path):
        """Of that digest."""
        with pytest.raises(FileNotFoundError):
            ModuleFiles(tmp_path).part(bytes(32), 0, 1)
