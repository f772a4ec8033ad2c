"""Which models an operator is told to offer, as options write them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aos.order import MODEL_NAME

MODELS: Final = 64
"""Most models of one operator, adapters counted in: as many as it may register."""
MAX_SCALE: Final = 1000.0
"""Largest scale of an adapter, of either sign."""
_NAME: Final = re.compile(rf"[A-Za-z0-9._:/-]{{1,{MODEL_NAME}}}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file, or an image model's ONNX file, and the name under which it is offered."""

    name: str
    path: Path

    @property
    def images(self) -> bool:
        """Whether it makes pictures, by the ending of its file's name."""
        return self.path.suffix.lower() == ".onnx"

    @classmethod
    def read(cls, text: str) -> ModelFile:
        """Return what `[NAME=]PATH` says; without a name, the file's without its ending. A path with `=` in it needs a name."""
        name, given, path = text.partition("=")
        # an absolute path is no name
        return cls(name, Path(path)) if given and not name.startswith("/") else cls(Path(text).stem, Path(text))

    def __str__(self) -> str:
        """Return what ``read`` reads."""
        return f"{self.name}={self.path}"


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A LoRA adapter over a model, offered as a model of its own."""

    name: str
    base: str
    """The model's name."""
    path: Path
    scale: float = 1.0
    """How much of it is added: 1 as it was trained, 0 nothing."""

    @classmethod
    def read(cls, text: str, bases: Iterable[str]) -> AdapterFile:
        """Return what `NAME=BASE:PATH[:SCALE]` says; ``bases`` are the models that there are. Raises ValueError."""
        name, given, rest = text.partition("=")
        # names may have colons in them
        base = max((one for one in bases if rest.startswith(f"{one}:")), key=len, default="")
        if not given or not base:
            known = ", ".join(sorted(bases))
            raise ValueError(f"adapter: must be NAME=BASE:PATH or NAME=BASE:PATH:SCALE with BASE one of {known}, not {text!r}")
        return cls(name, base, *adapter_path(rest.removeprefix(f"{base}:")))

    def __str__(self) -> str:
        """Return what ``read`` reads."""
        return f"{self.name}={self.base}:{self.path}:{self.scale!r}"


def adapter_path(text: str) -> tuple[Path, float]:
    """Return what `PATH[:SCALE]` says: without a number behind the last colon, all is the path, and the scale 1."""
    before, _, last = text.rpartition(":")
    try:
        return (Path(before), float(last)) if before else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def check_offered(models: Sequence[ModelFile], adapters: Sequence[AdapterFile]) -> None:
    """Raise ValueError, naming the option, for what cannot be offered."""
    names = [one.name for one in (*models, *adapters)]
    if not models or len(names) > MODELS:
        raise ValueError(f"model: 1 to {MODELS} models are offered, adapters counted in, not {len(names)}")
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"model: a name must have 1 to {MODEL_NAME} letters, digits and ._:/-, not {name!r}; give NAME=PATH")
        if names.count(name) > 1:
            raise ValueError(f"model: {name!r} is offered twice; give one of them another name, NAME=PATH")
    bases = {one.name for one in models if not one.images}
    for adapter in adapters:
        if adapter.base not in bases:
            raise ValueError(f"adapter: {adapter.name!r} is over {adapter.base!r}, which is no language model here")
        if not math.isfinite(adapter.scale) or abs(adapter.scale) > MAX_SCALE:
            raise ValueError(f"adapter: the scale of {adapter.name!r} must be from -{MAX_SCALE:g} to {MAX_SCALE:g}")
