"""The tokens of a model as a trie, in the bytes that controllers read: ``TokTrie`` of AICI's ``toktree.rs``. Pure.

Little endian: a header of 28 bytes, then nodes of 8 bytes, depth first, children by their byte; then for each token where its bytes
are; then the bytes of all tokens. A node is a byte, the token that ends there, how many levels end with it, and the size of its
subtree. Of tokens with the same bytes the last is in the trie.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from aos.errors import ModelUnsuitable

LEN_BITS: Final = 10
"""Bits of a token's length since v0.2.0."""
OLD_LEN_BITS: Final = 8
"""Bits of a token's length before."""
TOKEN_BYTES: Final = 254
"""Most bytes of a token that is told: the count of levels that end with a node has 8 bits. Of longer ones no bytes are told."""

_MAGIC: Final = 0x558B6FD3
_HEADER: Final = struct.Struct("<7I")
_NO_TOKEN: Final = 0xFFFFFF
_ROOT_BYTE: Final = 0xFF
_CHUNK: Final = 1 << 14


def token_trie(name: str, pieces: Sequence[bytes], end: int, *, len_bits: int = LEN_BITS) -> bytes:
    """Return the trie of these tokens; ``end`` ends an answer. Tokens without bytes, as control tokens have none, are not in it.

    Takes about a microsecond for each token and each node. Raises ModelUnsuitable, naming the model, if the format cannot hold it.
    """
    told = [piece if len(piece) <= TOKEN_BYTES else b"" for piece in pieces]
    data = b"".join(told)
    if len(told) >= _NO_TOKEN or len(data) >= 1 << (32 - len_bits):
        raise ModelUnsuitable(name, "vocabulary small enough for controllers")
    places = [0, *accumulate(map(len, told))]
    offsets = np.fromiter(
        (place << len_bits | len(piece) for place, piece in zip(places, told, strict=False)), np.uint32, len(told)
    )
    nodes = _nodes(told).tobytes()
    header = _HEADER.pack(_MAGIC, _HEADER.size, len(nodes), offsets.nbytes, len(data), len(told), end)
    return b"".join((header, nodes, offsets.astype("<u4").tobytes(), data))


def _nodes(told: Sequence[bytes]) -> NDArray[np.uint32]:
    """Return the nodes: of each text, in order, those that the text before it does not have."""
    last = {piece: token for token, piece in enumerate(told) if piece}
    texts = _sorted(last)
    tokens = np.fromiter((last[text] for text in texts), np.uint32, len(texts))
    data = np.frombuffer(b"".join(texts), np.uint8)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    places = np.cumsum(lengths) - lengths
    shared = _shared(data, places, lengths)

    new = lengths - shared
    ends = np.cumsum(new)
    of = np.repeat(np.arange(len(texts)), new)
    depth = np.arange(len(of)) - np.repeat(ends - new, new) + np.repeat(shared, new) + 1
    byte = data[places[of] + depth - 1].astype(np.uint32)
    token = np.full(len(of), _NO_TOKEN, np.uint32)
    token[ends - 1] = tokens

    depths = np.concatenate(([0], depth))
    beyond = _beyond(depths)
    # the levels that end with a node: down to where the next one stands, and behind the last one is the root's last child
    levels = (depths - np.concatenate((depths, [1]))[beyond] + 1).astype(np.uint32)
    nodes = np.empty((len(depths), 2), "<u4")
    nodes[:, 0] = np.concatenate(([_ROOT_BYTE | _NO_TOKEN << 8], byte | token << np.uint32(8)))
    nodes[:, 1] = levels | (beyond - np.arange(len(depths))).astype(np.uint32) << np.uint32(8)
    return nodes


def _shared(data: NDArray[np.uint8], places: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bytes each text shares with the one before it, from the beginning."""
    shared = np.zeros(len(lengths), np.int64)
    same, column = np.arange(1, len(lengths)), 0
    while len(same):
        same = same[(lengths[same] > column) & (lengths[same - 1] > column)]
        same = same[data[places[same] + column] == data[places[same - 1] + column]]
        shared[same] += 1
        column += 1
    return shared


def _sorted(texts: Iterable[bytes]) -> list[bytes]:
    """Return the texts in order, sorted by their first byte first: all at once would hold up other threads for 0.1 s."""
    by_first: list[list[bytes]] = [[] for _ in range(256)]
    for text in texts:
        by_first[text[0]].append(text)
    return [text for some in by_first for text in sorted(some)]


def _beyond(depths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the subtree of each node ends: the next node that is not deeper, or behind the last."""
    beyond = np.full(len(depths), len(depths))
    nodes: list[int] = []
    deep: list[int] = []
    for start in range(0, len(depths), _CHUNK):
        for node, depth in enumerate(depths[start : start + _CHUNK].tolist(), start):
            while deep and deep[-1] >= depth:
                beyond[nodes.pop()] = node
                deep.pop()
            nodes.append(node)
            deep.append(depth)
    return beyond
