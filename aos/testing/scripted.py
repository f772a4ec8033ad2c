"""A model that says what the test tells it to: the real engine runs it, token by token, and a test can hold it in mid-answer.

    model = ScriptedModel("It is ", "mathematics.")      # what it says to everyone
    model.say("Later.", to="When?")                      # what it says next to a prompt that has "When?" in it
    hold = model.hold(after="It is ")                    # it stops there until the test lets it go
    ...
    await hold.reached()
    hold.release()

Every byte is a token, so text and tokens determine each other, and two scripted models with the same script agree on every token:
one can go on where the other was lost. Engine-thread code, apart from what is marked as the test's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition
from typing import Final

import numpy as np

from aos.operator.batch import Row
from aos.operator.embedding import Embedder
from aos.operator.sampling import Logits
from aos.operator.tools import Calls
from aos.v1.types_pb2 import Order

END: Final = 256
"""The token that ends an answer."""
PROMPT_END: Final = 257
"""The token between prompt and answer."""
VOCABULARY: Final = 258
HOLD_SECONDS: Final = 60.0
"""How long a hold stops the engine at most: a test that forgets one fails rather than hangs."""

Reply = str | bytes | Callable[[str], str | bytes]


class Hold:
    """A place where a scripted model stops, and with it the engine, until the test goes on."""

    def __init__(self, after: bytes) -> None:
        self._after = after
        self._here = Condition()
        self._passes = 0
        self._open = False
        self._loop = asyncio.get_running_loop()
        self._reached = asyncio.Event()

    async def reached(self, seconds: float = 10.0) -> None:
        """Return once an answer has come this far. The test's. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    def step(self, tokens: int = 1) -> None:
        """Let so many tokens through, and hold again: ``reached`` waits anew. The test's."""
        with self._here:
            self._reached.clear()
            self._passes += tokens
            self._here.notify_all()

    def release(self) -> None:
        """Hold nothing any more. The test's."""
        with self._here:
            self._open = True
            self._here.notify_all()

    def wait(self, answer: bytes) -> None:
        """Wait if the answer has come this far. Raises TimeoutError if nobody lets it go."""
        with self._here:
            if self._open or not answer.startswith(self._after):
                return
            if not self._passes:
                with suppress(RuntimeError):  # the test is over
                    self._loop.call_soon_threadsafe(self._tell)
            if not self._here.wait_for(lambda: self._open or self._passes, HOLD_SECONDS):
                raise TimeoutError(f"held for {HOLD_SECONDS:g} s after {self._after!r}, and nobody released it")
            self._passes -= not self._open

    def _tell(self) -> None:
        with self._here:
            if not self._passes:
                self._reached.set()


