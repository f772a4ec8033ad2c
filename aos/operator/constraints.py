"""Which tokens the form of an answer allows in each place. The only file that imports llguidance.

A constraint is compiled once for a model, beside the event loop, and each answer gets a copy that follows its tokens. What a copy
allows depends on the constraint, the vocabulary and the tokens so far, and on nothing else.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray

from aos.errors import EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.model import Model
from aos.operator.penalties import Logits
from aos.v1.types_pb2 import Constraint

COMPILE_SECONDS: Final = 10.0
"""How long a request waits for its constraint, those before it in the queue included."""
COMPILERS: Final = 2
"""Threads that compile, of each engine: a constraint that takes seconds, as the worst do, leaves the others one."""
COMPILED: Final = 64
"""Most compiled constraints that are kept for each model; the one unused for longest goes first."""
COMPILE_STACK: Final = 256 << 20
"""Stack of each of them, in bytes: llguidance recurses along chains of rules, and 64 KiB of text can fill 8 MiB."""
MASK_THREADS: Final = 2
"""Threads for masks of each engine: one that takes long leaves the others theirs."""
PATIENCE: Final = 0.002
"""Seconds for which a step waits for a mask; whose comes later draws its token when it is there, and holds up nobody."""
REASON_CHARS: Final = 300
"""Most characters of llguidance's own reason that an error repeats."""
LIMITS: Final = {
    "initial_lexer_fuel": 100_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "max_lexer_states": 20_000,
    "verbose_errors": False,
}
"""llguidance's, below its defaults: most constraints compile in milliseconds, the worst that are let through in seconds, and the
automaton of an answer has 40 MB at most."""
JSON_SPACE: Final = {"whitespace_flexible": True, "whitespace_pattern": r"( |\n[ \t]{0,16})?"}
"""Between JSON's tokens: what printers put there. With any amount allowed, small models never stop indenting."""

Allowed = NDArray[np.float32]
"""For each token of the vocabulary 0 if it may come, else minus infinity. To add takes a tenth of the time that choosing takes."""

Work = tuple[Future[Allowed], Callable[[], Allowed]]
"""A mask that is to come, and how to make it."""

_NEVER: Final = np.uint32(0xFF80_0000)
"""Minus infinity, in a float's bits."""
_EXHAUSTED: Final = "NoExtension"
"""How llguidance's reason begins where the text cannot go on in any way."""


def permitted(logits: Logits, allowed: Allowed) -> Logits:
    """Return the logits with those of tokens that may not come at minus infinity; what is given is left alone.

    Neither bias nor penalty brings such a token back, so it makes no difference whether they come before or after.
    """
    return logits + allowed


def grammar(constraint: Constraint) -> str:
    """Return the constraint as llguidance takes it. Raises ValueError, with a reason, if it is none; it may still not compile."""
    match constraint.WhichOneof("kind"):
        case "json_object":
            return LLMatcher.grammar_from_json_schema('{"type": "object"}', defaults=JSON_SPACE)  # pyright: ignore[reportArgumentType]
        case "json_schema":
            # options are for objects; true, which allows all that {} allows, is none
            schema = "{}" if constraint.json_schema.strip() == "true" else constraint.json_schema
            return LLMatcher.grammar_from_json_schema(schema, defaults=JSON_SPACE)  # pyright: ignore[reportArgumentType]
        case "regex":
            return LLMatcher.grammar_from_regex(constraint.regex)
        case "choices":
            return LLMatcher.grammar_from_regex("|".join(_literal(text) for text in constraint.choices.texts))
        case "lark":
            return LLMatcher.grammar_from_lark(constraint.lark)
        case _:
            return LLMatcher.grammar_from_lark(_lark(constraint.gbnf))


def _literal(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)


_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)


def _lark(gbnf: str) -> str:
    """Return a GBNF grammar in llguidance's Lark dialect. Raises ValueError."""

    def plain(found: re.Match[str]) -> str:
        # the converter leaves \u to Lark, which knows it only in strings
        if not (digits := found[1] or found[2]):
            return found[0]
        try:
            char = chr(int(digits, 16))
            char.encode()
        except ValueError as error:
            raise ValueError(f"{found[0]} is no character") from error
        return f"\\x{ord(char):02x}" if char.isascii() else char

    try:
        return gbnf_to_lark(_ESCAPE.sub(plain, gbnf))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except IndexError as error:
        raise ValueError("it ends too early") from error
    except Exception as error:  # the converter's own failures have no class of their own
        raise ValueError(str(error)) from error


