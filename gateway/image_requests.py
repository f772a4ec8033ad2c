"""Pictures as REST asks for them: what a body says, and the answer's shape. Pure; docs/reference/rest-images.md has the fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.errors import InvalidField
from aos.order import SEED_MAX
from aos.picture_order import LEAST_SIDE, MOST_SIDE, PICTURES, PIXELS, SOURCES, picture_tokens
from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.types_pb2 import Order, Picture, PictureInput, Sampling
from gateway.answers import network_of
from gateway.body import Malformed, shown
from gateway.http import dump
from gateway.multipart import Part

AUTO: Final = "auto"
PLACE: Final = "@"
"""Stands where the list of pictures goes; it is the whole value, so none of the others is taken for it."""
NUMBERS: Final = frozenset({"n", "width", "height", "seed", "partial_images"})
"""Fields that forms have as text and JSON as numbers."""
FILES: Final = {"image": "image", "image[]": "image", "mask": "mask", "mask[]": "mask"}
"""Fields of forms that are files, by the names that clients give them."""
_SIZE: Final = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)


def _one(value: object) -> object:
    """Return a picture that is given alone or in a list of one."""
    given: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    if len(given) != 1:
        raise ValueError(f"must be one picture, not {len(given)}")
    if not isinstance(given[0], str | bytes):
        raise ValueError(f"must be a URL, a data URL, the name of a file here, or a file, not {shown(given[0])}")  # noqa: TRY004
    return given[0]


def _several(value: object) -> list[object]:
    """Return pictures that are given alone or in a list."""
    given: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    if not 1 <= len(given) <= SOURCES:
        raise ValueError(f"must be from 1 to {SOURCES} pictures, not {len(given)}")
    return [_one(one) for one in given]


class ImageRequest(BaseModel):
    """The body of a request for pictures. Fields that are absent or null have the values given here."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    prompt: Annotated[str, Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=PICTURES)] = 1
    size: str = ""
    width: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] | None = None
    height: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] | None = None
    response_format: Literal["url", "b64_json"] = "url"
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    user: str = ""

    # Accepted with the values that ask for nothing, as clients send them unasked.
    quality: Literal["auto", "standard"] = "auto"
    background: Literal["auto", "opaque"] = "auto"
    moderation: Literal["auto"] = "auto"
    output_format: Literal["png"] = "png"
    stream: Literal[False] = False
    partial_images: Literal[0] = 0
    # Accepted and of no effect: a job is paid for by the project whose token the call carries.
    wallet: str = ""
    signature: str = ""
    hash: str = ""


class EditRequest(ImageRequest):
    """The body of a request to change a picture."""

    image: Annotated[list[str | bytes], BeforeValidator(_several)]
    """Text: where it is. Bytes: the file."""
    mask: Annotated[str | bytes, BeforeValidator(_one)] | None = None


def size_of(asked: ImageRequest) -> tuple[int, int] | None:
    """Return width and height; None for those that nobody chose. Raises InvalidField for fields that contradict each other."""
    sides = None if asked.size in {"", AUTO} else _sides(asked.size)
    if (asked.width is None) != (asked.height is None):
        missing, there = ("width", "height") if asked.width is None else ("height", "width")
        raise InvalidField(missing, f"is missing beside {there}")
    if asked.width is None or asked.height is None:
        return sides
    if sides is not None and sides != (asked.width, asked.height):
        raise InvalidField(
            "size", f"contradicts width and height, {asked.width}x{asked.height}; send one of them", value=asked.size
        )
    _check_area("width", asked.width, asked.height)
    return asked.width, asked.height


def _sides(size: str) -> tuple[int, int]:
    form = _SIZE.fullmatch(size)
    if form is None:
        raise InvalidField("size", f"must be like 1024x1024, or auto, not {shown(size)}", value=size, limit="WIDTHxHEIGHT")
    width, height = int(form[1]), int(form[2])
    if not (LEAST_SIDE <= width <= MOST_SIDE and LEAST_SIDE <= height <= MOST_SIDE):
        raise InvalidField("size", f"must have sides from {LEAST_SIDE} to {MOST_SIDE}, not {size}", value=size, limit=MOST_SIDE)
    _check_area("size", width, height)
    return width, height


def _check_area(field: str, width: int, height: int) -> None:
    if width * height > PIXELS:
        problem = f"asks for {width * height} pixels; at most {PIXELS} are made"
        raise InvalidField(field, problem, value=f"{width}x{height}", limit=PIXELS)


def form_fields(parts: Sequence[Part]) -> dict[str, Any]:
    """Return a form's fields as the same body would have them in JSON, files as bytes. Raises Malformed."""
    found: dict[str, Any] = {}
    for part in parts:
        name = FILES.get(part.name, part.name)
        if name in FILES:
            found.setdefault(name, []).append(bytes(part.data) if part.file else part.text)
            continue
        if name in found:
            raise Malformed(f"has the field {shown(name)} twice")
        text = part.text
        found[name] = int(text) if name in NUMBERS and _NUMBER.fullmatch(text) else text
        if name == "stream" and text in {"true", "false"}:
            found[name] = text == "true"
    return found


def order_of(asked: ImageRequest, size: tuple[int, int] | None, sources: Sequence[bytes] = (), mask: bytes = b"") -> Order:
    """Return the native order; ``sources`` and ``mask`` are files."""
    width, height = size or (0, 0)
    picture = PictureInput(prompt=asked.prompt, width=width, height=height, count=asked.n)
    picture.sources.extend(Picture(data=one) for one in sources)
    if mask:
        picture.mask.CopyFrom(Picture(data=mask))
    return Order(model=asked.model, picture=picture, sampling=Sampling(seed=asked.seed))


def around(job: Job, outcome: Outcome) -> tuple[str, str]:
    """Return what stands before and behind the list of pictures."""
    usage, picture = outcome.usage, job.order.picture
    text, _ = picture_tokens(PictureInput(prompt=picture.prompt))
    head, tail = dump(
        {
            "code": 0,
            "message": "success",
            "created": job.created.seconds,
            "data": PLACE,
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"text_tokens": text, "image_tokens": usage.prompt_tokens - text},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"text_tokens": 0, "image_tokens": usage.completion_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
            "model": job.order.model,
            **network_of(job, outcome),
        }
    ).split(f'"{PLACE}"', 1)
    return f"{head}[", f"]{tail}"


def entry(url: str = "") -> tuple[str, str]:
    """Return what stands before and behind a picture's base64, which is empty if it has a URL."""
    head, tail = dump({"b64_json": PLACE, "url": url, "revised_prompt": ""}).split(PLACE, 1)
    return head, tail
