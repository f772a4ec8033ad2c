"""A GGUF file in memory: its weights, its vocabulary, its template. Contexts that run it share it."""

from __future__ import annotations

import ctypes
import logging
import math
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import Final

from jinja2 import TemplateError

from aos.errors import EngineFailed, InvalidField, ShuttingDown
from aos.operator.chat import ChatTemplate
from aos.operator.llama.adapter import Adapter, load_adapter
from aos.operator.llama.binding import begin, c, loading, reason
from aos.operator.llama.context import LlamaModel
from aos.operator.llama.embedding import LlamaEmbedder, encodes, pooling_of
from aos.operator.llama.file import gguf_digest
from aos.operator.modes import Layout, Mode
from aos.operator.tools import Calls, Style
from aos.toolcalls import WRITTEN
from aos.v1.types_pb2 import Order

SPLITS: Final = ("none", "layer", "row")
"""How a model is spread over several GPUs, in the order of llama_split_mode."""
ALONE: Final = b"\x02"
"""A character that no vocabulary joins with others."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpu:
    """What is put on the GPU; the defaults leave all on the CPU."""

    layers: int = 0
    """Layers that go to the GPU; -1: all of them."""
    main: int = 0
    """Which GPU is used where only one is."""
    split: str = "layer"
    """How the model is spread over several: `none`, `layer` or `row`."""
    tensor_split: tuple[float, ...] = ()
    """Each GPU's share, as proportions. Empty: by their memory."""

    def __post_init__(self) -> None:
        """Raises InvalidField for what llama.cpp would misread."""
        if self.layers < -1:
            raise InvalidField("gpu.layers", "must be at least -1, which is all", value=self.layers)
        if self.main < 0:
            raise InvalidField("gpu.main", "must be at least 0", value=self.main)
        if self.split not in SPLITS:
            raise InvalidField("gpu.split", f"must be one of {', '.join(SPLITS)}", value=self.split)
        if any(not math.isfinite(share) or share < 0 for share in self.tensor_split):
            raise InvalidField("gpu.tensor_split", "must have finite numbers from 0 on", value=self.tensor_split)