class Matcher:
    """How far one answer has come in the form that it must have. One caller at a time."""

    def __init__(self, name: str, field: str, inner: LLMatcher, vocabulary: int) -> None:
        self._name, self._field, self._inner, self._vocabulary = name, field, inner, vocabulary

    def accept(self, tokens: Sequence[int], count: int) -> None:
        """Take the first ``count`` of tokens that were drawn elsewhere. Raises InvalidField unless the form allows all of them."""
        valid = self._inner.validate_tokens(list(tokens))
        if valid < len(tokens):
            raise InvalidField("accepted_tokens", f"token {valid + 1} breaks {self._field}")
        self._inner.consume_tokens(list(tokens[:count]))

    def advance(self, token: int) -> Allowed:
        """Take the token that was drawn; return what may come next. Raises as ``allowed`` does."""
        self._inner.consume_token(token)
        return self.allowed()

    def allowed(self) -> Allowed:
        """Return what may come next: where the answer is complete and cannot go on, the tokens that end it.

        Raises InvalidField if the constraint needs more work than the limits allow, EngineFailed if no token of the model's can
        come.
        """
        mask = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        if self._inner.is_error():
            reason = self._inner.get_error()
            if not reason.startswith(_EXHAUSTED):
                raise InvalidField(self._field, f"cannot be followed: {_short(reason)}")
            raise EngineFailed(self._name, f"no token that it has goes on in the form that {self._field} asks for")
        bits = np.unpackbits(mask, count=self._vocabulary, bitorder="little").astype(np.uint32)
        bits -= 1  # all ones where it may not come
        bits &= _NEVER
        return bits.view(np.float32)


class Grammars:
    """The constraints of one engine's orders, compiled for its model, and the threads that work on them."""

    def __init__(self, name: str, model: Model) -> None:
        """Cheap: threads and tables are made when the first constraint comes. ``name`` is for errors."""
        self._name, self._model = name, model
        self._tokeniser: LLTokenizer | None = None
        self._kept: OrderedDict[bytes, LLMatcher] = OrderedDict()
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._works: SimpleQueue[Work] = SimpleQueue()
        self._compiling = ThreadPoolExecutor(COMPILERS, f"aos-grammars-{name}")
        self._masking = ThreadPoolExecutor(MASK_THREADS, f"aos-masks-{name}")

    async def compiled(self, constraint: Constraint, *, field: str = "") -> Matcher:
        """Return the constraint, ready for the first token of an answer.

        Raises InvalidField, naming ``field`` or else `order.constraint.<kind>`, for one that does not compile or takes longer than
        ``COMPILE_SECONDS``; QueueFull if so much time passes with those of others; ModelUnsuitable if the model cannot end an
        answer; ShuttingDown.
        """
        kind = str(constraint.WhichOneof("kind"))
        field, key = field or f"order.constraint.{kind}", _key(constraint)
        if (found := self._find(key)) is not None:
            return await asyncio.to_thread(self._copy, field, found)
        with _stacks:  # the thread starts with the first task that it is given, and has the stack that is asked for then
            before = threading.stack_size(COMPILE_STACK)
            try:
                task = self._compiling.submit(self._compile, field, key, constraint)
            except RuntimeError as error:  # its way to say that it is closed
                raise ShuttingDown from error
            finally:
                threading.stack_size(before)
        try:
            async with asyncio.timeout(COMPILE_SECONDS):
                return await asyncio.wrap_future(task)
        except TimeoutError:
            if task.cancelled():  # it never began
                raise QueueFull(f"engine {self._name}, constraints to compile", COMPILED) from None
            problem = f"takes more than {COMPILE_SECONDS:g} s to compile"
            raise InvalidField(field, problem, limit=COMPILE_SECONDS) from None
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is not None and not waiting.cancelling():  # ``close`` did it
                raise ShuttingDown from None
            raise

    def keeps(self, constraint: Constraint) -> bool:
        """Say whether a constraint is there, compiled."""
        with self._lock:
            return _key(constraint) in self._kept

    def ahead(self, works: Sequence[Work]) -> None:
        """Do this on threads of its own: whoever asks goes on, and the model computes meanwhile. Raises ShuttingDown."""
        for work in works:
            self._works.put(work)
        try:
            for _ in works[:MASK_THREADS]:
                self._masking.submit(self._work)
        except RuntimeError as error:  # its way to say that it is closed
            raise ShuttingDown from error

    def _work(self) -> None:
        with suppress(Empty):
            while True:
                mask, work = self._works.get_nowait()
                try:
                    mask.set_result(work())
                except BaseException as error:
                    mask.set_exception(error)

    def close(self) -> None:
        """Let the threads go. Idempotent."""
        self._compiling.shutdown(wait=False, cancel_futures=True)
        self._masking.shutdown(wait=False, cancel_futures=True)

    def _find(self, key: bytes) -> LLMatcher | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _compile(self, field: str, key: bytes, constraint: Constraint) -> Matcher:
        if (found := self._find(key)) is not None:  # somebody before in the queue asked for the same
            return self._copy(field, found)
        try:
            inner = LLMatcher(self._vocabulary(), grammar(constraint), log_level=0, limits=LLParserLimits(**LIMITS))  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise InvalidField(field, f"does not compile: {_short(str(error))}") from error
        if inner.is_error():
            raise InvalidField(field, f"does not compile: {_short(inner.get_error())}")
        try:
            # the first mask is often the dearest
            self._copy(field, inner).allowed()
        except EngineFailed as error:
            raise InvalidField(field, "allows no answer that this model can give") from error
        with self._lock:
            self._kept[key] = inner
            if len(self._kept) > COMPILED:
                self._kept.popitem(last=False)
        return self._copy(field, inner)

    def _vocabulary(self) -> LLTokenizer:
        with self._making:
            if self._tokeniser is None:
                self._tokeniser = tokeniser(self._name, self._model)
            return self._tokeniser

    def _copy(self, field: str, inner: LLMatcher) -> Matcher:
        """Return an answer's own copy: what one answer made of the automaton must not decide when another's is too large."""
        return Matcher(self._name, field, inner.deep_copy(), self._model.vocabulary)


