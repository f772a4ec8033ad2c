"""ECVRF over edwards25519: an output that only the key's holder can find and that anyone can check. Pure; RFC 9381.

The arithmetic of the curve is libsodium's; what stands here is section 5 of the RFC. `verify` accepts exactly what the RFC accepts:
what is evidence here is evidence for every other implementation, too.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import Final

from nacl import bindings as sodium
from nacl.exceptions import RuntimeError as SodiumRefused

from aos.errors import BadProof

SEED_BYTES: Final = 32
KEY_BYTES: Final = 32
PROOF_BYTES: Final = 80
"""Gamma, 32; c, 16; s, 32."""
OUTPUT_BYTES: Final = 64

_POINT: Final = 32
_CHALLENGE: Final = 16
_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
"""Order of the base point."""
_IDENTITY: Final = (1).to_bytes(32, "little")
_ZERO: Final = bytes(32)
_INVERSE_OF_8: Final = pow(8, -1, _L).to_bytes(32, "little")
_TRIES: Final = 256
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(one)
    for one in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
)
"""The eight points that 8 times make the identity: RFC 9381, 5.4.5, with the spellings that decoding refuses left out."""


class Suite(enum.Enum):
    """Which ECVRF. Both have suite byte 3, 80-byte proofs and 64-byte outputs, and neither takes the other's proofs."""

    RFC9381 = "ECVRF-EDWARDS25519-SHA512-TAI"
    """RFC 9381, 5.5."""
    DRAFT04 = "ECVRF-ED25519-SHA512-TAI"
    """draft-irtf-cfrg-vrf-04: the key is no part of the challenge, and hashes end without a zero byte. For networks that use it."""

    @property
    def back(self) -> bytes:
        """What every hash ends with."""
        return b"\x00" if self is Suite.RFC9381 else b""


@dataclass(frozen=True, slots=True)
class VrfKey:
    """An ed25519 seed of its own: never the key that signs. Its repr shows the public key only.

    Raises ValueError for a seed of another length.
    """

    seed: bytes = field(repr=False)
    """32 random bytes."""
    public: bytes = field(init=False)
    """32 bytes: RFC 8032's encoding."""

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"a VRF seed has {SEED_BYTES} bytes")
        object.__setattr__(self, "public", sodium.crypto_sign_seed_keypair(self.seed)[0])

    def prove(self, alpha: bytes, suite: Suite = Suite.RFC9381) -> bytes:
        """Return the proof, 80 bytes: ECVRF_prove, 5.1. Equal for equal ``alpha``, always."""
        digest = hashlib.sha512(self.seed).digest()
        secret, rest = _clamp(digest[:32]), digest[32:]
        point = _encode_to_curve(self.public, alpha, suite)
        gamma = _times(secret, point)
        # 5.4.2.2: no randomness, so none can be bad
        nonce = sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(rest + point).digest())
        challenge = _challenge(suite, self.public, point, gamma, _times_base(nonce), _times(nonce, point))
        product = sodium.crypto_core_ed25519_scalar_mul(_widen(challenge), secret)
        return gamma + challenge + sodium.crypto_core_ed25519_scalar_add(nonce, product)


def check_key(public: bytes) -> None:
    """Raise BadProof unless the bytes are a key that outputs can be trusted from: 5.4.5, after decoding by RFC 8032, 5.1.3.

    With a key of small order one input would have several outputs.
    """
    if len(public) != KEY_BYTES:
        raise BadProof(public, f"a key has {KEY_BYTES} bytes, not {len(public)}")
    if not _on_curve(public):
        raise BadProof(public, "the key is no point of the curve, or is spelt in another than the one way")
    if public in _SMALL_ORDER:
        raise BadProof(public, "the key is a point of small order")


def verify(public: bytes, alpha: bytes, proof: bytes, suite: Suite = Suite.RFC9381) -> bytes:
    """Return the output, 64 bytes, that the key's holder has for ``alpha``: ECVRF_verify, 5.3, with validate_key.

    Raises BadProof for anything else than a proof of it.
    """
    check_key(public)
    gamma, challenge, response = _decode(public, proof)
    point = _encode_to_curve(public, alpha, suite)
    wide = _widen(challenge)
    u = sodium.crypto_core_ed25519_sub(_times_base(response), _times(wide, public))
    v = sodium.crypto_core_ed25519_sub(_times(response, point), _times(wide, gamma))
    if _challenge(suite, public, point, gamma, u, v) != challenge:
        raise BadProof(public, "it is another key's, for another input, or no proof")
    return _output(gamma, suite)


