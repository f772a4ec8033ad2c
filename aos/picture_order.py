"""What an order for pictures may be: its limits, its defaults, its canonical form, and what it takes. Pure.

Hashing a file takes milliseconds: ``with_digests`` is for a thread, and after it nothing here hashes files again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from aos.errors import InvalidField, ModelUnsuitable
from aos.v1.types_pb2 import Order, Picture, PictureInput

PICTURE_PROMPT_BYTES: Final = 32 << 10
"""Most bytes of a picture's prompt."""
LEAST_SIDE: Final = 64
MOST_SIDE: Final = 2048
"""Fewest and most pixels of a new picture's side."""
DEFAULT_SIDE: Final = 1024
PIXELS: Final = 1536 * 1024
"""Most pixels of a new picture: raw, it is below FILE_BYTES, and so is its PNG."""
PICTURES: Final = 10
"""Most pictures of one order."""
SOURCES: Final = 16
"""Most pictures that one is made from, where the model takes several."""
FILE_BYTES: Final = 5 << 20
"""Largest file of a picture in an order or an answer: with a mask, below what a message may have."""
SOURCES_BYTES: Final = 6 << 20
"""Most bytes of an order's sources together: with a mask and a prompt, below what a message may have."""
MASK_BYTES: Final = 1 << 20
"""Largest file of a mask."""
DIGEST_BYTES: Final = 32
TOKEN_PIXELS: Final = 1024
"""Pixels that count as a token."""
TOKEN_TEXT: Final = 4
"""Bytes of a prompt that count as a token."""
SEEDS: Final = 1 << 63
"""How many seeds there are; behind the last comes 0."""


def check_picture(order: Order, at: str) -> None:
    """Raise InvalidField for the first field of an order for pictures that cannot be accepted. Files are not looked into."""
    picture, where = order.picture, f"{at}.picture"
    if not picture.prompt.strip():
        raise InvalidField(f"{where}.prompt", "must not be empty")
    size = len(picture.prompt.encode())
    if size > PICTURE_PROMPT_BYTES:
        problem = f"has {size} bytes; at most {PICTURE_PROMPT_BYTES} are accepted"
        raise InvalidField(f"{where}.prompt", problem, value=size, limit=PICTURE_PROMPT_BYTES)
    _check_size(picture, where)
    _check_files(picture, where)
    _check_sampling(order, at)


def _check_size(picture: PictureInput, where: str) -> None:
    for name, side in (("width", picture.width), ("height", picture.height)):
        if side and not LEAST_SIDE <= side <= MOST_SIDE:
            raise InvalidField(
                f"{where}.{name}", f"must be from {LEAST_SIDE} to {MOST_SIDE}, not {side}", value=side, limit=MOST_SIDE
            )
    width, height = sides(picture)
    if width * height > PIXELS:
        problem = f"with a height of {height} is {width * height} pixels; at most {PIXELS} are accepted"
        raise InvalidField(f"{where}.width", problem, value=width * height, limit=PIXELS)
    if picture.count > PICTURES:
        raise InvalidField(
            f"{where}.count", f"must be at most {PICTURES}, not {picture.count}", value=picture.count, limit=PICTURES
        )


def _check_files(picture: PictureInput, where: str) -> None:
    if len(picture.sources) > SOURCES:
        count = len(picture.sources)
        raise InvalidField(f"{where}.sources", f"must have at most {SOURCES}, not {count}", value=count, limit=SOURCES)
    for index, source in enumerate(picture.sources):
        _check_file(source, f"{where}.sources[{index}]", FILE_BYTES)
    check_total(sum(len(source.data) for source in picture.sources), where)
    if picture.HasField("mask"):
        if not picture.sources:
            raise InvalidField(f"{where}.mask", "needs a source, of which it says what to paint anew")
        _check_file(picture.mask, f"{where}.mask", MASK_BYTES)


def check_total(size: int, at: str) -> None:
    """Raise InvalidField if sources have too many bytes together; ``at`` is the field of the input."""
    if size > SOURCES_BYTES:
        problem = f"have {size} bytes together; at most {SOURCES_BYTES} are accepted"
        raise InvalidField(f"{at}.sources", problem, value=size, limit=SOURCES_BYTES)


