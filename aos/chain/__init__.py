"""The chain: contracts, their artifacts, and typed clients. The only folder that imports web3."""

import aos.verification  # noqa: F401  # pyright: ignore[reportUnusedImport]  # before web3, so that the recursion limit stays what it was

__all__: list[str] = []
