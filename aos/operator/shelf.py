"""GGUF files as sources: weights are in memory once, however many models run over them, and only while one does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from aos.operator.llama import Adapter, Gpu, LlamaModel, Lora, Weights
from aos.operator.llama.file import gguf_digest, gguf_size
from aos.operator.llama.shape import Shape, shape_of
from aos.operator.model import Model
from aos.operator.modes import Mode
from aos.operator.rendering import Renderer
from aos.operator.source import Source


@dataclass(slots=True)
class _Loaded:
    weights: Weights
    users: int = 0
    adapters: dict[Path, Adapter] = field(default_factory=dict[Path, Adapter])
    """Freed with the weights, so each is loaded once."""


class Shelf:
    """The weights of one operator that are in memory, and how models are opened over them. Any thread."""

    def __init__(self, *, slots: int = 8, context: int = 0, threads: int = 0, gpu: Gpu | None = None) -> None:
        """``slots``, ``context`` and ``threads`` are those of ``Weights.open``, for every model."""
        self._slots, self._context, self._threads, self._gpu = slots, context, threads, gpu
        self._lock = Lock()
        self._loaded: dict[Path, _Loaded] = {}
        self._beside: dict[Path, dict[Path, int]] = {}
        self._digests: dict[Path, str] = {}

    def source(self, name: str, path: Path, lora: Lora | None = None) -> LlamaSource:
        """Return a model that is offered as ``name``: a GGUF file, with an adapter over it or without."""
        return LlamaSource(self, name, path, lora)

    def measure(self, name: str, path: Path, lora: Lora | None) -> Shape:
        """Return the file's shape. Raises what ``shape_of`` raises, for the adapter's file InvalidField."""
        if lora is not None:
            self._beside.setdefault(path, {})[lora.path] = gguf_size(lora.path, "adapter")
        return shape_of(path, name)

    def parts(self, name: str, path: Path, mode: Mode, shape: Shape) -> dict[str, int]:
        """Return what a model takes: the file with all its adapters, which models share, and its own sequences."""
        weights = shape.weights + sum(self._beside.get(path, {}).values())
        sequences = shape.context_bytes(slots=self._slots, context=self._context)
        return {f"weights of {path}": weights, f"sequences of {name}, {mode.value}": sequences}

    def open(self, name: str, path: Path, lora: Lora | None, mode: Mode) -> LlamaModel:
        """Return a model over the weights, loaded if nobody uses them yet. Raises what Weights and its ``open`` raise."""
        with self._lock:
            loaded = self._loaded.get(path)
            if loaded is None:
                # the network was told of these very weights; and llama.cpp may die of a file that nobody tried out
                weights = Weights(path, name=name, gpu=self._gpu, expected=self._digests.get(path, ""))
                loaded = self._loaded[path] = _Loaded(weights)
                self._digests[path] = weights.digest
            loaded.users += 1
        try:
            adapter = None if lora is None else self._adapter(loaded, lora)
            return loaded.weights.open(slots=self._slots, context=self._context, threads=self._threads, mode=mode, adapter=adapter)
        except BaseException:
            self._let_go(path)
            raise

    def close(self, path: Path, model: LlamaModel) -> None:
        """Free a model, and the weights if it was the last over them."""
        model.close()
        self._let_go(path)

    def _adapter(self, loaded: _Loaded, lora: Lora) -> Adapter:
        with self._lock:
            if lora.path not in loaded.adapters:
                gguf_digest(lora.path, "adapter", expected=self._digests.get(lora.path, ""))
                loaded.adapters[lora.path] = adapter = loaded.weights.adapter(lora.path, scale=lora.scale)
                self._digests[lora.path] = adapter.digest
            return replace(loaded.adapters[lora.path], scale=lora.scale)

    def _let_go(self, path: Path) -> None:
        with self._lock:
            loaded = self._loaded[path]
            loaded.users -= 1
            if not loaded.users:
                del self._loaded[path]
                loaded.weights.close()


class LlamaSource(Source):
    """A GGUF file, with a LoRA adapter or without."""

    def __init__(self, shelf: Shelf, name: str, path: Path, lora: Lora | None) -> None:
        self._shelf, self._name, self._path, self._lora = shelf, name, path, lora
        self._shape: Shape | None = None

    def measure(self) -> None:
        """Read the file's header. Raises InvalidField for a file that is missing or no GGUF, EngineFailed for an unreadable one."""
        self._shape = self._shelf.measure(self._name, self._path, self._lora)

    def parts(self, mode: Mode) -> Mapping[str, int]:
        """Return the weights, shared by all models over the same file, and this one's sequences."""
        assert self._shape is not None, "measured first"
        return self._shelf.parts(self._name, self._path, mode, self._shape)

    def open(self, mode: Mode) -> Model:
        """Open the file. Raises InvalidField, too, if it or the adapter is not what it was when it was opened first."""
        model = self._shelf.open(self._name, self._path, self._lora, mode)
        self.adapter_digest = model.adapter_digest
        return model

    def close(self, model: Model | Renderer) -> None:
        """Free the model's memory, and that of the weights with the last model over them."""
        assert isinstance(model, LlamaModel)
        self._shelf.close(self._path, model)
