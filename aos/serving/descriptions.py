"""What the settings say of themselves: the docstrings under a dataclass's fields, by the settings' names."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import is_dataclass
from functools import cache
from typing import Any, cast, get_type_hints


@cache
def descriptions(kind: type, under: str = "") -> dict[str, str]:
    """Return what each setting of a dataclass, and of those within it, says of itself, on one line; empty if it says nothing."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            found |= {f"{under}{name}": text for name, text in _own(cast("type[Any]", base)).items()}
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= descriptions(cast("type", hint), f"{under}{name}.")
    return found


def _own(kind: type) -> dict[str, str]:
    body = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]).body
    found: dict[str, str] = {}
    for at, node in enumerate(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            after = body[at + 1] if at + 1 < len(body) else None
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found[node.target.id] = " ".join(str(said).split())
    return found
