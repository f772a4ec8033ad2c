"""llama.cpp in this process: the only file that imports llama_cpp."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import logging
import os
import platform
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Final

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

# Read once, when llama.cpp's OpenMP is loaded. Threads that spin while they wait for each other starve on a machine that has other
# work: a step of a millisecond then takes half a second.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import llama_cpp

from aos.errors import EngineFailed, InvalidField, ShuttingDown
from aos.operator.batch import Row
from aos.operator.chat import ChatTemplate
from aos.operator.sampling import Logits
from aos.v1.types_pb2 import Order

DEFAULT_CONTEXT: Final = 8192
"""Most tokens of a sequence unless more are asked for: memory for the KV cache is taken at load, for every slot."""
STEP_TOKENS: Final = 256
"""Most tokens in one decode: bounds how long a step of prefill holds up those that are reading."""
MICRO_BATCH_EXACT: Final = 256
MICRO_BATCH_F16: Final = 48
"""With an f16 KV cache, micro-batches of 64 and more take another kernel, whose sums differ in the last bits."""
Q8_BLOCK: Final = 32
"""Values in a q8_0 block; heads of other sizes cannot be cached in it."""
SMALL: Final = 50_000_000
"""Parameters below which one thread is as fast as many: a step is over before the others have woken."""
MAGIC: Final = b"GGUF"

c: Any = llama_cpp.llama_cpp
"""The C functions; their Python signatures are typed in part, and wrong in places."""

log = logging.getLogger(__name__)

_last_errors: deque[str] = deque(maxlen=5)
_WARNING: Final = 3
_ERROR: Final = 4
"""Of ggml_log_level."""


@c.llama_log_callback
def _log(level: int, text: bytes, _data: Any) -> None:
    line = text.decode(errors="replace").strip()
    if not line:
        return
    if level == _ERROR:
        _last_errors.append(line)
    # what matters of an error is raised; llama.cpp's own lines are for those who look for them
    log.log(logging.INFO if level in (_WARNING, _ERROR) else logging.DEBUG, "%s", line)


_loading = Lock()
"""Loading takes its turn: llama.cpp's log, where the reason of a failure stands, is one for the process."""