class ScriptedModel:
    """A Model whose answers are scripted. Queued answers are used once each, then ``reply`` for all that come."""

    def __init__(
        self,
        *reply: Reply,
        context: int = 16_384,
        slots: int = 8,
        step_tokens: int = 1024,
        chat: bool = True,
        name: str = "scripted",
    ) -> None:
        """``reply``: pieces said one behind the other; a callable gets the prompt. ``context`` counts bytes."""
        self.context, self.slots, self.step_tokens, self.chat, self.block = context, slots, step_tokens, chat, 0
        self.digest = hashlib.sha256(name.encode()).hexdigest()
        self.profile = f"scripted/{name}"
        self.vocabulary = VOCABULARY
        self.end, self.ends = END, frozenset({END})
        self.embedder: Embedder | None = None
        """None, unless the test gives it one."""
        self.controls = {END: "<end>", PROMPT_END: "<prompt_end>"}
        self.calls = Calls()
        self.reusable = True
        self.exact = True
        self.step_seconds: Sequence[float] = ()
        self.prompts: list[str] = []
        """Every prompt whose answer was begun, in order."""
        self.steps = 0
        """How often it was asked to compute."""
        self._reply = reply or ("Scripted.",)
        self._queue: deque[tuple[str, bytes]] = deque()
        self._said: list[bytes] = []
        self._failures: deque[Exception] = deque()
        self._holds: list[Hold] = []
        self._sequences: dict[int, list[int]] = {}
        self._answers: dict[int, bytes] = {}

    def say(self, *pieces: str | bytes, to: str = "") -> None:
        """Queue an answer for the next prompt that has ``to`` in it. The test's."""
        self._queue.append((to, b"".join(map(_bytes, pieces))))

    def fail(self, error: Exception | None = None) -> None:
        """Let the next step raise. The test's."""
        self._failures.append(error or RuntimeError("told to fail"))

    def hold(self, after: str = "") -> Hold:
        """Stop every answer that begins with ``after`` behind it, before its next token. The test's, on its loop."""
        hold = Hold(after.encode())
        self._holds.append(hold)
        return hold

    def tokenise(self, order: Order) -> list[int]:
        """Return the bytes of the prompt (for chats, lines of `role: content`), and the token that ends it."""
        turns = (f"{message.role}: {message.content}\n" for message in order.chat.messages)
        return [*(order.prompt or "".join(turns)).encode(), PROMPT_END]

    def tokens_of(self, text: bytes) -> list[int]:
        """Return its bytes."""
        return list(text)

    def tokens_in(self, text: bytes) -> list[int]:
        """Return its bytes."""
        return list(text)

    def piece(self, token: int) -> bytes:
        """Return the byte; nothing for END and PROMPT_END."""
        return bytes([token]) if token < END else b""

    def decode(self, rows: Sequence[Row]) -> list[Logits]:
        """Take the rows, and want the next byte of each script. Raises what ``fail`` queued."""
        self.steps += 1
        if not rows:
            raise ValueError("there is nothing to compute")
        if self._failures:
            raise self._failures.popleft()
        for row in rows:
            sequence = self._sequences.setdefault(row.slot, [])
            if len(sequence) != row.position:
                raise ValueError(f"slot {row.slot} holds {len(sequence)} tokens, and more come for position {row.position}")
            sequence += row.tokens
        return [self._logits(row.slot) for row in rows if row.draws]

    def reuse(self, slot: int, source: int, count: int) -> None:
        """Shorten or copy a sequence. Raises ValueError if the source has fewer tokens."""
        if count > len(self._sequences.get(source, [])):
            raise ValueError(f"slot {source} holds fewer than {count} tokens")
        self._sequences[slot] = self._sequences.get(source, [])[:count]
        self._answers.pop(slot, None)

    def clear(self) -> None:
        """Empty all sequences."""
        self._sequences.clear()
        self._answers.clear()

    def interrupt(self) -> None:
        """Release every hold: the engine closes."""
        for hold in self._holds:
            hold.release()

    def _logits(self, slot: int) -> Logits:
        sequence = self._sequences[slot]
        # a controller may have taken back the prompt's end
        border = sequence.index(PROMPT_END) if PROMPT_END in sequence else len(sequence)
        spoken = bytes(token for token in sequence[border + 1 :] if token < END)
        if slot not in self._answers:
            self._answers[slot] = self._choose(bytes(sequence[:border]).decode(), spoken)
        for hold in self._holds:
            hold.wait(spoken)
        answer = self._answers[slot]
        logits = np.zeros(VOCABULARY, np.float32)
        # far enough from the others that no temperature draws anything else
        logits[answer[len(spoken)] if len(spoken) < len(answer) else END] = 1e6
        return logits

    def _choose(self, prompt: str, spoken: bytes) -> bytes:
        """Return the script of a new sequence; one that was begun elsewhere goes on with an answer that begins like it."""
        self.prompts.append(prompt)
        usual = b"".join(_bytes(piece(prompt) if callable(piece) else piece) for piece in self._reply)
        if spoken:
            queued = [answer for to, answer in self._queue if to in prompt]
            return next((one for one in [*self._said, *queued, usual] if one.startswith(spoken)), usual)
        for index, (to, answer) in enumerate(self._queue):
            if to in prompt:
                del self._queue[index]
                self._said.append(answer)
                return answer
        return usual


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
