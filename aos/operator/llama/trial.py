"""Does llama.cpp survive a file? Found out in a process of its own: where it does not, it ends the process that it is in.

llama.cpp checks what a file says of itself, but not all of it: a count of layers that is too large, a tensor of another type or a
norm that is no number end in an assertion, and that in `abort`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from aos.errors import REASONS, AosError, EngineFailed

TRIAL_SECONDS: Final = 300.0
"""How long loading the file and computing one token may take."""
CONTEXT: Final = 256
"""Tokens that the trial has memory for."""
WORDS: Final = 500
"""Most characters of llama.cpp's last words that are told."""
REFUSED: Final = 3
"""Exit status of a trial that says on its output what is wrong."""


def try_model(path: Path, name: str) -> None:
    """Return if llama.cpp can load the file and compute a token with it. Slow: it loads the file in another process.

    Raises InvalidField for a file that is missing or no GGUF, EngineFailed, with the reason, for one that cannot be run.
    """
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    try:
        said = subprocess.run(  # noqa: S603  # this very Python and this very module
            [sys.executable, "-m", __name__, str(path), name],
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(name, f"llama.cpp needs more than {TRIAL_SECONDS:g} s for {path.name} and a token of it") from error
    if said.returncode == REFUSED:
        told = json.loads(said.stdout)
        raise REASONS[told["reason"]].rebuild(told["message"], told["facts"])
    if said.returncode:
        how = signal.Signals(-said.returncode).name if said.returncode < 0 else f"status {said.returncode}"
        # without the folders of the machine that it was built on
        words = re.sub(r"/\S+/", "", said.stderr.decode(errors="replace").strip()[-WORDS:])
        raise EngineFailed(name, f"llama.cpp dies of {path.name} ({how}): {words or 'it says nothing'}")


def _run(path: Path, name: str) -> None:
    """Load the file and compute a token."""
    import numpy as np

    from aos.operator.batch import Row
    from aos.operator.llama import Weights
    from aos.operator.modes import Mode

    weights = Weights(path, name=name)
    try:
        model = weights.open(slots=1, context=CONTEXT, mode=Mode.BEST_EFFORT)
        try:
            token = next((one for one in range(model.vocabulary) if weights.pieces[one]), 0)
            (logits,) = model.decode([Row(key=0, slot=0, position=0, tokens=[token], draws=True)])
            if not np.isfinite(logits).any():
                raise EngineFailed(name, f"{path.name} computes no numbers")
        finally:
            model.close()
    finally:
        weights.close()


def _main() -> int:
    try:
        _run(Path(sys.argv[1]), sys.argv[2])
    except AosError as error:
        sys.stdout.write(json.dumps({"reason": error.reason, "message": error.message, "facts": error.facts}))
        return REFUSED
    except RuntimeError as error:
        sys.stderr.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
