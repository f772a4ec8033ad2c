"""Bytes of tokens in, certain text out: characters are never split, stop strings never shown. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence


class AnswerText:
    """The text of one answer as its tokens come.

    What is shown is always the longest text that no later byte can take back, so it depends on the bytes alone and not on how
    they were cut: the same tokens show the same text in one piece or in many, on this operator or on the next.

    The answer ends before the stop string that is complete first (of two complete at once, the longer).
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._matchers = [_Matcher(stop) for stop in stops]
        self._shown: list[str] = []
        self._held = ""
        self._skip = 0
        self.stop = ""
        """The stop string that came; empty if none did."""

    @property
    def text(self) -> str:
        """All text that is certain by now."""
        return "".join(self._shown)

    def feed(self, data: bytes) -> str:
        """Return the text that became certain with these bytes; nothing more once a stop string came."""
        return "" if self.stop else self._show(self._certain(self._decoded(data)))

    def finish(self) -> str:
        """Return what was held back: nothing follows. A character that stayed incomplete becomes U+FFFD."""
        if self.stop:
            return ""
        certain = self._certain(self._decoder.decode(b"", final=True))
        rest, self._held = "" if self.stop else self._held, ""
        return self._show(certain + rest)

    def resume(self, pieces: Iterable[bytes], sent: int | None = None) -> str:
        """Take up an answer that began elsewhere, and return what its reader lacks.

        ``sent`` is how many bytes of text the reader has; None: what was certain with these pieces.
        """
        for piece in pieces:
            self.feed(piece)
        have = self.text.encode()
        if sent is None or sent >= len(have):
            self._skip = 0 if sent is None else sent - len(have)
            return ""
        return have[sent:].decode(errors="ignore")

    def _decoded(self, data: bytes) -> str:
        text = self._decoder.decode(data)
        begun = self._decoder.getstate()[0]
        # the beginning of a surrogate: no text can come of it, but the decoder waits for a third byte to say so
        if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
            text += self._decoder.decode(b"", final=True)
        return text

    def _certain(self, text: str) -> str:
        """Run the text past the stop strings; keep back what may be the beginning of one."""
        if not self._matchers:
            return text
        for index, char in enumerate(text):
            stop = max((one.stop for one in self._matchers if one.complete(char)), key=len, default="")
            if stop:
                self.stop, held = stop, self._held + text[: index + 1]
                self._held = ""
                return held[: -len(stop)]
        held = self._held + text
        certain = len(held) - max(one.length for one in self._matchers)
        self._held = held[certain:]
        return held[:certain]

    def _show(self, text: str) -> str:
        if not text:
            return ""
        self._shown.append(text)
        if self._skip:
            data = text.encode()
            text = data[self._skip :].decode(errors="ignore")
            self._skip = max(0, self._skip - len(data))
        return text


class _Matcher:
    """How much of one stop string the text ends in (Knuth, Morris and Pratt)."""

    __slots__ = ("_borders", "length", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0
        # borders[n]: length of the longest proper prefix of stop[:n + 1] that it also ends in
        self._borders = [0] * len(stop)
        border = 0
        for index in range(1, len(stop)):
            while border and stop[index] != stop[border]:
                border = self._borders[border - 1]
            border += stop[index] == stop[border]
            self._borders[index] = border

    def complete(self, char: str) -> bool:
        """Take one more character; say whether the stop string is complete with it. Not to be asked again after that."""
        while self.length and char != self.stop[self.length]:
            self.length = self._borders[self.length - 1]
        self.length += char == self.stop[self.length]
        return self.length == len(self.stop)
