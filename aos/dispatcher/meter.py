"""How much of an answer may still come, and whether each piece is what the order asks for. Pure, but for what it counts."""

from __future__ import annotations

from typing import Final

from aos.dispatcher.admission import TOKEN_BYTES
from aos.dispatcher.answers import check_embeddings, check_logprobs
from aos.dispatcher.controlled import RunMeter
from aos.dispatcher.jobs import Job
from aos.dispatcher.output import Output
from aos.errors import BadReceipt
from aos.picture_order import FILE_BYTES
from aos.v1.operator_pb2 import Chunk
from aos.v1.types_pb2 import Order

HELD_BACK_TOKENS: Final = 16
"""Room for text that comes without tokens of its own, in tokens."""


class Meter:
    """Counts one operator's answer against what the job may have at most."""

    def __init__(self, job: Job, order: Order, output: Output) -> None:
        """``output`` is what came before."""
        self._job, self._sampling, self._texts = job.name, order.sampling, len(order.embedding.texts)
        self._tokens_left = job.completion_bound - len(output.tokens)
        self._bytes_left = (job.completion_bound + HELD_BACK_TOKENS) * TOKEN_BYTES - len(output.text.encode())
        vectors = output.embeddings
        self._vectors_left = self._texts - len(vectors)
        self._pictures_left = order.picture.count - len(output.pictures)
        self._dimensions = len(vectors[0].values) if vectors else 0
        self._run = RunMeter(job.name, job.completion_bound, output.run) if job.controlled else None

    def count(self, chunk: Chunk) -> None:
        """Count a chunk, and cut the logs of a run. Raises BadReceipt if it is too much, or lacks what it must have."""
        if chunk.HasField("run"):
            if self._run is None or len(chunk.ListFields()) > 1:
                raise BadReceipt(self._job, "run", "was not asked for, or has something beside it")
            self._run.count(chunk.run)
            return
        self._tokens_left -= len(chunk.tokens)
        self._bytes_left -= len(chunk.text.encode())
        if min(self._tokens_left, self._bytes_left) < 0:
            raise BadReceipt(self._job, "usage.completion_tokens", "more came than was asked for")
        check_logprobs(chunk, self._sampling, job=self._job)
        self._vectors_left -= len(chunk.embeddings)
        if self._vectors_left < 0:
            raise BadReceipt(self._job, "embeddings", "more came than was asked for")
        self._pictures_left -= len(chunk.pictures)
        if self._pictures_left < 0 or any(len(one.data) > FILE_BYTES for one in chunk.pictures):
            raise BadReceipt(self._job, "pictures", "more came than was asked for")
        self._dimensions = check_embeddings(chunk, self._dimensions, texts=self._texts, job=self._job)