def _check_sampling(order: Order, at: str) -> None:
    for field, _ in order.sampling.ListFields():
        if field.name != "seed":
            raise InvalidField(f"{at}.sampling.{field.name}", "is not for pictures: of the parameters they have only a seed")
    if order.HasField("constraint"):
        raise InvalidField(f"{at}.constraint", "is not for pictures")


def _check_file(picture: Picture, at: str, most: int) -> None:
    if len(picture.data) > most:
        problem = f"has {len(picture.data)} bytes; at most {most} are accepted"
        raise InvalidField(f"{at}.data", problem, value=len(picture.data), limit=most)
    if len(picture.sha256) != DIGEST_BYTES and (picture.sha256 or not picture.data):
        problem = f"must have {DIGEST_BYTES} bytes" if picture.sha256 else "or the file is needed"
        raise InvalidField(f"{at}.sha256", problem, value=picture.sha256.hex(), limit=DIGEST_BYTES)


def several(order: Order) -> ModelUnsuitable:
    """Return the failure of an order with more sources than a model of our own takes: one."""
    return ModelUnsuitable(order.model, f"use for {len(order.picture.sources)} sources: it changes 1 picture at a time")


def sides(picture: PictureInput) -> tuple[int, int]:
    """Return the width and the height of each new picture, in pixels."""
    return picture.width or DEFAULT_SIDE, picture.height or DEFAULT_SIDE


def set_defaults(picture: PictureInput) -> None:
    """State what is left out."""
    picture.width, picture.height = sides(picture)
    picture.count = picture.count or 1


def files(picture: PictureInput) -> list[tuple[str, Picture]]:
    """Return the files that it comes with, each with its field's name, the mask last."""
    named = [(f"sources[{index}]", source) for index, source in enumerate(picture.sources)]
    return [*named, ("mask", picture.mask)] if picture.HasField("mask") else named


def with_digests(order: Order, at: str = "order") -> Order:
    """Return the order with every file's name beside it. Slow: not on an event loop.

    Raises InvalidField for a name that is not its file's.
    """
    full = Order()
    full.CopyFrom(order)
    for name, file in files(full.picture):
        if not file.data:
            continue
        digest = hashlib.sha256(file.data).digest()
        if file.sha256 not in {b"", digest}:
            raise InvalidField(f"{at}.picture.{name}.sha256", f"is not the file's, {digest.hex()}", value=file.sha256.hex())
        file.sha256 = digest
    return full


def without_files(order: Order) -> Order:
    """Return the order with the names of its files alone."""
    bare = Order()
    bare.CopyFrom(order)
    for _, file in files(bare.picture):
        file.ClearField("data")
    return bare


def canonical_picture(picture: PictureInput) -> dict[str, Any]:
    """Return the input as canonical JSON has it: files by name, only what is set."""
    what: dict[str, Any] = {"prompt": picture.prompt}
    what |= {name: getattr(picture, name) for name in ("width", "height", "count") if getattr(picture, name)}
    if picture.sources:
        what["sources"] = [name_of(source).hex() for source in picture.sources]
    if picture.HasField("mask"):
        what["mask"] = name_of(picture.mask).hex()
    return what


def name_of(picture: Picture) -> bytes:
    """Return the SHA-256 of a picture's file, as it is stated; computed where it is not."""
    return picture.sha256 or hashlib.sha256(picture.data).digest()


def digest_input(picture: PictureInput) -> bytes:
    """Return the receipt's `prompt_digest`: SHA-256 of the digests of the prompt and of each file, the mask's last."""
    parts = [hashlib.sha256(picture.prompt.encode()).digest(), *(name_of(file) for _, file in files(picture))]
    return hashlib.sha256(b"".join(parts)).digest()


def digest_pictures(pictures: Iterable[Picture]) -> bytes:
    """Return the receipt's `output_digest`: SHA-256 of the digests of the files, one behind the other."""
    return hashlib.sha256(b"".join(name_of(one) for one in pictures)).digest()


def seed_of(order: Order, index: int) -> int:
    """Return the seed of the picture that so many come before."""
    return (order.sampling.seed + index) % SEEDS


def picture_tokens(picture: PictureInput) -> tuple[int, int]:
    """Return what an order for pictures takes, of its input and of its answer, in tokens."""
    width, height = sides(picture)
    each = -(-width * height // TOKEN_PIXELS)
    text = -(-len(picture.prompt.encode()) // TOKEN_TEXT)
    return text + each * len(picture.sources), each * max(1, picture.count)
