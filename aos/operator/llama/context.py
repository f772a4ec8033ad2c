"""A context of llama.cpp: sequences with their KV cache, over weights that others may share."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from aos.errors import EngineFailed
from aos.operator.batch import Row
from aos.operator.exact import bit_equal
from aos.operator.grouping import measure
from aos.operator.llama.adapter import Adapter
from aos.operator.llama.binding import awaited_logits_at, begin, build_features, c, loading, logits_at, reason
from aos.operator.modes import Layout, Mode, fits, layouts
from aos.operator.sampling import Logits
from aos.v1.types_pb2 import Order

if TYPE_CHECKING:
    from aos.operator.llama.embedding import LlamaEmbedder
    from aos.operator.llama.weights import Gpu, Weights

DEFAULT_CONTEXT: Final = 8192
"""Most tokens of a sequence unless more are asked for: memory for the KV cache is taken at load, for every slot."""
STEP_TOKENS: Final = 256
"""Most tokens in one decode: bounds how long a step of prefill holds up those that are reading."""
SMALL: Final = 50_000_000
"""Parameters below which one thread is as fast as many: a step is over before the others have woken."""


TYPES: Final = {"f16": 1, "q8_0": 8, "bf16": 30}
"""Of ggml_type."""
TRIED: Final = 256
"""Most trials whose results are kept."""


class LlamaModel:
    """A Model for the engine: weights, and memory for sequences of its own. ``Weights.open`` makes it.

    Where it is ``exact``, the logits are the same, bit by bit, whatever else is in the batch, however prompts are cut, and in
    whichever slot: flash attention is on, and nothing is ever shifted.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        slots: int,
        context: int,
        threads: int,
        mode: Mode,
        adapter: Adapter | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.weights, self.slots, self.step_tokens = weights, slots, max(STEP_TOKENS, slots)
        self.name, self.vocabulary = weights.name, weights.vocabulary
        self.digest, self.adapter_digest = weights.digest, ""
        if adapter is not None:
            self.digest, self.adapter_digest = adapter.over(weights.digest), adapter.digest
        self.end = weights.end
        self.ends, self.chat, self.reusable = weights.ends, weights.chat, weights.reusable
        self.context = min(context or DEFAULT_CONTEXT, weights.trained)
        self._pieces, self.controls, self.calls = weights.pieces, weights.controls, weights.calls
        self.embedder: LlamaEmbedder | None = None
        """What turns texts into vectors over the same weights; None: the model cannot."""
        self._closing, self._open = Lock(), True
        small = weights.parameters < SMALL
        # a core is left to whoever hands the tokens on: llama.cpp's threads wait for each other at every operation, and one that
        # shares its core holds up all (bench/engine.py: with 2 threads on 2 cores a third to a half of the bare loop's speed)
        spare = max(1, len(os.sched_getaffinity(0)) - 1)
        threads = threads or (1 if small else spare)
        self._allocate_batch()
        if layout is not None and not fits(layout, weights.heads):
            layout = None
        for one in (layout,) if layout else layouts(mode, heads=weights.heads, threads=threads):
            self.layout = one
            """What it was opened as."""
            self._open_context(one, threads, adapter)
            if layout or not one.exact or self._holds(one, threads):
                break
            c.llama_free(self._context)
        self.exact = self.layout.exact
        version, features = build_features()
        self.profile = f"llama.cpp/{version} {platform.machine()} {'+'.join(features).lower()} {self.layout.profile}"
        self.step_seconds = measure(self, time.monotonic)

    def close(self) -> None:
        """Free the memory of the sequences, and the weights if nobody else uses them. The engine must have been closed before.

        Idempotent.
        """
        with self._closing:
            if self._open:
                self._open = False
                if self.embedder is not None:
                    self.embedder.close()
                c.llama_free(self._context)
                self.weights.let_go()

    def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the prompt, taken as it is, or of the conversation in the model's template.

        Control tokens come from the template alone, and BOS where the model wants it.
        """
        return self.weights.tokenise(order)

    def tokens_of(self, text: bytes) -> list[int]:
        """Return the tokens of text in mid-answer: nothing is put before it, and no control tokens come of it."""
        return self.weights.tokens_of(text)

    def tokens_in(self, text: bytes) -> list[int]:
        """Return the tokens of text in mid-answer, those of control tokens that it names included."""
        return self.weights.tokens_of(text, controls=True)

    def piece(self, token: int) -> bytes:
        """Return the token's bytes; none for control tokens."""
        return self._pieces[token]

    @property
    def block(self) -> int:
        """Of how many tokens prompts are computed at once; 0: any number."""
        return self.layout.block

    def decode(self, rows: Sequence[Row]) -> Sequence[Logits]:
        """Compute the rows; return views of the logits, good until the next call. Raises RuntimeError if llama.cpp fails."""
        if not self.block:
            return self._decode_rows(rows)
        # blocks first, each sequence's by themselves: llama.cpp cuts what comes together into pieces of one size for all
        whole = {row.key: [one.copy() for one in self._decode_rows([row])] for row in rows if len(row.tokens) >= self.block}
        rest = [row for row in rows if row.key not in whole]
        others = iter(self._decode_rows(rest) if rest else ())
        return [logits for row in rows if row.draws for logits in (whole[row.key] if row.key in whole else [next(others)])]

    def _decode_rows(self, rows: Sequence[Row]) -> Sequence[Logits]:
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
        return list(self._decode(len(tokens), sum(wanted)))

    def decode_all(self, slot: int, position: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Compute neighbouring tokens of one sequence; return a view of the logits behind each, good until the next call.

        At most ``step_tokens`` of them. Raises RuntimeError if llama.cpp fails.
        """
        count = len(tokens)
        self._token[:count] = tokens
        self._pos[:count] = range(position, position + count)
        self._seq[:count] = slot
        self._wanted[:count] = True
        return self._decode(count, count)

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

    def interrupt(self) -> None:
        """A step takes milliseconds and waits for nothing: there is nothing to interrupt."""

    def _decode(self, count: int, outputs: int) -> NDArray[np.float32]:
        self._batch.n_tokens = count
        code = c.llama_decode(self._context, self._batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        return self._outputs(outputs)

    def _outputs(self, count: int) -> NDArray[np.float32]:
        """Return llama.cpp's own memory of the logits, which it moves now and then; wrapping it anew costs more than to look."""
        if not count:
            return _NOTHING
        address = (awaited_logits_at if self.weights.gpu.layers else logits_at)(self._context)
        if self._logits_at != (address, count):
            self._logits = np.ctypeslib.as_array(ctypes.cast(address, _FLOATS), (count, self.vocabulary))
            self._logits_at = (address, count)
        return self._logits

    def _open_context(self, layout: Layout, threads: int, adapter: Adapter | None) -> None:
        params = c.llama_context_default_params()
        # each sequence has a cache of its own, rounded up as llama.cpp does, so that it gives what was asked for
        params.n_ctx = -(-self.context // 256) * 256 * self.slots
        params.kv_unified = False
        params.n_seq_max = self.slots
        # what is pooled is the last states, by us: llama.cpp pools what one micro-batch has of a text
        params.pooling_type = c.LLAMA_POOLING_TYPE_NONE
        params.n_batch, params.n_ubatch = max(self.step_tokens, layout.ubatch), layout.ubatch
        # the first is for micro-batches of a single token
        params.n_threads, params.n_threads_batch = 1 if layout.single else threads, threads
        # llama.cpp built for GPUs lets them help with large batches even where all layers stay on the CPU
        params.op_offload = params.offload_kqv = bool(self.weights.gpu.layers)
        params.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.type_k, params.type_v = TYPES[layout.keys], TYPES[layout.values]
        with loading:
            begin()
            self._context: Any = c.llama_init_from_model(self.weights.handle, params)
            if not self._context:
                raise EngineFailed(self.name, f"llama.cpp cannot make {self.slots} sequences of {self.context} tokens: {reason()}")
        self._memory = c.llama_get_memory(self._context)
        if adapter is not None:
            handles = (c.llama_adapter_lora_p_ctypes * 1)(adapter.handle)
            if c.llama_set_adapters_lora(self._context, handles, 1, (ctypes.c_float * 1)(adapter.scale)):
                c.llama_free(self._context)
                raise EngineFailed(self.name, "llama.cpp cannot apply the adapter")

    def _holds(self, layout: Layout, threads: int) -> bool:
        """Say whether the layout is bit-equal with these weights on this machine; tried out once a process."""
        key = (self.digest, self.weights.gpu, layout, threads > 1, self.slots > 1)
        with _trying:
            if key not in _tried:
                if len(_tried) >= TRIED:
                    _tried.clear()
                try:
                    _tried[key] = bit_equal(self)
                except BaseException as error:
                    c.llama_free(self._context)
                    if isinstance(error, RuntimeError):
                        raise EngineFailed(self.name, str(error)) from error
                    raise
            return _tried[key]

    def _allocate_batch(self) -> None:
        """Make the one batch, over numpy's memory: filling it is a few slice assignments."""
        size = self.step_tokens
        self._logits, self._logits_at = _NOTHING, (0, 0)
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


_NOTHING: Final = np.empty((0, 0), np.float32)
_FLOATS: Final = ctypes.POINTER(ctypes.c_float)
_trying = Lock()
_tried: dict[tuple[str, Gpu, Layout, bool, bool], bool] = {}
"""Whether a layout holds, by all that it depends on within a process."""
