"""Files in one folder that several processes have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Barrier, Thread

import pytest

from aos.errors import BlobNotFound
from aos.storage.blobs import BlobLimits, Blobs

NOW = 1_800_000_000.0


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def two(folder: Path, **limits: float) -> tuple[Blobs, Blobs]:
    return Blobs(folder, BlobLimits(**limits)), Blobs(folder, BlobLimits(**limits))


def there(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}


class TestShared:
    def test_any_gives_what_any_has(self, tmp_path):
        """What one has put later is given by the other, to its owner alone, and as long as it is kept."""
        one, other = two(tmp_path, keep_seconds=100)
        one.put("p", b"hello", now=NOW)

        assert other.get("p", digest(b"hello"), now=NOW + 99) == b"hello"
        assert other.has("p", digest(b"hello"), now=NOW + 99)
        for owner, now in (("q", NOW), ("p", NOW + 100)):
            assert not other.has(owner, digest(b"hello"), now=now)
            with pytest.raises(BlobNotFound):
                other.get(owner, digest(b"hello"), now=now)

    def test_kept_anew_by_another(self, tmp_path):
        """What one has put anew is as young for the other, which does not delete it for its age."""
        one, other = two(tmp_path, keep_seconds=100)
        one.put("p", b"hello", now=NOW)
        assert other.get("p", digest(b"hello"), now=NOW) == b"hello"
        one.put("p", b"hello", now=NOW + 99)

        assert other.sweep(now=NOW + 150) == []
        assert other.get("p", digest(b"hello"), now=NOW + 150) == b"hello"
        assert one.get("p", digest(b"hello"), now=NOW + 150) == b"hello"

    def test_not_the_oldest_any_more(self, tmp_path):
        """Of too many, one that another has put anew is not taken for the oldest."""
        one, other = two(tmp_path, owner_files=2)
        for number in range(2):
            other.put("p", b"%d" % number, now=NOW + number)
        one.put("p", b"0", now=NOW + 50)
        other.put("p", b"new", now=NOW + 60)
        other.sweep(now=NOW + 60)

        assert there(tmp_path) == {f"p/{digest(b'0')}", f"p/{digest(b'new')}"}

    def test_deleted_by_another(self, tmp_path):
        """What another has deleted is not there, counts no more, and can be put again."""
        one, other = two(tmp_path, owner_bytes=10)
        one.put("p", b"12345", now=NOW)
        other.put("p", b"abcdefghij", now=NOW + 10)
        assert {kept.digest for kept in other.sweep_all(now=NOW + 10)} == {digest(b"12345")}

        assert not one.has("p", digest(b"12345"), now=NOW + 10)
        with pytest.raises(BlobNotFound):
            one.get("p", digest(b"12345"), now=NOW + 10)
        one.put("p", b"12345", now=NOW + 20)
        assert other.get("p", digest(b"12345"), now=NOW + 20) == b"12345"

    def test_all_count(self, tmp_path):
        """Files that others have put count against the limits once they were looked for."""
        one, other = two(tmp_path, total_bytes=20)
        for number in range(3):
            one.put("p", b"%d" % number * 5, now=NOW + number)
            other.put("q", b"%d" % number * 5, now=NOW + number)
        assert len(there(tmp_path)) == 6

        other.sweep_all(now=NOW + 9)
        assert there(tmp_path) == {f"{owner}/{digest(b'%d' % number * 5)}" for owner in "pq" for number in (1, 2)}

    def test_one_key_of_links(self, tmp_path):
        """However many begin at once in a new folder, a link that one has made leads through the other."""
        begin, found = Barrier(8), list[bytes]()

        def work() -> None:
            begin.wait(20)
            found.append(Blobs(tmp_path / "blobs").secret)

        threads = [Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1

    def test_a_key_that_was_never_written(self, tmp_path):
        """A process that was killed before it wrote the key keeps no other from beginning."""
        (tmp_path / "link.key").touch()
        one, other = two(tmp_path)
        assert len(one.secret) == 32
        assert one.secret == other.secret

    def test_put_while_another_deletes(self, tmp_path):
        """A file that is put anew is there afterwards, though another deletes it at that moment for what it knew of its age."""
        one, other = two(tmp_path, keep_seconds=100)
        for number in range(100):
            now = NOW + 1000 * number
            one.put("p", b"hello", now=now)
            other.sweep_all(now=now)
            begin = Barrier(2)

            def delete(now: float = now, begin: Barrier = begin) -> None:
                begin.wait(20)
                other.sweep(now=now + 500)

            thread = Thread(target=delete)
            thread.start()
            begin.wait(20)
            one.put("p", b"hello", now=now + 400)
            thread.join()
            assert one.get("p", digest(b"hello"), now=now + 450) == b"hello"
            assert other.get("p", digest(b"hello"), now=now + 450) == b"hello"
