"""Failures of requests that a wallet signs. Each names the header at fault, `header`. Everybody has them from aos/errors.py."""

from __future__ import annotations

from aos.failure import AosError


class BadHeader(AosError):
    """A header of a signed request is missing or malformed."""

    reason, code = "BAD_HEADER", "INVALID_ARGUMENT"

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(f"{header}: {problem}", header=header)


class RequestReplayed(AosError):
    """The nonce of a signed request was used before."""

    reason, code = "REQUEST_REPLAYED", "ALREADY_EXISTS"

    def __init__(self, user: str, nonce: int) -> None:
        super().__init__(f"{user} has used the nonce {nonce} before; sign a new one.", header="Nonce", user=user, nonce=nonce)


class RequestExpired(AosError):
    """A signed request is past its expiry, or would last too long."""

    reason, code = "REQUEST_EXPIRED", "FAILED_PRECONDITION"

    def __init__(self, expiry: int, now: int, limit: int) -> None:
        super().__init__(
            f"A request that ends at {expiry} cannot be used at {now}: it must end within the next {limit} s.",
            header="X-AOS-Expiry", expiry=expiry, limit=limit,
        )  # fmt: skip


class OtherChain(AosError):
    """A request was signed for another chain."""

    reason, code = "OTHER_CHAIN", "INVALID_ARGUMENT"

    def __init__(self, chain: int, limit: int) -> None:
        super().__init__(f"The request is for chain {chain}; this is {limit}.", header="X-AOS-Chain-Id", chain=chain, limit=limit)


class OtherProvider(AosError):
    """The provider that is to be paid does not offer the model here."""

    reason, code = "OTHER_PROVIDER", "FAILED_PRECONDITION"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"{provider} does not offer {model!r} here, and nobody else is to be paid.",
            header="X-AOS-Provider", provider=provider, model=model,
        )  # fmt: skip


class BodyChanged(AosError):
    """The body is not the one that was signed for."""

    reason, code = "BODY_CHANGED", "INVALID_ARGUMENT"

    def __init__(self, signed: str, got: str) -> None:
        super().__init__(f"The body's hash is {got}, and {signed} was signed.", header="X-AOS-Body-Hash", signed=signed, got=got)


class RequestSignature(AosError):
    """A request's signature is not the named wallet's over what the headers say."""

    reason, code = "REQUEST_SIGNATURE", "UNAUTHENTICATED"

    def __init__(self, user: str, why: str) -> None:
        super().__init__(f"The signature is not {user}'s over these headers: {why}.", header="Signature", user=user, why=why)


class WalletNotAuthorized(AosError):
    """The account has not authorized the wallet that signed."""

    reason, code = "WALLET_NOT_AUTHORIZED", "PERMISSION_DENIED"

    def __init__(self, account: str, user: str) -> None:
        super().__init__(f"{account!r} has not authorized {user} to spend.", header="Address", account=account, user=user)


class SignatureHighS(AosError):
    """A signature has its s in the upper half, so that anyone could have made it from another one."""

    reason, code = "SIGNATURE_HIGH_S", "INVALID_ARGUMENT"

    def __init__(self) -> None:
        super().__init__("The signature's s is in the upper half; only the other of the two is taken.", header="Signature")


class FeeTooLow(AosError):
    """The answer may cost more than the request allows."""

    reason, code = "FEE_TOO_LOW", "FAILED_PRECONDITION"

    def __init__(self, fee: int, needed: int) -> None:
        super().__init__(
            f"The answer may cost {needed} neurons, and {fee} are allowed; sign for more, or ask for fewer tokens.",
            header="Fee", fee=fee, needed=needed,
        )  # fmt: skip
