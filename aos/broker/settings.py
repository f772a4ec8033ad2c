"""What a broker can be told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """The broker's limits. Raises ValueError, naming the setting, for a value that cannot be."""

    largest: int = 10**38
    """Most neurons in one deposit or hold; a job that fills the longest context at the dearest price stays below it."""

    def __post_init__(self) -> None:
        if self.largest < 1:
            raise ValueError(f"largest: must be above 0, not {self.largest}")
