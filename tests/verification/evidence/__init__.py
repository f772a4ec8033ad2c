"""Published evidence, each with a time at which it held. Sources: README.md beside this."""

from __future__ import annotations

from pathlib import Path

from aos.verification.attestation.evidence import Evidence, Provider

HERE = Path(__file__).parent

SGX, TDX, TDX15EX, NITRO = "sgx", "tdx", "tdx15ex", "nitro"
QUOTES = (SGX, TDX, TDX15EX)
NOW = {SGX: 1750809600, TDX: 1750809600, TDX15EX: 1792454400, NITRO: 1732983768}
"""2025-06-25, the same, 2026-10-20; the second in which the document was made."""


def published(name: str) -> Evidence:
    if name == NITRO:
        return Evidence(Provider.AWS_NITRO, (HERE / "nitro.cose").read_bytes())
    provider = Provider.INTEL_SGX if name == SGX else Provider.INTEL_TDX
    return Evidence(provider, (HERE / f"{name}.quote").read_bytes(), (HERE / f"{name}.collateral.json").read_bytes())


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit changed; bits count from the first byte's lowest."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
