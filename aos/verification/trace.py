"""What an answer commits to: trees over its prompt, its tokens and its steps, and the job header whose hash is `state_root`. Pure.

Everything is hashed with SHA-256 and written big-endian unless it says otherwise. Trees have a fixed depth, leaves and inner nodes
have prefixes of their own, and what is not there counts as an empty leaf: a root has one meaning. This is the REF profile, of
operators whose arithmetic is llama.cpp's; docs/reference/receipt.md has the layouts.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from aos.errors import InvalidField

DIGEST_BYTES: Final = 32
JOB_TAG: Final = b"OPMLJOB1"
STEP_TAG: Final = b"OPMLSTP1"
MODEL_TAG: Final = b"OPMLMDL1"
REF: Final = 2
"""The profile's number."""
TOKEN_DEPTH: Final = 13
"""Of the trees over prompt and answer: room for 2^21 tokens."""
LEAF_TOKENS: Final = 256
"""Token ids in a leaf; the last has what is left."""
STEP_DEPTH: Final = 15
"""Of the tree over steps."""
MOST_STEPS: Final = 1 << STEP_DEPTH
MOST_TOKENS: Final = MOST_STEPS - 1
"""Most tokens of an answer: the one that ends it has a step, too."""
TOP: Final = 8
"""So many of the likeliest tokens stand in a step."""
STEP: Final = struct.Struct(f">8sII32sB3x{'Ii' * TOP}")
"""A step's leaf: tag, position from 0, token, hash of the logits, how many of the pairs count, then pairs of id and logit."""
HEADER: Final = struct.Struct(">x8sBH32s32s32s32s32s32sII32s32s20s")
"""The zero byte, which makes it a leaf of a tree over jobs, tag, profile, flags, and what ``Header`` has, in its order."""
REPLAY_CLASS: Final = 1 << 8
"""The flag of a header that names a class of machines whose bits are the same."""


def leaf(data: bytes) -> bytes:
    """Return a leaf's hash. No data: nothing is there."""
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return an inner node's hash."""
    return hashlib.sha256(b"\1" + left + right).digest()


def _empties() -> tuple[bytes, ...]:
    found = [leaf(b"")]
    for _ in range(32):
        found.append(node(found[-1], found[-1]))
    return tuple(found)


EMPTY: Final = _empties()
"""The roots of trees of each depth with nothing in them."""


def root(leaves: Sequence[bytes], depth: int) -> bytes:
    """Return the root over the leaves' data. Raises InvalidField if there are more than fit."""
    if len(leaves) > 1 << depth:
        raise InvalidField("leaves", f"must be at most {1 << depth}", value=len(leaves), limit=1 << depth)
    level, height = [leaf(data) for data in leaves] or [EMPTY[0]], 0
    while len(level) > 1:
        if len(level) % 2:
            level.append(EMPTY[height])
        level, height = [node(level[at], level[at + 1]) for at in range(0, len(level), 2)], height + 1
    found = level[0]
    for empty in EMPTY[height:depth]:  # all to the right is empty
        found = hashlib.sha256(b"\1" + found + empty).digest()
    return found


def token_leaves(tokens: Sequence[int]) -> list[bytes]:
    """Return the leaves' data: token ids as uint32, 256 a leaf."""
    data = struct.pack(f">{len(tokens)}I", *tokens)
    return _cut(data, 4 * LEAF_TOKENS)


def tokens_root(tokens: Sequence[int]) -> bytes:
    """Return the root over token ids. Raises InvalidField if there are too many."""
    return root(token_leaves(tokens), TOKEN_DEPTH)


def step_leaves(steps: bytes) -> list[bytes]:
    """Return the leaves' data of steps that stand one behind the other."""
    return _cut(steps, STEP.size)


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@dataclass(frozen=True, slots=True)
class Step:
    """One token's: what the model gave, and what was taken."""

    position: int
    token: int
    logits: bytes
    """SHA-256 of the logits, float32, little-endian, as the model gave them: before bias, penalties and form."""
    top: tuple[tuple[int, int], ...]
    """The likeliest tokens, likeliest first, the lower id first among equals, and their logits times 2^16, rounded to the nearest
    of 32 bits."""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Read a leaf. Raises InvalidField if it is none, or one that is written in another way than ``packed`` does."""
        if len(data) == STEP.size:
            tag, position, token, logits, count, *pairs = STEP.unpack(data)
            top = tuple(zip(pairs[0 : 2 * count : 2], pairs[1 : 2 * count : 2], strict=True))
            step = cls(position, token, logits, top)
            if tag == STEP_TAG and 0 < count <= TOP and step.packed() == data:
                return step
        raise InvalidField("trace.steps", f"has a step that is not laid out as it must be, in {STEP.size} bytes", limit=STEP.size)

    def packed(self) -> bytes:
        """Return the leaf's data, 116 bytes."""
        pairs = [number for pair in self.top for number in pair]
        spare = [0] * (2 * TOP - len(pairs))
        return STEP.pack(STEP_TAG, self.position, self.token, self.logits, len(self.top), *pairs, *spare)


def read_steps(steps: bytes) -> list[Step]:
    """Return the steps. Raises InvalidField for too many, for one that is malformed and for one in the wrong place."""
    if len(steps) > MOST_STEPS * STEP.size:
        raise InvalidField("trace.steps", f"must be at most {MOST_STEPS}", value=len(steps) // STEP.size, limit=MOST_STEPS)
    found = [Step.of(data) for data in step_leaves(steps)]
    for at, step in enumerate(found):
        if step.position != at:
            raise InvalidField("trace.steps", f"has step {step.position} in place {at}", value=step.position, limit=at)
    return found


def steps_root(steps: bytes) -> bytes:
    """Return the root over steps. Raises InvalidField if there are too many."""
    return root(step_leaves(steps), STEP_DEPTH)


def model_id(digest: bytes) -> bytes:
    """Return the id of a model that no integer program is registered for: all there is to name are its weights."""
    return hashlib.sha256(MODEL_TAG + bytes([REF, TOKEN_DEPTH, STEP_DEPTH]) + digest).digest()


@dataclass(frozen=True, slots=True)
class Header:
    """All that an answer commits to, in the order in which it is laid out, 296 bytes."""

    reason: int
    """Why the answer ended: a FinishReason."""
    model_id: bytes
    request: bytes
    """Digest of the order."""
    prompt_root: bytes
    output_root: bytes
    parameters: bytes
    """Digest of the sampling parameters."""
    seed: int
    """Written as a number of 32 bytes."""
    prompt_tokens: int
    output_tokens: int
    trace_root: bytes
    replay_class: bytes | None
    """What machines have the same bits; None: none has."""
    operator: bytes
    """20 bytes."""

    def packed(self) -> bytes:
        """Return the header's bytes."""
        return HEADER.pack(
            JOB_TAG,
            REF,
            self.reason | (0 if self.replay_class is None else REPLAY_CLASS),
            self.model_id,
            self.request,
            self.prompt_root,
            self.output_root,
            self.parameters,
            self.seed.to_bytes(DIGEST_BYTES, "big"),
            self.prompt_tokens,
            self.output_tokens,
            self.trace_root,
            self.replay_class or bytes(DIGEST_BYTES),
            self.operator,
        )

    @property
    def state_root(self) -> bytes:
        """The answer's commitment: the header's hash, and the hash of its leaf in a tree over jobs."""
        return hashlib.sha256(self.packed()).digest()
