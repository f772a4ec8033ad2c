"""The command `aos`."""

from aos.cli.main import main

__all__ = ["main"]
