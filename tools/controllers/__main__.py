"""``python -m tools.controllers``: build the controllers. ``… check``: build them elsewhere, and compare the bytes."""

from __future__ import annotations

import sys

from tools.controllers.build import EXAMPLES, OUTPUT, ROOT, SOURCES, WORK, build_all, sums


def main() -> None:
    """Build; or compare."""
    if sys.argv[1:] not in ([], ["check"]):
        sys.exit(__doc__)
    if not sys.argv[1:]:
        build_all()
        (ROOT / SOURCES / "SHA256SUMS").write_text(sums())
        return
    again = {OUTPUT: WORK / "again", EXAMPLES: WORK / "again-examples"}
    build_all(again[OUTPUT], again[EXAMPLES])
    made = [(ROOT / folder / path.name, path) for folder, other in again.items() for path in (ROOT / other).iterdir()]
    if other := [first.name for first, second in made if first.read_bytes() != second.read_bytes()]:
        sys.exit(f"other bytes than those that are committed: {', '.join(sorted(other))}")


main()
