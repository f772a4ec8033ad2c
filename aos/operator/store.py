"""What an operator's questions are kept in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from aos.operator.questions import Load, Question


class QuestionStore(Protocol):
    """Keeps questions. What a method returns or was given is durable once it returns."""

    async def take(self, name: str, decide: Callable[[Question | None, Load], Question]) -> Question:
        """Show ``decide`` what is held under the id, and the load; keep and return what it returns. What it raises is raised."""
        ...

    async def put(self, question: Question) -> None:
        """Keep the question in its new state."""
        ...

    async def get(self, name: str) -> Question:
        """Return the question. Raises JobNotFound."""
        ...

    async def open(self) -> Sequence[Question]:
        """Return the questions that are PENDING or whose callback is DUE, oldest first."""
        ...

    async def forget(self, before: datetime, keep: int) -> None:
        """Drop questions with nothing left to do that ended before that time, and all but the last ``keep`` of them."""
        ...
