"""An image model's file as a source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aos.errors import EngineFailed, InvalidField
from aos.operator.model import Model
from aos.operator.modes import Mode
from aos.operator.rendering import Renderer
from aos.operator.source import Source

WORKING_BYTES: Final = 192 << 20
"""What rendering takes besides the file, generously."""


class ImageSource(Source):
    """An ONNX file that makes pictures."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path, self._size, self._digest = name, path, 0, b""

    def measure(self) -> None:
        """Look how large the file is. Raises InvalidField if it is missing, EngineFailed if it cannot be read."""
        if not self._path.is_file():
            raise InvalidField("model", f"there is no file {self._path}", value=self._path)
        try:
            self._size = self._path.stat().st_size
        except OSError as error:
            raise EngineFailed(self._name, f"{self._path} cannot be read: {error}") from error

    def parts(self, mode: Mode) -> Mapping[str, int]:
        """Return what the model takes, the same in every mode."""
        del mode
        return {f"pictures of {self._path}": self._size + WORKING_BYTES}

    def open(self, mode: Mode) -> Renderer:
        """Open the file. Raises InvalidField if it is not what it was when it was opened first, and what ImageModel raises."""
        from aos.operator.images import ImageModel  # onnxruntime: slow, and of no use to who runs text alone

        del mode
        model = ImageModel.open(self._path)
        if self._digest not in {b"", model.digest}:
            raise InvalidField(
                "model", f"{self._path} is not the file that it was when the network was told of it", value=self._path
            )
        self._digest = model.digest
        return model

    def close(self, model: Model | Renderer) -> None:
        """Nothing holds it any more."""
        del model
