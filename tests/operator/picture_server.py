"""What a server of pictures answers: well, in one of the ways that there are, or as badly as a test wants."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image
from python_multipart import FormParser

from tests.operator.model_server import Asked, Behaviour, replies


def painted(width: int, height: int, *, kind: str = "PNG", colour: tuple[int, int, int] = (200, 30, 30), **more: object) -> bytes:
    """A file of one colour."""
    file = BytesIO()
    Image.fromarray(np.full((height, width, 3), colour, np.uint8)).save(file, kind, **more)
    return file.getvalue()


def gives(data: bytes) -> Behaviour:
    """Answer with this file as base64."""
    return replies("200 OK", {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode()}]})


def links(url: str) -> Behaviour:
    """Answer with a URL."""
    return replies("200 OK", {"created": 1, "data": [{"url": url}]})


def form_of(asked: Asked) -> dict[str, bytes]:
    """The fields and files of a form that came."""
    found: dict[str, bytes] = {}

    def field(one) -> None:
        found[one.field_name.decode()] = one.value

    def file(one) -> None:
        one.file_object.seek(0)
        found[one.field_name.decode()] = one.file_object.read()

    boundary = asked.headers["content-type"].partition("boundary=")[2]
    parser = FormParser("multipart/form-data", field, file, boundary=boundary.encode(), config={"MAX_MEMORY_FILE_SIZE": 1 << 26})
    parser.write(asked.data)
    parser.finalize()
    return found


def size_of(asked: Asked) -> tuple[int, int]:
    """Which size a request asks for, whatever it calls it."""
    files = ("image", "image[]", "mask")
    said = asked.body or {name: value.decode() for name, value in form_of(asked).items() if name not in files}
    if "size" in said:
        width, _, height = str(said["size"]).partition("x")
        return int(width), int(height)
    return int(said.get("width", 64)), int(said.get("height", 64))


async def paints(asked: Asked) -> None:
    """Answer well: a picture of the size that was asked for, whose colour follows from the seed."""
    seed = int(asked.body.get("seed", 0)) if asked.body else 0
    if asked.body.get("model") == "no-such-model-of-this-server" or (asked.data and not asked.body and asked.data[:1] == b"{"):
        await replies("404 Not Found", {"error": {"message": "no such model"}})(asked)
        return
    await gives(painted(*size_of(asked), colour=(seed % 256, seed // 256 % 256, 7)))(asked)
