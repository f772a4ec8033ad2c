"""What an operator says in one turn of its loop, in as few messages as it takes. Pure.

Each message costs both sides more than what is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from aos.v1.dispatcher_pb2 import LeaseChunks, OperatorMessage, OperatorMessages

BUNDLE_BYTES: Final = 256 << 10
"""About how large a message grows that takes others in; a larger one goes alone."""


def bundles(said: Iterable[OperatorMessage], *, several: bool) -> Iterator[OperatorMessage]:
    """Yield messages that say the same in the same order: chunks in one, and, if the dispatcher takes ``several``, all in one."""
    together = OperatorMessages()
    size = 0
    for one in _chunks(said):
        more = one.ByteSize()
        if together.messages and (not several or size + more > BUNDLE_BYTES):
            yield _one(together)
            together, size = OperatorMessages(), 0
        together.messages.append(one)
        size += more
    if together.messages:
        yield _one(together)


def _one(together: OperatorMessages) -> OperatorMessage:
    return together.messages[0] if len(together.messages) == 1 else OperatorMessage(several=together)


def _chunks(said: Iterable[OperatorMessage]) -> Iterator[OperatorMessage]:
    """Yield the messages, chunks that follow each other in one."""
    bundle = LeaseChunks()
    size = 0
    for one in said:
        more = one.ByteSize()
        if bundle.chunks and (not one.HasField("chunk") or size + more > BUNDLE_BYTES):
            yield OperatorMessage(chunks=bundle)
            bundle, size = LeaseChunks(), 0
        if one.HasField("chunk"):
            bundle.chunks.append(one.chunk)
            size += more
        else:
            yield one
    if bundle.chunks:
        yield OperatorMessage(chunks=bundle)
