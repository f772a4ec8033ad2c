"""The embedded image model: a prompt in, a picture out; with a picture, the picture changed. Runs onnxruntime."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from aos.errors import InvalidField
from aos.operator import image_scene
from aos.operator.image_scene import Floats, Mask, Picture, Pixels, Thing, Window

PROMPT_CHARACTERS: Final = 4000
"""Most characters of a prompt: as many as clients of image services send."""
SIDE: Final = (16, 2048)
"""Least and most pixels of each side."""
SEED: Final = (0, 2**64 - 1)
"""Least and most seed."""
STEPS: Final = 16
"""From noise to scene."""
DRAFTS: Final = 4
"""Scenes that are tried at once."""
INNER: Final = 0.99
"""Least share of a pixel that a thing covers for the pixel to have the thing's colour."""
NEAR: Final = 12
"""What lies within this fraction of the side around a mask tells the colour behind what is painted there."""
CHANNELS: Final = 3
BAND: Final = 1 << 14
"""Most pixels that are painted between two looks at whether the caller has gone."""
COMPOSE, OUTLINE, FIND = range(3)
"""What the model's input `task` asks for."""
FEATURES: Final = (
    "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "amx_tile",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""What of a CPU decides which of its kernels onnxruntime takes, and with that the last bits of a sum."""


class RenderCancelled(Exception):
    """The caller said through ``cancelled`` that nobody waits for the picture any more."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the model's file says of itself."""

    vocabulary: Mapping[str, int]
    begin: int
    length: int
    seen: int


class ImageModel:
    """Draws and changes pictures. The same arguments give the same bytes, whatever runs beside it; threads may share it."""

    def __init__(self, session: onnxruntime.InferenceSession, facts: _Facts, digest: bytes) -> None:
        self._session, self._facts = session, facts
        self.digest: Final = digest
        """SHA-256 of the model's file."""
        self.profile: Final = _profile()
        """What beside the arguments and the model decides a picture's bytes."""
        self._idle: dict[str, NDArray[Any]] = {
            "words": np.zeros((1, 1), np.int64),
            "noisy": np.zeros((1, image_scene.ROWS, image_scene.COLUMNS), np.float32),
            "time": np.zeros(1, np.float32),
            "source": np.zeros((1, image_scene.ROWS, image_scene.COLUMNS), np.float32),
            "given": np.zeros(1, np.float32),
            "box": np.zeros((1, 5), np.float32),
            "points": np.zeros((1, 2), np.float32),
            "shape": np.zeros((1, image_scene.COLUMNS - image_scene.SHAPE.start), np.float32),
            "picture": np.zeros((1, 3, facts.seen, facts.seen), np.float32),
        }

    @classmethod
    def open(cls, path: Path) -> Self:
        """The model of this file. Raises InvalidField when it is no file of an image model, OSError when it cannot be read."""
        contents = path.read_bytes()
        options = onnxruntime.SessionOptions()
        # one thread in a fixed order: sums are then added in the same order whatever else the machine does
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        # memory goes back after every run: a large picture would otherwise hold its own for ever
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
            said = json.loads(session.get_modelmeta().custom_metadata_map["aos.pictures"])
            facts = _Facts(said["vocabulary"], said["begin"], said["length"], said["seen"])
            shape = said["rows"], said["columns"]
        except Exception as error:
            raise InvalidField("model", f"{path.name} is no image model: {type(error).__name__}", value=path.name) from error
        if shape != (image_scene.ROWS, image_scene.COLUMNS):
            raise InvalidField("model", f"{path.name} is an image model of another kind", value=shape)
        return cls(session, facts, hashlib.sha256(contents).digest())

    def render(
        self,
        prompt: str,
        *,
        seed: int,
        width: int,
        height: int,
        source: Pixels | None,
        mask: Mask | None,
        cancelled: Callable[[], bool],
    ) -> Pixels:
        """Paint what the prompt says, or change ``source`` (h, w, 3) by it; the picture is (height, width, 3).

        With a ``mask`` (h, w) nothing changes but where it is True. A source of another size than asked for is resized first.
        Raises InvalidField for arguments out of range, and RenderCancelled soon after ``cancelled()`` is true. Blocks: call it
        on a thread.
        """
        words = self._words(prompt)
        _check(seed=seed, width=width, height=height, source=source, mask=mask)
        if source is None:
            window = image_scene.window_of(width, height, None)
            rows = self._composed(words, seed, None, np.zeros(5, np.float32), cancelled)
            return _rounded(self._painted(image_scene.picture_of(rows), window, width, height, cancelled)[0])
        source, mask = _resized(source, mask, width, height)
        return self._changed(words, seed, source, mask, cancelled)

    def _changed(self, words: list[int], seed: int, source: Pixels, mask: Mask | None, cancelled: Callable[[], bool]) -> Pixels:
        height, width, _ = source.shape
        window = image_scene.window_of(width, height, mask)
        box = np.zeros(5, np.float32) if mask is None else image_scene.hole_of(mask, window)
        seen = self._found(source, mask, window)
        before, layers = self._painted(seen, window, width, height, cancelled)
        kept = np.zeros((height, width), np.bool_) if mask is None else mask
        free = ~kept & ~np.any([shown > 0 for shown in layers.values()], axis=0) if layers else ~kept
        if mask is not None:
            # a hole is closed with the colour around it, if there is any
            near = free & image_scene.widened(mask, max(1, window.side // NEAR))
            free = near if near.any() else free
        inner = {number: (shown > INNER) & ~kept for number, shown in layers.items()}
        seen = image_scene.true_colors(seen, source, inner, free)
        old = image_scene.rows_of(seen)
        new = image_scene.steadied(old, self._composed(words, seed, old, box, cancelled))
        goal = image_scene.picture_of(new)
        after, _ = self._painted(goal, window, width, height, cancelled)
        if mask is None:
            before, _ = self._painted(seen, window, width, height, cancelled)
            same = bool((old[0, image_scene.COLOR] == new[0, image_scene.COLOR]).all())
            mask = image_scene.touched(before, after, window.side, seen.background if same else None)
        result = source.copy()
        result[mask] = _rounded(after)[mask]
        return result

    def _words(self, prompt: str) -> list[int]:
        if len(prompt) > PROMPT_CHARACTERS:
            problem = f"has {len(prompt)} characters; at most {PROMPT_CHARACTERS}"
            raise InvalidField("prompt", problem, value=prompt, limit=PROMPT_CHARACTERS)
        found = image_scene.meanings(re.findall(r"\w+|[^\w\s]", prompt.lower()), self._facts.vocabulary)
        if len(found) > self._facts.length:
            problem = f"has {len(found)} words that matter; the model takes at most {self._facts.length}"
            raise InvalidField("prompt", problem, value=prompt, limit=self._facts.length)
        return [self._facts.begin, *found]

    def _composed(self, words: list[int], seed: int, source: Floats | None, box: Floats, cancelled: Callable[[], bool]) -> Floats:
        """The scene that the words ask for: of DRAFTS, each from noise of its own, the one with the least faults."""
        shape = (DRAFTS, image_scene.ROWS, image_scene.COLUMNS)
        drafts = np.random.Generator(np.random.Philox(seed)).standard_normal(shape, np.float32)
        known = np.zeros(shape[1:], np.float32) if source is None else source
        fixed = {
            "words": np.broadcast_to(np.array(words, np.int64), (DRAFTS, len(words))),
            "source": np.broadcast_to(known, shape),
            "given": np.full(DRAFTS, source is not None, np.float32),
            "box": np.broadcast_to(box, (DRAFTS, *box.shape)),
        }
        for step in range(STEPS):
            _look(cancelled)
            now = np.full(DRAFTS, step / STEPS, np.float32)
            goal = self._run(COMPOSE, {**fixed, "noisy": drafts, "time": now}).reshape(shape)
            drafts = drafts + (goal - drafts) * np.float32(1 / (STEPS - step))
        return min(drafts, key=lambda draft: image_scene.faults(image_scene.picture_of(draft)))

    def _found(self, source: Pixels, mask: Mask | None, window: Window) -> Picture:
        """What the window of the source shows outside of the mask."""
        part = (slice(window.top, window.top + window.side), slice(window.left, window.left + window.side))
        square = source[part].copy()
        if mask is not None:
            hidden = mask[part]
            # what lies under the mask is nobody's business: it looks like most of the rest
            square[hidden] = 255 if hidden.all() else np.median(square[~hidden], axis=0)
        seen = self._facts.seen
        small = np.asarray(Image.fromarray(square).resize((seen, seen), Image.Resampling.BOX), np.float32) / np.float32(255)
        return image_scene.found_in(self._run(FIND, {"picture": small.transpose(2, 0, 1)[None]}))

    def _painted(
        self, scene: Picture, window: Window, width: int, height: int, cancelled: Callable[[], bool]
    ) -> tuple[Floats, dict[int, Floats]]:
        """The scene in colours from 0 to 255, and how much of every pixel each row's thing covers."""
        canvas = np.empty((height, width, 3), np.float32)
        canvas[:] = scene.background
        layers: dict[int, Floats] = {}
        for number, thing in scene.things:
            rows, columns = image_scene.patch_of(thing, window, width, height)
            layer = np.zeros((height, width), np.float32)
            for band in image_scene.bands(rows, columns, BAND):
                _look(cancelled)
                share = self._covered(thing, band, columns, window)
                layer[band, columns] = share
                part = canvas[band, columns]
                part += share[..., None] * (np.asarray(thing.color, np.float32) - part)
            layers[number] = layer
        return canvas, layers

    def _covered(self, thing: Thing, rows: slice, columns: slice, window: Window) -> Floats:
        points = image_scene.points_of(rows, columns, thing, window)
        if not len(points):
            return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        shape = np.zeros_like(self._idle["shape"])
        shape[0, thing.shape] = 1
        away = self._run(OUTLINE, {"points": points, "shape": shape})
        return image_scene.coverage(away, thing, window.side).reshape(rows.stop - rows.start, -1)

    def _run(self, task: int, given: Mapping[str, NDArray[Any]]) -> Floats:
        results = self._session.run(None, {**self._idle, **given, "task": np.array(task, np.int64)})
        return np.asarray(results[0], np.float32)


def _check(*, seed: int, width: int, height: int, source: Pixels | None, mask: Mask | None) -> None:
    for name, value, (least, most) in (("seed", seed, SEED), ("width", width, SIDE), ("height", height, SIDE)):
        if not least <= value <= most:
            raise InvalidField(name, f"must lie between {least} and {most}", value=value, limit=most)
    if source is not None and (source.shape[2:] != (CHANNELS,) or source.dtype != np.uint8 or not source.size):
        raise InvalidField("image", "must be a picture of red, green and blue bytes", value=source.shape)
    if mask is None:
        return
    if source is None:
        raise InvalidField("mask", "needs an image to go with")
    if mask.shape != source.shape[:2] or mask.dtype != np.bool_:
        raise InvalidField("mask", "must have the size of the image", value=mask.shape, limit=source.shape[:2])


def _resized(source: Pixels, mask: Mask | None, width: int, height: int) -> tuple[Pixels, Mask | None]:
    if source.shape[:2] == (height, width):
        return source, mask
    scaled = np.asarray(Image.fromarray(source).resize((width, height), Image.Resampling.LANCZOS))
    if mask is None:
        return scaled, None
    return scaled, np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)).astype(np.bool_)


def _rounded(canvas: Floats) -> Pixels:
    return np.rint(np.clip(canvas, 0, 255)).astype(np.uint8)


def _look(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise RenderCancelled


def _profile() -> str:
    """Runtime, its version, and the CPU's features that matter, as Linux tells them; "unknown" where nobody does."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}
    features = "+".join(name for name in FEATURES if name in flags) or "unknown"
    return f"onnxruntime {onnxruntime.__version__} cpu {platform.machine()} {features}"