class Weights:
    """The file in memory. It stays there until it is closed and so is every model that was opened over it."""

    def __init__(self, path: Path, *, name: str = "", gpu: Gpu | None = None, expected: str = "") -> None:
        """Load the file; slow, so not on an event loop. ``expected`` is its digest, if that is known.

        Raises InvalidField for a file that is missing, no GGUF or not the one that is expected, or for GPU settings that this build
        cannot follow; EngineFailed for a file that llama.cpp cannot load.
        """
        self.name = name or path.stem
        self._state, self._open, self._readers, self._models = Condition(), True, 0, 0
        self._freed = False
        self._adapters: list[Adapter] = []
        self.digest = gguf_digest(path, "model", expected=expected)
        with loading:
            begin()
            self.gpu = gpu or Gpu()
            params = _model_params(self.gpu)
            self.handle = c.llama_model_load_from_file(os.fsencode(path), params)
            if not self.handle:
                raise EngineFailed(self.name, f"llama.cpp cannot load {path.name}: {reason()}")
            if encodes(self):
                c.llama_model_free(self.handle)
                raise InvalidField("model", f"{path.name} is an encoder, which is not run yet", value=path)
        self._vocab = c.llama_model_get_vocab(self.handle)
        self.vocabulary = int(c.llama_vocab_n_tokens(self._vocab))
        self.pieces = [self.read_piece(token, special=False) for token in range(self.vocabulary)]
        self.ends = frozenset(token for token in range(self.vocabulary) if c.llama_vocab_is_eog(self._vocab, token))
        end = int(c.llama_vocab_eos(self._vocab))
        self.end = end if end in self.ends else min(self.ends, default=-1)
        hidden = c.LLAMA_TOKEN_ATTR_CONTROL | c.LLAMA_TOKEN_ATTR_UNKNOWN
        self.controls = {
            token: c.llama_vocab_get_text(self._vocab, token).decode(errors="replace")
            for token in range(self.vocabulary)
            if c.llama_vocab_get_attr(self._vocab, token) & hidden
        }
        self._bos = int(c.llama_vocab_bos(self._vocab)) if c.llama_vocab_get_add_bos(self._vocab) else -1
        self.closing = [int(c.llama_vocab_eos(self._vocab))] if c.llama_vocab_get_add_eos(self._vocab) else []
        """What the model wants behind a text that is whole."""
        self.trained = int(c.llama_model_n_ctx_train(self.handle))
        """Tokens of context that it was trained on."""
        self.parameters = int(c.llama_model_n_params(self.handle))
        self.bytes = int(c.llama_model_size(self.handle))
        """Size of its tensors in memory."""
        self.layers = int(c.llama_model_n_layer(self.handle))
        self.heads = self._head_sizes()
        # the state of a recurrent model has no positions that could be cut off, a sliding window has lost the older ones
        recurrent = c.llama_model_is_recurrent(self.handle) or c.llama_model_is_hybrid(self.handle)
        self.reusable = not recurrent and not c.llama_model_n_swa(self.handle)
        self.pooling = pooling_of(self)
        self._template = self._read_template()
        marks = {text: token for token, text in self.controls.items() if text in WRITTEN}
        for text, token in marks.items():
            self.pieces[token] = text.encode()
        self.calls = Calls(self._template.style if self._template else Style.HERMES, marks)
        self.chat = self._template is not None

    def open(
        self,
        *,
        slots: int = 8,
        context: int = 0,
        threads: int = 0,
        mode: Mode = Mode.EXACT,
        adapter: Adapter | None = None,
        layout: Layout | None = None,
    ) -> LlamaModel:
        """Return a model that runs these weights, with memory of its own for ``slots`` sequences of ``context`` tokens each.

        ``context`` 0: the model's own, at most 8192. ``threads`` 0: one for a small model, else one a core but one. ``layout``:
        this one and no other, untried, as a receipt names it, unless the heads' sizes forbid it. Takes time; any thread.

        Raises EngineFailed if there is not enough memory, ShuttingDown if the weights are closed.
        """
        with self._state:
            if not self._open:
                raise ShuttingDown
        with self.claimed():
            model = LlamaModel(self, slots=slots, context=context, threads=threads, mode=mode, adapter=adapter, layout=layout)
        if self.pooling is not None:
            model.embedder = LlamaEmbedder(model, self.pooling, threads=threads, adapter=adapter)
        return model

    @contextmanager
    def claimed(self) -> Generator[None]:
        """Count one more that runs over these weights, which ``let_go`` then takes back; or none, if the block raises.

        Raises ShuttingDown if the memory is freed.
        """
        with self._state:
            if self._freed or not (self._open or self._models):
                raise ShuttingDown
            self._models += 1
        try:
            yield
        except BaseException:
            self.let_go()
            raise

    def adapter(self, path: Path, *, scale: float = 1.0) -> Adapter:
        """Load a LoRA adapter for these weights; it is freed with them. Slow.

        Raises InvalidField or EngineFailed for a file that does not fit, ShuttingDown if the weights are closed.
        """
        with self.reading():
            adapter = load_adapter(self.handle, self.name, path, scale)
            self._adapters.append(adapter)
            return adapter

    def close(self) -> None:
        """Free the memory, now or, if models still run over it, when the last of them is closed. Idempotent."""
        with self._state:
            self._open = False
        self._free()

    def let_go(self) -> None:
        """A model over these weights says that it is closed."""
        with self._state:
            self._models -= 1
        self._free()

    def tokenise(self, order: Order) -> list[int]:
        """Return the tokens of the prompt, taken as it is, or of the conversation in the model's template.

        Control tokens come from the template alone, and BOS where the model wants it.
        """
        parts = [(order.prompt, False)]
        if order.WhichOneof("input") == "chat" and self._template:
            parts = self._template.render(order.chat)
        with self.reading():
            tokens = [token for text, controls in parts for token in self._tokens(text.encode(), controls=controls)]
        return [self._bos, *tokens] if self._bos >= 0 and tokens[:1] != [self._bos] else tokens

    def tokens_of(self, text: bytes, *, controls: bool = False) -> list[int]:
        """Return the tokens of text in mid-answer: nothing is put before it. Control tokens come of it only with ``controls``."""
        # some tokenisers put a blank before a text; not behind a character that goes with no other
        with self.reading():
            before = len(list(self._tokens(ALONE, controls=False)))
            return list(self._tokens(ALONE + text, controls=controls))[before:]

    @contextmanager
    def reading(self) -> Generator[None]:
        """Keep the memory: many may read at once, and a long text holds up no short one. Raises ShuttingDown if it is freed."""
        with self._state:
            if self._freed or not (self._open or self._models):
                raise ShuttingDown
            self._readers += 1
        try:
            yield
        finally:
            with self._state:
                self._readers -= 1
                self._state.notify_all()

    def read_piece(self, token: int, *, special: bool) -> bytes:
        """Return the bytes of a token; those of a control token only if ``special``."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = c.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def _free(self) -> None:
        with self._state:
            self._state.wait_for(lambda: not self._readers)
            if self._open or self._models or self._freed:
                return
            self._freed = True
            for adapter in self._adapters:
                c.llama_adapter_lora_free(adapter.handle)
            c.llama_model_free(self.handle)

    def _head_sizes(self) -> tuple[int, ...]:
        """Return how many values a head's keys and values have."""
        arch = self.meta("general.architecture")
        even = int(c.llama_model_n_embd(self.handle)) // max(1, int(c.llama_model_n_head(self.handle)))
        return tuple(int(self.meta(f"{arch}.attention.{which}_length") or even) for which in ("key", "value"))

    def meta(self, key: str) -> str:
        """Return a value of the file's metadata; empty if it has none of that key."""
        buffer = ctypes.create_string_buffer(256)
        found = c.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if found >= 0 else ""

    def _tokens(self, text: bytes, *, controls: bool) -> Iterable[int]:
        size = len(text) + 8
        while True:
            buffer = (c.llama_token * size)()
            count = c.llama_tokenize(self._vocab, text, len(text), buffer, size, False, controls)
            if count >= 0:
                return buffer[:count]
            size = -count

    def _read_template(self) -> ChatTemplate | None:
        source = c.llama_model_chat_template(self.handle, None)
        if not source:
            return None
        ids = (int(c.llama_vocab_bos(self._vocab)), int(c.llama_vocab_eos(self._vocab)))
        bos, eos = (self.read_piece(token, special=True).decode(errors="replace") if token >= 0 else "" for token in ids)
        try:
            return ChatTemplate(self.name, source.decode(), bos=bos, eos=eos, controls=self.controls.values())
        except (TemplateError, UnicodeDecodeError):
            log.warning("the chat template of %s cannot be read; it takes prompts only", self.name, exc_info=True)
            return None


def _model_params(gpu: Gpu) -> object:
    params = c.llama_model_default_params()
    if gpu.layers and not c.llama_supports_gpu_offload():
        # loading it on the CPU instead would look like a slow GPU for as long as nobody reads logs
        raise InvalidField("gpu.layers", "must be 0: this llama.cpp was built without GPU support", value=gpu.layers)
    params.n_gpu_layers = gpu.layers
    params.main_gpu, params.split_mode = gpu.main, SPLITS.index(gpu.split)
    if gpu.tensor_split:
        most = int(c.llama_max_devices())
        if len(gpu.tensor_split) > most:
            raise InvalidField("gpu.tensor_split", f"must have at most {most} numbers, one a device", limit=most)
        params.tensor_split = (ctypes.c_float * most)(*gpu.tensor_split)
    return params
