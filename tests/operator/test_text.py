"""Text from bytes: characters whole, stop strings hidden, nothing kept back longer than need be."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aos.operator.text import AnswerText

# few letters, so that stop strings come about and overlap; characters of every length; and bytes that are no text at all
LETTERS = st.text("ab¢€\U0001d11e", max_size=12).map(str.encode)
DATA = st.lists(LETTERS | st.binary(max_size=4), max_size=6).map(b"".join)
STOPS = st.lists(st.text("ab¢€", min_size=1, max_size=4), max_size=3)

calm = settings(deadline=None)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(borders)]


def whole(data: bytes, stops: list[str]) -> tuple[str, str]:
    """Return the text and the stop string that came, from all the bytes at once, in the plainest way."""
    text = data.decode(errors="replace")
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, ""


def may_become_one(data: bytes) -> bool:
    """Say whether these bytes are the beginning of one character, without its end."""
    ends = (bytes(end) for size in (1, 2, 3) for end in product((0x80, 0x90, 0xA0, 0xBF), repeat=size))
    return any(len((data + end).decode(errors="ignore").encode()) == len(data + end) for end in ends if one(data + end))


def one(data: bytes) -> bool:
    return len(data.decode(errors="replace")) == 1


def held(data: bytes, stops: list[str]) -> str:
    """Return what may be shown of an answer that goes on behind these bytes, in the plainest way."""
    text, stop = whole(data, stops)
    if stop:
        return text
    # an incomplete character at the end shows as U+FFFD, and is not certain
    begun = next((size for size in (3, 2, 1) if size <= len(data) and may_become_one(data[-size:])), 0)
    text = data[: len(data) - begun].decode(errors="replace")
    beginnings = [text[at:] for at in range(len(text)) if any(stop.startswith(text[at:]) for stop in stops)]
    return text[: len(text) - max(map(len, beginnings), default=0)]


class TestAnswerText:
    @calm
    @given(DATA, STOPS, st.lists(st.integers(0, 200), max_size=8))
    def test_however_cut(self, data, stops, places):
        """Any cutting of the bytes gives the text that all of them give at once."""
        text = AnswerText(stops)

        shown = "".join(text.feed(piece) for piece in cut(data, places)) + text.finish()

        assert (shown, text.stop) == whole(data, stops)
        assert text.text == shown

    @pytest.mark.parametrize("second", [0xA0, 0xBF])
    def test_half_a_surrogate_is_not_waited_for(self, second):
        """Bytes that begin a surrogate can become no character; they are shown as U+FFFD at once, and the same in the end."""
        text = AnswerText()

        assert text.feed(bytes([0xED, second])) == "\ufffd\ufffd"
        assert text.feed(b"\x80a") == "\ufffda"

    @calm
    @given(DATA, STOPS, st.lists(st.integers(0, 200), max_size=8))
    def test_holds_back_as_little_as_possible(self, data, stops, places):
        """At every moment all is shown that no later byte could take back, and nothing else."""
        text, shown, seen = AnswerText(stops), "", b""
        for piece in cut(data, places):
            shown += text.feed(piece)
            seen += piece
            assert shown == held(seen, stops)

    @calm
    @given(DATA, STOPS, st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(0, 8))
    def test_resumed(self, data, stops, places, accepted):
        """An answer that is taken up elsewhere shows exactly what its reader has not seen."""
        pieces = cut(data, places)
        first, second = AnswerText(stops), AnswerText(stops)
        before = "".join(map(first.feed, pieces[:accepted]))

        lacking = second.resume(pieces[:accepted])
        after = "".join(map(second.feed, pieces[accepted:])) + second.finish()

        assert lacking == ""
        assert before + after == whole(data, stops)[0]

    @calm
    @given(DATA, STOPS, st.lists(st.integers(0, 200), min_size=1, max_size=8), st.data())
    def test_resumed_with_other_text_seen(self, data, stops, places, more):
        """Whatever beginning of the text the reader has, it gets the rest, no matter which tokens were accepted."""
        pieces, all_text = cut(data, places), whole(data, stops)[0]
        seen = all_text[: more.draw(st.integers(0, len(all_text)))]
        accepted = more.draw(st.integers(0, len(pieces)))
        text = AnswerText(stops)

        rest = text.resume(pieces[:accepted], len(seen.encode()))
        rest += "".join(map(text.feed, pieces[accepted:])) + text.finish()

        assert seen + rest == all_text

    def test_character_in_two_tokens(self):
        """A character is shown with its last byte."""
        text = AnswerText()

        assert [text.feed(bytes([byte])) for byte in "é!".encode()] == ["", "é", "!"]

    def test_character_that_stays_incomplete(self):
        """What the end leaves incomplete becomes one U+FFFD."""
        text = AnswerText()

        assert text.feed("€".encode()[:2]) == ""
        assert text.finish() == "\ufffd"

    @pytest.mark.parametrize(("stops", "stop"), [(["bc", "abcd"], "bc"), (["c", "abc"], "abc"), (["abc", "c"], "abc")])
    def test_which_stop_string(self, stops, stop):
        """The first to be complete ends the answer; of two complete at once, the longer."""
        text = AnswerText(stops)

        shown = text.feed(b"xabcd")

        assert (shown, text.stop) == ("xabcd"[: "xabcd".index(stop)], stop)

    def test_beginning_of_a_stop_string_that_was_none(self):
        """What looked like the beginning of a stop string is shown once it cannot become one."""
        text = AnswerText(["</end>"])

        assert [text.feed(piece) for piece in (b"a</e", b"n", b"x")] == ["a", "", "</enx"]

    def test_nothing_behind_the_stop(self):
        """Nothing is shown behind a stop string, not even at the end."""
        text = AnswerText(["."])

        assert text.feed(b"yes. no") == "yes"
        assert text.feed(b"more") + text.finish() == ""
