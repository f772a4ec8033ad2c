"""How much of what controllers print is told, and how large a run's step may be: operators keep to it, dispatchers check. Pure."""

from __future__ import annotations

from typing import Final

from aos.v1.types_pb2 import RunStep

LOG_BYTES: Final = 64 << 10
"""Most bytes of a controller's log that are told of one branch in one step, and of what went wrong there."""
RUN_LOG_BYTES: Final = 4 << 20
"""Most bytes of controllers' logs that are told of one run; the rest is cut."""
STEP_BYTES: Final = 4 << 20
"""Largest step of a run."""
CUT: Final = "\n[log cut: {} bytes of one run are kept]\n"
"""Stands where a run's logs begin to be left out."""
CHARACTER_BYTES: Final = 4
"""No character has more bytes."""


class RunLogs:
    """The logs of one run. What was cut once stays as it is when it is cut again."""

    def __init__(self) -> None:
        self._left, self._cut = RUN_LOG_BYTES, False

    def cut(self, step: RunStep) -> None:
        """Leave out of the step's logs and errors what is too much."""
        for branch in step.branches:
            branch.error = _cut(branch.error, LOG_BYTES)
            branch.logs = self._kept(_cut(branch.logs, LOG_BYTES))

    def _kept(self, logs: str) -> str:
        kept = _cut(logs, self._left)
        self._left -= len(kept.encode())
        if kept == logs or self._cut:
            return kept
        self._cut, self._left = True, 0
        return kept + CUT.format(RUN_LOG_BYTES)


def _cut(text: str, most: int) -> str:
    if len(text) * CHARACTER_BYTES <= most:
        return text
    return text.encode()[:most].decode(errors="ignore")
