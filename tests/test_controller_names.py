"""What controllers are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aos.controller_names import Reference, check_tag, name_of, read_digest, read_reference
from aos.errors import InvalidField

TAGS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,49}", fullmatch=True)


def settable(tag: str) -> bool:
    try:
        check_tag(tag, "tags[0]")
    except InvalidField:
        return False
    return True


class TestNames:
    @given(st.binary(min_size=32, max_size=32))
    def test_a_digest_is_a_name(self, digest):
        """With `controllers/` before it or without, and it is never taken for a tag."""
        for name in (name_of(digest), digest.hex()):
            assert read_digest(name, "name") == digest
            assert read_reference(name) == Reference(digest=digest)

    @given(TAGS)
    def test_what_may_be_a_tag_is_read_as_one(self, tag):
        """And what check_tag refuses although it has the form can be set by nobody, so there is none."""
        assert read_reference(tag) == Reference(tag=tag)

    @given(st.one_of(TAGS, st.text(max_size=80), st.from_regex(r"[A-Fa-f][0-9a-f]{15,30}", fullmatch=True)))
    def test_what_can_be_set_can_be_found(self, text):
        """No tag is taken for something else; a digest's beginning is no tag."""
        if settable(text):
            assert read_reference(text) == Reference(tag=text)
            assert len(text) <= 20 or not set(text) <= set("0123456789abcdefABCDEF")

    @pytest.mark.parametrize("name", ["gh:microsoft/aici/jsctrl", "gh:microsoft/aici/jsctrl/latest"])
    def test_well_known_names(self, name):
        """They stand for the newest that the network itself has."""
        assert read_reference(name) == Reference(tag="jsctrl-latest", public=True)

    @pytest.mark.parametrize(
        "name",
        [
            "gh:",
            "gh:microsoft/aici",
            "gh:microsoft/aici/",
            "gh:microsoft/aici/1a",
            "gh:microsoft/other/a",
            "gh:microsoft/aici/a/v1",
        ],
    )
    def test_no_other_collection(self, name):
        """Nothing is fetched from elsewhere, and no older version is passed off as the newest."""
        with pytest.raises(InvalidField, match="must be a 64-char hex string or tag name, got gh:"):
            read_reference(name)
