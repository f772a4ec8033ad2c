"""Which tokens of which sequence go into the next decode. Pure: no clock, no thread, no model.

A sequence is its prompt and the tokens drawn so far; what is not decoded yet is pending. Each step decodes, first, every sequence
with one token pending (it is drawing) and then, with what the budget leaves, prompts: half of it for the one that has been there
longest, the rest for those that have least to go. So no prompt holds up those who are reading an answer, no long prompt holds up
short ones for long, and the oldest goes on in every step.

Every slot has room for the model's whole context, so memory cannot run short, and no sequence is ever put aside for another.

Some models give the same bits only if prompts are computed in whole blocks, and all that follows in smaller pieces. What is in a
block and what is not is settled by where the prompt ends, not by who else is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from aos.operator.prefixes import Prefixes, Reuse
from aos.operator.waiting import Terms, WaitingList


@dataclass(frozen=True, slots=True)
class Row:
    """Neighbouring tokens of one sequence, to be decoded in one step."""

    key: int
    """Whose they are."""
    slot: int
    """The model's sequence id."""
    position: int
    """Where the first of them stands in the sequence, from 0."""
    tokens: list[int]
    """At least one."""
    draws: bool
    """Whether they reach the sequence's end, so that the next token can be drawn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One step."""

    reuses: list[Reuse]
    """What the model's sequences must hold before; to be done in this order."""
    rows: list[Row]
    """In order of slots. Empty only if there is nothing to do."""
    drawing: int
    """How many sequences go on with the token that they drew last."""
    prompt_tokens: int
    """How many of the rows' tokens are of prompts."""


@dataclass(slots=True)
class _Sequence:
    key: int
    slot: int
    tokens: list[int]
    """The very list that ``Prefixes`` has for the slot: tokens are added in one place."""
    cached: int
    decoded: int
    blocks: int = 0
    """So many of its first tokens are computed in whole blocks."""
    leader: tuple[int, int, int] | None = None
    """Key and slot of the sequence that computes the same prefix now, and the prefix's length."""


