"""What a job's log holds of its answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Embedding, Picture, RunStep


@dataclass(frozen=True, slots=True)
class Output:
    """An answer, or how far it has come."""

    text: str
    tokens: list[int]
    embeddings: Sequence[Embedding] = ()
    pictures: Sequence[Picture] = ()
    """Without their files."""
    run: Sequence[RunStep] = ()
    """The steps of a controlled answer; its text and tokens, those of its first branch, come behind the last."""


def longer(output: Output, chunk: Chunk) -> Output:
    """Return the answer with a chunk behind it."""
    run = [*output.run, chunk.run] if chunk.HasField("run") else output.run
    embeddings, pictures = [*output.embeddings, *chunk.embeddings], [*output.pictures, *chunk.pictures]
    return Output(output.text + chunk.text, [*output.tokens, *chunk.tokens], embeddings, pictures, run)


def joined(chunks: Iterable[Chunk]) -> Output:
    """Return the whole answer that the chunks make."""
    texts: list[str] = []
    tokens: list[int] = []
    embeddings: list[Embedding] = []
    pictures: list[Picture] = []
    run: list[RunStep] = []
    for chunk in chunks:
        texts.append(chunk.text)
        tokens.extend(chunk.tokens)
        embeddings.extend(chunk.embeddings)
        pictures.extend(chunk.pictures)
        if chunk.HasField("run"):
            run.append(chunk.run)
    return Output("".join(texts), tokens, embeddings, pictures, run)