class LlamaModel:
    """A GGUF file in memory, with its KV cache; a Model for the engine.

    Weights of Q8_0 give the same logits, bit by bit, whatever else is in the batch, however prompts are cut, and in whichever
    slot: flash attention is on, the KV cache is q8_0 where the heads' sizes allow it (else f16 with small micro-batches), and
    nothing is ever shifted.
    """

    def __init__(self, path: Path, *, name: str = "", slots: int = 8, context: int = 0, threads: int = 0) -> None:
        """Load the file; slow, so not on an event loop. ``context`` 0: the model's own, at most 8192. ``threads`` 0: one for a
        small model, else one a core but one.

        Raises InvalidField for a file that is missing or no GGUF, EngineFailed for one that llama.cpp cannot load.
        """
        self.name, self.slots, self.step_tokens = name or path.stem, slots, max(STEP_TOKENS, slots)
        self._busy, self._open, self._readers = Condition(), False, 0
        self.digest = _digest(path)
        with _loading:
            _last_errors.clear()
            c.llama_log_set(_log, ctypes.c_void_p(0))
            c.llama_backend_init()
            params = c.llama_model_default_params()
            params.n_gpu_layers = 0
            self._model = c.llama_model_load_from_file(os.fsencode(path), params)
            if not self._model:
                raise EngineFailed(self.name, f"llama.cpp cannot load {path.name}: {_reason()}")
            self._vocab = c.llama_model_get_vocab(self._model)
            try:
                self._open_context(context, threads)
            except BaseException:
                c.llama_model_free(self._model)
                raise
        self._open = True
        self.vocabulary = int(c.llama_vocab_n_tokens(self._vocab))
        self._pieces = [self._read_piece(token, special=False) for token in range(self.vocabulary)]
        self.ends = frozenset(token for token in range(self.vocabulary) if c.llama_vocab_is_eog(self._vocab, token))
        self._bos = int(c.llama_vocab_bos(self._vocab)) if c.llama_vocab_get_add_bos(self._vocab) else -1
        self._template = self._read_template()
        self.chat = self._template is not None
        self._allocate_batch()

    def close(self) -> None:
        """Free the memory. The engine must have been closed before. Idempotent."""
        with self._busy:
            self._busy.wait_for(lambda: not self._readers)
            if self._open:
                self._open = False
                c.llama_free(self._context)
                c.llama_model_free(self._model)

    def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the prompt, taken as it is, or of the conversation in the model's template.

        Control tokens come from the template alone, and BOS where the model wants it.
        """
        parts = [(order.prompt, False)]
        if order.WhichOneof("input") == "chat" and self._template:
            parts = self._template.render(order.chat.messages)
        with self._reading():
            tokens = [token for text, controls in parts for token in self._tokens(text.encode(), controls=controls)]
        return [self._bos, *tokens] if self._bos >= 0 and tokens[:1] != [self._bos] else tokens

    @contextmanager
    def _reading(self) -> Generator[None]:
        """Keep the model open: many may read at once, and a long text holds up no short one."""
        with self._busy:
            if not self._open:
                raise ShuttingDown
            self._readers += 1
        try:
            yield
        finally:
            with self._busy:
                self._readers -= 1
                self._busy.notify_all()

    def piece(self, token: int) -> bytes:
        """Return the token's bytes; none for control tokens."""
        return self._pieces[token]

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        """Compute the rows; return views of the logits, good until the next call. Raises RuntimeError if llama.cpp fails."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[bool] = []
        for row in rows:
            count = len(row.tokens)
            tokens += row.tokens
            positions += range(row.position, row.position + count)
            slots += [row.slot] * count
            wanted += [False] * (count - 1)
            wanted.append(row.draws)
        self._token[: len(tokens)] = tokens
        self._pos[: len(tokens)] = positions
        self._seq[: len(tokens)] = slots
        self._wanted[: len(tokens)] = wanted
        self._batch.n_tokens = len(tokens)
        code = c.llama_decode(self._context, self._batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        outputs = sum(wanted)
        return list(self._outputs(outputs)) if outputs else []

    def reuse(self, slot: int, source: int, count: int) -> None:
        """Let ``slot`` hold the first ``count`` tokens of what ``source`` holds, and nothing else.

        Between sequences with caches of their own llama.cpp copies all of one; what is too much is cut off behind it.
        """
        if slot != source:
            c.llama_memory_seq_rm(self._memory, slot, -1, -1)
            c.llama_memory_seq_cp(self._memory, source, slot, -1, -1)
        if not c.llama_memory_seq_rm(self._memory, slot, count or -1, -1):
            raise RuntimeError(f"llama.cpp cannot shorten sequence {slot} to {count} tokens")

    def clear(self) -> None:
        """Empty all sequences."""
        c.llama_memory_clear(self._memory, False)

    def _outputs(self, count: int) -> NDArray[np.float32]:
        """Return llama.cpp's own memory of the logits, which it moves now and then; wrapping it anew costs more than to look."""
        pointer = c.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        if self._logits_at != (address, count):
            self._logits = np.ctypeslib.as_array(pointer, (count, self.vocabulary))
            self._logits_at = (address, count)
        return self._logits

    def interrupt(self) -> None:
        """A step takes milliseconds and waits for nothing: there is nothing to interrupt."""

    def _open_context(self, context: int, threads: int) -> None:
        trained = int(c.llama_model_n_ctx_train(self._model))
        self.context = min(context or DEFAULT_CONTEXT, trained)
        quantised = all(size % Q8_BLOCK == 0 for size in self._head_sizes())
        micro_batch = MICRO_BATCH_EXACT if quantised else MICRO_BATCH_F16
        params = c.llama_context_default_params()
        # each sequence has a cache of its own, rounded up as llama.cpp does, so that it gives what was asked for
        params.n_ctx = -(-self.context // 256) * 256 * self.slots
        params.kv_unified = False
        params.n_seq_max = self.slots
        params.n_batch, params.n_ubatch = self.step_tokens, micro_batch
        small = c.llama_model_n_params(self._model) < SMALL
        # a core is left to whoever hands the tokens on: llama.cpp's threads wait for each other at every operation, and one that
        # shares its core holds up all (bench/engine.py: with 2 threads on 2 cores a third to a half of the bare loop's speed)
        spare = max(1, len(os.sched_getaffinity(0)) - 1)
        params.n_threads = params.n_threads_batch = threads or (1 if small else spare)
        params.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.type_k = params.type_v = c.GGML_TYPE_Q8_0 if quantised else c.GGML_TYPE_F16
        self._context: Any = c.llama_init_from_model(self._model, params)
        if not self._context:
            raise EngineFailed(self.name, f"llama.cpp cannot make {self.slots} sequences of {self.context} tokens: {_reason()}")
        self._memory = c.llama_get_memory(self._context)
        # the state of a recurrent model has no positions that could be cut off, a sliding window has lost the older ones
        recurrent = c.llama_model_is_recurrent(self._model) or c.llama_model_is_hybrid(self._model)
        self.reusable = not recurrent and not c.llama_model_n_swa(self._model)
        kv = "q8_0" if quantised else "f16"
        version, features = build_features()
        build = f"llama.cpp/{version} {platform.machine()} {'+'.join(features).lower()}"
        self.profile = f"{build} kv={kv} fa=on ubatch={micro_batch}"

    def _head_sizes(self) -> list[int]:
        arch = self._meta("general.architecture")
        even = int(c.llama_model_n_embd(self._model)) // max(1, int(c.llama_model_n_head(self._model)))
        return [int(self._meta(f"{arch}.attention.{which}_length") or even) for which in ("key", "value")]

    def _meta(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(256)
        found = c.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if found >= 0 else ""

    def _allocate_batch(self) -> None:
        """Make the one batch, over numpy's memory: filling it is a few slice assignments."""
        size = self.step_tokens
        self._logits, self._logits_at = np.empty((0, 0), np.float32), (0, 0)
        self._token, self._pos, self._seq = (np.zeros(size, np.int32) for _ in range(3))
        self._wanted = np.zeros(size, np.int8)
        self._seq_count = np.ones(size, np.int32)
        self._seq_at = self._seq.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        batch, types = c.llama_batch(), dict(c.llama_batch._fields_)
        batch.token, batch.pos, batch.logits, batch.n_seq_id, batch.seq_id = (
            ctypes.cast(array.ctypes.data, types[field])
            for array, field in (
                (self._token, "token"),
                (self._pos, "pos"),
                (self._wanted, "logits"),
                (self._seq_count, "n_seq_id"),
                (self._seq_at, "seq_id"),
            )
        )
        self._batch = batch

    def _tokens(self, text: bytes, *, controls: bool) -> Iterable[int]:
        size = len(text) + 8
        while True:
            buffer = (c.llama_token * size)()
            count = c.llama_tokenize(self._vocab, text, len(text), buffer, size, False, controls)
            if count >= 0:
                return buffer[:count]
            size = -count

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = c.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def _read_template(self) -> ChatTemplate | None:
        source = c.llama_model_chat_template(self._model, None)
        if not source:
            return None
        hidden = c.LLAMA_TOKEN_ATTR_CONTROL | c.LLAMA_TOKEN_ATTR_UNKNOWN
        controls = [
            c.llama_vocab_get_text(self._vocab, token).decode(errors="replace")
            for token in range(self.vocabulary)
            if c.llama_vocab_get_attr(self._vocab, token) & hidden
        ]
        ids = (int(c.llama_vocab_bos(self._vocab)), int(c.llama_vocab_eos(self._vocab)))
        bos, eos = (self._read_piece(token, special=True).decode(errors="replace") if token >= 0 else "" for token in ids)
        try:
            return ChatTemplate(self.name, source.decode(), bos=bos, eos=eos, controls=controls)
        except (TemplateError, UnicodeDecodeError):
            log.warning("the chat template of %s cannot be read; it takes prompts only", self.name, exc_info=True)
            return None


@asynccontextmanager
async def loaded(path: Path, *, name: str = "", slots: int = 8, context: int = 0, threads: int = 0) -> AsyncGenerator[LlamaModel]:
    """Load a model off the event loop, and free it with the block. Arguments and errors are LlamaModel's."""
    model = await asyncio.to_thread(LlamaModel, path, name=name, slots=slots, context=context, threads=threads)
    try:
        yield model
    finally:
        await asyncio.to_thread(model.close)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InvalidField("model", f"{path.name} is not a GGUF file", value=path)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidField("model", f"{path.name} cannot be read: {error.strerror}", value=path) from error


def _reason() -> str:
    return "; ".join(_last_errors) or "it says no more"


def build_features() -> tuple[str, tuple[str, ...]]:
    """Return the binding's version and what llama.cpp was built with, as it says itself: `AVX2`, `OPENMP`, …."""
    # it says "CPU : SSE3 = 1 | AVX = 1 | ..."
    said = c.llama_print_system_info().decode()
    used = (part.split(":")[-1].split("=")[0].strip() for part in said.split("|") if part.strip().endswith("= 1"))
    return llama_cpp.__version__, tuple(used)
