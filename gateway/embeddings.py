"""OpenAI's embeddings: what a body may say, and the answer's shape. Pure; docs/reference/rest-models.md has the fields."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from aos.v1.dispatcher_pb2 import Job, Outcome
from aos.v1.types_pb2 import Embedding, EmbeddingInput, Order
from aos.vectors import packed
from gateway.answers import network_of
from gateway.body import shown
from gateway.drawing import UINT32
from gateway.http import dump

PART_VALUES: Final = 1 << 13
"""About how many numbers are put into one message of the reply."""
PLACE: Final = "@"
"""Stands where the list of vectors goes; it is the whole value, so none of the others is taken for it."""


def _texts(value: object) -> list[str]:
    texts: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    for text in texts:
        if isinstance(text, int | list) and not isinstance(text, bool):
            raise ValueError("must be text: token ids are not taken, because each model has its own")  # noqa: TRY004  # pydantic's
        if not isinstance(text, str):
            raise ValueError(f"must be a string or a list of strings, not {shown(text)}")  # noqa: TRY004
    return texts


class EmbeddingRequest(BaseModel):
    """The body of a request for embeddings. Fields that are absent or null have the values given here."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[list[str], BeforeValidator(_texts)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=UINT32)] | None = None
    user: str = ""


def order_of(asked: EmbeddingRequest) -> Order:
    """Return the native order."""
    return Order(model=asked.model, embedding=EmbeddingInput(texts=asked.input, dimensions=asked.dimensions or 0))


def answer(asked: EmbeddingRequest, job: Job, outcome: Outcome) -> Iterator[bytes]:
    """Yield the reply's JSON in parts of a bounded size: vectors are long, and a message of all of them longer than may be."""
    used = outcome.usage.prompt_tokens
    head, tail = dump(
        {
            "object": "list",
            "data": PLACE,
            "model": job.order.model,
            "usage": {"prompt_tokens": used, "total_tokens": used},
            **network_of(job, outcome),
        }
    ).split(f'"{PLACE}"', 1)
    vectors = outcome.embeddings
    count = max(1, PART_VALUES // len(vectors[0].values))
    yield f"{head}[".encode()
    for start in range(0, len(vectors), count):
        shown_ones = [
            f'{{"object":"embedding","index":{index},"embedding":{_written(one, asked.encoding_format)}}}'
            for index, one in enumerate(vectors[start : start + count], start)
        ]
        yield f"{',' if start else ''}{','.join(shown_ones)}".encode()
    yield f"]{tail}".encode()


def _written(vector: Embedding, form: str) -> str:
    if form == "base64":
        return f'"{b64encode(packed(vector)).decode()}"'
    # nine digits are enough to have the same 32 bits again
    return f"[{','.join(f'{value:.9g}' for value in vector.values)}]"
