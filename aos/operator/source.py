"""A model that an operator offers, in memory or not: what it takes to open it, and in which ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from aos.operator.model import Model
from aos.operator.modes import Mode, mode_for
from aos.operator.rendering import Renderer
from aos.v1.types_pb2 import Order


@dataclass(frozen=True, slots=True)
class Facts:
    """What the network is told of a model, found out when it was opened first."""

    digest: str
    """What its receipts name it by, 64 hex digits."""
    adapter_digest: str
    """SHA-256 of its LoRA adapter, 64 hex digits; empty: it has none."""
    context: int
    slots: int
    chat: bool
    exact: bool
    embeddings: bool
    profile: str
    """Of the mode that it is opened in unless an order asks for another."""
    images: bool = False
    """Whether it makes pictures, and nothing else."""


class Source(ABC):
    """Opens a model again and again. Called on any thread, by one caller at a time."""

    adapter_digest: str = ""
    """SHA-256 of the LoRA adapter, known once the model was opened; empty: there is none."""
    embeddings: bool = False
    """Whether it turns texts into vectors."""

    @abstractmethod
    def measure(self) -> None:
        """Find out what ``parts`` tells. Slow. Raises AosError for a model that cannot be read."""

    @abstractmethod
    def parts(self, mode: Mode) -> Mapping[str, int]:
        """Return the parts of memory that the model takes in this mode, and their bytes; parts of one name are shared."""

    @abstractmethod
    def open(self, mode: Mode) -> Model | Renderer:
        """Return the model, ready for an engine. Slow. Raises AosError if it cannot be opened."""

    @abstractmethod
    def close(self, model: Model | Renderer) -> None:
        """Free what ``open`` returned. Slow."""

    def mode(self, order: Order, facts: Facts) -> Mode:
        """Return the mode that the order is run in. Raises ModelUnsuitable if the model has none for it."""
        mode = mode_for(order.determinism, model=order.model, exact=facts.exact)
        # opened as exact, a model that cannot be is at its fastest: once is enough
        return mode if facts.exact else Mode.EXACT


class Standing(Source):
    """A model that somebody else holds in memory, in one mode. It takes no memory of the operator's."""

    def __init__(self, model: Model | Renderer) -> None:
        self._model = model

    def measure(self) -> None:
        """There is nothing to find out."""

    def parts(self, mode: Mode) -> Mapping[str, int]:
        """None."""
        del mode
        return {}

    def open(self, mode: Mode) -> Model | Renderer:
        """Return the model."""
        del mode
        return self._model

    def close(self, model: Model | Renderer) -> None:
        """It stays open."""

    def mode(self, order: Order, facts: Facts) -> Mode:
        """Return the one mode that there is. Raises ModelUnsuitable if the order must be exact and the model is not."""
        super().mode(order, facts)
        return Mode.EXACT
