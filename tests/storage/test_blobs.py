"""Files by what they hold: kept, found, and gone in time."""

from __future__ import annotations

import hashlib
from threading import Thread

import pytest

from aos.errors import BlobNotFound
from aos.storage.blobs import BlobLimits, Blobs, Kept, outdated, read_name

NOW = 1_800_000_000.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestBlobs:
    def test_by_its_name(self, tmp_path):
        """What was put is found under the name that says what it holds, by its owner alone."""
        blobs = Blobs(tmp_path / "blobs")
        assert blobs.put("p", b"hello", now=NOW).hex() == digest(b"hello")
        assert blobs.get("p", digest(b"hello"), now=NOW) == b"hello"
        assert blobs.has("p", digest(b"hello"), now=NOW)
        for owner, name in (("q", digest(b"hello")), ("p", digest(b"other"))):
            with pytest.raises(BlobNotFound):
                blobs.get(owner, name, now=NOW)

    def test_outlives_the_process(self, tmp_path):
        """A later process finds the files, their age, and the secret of links."""
        first = Blobs(tmp_path / "blobs", BlobLimits(keep_seconds=100))
        first.put("p", b"hello", now=NOW)

        later = Blobs(tmp_path / "blobs", BlobLimits(keep_seconds=100))

        assert later.get("p", digest(b"hello"), now=NOW + 99) == b"hello"
        assert not later.has("p", digest(b"hello"), now=NOW + 100)
        assert later.secret == first.secret

    def test_half_written(self, tmp_path):
        """What a killed process had half written is taken away, but not what another one may still be writing."""
        Blobs(tmp_path / "blobs").put("p", b"hello", now=NOW)
        (tmp_path / "blobs" / "tmp1234").write_bytes(b"hel")

        Blobs(tmp_path / "blobs")
        assert (tmp_path / "blobs" / "tmp1234").exists()

        blobs = Blobs(tmp_path / "blobs", BlobLimits(writing_seconds=1e-9))
        assert not (tmp_path / "blobs" / "tmp1234").exists()
        assert blobs.get("p", digest(b"hello"), now=NOW) == b"hello"

    def test_kept_anew(self, tmp_path):
        """A file that comes again is as young as one that comes first."""
        blobs = Blobs(tmp_path / "blobs", BlobLimits(keep_seconds=100))
        blobs.put("p", b"hello", now=NOW)
        blobs.put("p", b"hello", now=NOW + 99)
        assert blobs.get("p", digest(b"hello"), now=NOW + 198) == b"hello"

    def test_sweep(self, tmp_path):
        """What is too old leaves the disk."""
        blobs = Blobs(tmp_path / "blobs", BlobLimits(keep_seconds=100))
        blobs.put("p", b"old", now=NOW)
        blobs.put("p", b"new", now=NOW + 100)
        assert [path.name for path in (tmp_path / "blobs" / "p").iterdir()] == [digest(b"new")]

    def test_from_many_threads(self, tmp_path):
        """Threads that put and get at once get in nobody's way."""
        blobs, found = Blobs(tmp_path / "blobs"), list[bytes]()

        def work(number: int) -> None:
            data = b"%d" % (number % 5) * 1000
            blobs.put("p", data, now=NOW)
            found.append(blobs.get("p", digest(data), now=NOW))

        threads = [Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 20
        assert len(list((tmp_path / "blobs" / "p").iterdir())) == 5

    def test_private(self, tmp_path):
        """Nobody else on the machine can read the folder or the secret."""
        Blobs(tmp_path / "blobs")
        assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
        assert (tmp_path / "blobs" / "link.key").stat().st_mode & 0o077 == 0


class TestLimits:
    def test_too_many(self):
        """Of too many files of one owner the oldest go; another's stay."""
        files = [Kept("p", str(number), 10, NOW + number) for number in range(4)] + [Kept("q", "0", 10, NOW)]
        gone = outdated(files, BlobLimits(owner_files=2), now=NOW + 5)
        assert [(one.owner, one.digest) for one in gone] == [("p", "1"), ("p", "0")]

    def test_too_large(self):
        """Of files that are together too large the oldest go, of one owner and of all."""
        files = [Kept("p", str(number), 10, NOW + number) for number in range(4)]
        assert [one.digest for one in outdated(files, BlobLimits(owner_bytes=25), now=NOW + 5)] == ["1", "0"]
        files += [Kept("q", "9", 10, NOW + 9)]
        assert [one.digest for one in outdated(files, BlobLimits(total_bytes=20), now=NOW + 9)] == ["2", "1", "0"]

    def test_a_limit_of_nothing(self):
        """A limit that nothing fits is no limit that somebody meant."""
        with pytest.raises(ValueError, match="owner_files"):
            BlobLimits(owner_files=0)

    @pytest.mark.parametrize("name", ["blobs/../secret", "blobs/" + "A" * 64, "blobs/" + "a" * 63, "a" * 64, "jobs/" + "a" * 64])
    def test_names(self, name):
        """What is no name of a file is not looked for."""
        with pytest.raises(BlobNotFound):
            read_name(name)