class Form:
    """The form of one answer, with what may come next worked out while the model computes. The engine thread's."""

    def __init__(self, matcher: Matcher, grammars: Grammars, accepted: Sequence[int] = (), taken: int = 0) -> None:
        """``accepted``: tokens drawn elsewhere, of which it is to be behind the first ``taken``. Slow if there are many.

        Raises InvalidField if the form does not allow them, ShuttingDown.
        """
        matcher.accept(accepted, taken)
        self._matcher, self._next = matcher, Future[Allowed]()
        grammars.ahead([(self._next, matcher.allowed)])

    def drew(self, token: int) -> Work:
        """Take the token that was drawn; return the work that finds out what may follow, for ``Grammars.ahead``."""
        self._next = Future[Allowed]()
        return self._next, partial(self._matcher.advance, token)

    def ready(self) -> bool:
        """Say whether ``allowed`` returns at once; waits a moment for it to be so."""
        try:
            self._next.exception(PATIENCE)
        except TimeoutError:
            return False
        return True

    def when_ready(self, call: Callable[[], object]) -> None:
        """Call once ``allowed`` returns at once, on any thread; now, if it does."""
        self._next.add_done_callback(lambda _: call())

    def permitted(self, logits: Logits) -> Logits:
        """Return the logits with those of tokens that may not come at minus infinity. Raises as ``Matcher.allowed`` does."""
        return permitted(logits, self._next.result())


_stacks: Final = threading.Lock()
"""The size of the next thread's stack is one for the process."""


def tokeniser(name: str, model: Model) -> LLTokenizer:
    """Return the vocabulary as llguidance reads it. Slow for large ones. Raises ModelUnsuitable if nothing ends an answer."""
    if not model.ends:
        raise ModelUnsuitable(name, "token that ends an answer")
    controls = model.controls
    pieces = [_named(controls[token]) if token in controls else model.piece(token) for token in range(model.vocabulary)]
    return LLTokenizer(TokenizerWrapper(_Vocabulary(model, pieces)), n_vocab=len(pieces), eos_token=sorted(model.ends))


def _key(constraint: Constraint) -> bytes:
    return constraint.SerializeToString(deterministic=True)


def _named(control: str) -> bytes:
    # what begins with this byte, which no text has, is a token that a grammar can only call by its name
    return b"\xff" + control.encode()


class _Vocabulary:
    """What TokenizerWrapper wants to be given."""

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, model: Model, pieces: list[bytes]) -> None:
        self.eos_token_id = min(model.ends)
        self.tokens = pieces
        self._model = model

    def __call__(self, text: bytes) -> list[int]:
        tokens = list(self._model.tokens_of(text))
        # some tokenisers do not keep the text as it is: then any tokens that make it will do
        return tokens if b"".join(map(self._model.piece, tokens)) == text else []


def _short(reason: str) -> str:
    """Return llguidance's reason on one line, cut to a length that can be read."""
    line = " ".join(reason.removesuffix("<non-verbose/>").split())
    return line if len(line) <= REASON_CHARS else f"{line[: REASON_CHARS - 3]}..."
