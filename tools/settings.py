"""Write docs/reference/settings.md from the dataclasses: ``python -m tools.settings``."""

from __future__ import annotations

import types
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from aos.cli.serve import shown
from aos.serving.descriptions import descriptions
from aos.serving.reading import Setting, settings_of
from aos.serving.settings import PROCESSES

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"
HEAD: Final = """# Settings of `aos serve`

Made from the settings' own words by `python -m tools.settings`; change those, not this page.

A setting is given in a TOML file (`--settings FILE`, or `AOS_SETTINGS`), in the environment, or as a flag; the later of these
goes before the earlier. In the file it stands in the table of its service, or, if several services have it, in `[shared]`; the
service's own table goes before. A name with a dot is in a table within: `limits.queue_jobs` of the dispatcher is

| where | how |
|---|---|
| file | `[dispatcher.limits]`, then `queue_jobs = 1000` |
| environment | `AOS_DISPATCHER_LIMITS_QUEUE_JOBS=1000`; for what services share, `AOS_SHARED_…` |
| flag | `--limits-queue-jobs 1000` |

Lists are arrays of strings in a file, and have commas between their entries elsewhere. What there is no setting for, in a file or
under one of the prefixes, is refused, as is a value that cannot be: the message says where it was given, its name, the value and
the limit. Secrets have no flag, because every user of a machine can read a command line, and are never shown. A file has at most
1 MiB, a text 4096 characters, a list 256 entries.
"""


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(_service(name, kind) for name, kind in PROCESSES.items())


def _service(name: str, kind: type) -> str:
    said = descriptions(kind)
    rows = "".join(f"| `{one.name}` | {_kind(one)} | {_default(one)} | {_cell(said[one.name])} |\n" for one in settings_of(kind))
    about = (kind.__doc__ or "").partition(". ")[0].rstrip(".")
    head = f"\n## `aos serve {name}`\n\n{about}. Variables begin with `AOS_{name.upper()}_`.\n"
    return f"{head}\n| Setting | Kind | Default | |\n|---|---|---|---|\n{rows}"


def _kind(one: Setting) -> str:
    kind: Any = one.kind
    if get_origin(kind) is types.UnionType:
        kind = get_args(kind)[0]
    if get_origin(kind) is not None:
        return "list"
    words = {"str": "text", "Path": "path", "bool": "true, false", "int": "integer", "float": "number"}
    return "secret" if one.secret else words.get(kind.__name__, "word")


def _default(one: Setting) -> str:
    if one.default is MISSING:
        return "needed"
    return "" if one.default in ("", (), None) else f"`{shown(one.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page())
