"""AOS: an open network for verifiable AI compute."""

from aos.client import Client, connect

__all__ = ["Client", "connect"]
