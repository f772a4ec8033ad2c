"""Links to files: whose they are, and how long they hold."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from aos.errors import BadSignature
from aos.storage.links import Link, owner_of

SECRET = b"s" * 32
LINK = Link("blobs/" + "a" * 64, owner_of("projects/p"), 1000)


class TestLink:
    def test_holds(self):
        """A link holds until it is out of date."""
        LINK.check(LINK.sign(SECRET), SECRET, now=999.9)
        with pytest.raises(BadSignature, match="out of date"):
            LINK.check(LINK.sign(SECRET), SECRET, now=1000)

    @pytest.mark.parametrize(
        "other",
        [{"name": "blobs/" + "b" * 64}, {"owner": owner_of("projects/q")}, {"expires": 2000}],
        ids=["name", "owner", "time"],
    )
    def test_cannot_be_changed(self, other):
        """A signature is good for its own link alone."""
        with pytest.raises(BadSignature, match="not as it was made"):
            replace(LINK, **other).check(LINK.sign(SECRET), SECRET, now=0)

    @pytest.mark.parametrize("signature", ["", "0" * 64, "é" * 64])
    def test_cannot_be_guessed(self, signature):
        """Without the secret there is no signature."""
        with pytest.raises(BadSignature):
            LINK.check(signature, SECRET, now=0)
        with pytest.raises(BadSignature):
            LINK.check(LINK.sign(b"t" * 32), SECRET, now=0)

    def test_path(self):
        """The path says all that the check needs, and no project's name."""
        parts = urlsplit(LINK.path(SECRET))
        assert parts.path == "/v1/blobs/" + "a" * 64
        query = parse_qs(parts.query)
        assert query == {"owner": [LINK.owner], "expires": ["1000"], "signature": [LINK.sign(SECRET)]}