class Batcher:
    """Gives sequences their slots and plans each step within a budget of tokens."""

    def __init__(self, *, slots: int, budget: int, reuse: bool = True, block: int = 0) -> None:
        """``reuse``: whether the model can go on behind any prefix of what a slot holds, and copy it.

        ``block``: so many tokens of a prompt are computed at once, or a multiple, and fewer of all others; 0: any number.
        """
        if not 1 <= slots <= budget or block > budget:
            raise ValueError(f"a budget of {budget} tokens a step cannot serve {slots} slots, or blocks of {block}")
        self._budget, self._slots, self._block = budget, slots, block
        self._prefixes = Prefixes(slots, reuse=reuse, block=block)
        self._seated: dict[int, _Sequence] = {}
        self._queue = WaitingList()
        self._waiting: dict[int, tuple[list[int], Terms, int]] = {}
        self._reuses: list[Reuse] = []

    @property
    def running(self) -> int:
        """How many sequences have a slot."""
        return len(self._seated)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many tokens the sequences that have a slot have in the model's memory."""
        return sum(one.decoded for one in self._seated.values())

    @property
    def pending(self) -> bool:
        """Whether there is something to compute."""
        free = self._waiting and len(self._seated) < self._slots
        return bool(free) or any(one.decoded < len(one.tokens) for one in self._seated.values())

    @property
    def crowded(self) -> bool:
        """Whether more sequences wait than there are slots free."""
        return len(self._waiting) > self._slots - len(self._seated)

    def __contains__(self, key: int) -> bool:
        """Whether the sequence has a slot or waits for one."""
        return key in self._seated or key in self._waiting

    def waits(self, key: int) -> bool:
        """Whether the sequence waits for a slot."""
        return key in self._waiting

    def seated(self, key: int) -> bool:
        """Whether it has one."""
        return key in self._seated

    def add(self, key: int, tokens: list[int], terms: Terms | None = None, *, prompt: int | None = None) -> None:
        """Take in a sequence: its prompt, and behind it the tokens drawn elsewhere. At least one token.

        ``prompt``: how many of them are the prompt's; None: all.
        """
        if not tokens or key in self._seated or key in self._waiting:
            raise ValueError(f"sequence {key} has no tokens or is here already")
        terms = terms or Terms()
        self._waiting[key] = list(tokens), terms, self._whole(len(tokens) if prompt is None else prompt)
        self._queue.add(key, terms)

    def drop(self, key: int) -> None:
        """Let a sequence go, unless it is gone already. What its slot holds stays there for others of its tenant."""
        if self._queue.remove(key):
            del self._waiting[key]
        elif sequence := self._seated.pop(key, None):
            self._prefixes.release(sequence.slot)

    def cached(self, key: int) -> int:
        """How many of the sequence's tokens were there already and need no computing. 0 if it has no slot."""
        sequence = self._seated.get(key)
        return sequence.cached if sequence else 0

    def plan(self, prompt_tokens: Callable[[int, int], int] | None = None) -> Plan:
        """Return the next step, and count its rows as decoded.

        ``prompt_tokens``: given how many draw, and how many prompts there are, the most tokens of prompts if anybody draws; None:
        as many as the budget leaves.
        """
        while self._waiting and len(self._seated) < self._slots:
            self._seat(self._queue.take())
        # who copies does so before any row is counted as decoded: a copy has only what earlier steps left
        prompts = [one for one in self._seated.values() if len(one.tokens) - one.decoded > 1 and self._goes(one)]
        going = {one.key for one in prompts}
        rows = [self._row(one, 1) for one in self._seated.values() if one.key not in going and self._draws(one)]
        drawing, used = len(rows), 0
        left = self._budget - drawing
        if prompts:
            if drawing and prompt_tokens is not None:
                left = min(left, max(1, prompt_tokens(drawing, len(prompts))))
            chunks = self._prompts(prompts, left)
            used = sum(len(row.tokens) for row in chunks)
            rows += chunks
        rows.sort(key=lambda row: row.slot)
        reuses, self._reuses = self._reuses, []
        return Plan(reuses, rows, drawing, used)

    def drew(self, key: int, token: int) -> None:
        """Add the token that was drawn for a row; the sequence goes on with it."""
        self._seated[key].tokens.append(token)

    def change(self, key: int, backtrack: int, tokens: Sequence[int]) -> None:
        """Take ``backtrack`` tokens from the sequence's end, and put others there. At least one must be left.

        Where none are put there, the last that is left is computed again: its logits are wanted. What was taken of a prompt is its
        end from then on.
        """
        if key in self._waiting:
            mine, terms, blocks = self._waiting[key]
            kept = len(mine) - backtrack
            mine[kept:] = tokens
            self._waiting[key] = mine, terms, min(blocks, self._whole(kept))
            return
        sequence = self._seated[key]
        kept = len(sequence.tokens) - backtrack
        sequence.tokens[kept:] = tokens
        most = kept if tokens else kept - 1
        if self._block:
            shorter = min(sequence.blocks, self._whole(kept))
            # what was computed in a block that is none any more has other bits
            most = min(most, shorter) if shorter < sequence.blocks else most
            most = most if most >= shorter else self._whole(most)
            sequence.blocks = self._prefixes.held[sequence.slot].blocks = shorter
        if sequence.decoded > most:
            count = self._prefixes.trim(sequence.slot, most)
            sequence.decoded = count
            self._reuses.append(Reuse(sequence.slot, sequence.slot, count))
            for other in self._seated.values():  # nobody may wait for what is not going to come
                if other.leader is not None and other.leader[0] == key and other.leader[2] > count:
                    other.leader = (key, sequence.slot, count)

    def hand(self, key: int, to: int) -> None:
        """Give the slot of one sequence to another, which waits for one; the first is let go."""
        slot = self._seated.pop(key).slot
        tokens, terms, blocks = self._waiting.pop(to)
        self._queue.remove(to)
        reuse = self._prefixes.hand(slot, terms.tenant, tokens, blocks)
        self._reuses.append(reuse)
        self._seated[to] = _Sequence(to, slot, tokens, reuse.count, reuse.count, blocks)

    def rewind(self) -> None:
        """Begin all sequences that have a slot anew: the model forgot them. What was drawn stays drawn."""
        self._reuses = []
        self._prefixes.forget()
        for sequence in self._seated.values():
            sequence.decoded = 0

    def _seat(self, key: int) -> None:
        tokens, terms, blocks = self._waiting.pop(key)
        reuse = self._prefixes.seat(terms.tenant, tokens, blocks)
        self._reuses.append(reuse)
        sequence = _Sequence(key, reuse.slot, tokens, reuse.count, reuse.count, blocks)
        self._elect(sequence)
        self._seated[key] = sequence

    def _elect(self, sequence: _Sequence) -> None:
        """Let a sequence wait for one that was there before and computes the same beginning, if there is one."""
        earlier = {one.slot: one.key for one in takewhile(lambda one: one is not sequence, self._seated.values())}
        leader = self._prefixes.leader(sequence.slot, list(earlier))
        sequence.leader = (earlier[leader[0]], *leader) if leader else None

    def _prompts(self, going: list[_Sequence], budget: int) -> list[Row]:
        """Share the budget between prompts: half for the oldest, the rest for the shortest."""
        shares = dict.fromkeys((one.key for one in going), 0)
        turns = [(going[0], -(-budget // 2))]
        turns += [(one, budget) for one in sorted(going, key=lambda one: len(one.tokens) - one.decoded)]
        for one, most in turns:
            count = self._piece(one, shares[one.key], min(most, budget))
            shares[one.key] += count
            budget -= count
        if not any(shares.values()):  # less is left than a block: the oldest goes on all the same
            shares[going[0].key] = self._block
        return [self._row(one, shares[one.key]) for one in going if shares[one.key]]

    def _piece(self, sequence: _Sequence, taken: int, most: int) -> int:
        """Return how many tokens to compute behind ``taken``, at most so many: whole blocks, or none."""
        start = sequence.decoded + taken
        count = min(len(sequence.tokens) - start, most)
        if not self._block:
            return count
        if start < sequence.blocks:
            return self._whole(min(count, sequence.blocks - start))
        # a row is of one kind
        return 0 if sequence.decoded < sequence.blocks else max(0, min(count, self._block - 1 - taken))

    def _whole(self, count: int) -> int:
        """Return how many of the first ``count`` tokens are in whole blocks."""
        return count - count % self._block if self._block else 0

    def _goes(self, sequence: _Sequence) -> bool:
        """Say whether the sequence is to be computed now, having copied what its leader has, if it waited for that."""
        if sequence.leader is None:
            return True
        key, slot, count = sequence.leader
        leader = self._seated.get(key)
        if leader and leader.decoded < count:
            return False
        sequence.leader = None
        reuse = self._prefixes.follow(sequence.slot, slot)
        if reuse:
            self._reuses.append(reuse)
            sequence.cached = sequence.decoded = reuse.count
        if leader is None:  # it left half-way: another may have the same beginning
            self._elect(sequence)
        return sequence.leader is None

    def _draws(self, sequence: _Sequence) -> bool:
        """Say whether it goes on with one token; who has none yet is waited for by nobody."""
        return sequence.leader is None and sequence.decoded < len(sequence.tokens)

    def _row(self, sequence: _Sequence, count: int) -> Row:
        start, end = sequence.decoded, sequence.decoded + count
        sequence.decoded = self._prefixes.held[sequence.slot].count = end
        return Row(sequence.key, sequence.slot, start, sequence.tokens[start:end], draws=end == len(sequence.tokens))