def proof_to_hash(proof: bytes, suite: Suite = Suite.RFC9381) -> bytes:
    """Return the output that a proof stands for, 64 bytes: 5.2. For one's own proofs: nothing is verified.

    Raises BadProof for bytes that cannot be decoded.
    """
    gamma, _, _ = _decode(b"", proof)
    return _output(gamma, suite)


def _output(gamma: bytes, suite: Suite) -> bytes:
    return hashlib.sha512(b"\x03\x03" + _times_8(gamma) + suite.back).digest()


def _decode(public: bytes, proof: bytes) -> tuple[bytes, bytes, bytes]:
    """ECVRF_decode_proof, 5.4.4. The draft lets s be any number; one of several spellings is refused here for it, too."""
    if len(proof) != PROOF_BYTES:
        raise BadProof(public, f"it has {len(proof)} bytes, not {PROOF_BYTES}")
    gamma, challenge, response = proof[:_POINT], proof[_POINT : _POINT + _CHALLENGE], proof[_POINT + _CHALLENGE :]
    if int.from_bytes(response, "little") >= _L:
        raise BadProof(public, "its s is not below the group's order")
    if not _on_curve(gamma):
        raise BadProof(public, "its gamma is no point of the curve, or is spelt in another than the one way")
    return gamma, challenge, response


def _encode_to_curve(salt: bytes, alpha: bytes, suite: Suite) -> bytes:
    """Try and increment, 5.4.1.1: a point of the large subgroup that nobody knows the logarithm of."""
    for counter in range(_TRIES):
        found = hashlib.sha512(b"\x03\x01" + salt + alpha + bytes([counter]) + suite.back).digest()[:_POINT]
        if _on_curve(found) and (point := _times_8(found)) != _IDENTITY:
            return point
    raise AssertionError("each try fails with probability 1/2, and 256 of them failed")


def _challenge(suite: Suite, public: bytes, *points: bytes) -> bytes:
    """Return c, 16 bytes: 5.4.3."""
    first = public if suite is Suite.RFC9381 else b""
    return hashlib.sha512(b"\x03\x02" + first + b"".join(points) + suite.back).digest()[:_CHALLENGE]


def _on_curve(point: bytes) -> bool:
    """Whether RFC 8032, 5.1.3, decodes it: libsodium alone would take y beyond the field's prime, and a negative zero for x."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    if y >= _P or (y in (1, _P - 1) and point[-1] >> 7):
        return False
    try:
        sodium.crypto_core_ed25519_add(point, _IDENTITY)
    except SodiumRefused:
        return False
    return True


def _times_8(point: bytes) -> bytes:
    for _ in range(3):
        point = sodium.crypto_core_ed25519_add(point, point)
    return point


def _times_base(scalar: bytes) -> bytes:
    return _IDENTITY if scalar == _ZERO else sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)


def _times(scalar: bytes, point: bytes) -> bytes:
    """Multiply any point of the curve; ``scalar`` below 2^255."""
    if scalar == _ZERO:
        return _IDENTITY
    try:
        return sodium.crypto_scalarmult_ed25519_noclamp(scalar, point)
    except SodiumRefused:
        # a point outside the large subgroup, which libsodium does not multiply and RFC 9381 allows: its part inside, and the rest
        # of order 8 or less, one by one
        eightfold = _times_8(point)
        inside = _IDENTITY if eightfold == _IDENTITY else sodium.crypto_scalarmult_ed25519_noclamp(_INVERSE_OF_8, eightfold)
        outside = sodium.crypto_core_ed25519_sub(point, inside)
        product = _IDENTITY if inside == _IDENTITY else sodium.crypto_scalarmult_ed25519_noclamp(scalar, inside)
        for _ in range(scalar[0] % 8):
            product = sodium.crypto_core_ed25519_add(product, outside)
        return product


def _clamp(half: bytes) -> bytes:
    """RFC 8032, 5.1.5: the secret scalar of a seed's digest."""
    return bytes([half[0] & 0xF8]) + half[1:31] + bytes([half[31] & 0x7F | 0x40])


def _widen(challenge: bytes) -> bytes:
    return challenge + bytes(32 - _CHALLENGE)
