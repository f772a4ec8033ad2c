"""What can be set about keeping controllers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """How much projects may keep, and how much may come in at once. Raises ValueError for a value that cannot work."""

    project_modules: int = 100
    """Most modules that one project has brought in and that are kept."""
    project_bytes: int = 1 << 30
    """Most bytes of them."""
    project_tags: int = 1000
    """Most tags that one project has set."""
    uploads: int = 8
    """Most modules that come in at once."""
    project_uploads: int = 2
    """Most of one project."""
    upload_seconds: float = 600.0
    """How long a module may take to come in."""
    checks: int = 2
    """Most modules that are compiled at once; each within the limits of aos/wasm_modules.py."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"controller setting {name} must be above 0, not {getattr(self, name)}")
