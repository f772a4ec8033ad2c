"""What the model's sequences hold, those of finished requests too, and which one a new request goes on with. Pure.

A finished request's tokens stay where they are until their place is needed: the next turn of that conversation finds them and
computes only what is new. Tokens are shared within one tenant only, so nobody can learn from how fast an answer begins what
somebody else has asked.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

COPY_TOKENS: Final = 64
"""Prefixes from here on are copied from another sequence; shorter ones are computed, as a copy takes a whole sequence's memory."""
WORTH: Final = 4
"""A token that need not be computed now is worth so many that a conversation loses, which may never go on."""
BLOCK: Final = 256
"""Tokens compared at once."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """What a sequence is to hold before the rows of a step: the first ``count`` tokens of ``source``, which may be itself."""

    slot: int
    source: int
    count: int


@dataclass(slots=True)
class Held:
    """What one of the model's sequences holds, in order of positions."""

    tenant: str = ""
    tokens: list[int] = field(default_factory=list[int])
    count: int = 0
    """How many of ``tokens`` are in the model's memory."""
    busy: bool = False
    blocks: int = 0
    """So many of its first tokens are computed in whole blocks."""
    used: int = 0
    """When it was let go of last, counted in requests; 0: never, or forgotten."""


class Prefixes:
    """Gives out slots, each with as much of a request's tokens as is there already."""

    def __init__(self, slots: int, *, reuse: bool = True, block: int = 0) -> None:
        """``reuse`` False: every request begins from nothing. ``block``: the batcher's."""
        self.held = [Held() for _ in range(slots)]
        self._reuse, self._block = reuse, block
        self._uses = 0

    @property
    def free(self) -> bool:
        """Whether a slot can be given out."""
        return any(not one.busy for one in self.held)

    def seat(self, tenant: str, tokens: list[int], blocks: int = 0) -> Reuse:
        """Give out a free slot, of which there must be one. The last token is never reused: its logits are wanted.

        ``blocks``: so many of the first tokens are to be computed in whole blocks.
        """
        slot, source, count = self._choose(Held(tenant, tokens, blocks=blocks))
        self.held[slot] = Held(tenant, tokens, count, busy=True, blocks=blocks)
        return Reuse(slot, source, count)

    def release(self, slot: int) -> None:
        """Take a slot back; what it holds stays."""
        self._uses += 1
        one = self.held[slot]
        one.busy, one.used = False, self._uses

    def trim(self, slot: int, count: int) -> int:
        """Let a slot hold at most its first ``count`` tokens; return how many it holds then."""
        self.held[slot].count = min(self.held[slot].count, count) if self._reuse else 0
        return self.held[slot].count

    def hand(self, slot: int, tenant: str, tokens: list[int], blocks: int = 0) -> Reuse:
        """Give a slot that is in use to other tokens, as ``seat`` does with a free one."""
        mine = Held(tenant, tokens, blocks=blocks)
        shared = [self._shared(one, mine, one.count) if self._reuse else 0 for one in self.held]
        best = max(range(len(shared)), key=lambda other: shared[other])
        source = best if shared[best] - shared[slot] >= COPY_TOKENS else slot
        self.held[slot] = Held(tenant, tokens, shared[source], busy=True, blocks=blocks)
        return Reuse(slot, source, shared[source])

    def forget(self) -> None:
        """Know that the model forgot everything. Who has a slot keeps it."""
        for one in self.held:
            one.count = 0
            if not one.busy:
                one.tokens, one.used = [], 0

    def leader(self, slot: int, candidates: Sequence[int]) -> tuple[int, int] | None:
        """Return which of these slots is going to hold a prefix of the slot's tokens that is worth a copy, and its length."""
        mine = self.held[slot]
        if not self._reuse or len(mine.tokens) - mine.count <= COPY_TOKENS:  # the last is never shared
            return None
        shared = [(self._will_share(other, mine), other) for other in candidates]
        count, best = max(shared, key=lambda one: one[0], default=(0, -1))
        return (best, count) if count - mine.count >= COPY_TOKENS else None

    def follow(self, slot: int, leader: int) -> Reuse | None:
        """Copy what the leader holds of the slot's tokens, if that is worth it."""
        mine = self.held[slot]
        count = self._shared(self.held[leader], mine, self.held[leader].count)
        if count - mine.count < COPY_TOKENS:
            return None
        mine.count = count
        return Reuse(slot, leader, count)

    def _will_share(self, other: int, mine: Held) -> int:
        theirs = self.held[other]
        return self._shared(theirs, mine, len(theirs.tokens))

    def _shared(self, theirs: Held, mine: Held, limit: int) -> int:
        """Return how many tokens, at most ``limit``, of one sequence may be another's.

        That is as many as are the same and are computed in the same way in both: in blocks, or in smaller pieces.
        """
        if theirs.tenant != mine.tenant:
            return 0
        count = common_prefix(theirs.tokens, mine.tokens, min(limit, len(mine.tokens) - 1))
        if theirs.blocks == mine.blocks <= count or not self._block:
            return count
        count = min(count, theirs.blocks, mine.blocks)
        return count - count % self._block

    def _choose(self, mine: Held) -> tuple[int, int, int]:
        """Return the slot to give out, the slot to take tokens from, and how many."""
        best, count = self._closest(mine) if self._reuse else (0, 0)
        holder = self.held[best]
        # what is there beyond the prefix would be lost to its conversation, which may go on
        lost = holder.count - count
        fits = not holder.busy and count > 0 and lost <= WORTH * count
        if fits and lost < COPY_TOKENS:
            return best, best, count
        victim = self._victim()
        there = self.held[victim]
        kept = self._shared(there, mine, there.count) if self._reuse else 0
        copied = count - kept >= COPY_TOKENS
        if fits and not copied:
            return best, best, count
        return (victim, best, count) if copied else (victim, victim, kept)

    def _closest(self, mine: Held) -> tuple[int, int]:
        """Return the slot with the longest prefix, and its length; of several a free one, then the first."""
        most, best, found = len(mine.tokens) - 1, 0, (0, False)
        for slot, one in enumerate(self.held):
            this = self._shared(one, mine, one.count), not one.busy
            if this > found or slot == 0:
                best, found = slot, this
            if found == (most, True):
                break
        return best, found[0]

    def _victim(self) -> int:
        """Return a slot that is empty or was long not used; of several the one next to those in use.

        llama.cpp computes neighbouring sequences together, and others one by one.
        """
        free = sorted((slot for slot, one in enumerate(self.held) if not one.busy), key=lambda slot: self.held[slot].used)
        empty = [slot for slot in free if not self.held[slot].used]
        busy = [slot for slot, one in enumerate(self.held) if one.busy]
        old = empty or free[: (len(free) + 1) // 2]
        return min(old, key=lambda slot: (_distance(slot, busy), self.held[slot].used, slot))


def _distance(slot: int, others: Sequence[int]) -> int:
    """Return how far the nearest of the others, which are in order, is; 0 if there are none."""
    at = bisect(others, slot)
    return min((abs(slot - other) for other in others[max(0, at - 1) : at + 1]), default=0)


def common_prefix(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """Return how many of the first ``limit`` tokens are the same in both."""
    limit = min(limit, len(one), len(other))
    start = 0
    while start < limit and one[start : start + BLOCK] == other[start : start + BLOCK]:
        start += BLOCK
    end = min(start + BLOCK, limit)
    while start < end:  # halves are compared at once, too; what is before start is the same
        middle = (start + end + 1) // 2
        if one[start:middle] == other[start:middle]:
            start = middle
        else:
            end = middle - 1
    return min(start, limit)
