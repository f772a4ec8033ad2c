"""Orders for tests, and what an engine answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aos.operator.engine import Engine
from aos.operator.stream import End, Piece
from aos.operator.waiting import Terms
from aos.v1.types_pb2 import Chat, ChatMessage, Order, Sampling


def asking(prompt: str = "Say it.", *, model: str = "m", stop: Sequence[str] = (), **sampling) -> Order:
    """Return an order with a plain prompt."""
    return Order(model=model, prompt=prompt, sampling=Sampling(stop=stop, **({"max_tokens": 64} | sampling)))


def chatting(*turns: str, model: str = "m", stop: Sequence[str] = (), **sampling) -> Order:
    """Return an order with a conversation; the user has the first turn, the assistant the second, and so on."""
    messages = [ChatMessage(role=("user", "assistant")[index % 2], content=turn) for index, turn in enumerate(turns)]
    return Order(model=model, chat=Chat(messages=messages), sampling=Sampling(stop=stop, **({"max_tokens": 64} | sampling)))


@dataclass
class Answer:
    """A whole answer, as its reader saw it."""

    pieces: list[Piece]
    end: End

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.tokens]


async def answer(
    engine: Engine, order: Order, *, accepted: Sequence[int] = (), sent_bytes: int | None = None, terms: Terms | None = None
) -> Answer:
    """Read an answer to its end."""
    pieces: list[Piece] = []
    async with aclosing(engine.generate(order, accepted=accepted, sent_bytes=sent_bytes, terms=terms)) as stream:
        async for one in stream:
            if isinstance(one, End):
                return Answer(pieces, one)
            pieces.append(one)
    raise AssertionError("an answer ended without saying so")
