"""ECVRF-EDWARDS25519-SHA512-TAI against RFC 9381, and against the draft that older networks use."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from aos.errors import BadProof
from aos.verification.vrf import KEY_BYTES, OUTPUT_BYTES, PROOF_BYTES, Suite, VrfKey, check_key, proof_to_hash, verify

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
SEEDS = (
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", ""),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82"),
)
PUBLIC = (
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
)


def _read(lines: str) -> list[tuple[str, str]]:
    """Pairs of proof and output, two lines each."""
    parts = iter(lines.split())
    return [(one + next(parts), next(parts) + next(parts)) for one in parts]


VECTORS = {
    # RFC 9381, B.3, examples 16 to 18
    Suite.RFC9381: _read("""
8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee
1b190bed1f479d9727d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805
90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff
66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae
f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3e
d7f2fea45c92a465301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02
eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb
5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031
9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c36
2d8628ee9f9ea3c0e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e
645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45
2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f
"""),
    # draft-irtf-cfrg-vrf-04, A.3, examples 7 to 9
    Suite.DRAFT04: _read("""
9275df67a68c8745c0ff97b48201ee6db447f7c93b23ae24cdc2400f52fdb08a1a6ac7ec71bf9c9c
76e96ee4675ebff60625af28718501047bfd87b810c2d2139b73c23bd69de66360953a642c2a330a
a64c292ec45f6b252828aff9a02a0fe88d2fcc7f5fc61bb328f03f4c6c0657a9
d26efb23b87647ff54f71cd51a6fa4c4e31661d8f72b41ff00ac4d2eec2ea7b3
84a63e74eca8fdd64e9972dcda1c6f33d03ce3cd4d333fd6cc789db12b5a7b9d03f1cb6b2bf7cd81
a2a20bacf6e1c04e59f2fa16d9119c73a45a97194b504fb9a5c8cf37f6da85e03368d6882e511008
cddaa399bb9c56d3be15792e43a6742fb72b1d248a7f24fd5cc585b232c26c93
4711393b4d97284b2bcca588775b72dc0b0f4b5a195bc41f8d2b80b6981c784e
aca8ade9b7f03e2b149637629f95654c94fc9053c225ec21e5838f193af2b727b84ad849b0039ad3
8b41513fe5a66cdd2367737a84b488d62486bd2fb110b4801a46bfca770af98e059158ac563b690f
d938b2012f2551b0e13a49568612effcbdca2aed5d1d3a13f47e180e01218916
e049837bd246f66d5058e56d3413dbbbad964f5e9f160a81c9a1355dcd99b453
"""),
}
PUBLISHED = [
    pytest.param(suite, seed, public, alpha, proof, output, id=f"{suite.name}-{alpha or 'empty'}")
    for suite, answers in VECTORS.items()
    for (seed, alpha), public, (proof, output) in zip(SEEDS, PUBLIC, answers, strict=True)
]

SMALL_ORDER = [  # the eight points; RFC 9381, 5.4.5, names their encodings
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    bytes(32),
    bytes(31) + b"\x80",
    *(bytes.fromhex(f"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc{last}") for last in ("05", "85")),
    *(bytes.fromhex(f"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03{last}") for last in ("7a", "fa")),
]
OTHER_SPELLINGS = [
    P.to_bytes(32, "little"),  # y = p, which is 0
    (P + 1).to_bytes(32, "little"),  # y = p + 1, which is 1
    (P | 1 << 255).to_bytes(32, "little"),
    (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
    (P - 1 | 1 << 255).to_bytes(32, "little"),
    b"\xff" * 32,
]
OFF_CURVE = (2).to_bytes(32, "little")
ORDER_8 = SMALL_ORDER[4]
IDENTITY = SMALL_ORDER[0]

KEY = VrfKey(bytes.fromhex(SEEDS[0][0]))
PROOF = KEY.prove(b"job")
suites = st.sampled_from(Suite)
keys = st.binary(min_size=32, max_size=32).map(VrfKey)


class TestPublishedVectors:
    @pytest.mark.parametrize(("suite", "seed", "public", "alpha", "proof", "output"), PUBLISHED)
    def test_proof_and_output(self, suite, seed, public, alpha, proof, output):
        """Key, proof and output are the published ones, byte for byte, and the proof verifies."""
        key, said = VrfKey(bytes.fromhex(seed)), bytes.fromhex(alpha)

        assert key.public.hex() == public
        assert key.prove(said, suite).hex() == proof
        assert verify(key.public, said, bytes.fromhex(proof), suite).hex() == output
        assert proof_to_hash(bytes.fromhex(proof), suite).hex() == output


class TestProving:
    @settings(max_examples=20, deadline=None)
    @given(keys, st.binary(max_size=200), suites)
    def test_a_proof_verifies_and_gives_its_output(self, key, alpha, suite):
        """Whatever the key and the input: the holder's proof is good, and shows the output that the holder knows."""
        proof = key.prove(alpha, suite)

        assert len(proof) == PROOF_BYTES
        assert verify(key.public, alpha, proof, suite) == proof_to_hash(proof, suite)
        assert len(proof_to_hash(proof, suite)) == OUTPUT_BYTES
        assert key.prove(alpha, suite) == proof

    @settings(max_examples=20, deadline=None)
    @given(keys, keys, st.binary(max_size=40), st.binary(max_size=40), suites, suites)
    def test_it_is_good_for_nothing_else(self, key, other, alpha, said, suite, another):
        """Another key, another input or another suite: not the same proof any more."""
        if (key, alpha, suite) == (other, said, another):
            return
        with pytest.raises(BadProof):
            verify(other.public, said, key.prove(alpha, suite), another)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, PROOF_BYTES * 8 - 1), suites)
    def test_one_bit_breaks_it(self, bit, suite):
        """A proof with any bit turned is refused."""
        proof = int.from_bytes(KEY.prove(b"job", suite), "little") ^ 1 << bit
        with pytest.raises(BadProof):
            verify(KEY.public, b"job", proof.to_bytes(PROOF_BYTES, "little"), suite)

    def test_a_key_shows_its_public_half_only(self):
        """The seed appears neither in repr nor in str."""
        assert KEY.seed.hex() not in repr(KEY)
        assert repr(KEY.seed) not in repr(KEY)

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_a_seed_has_32_bytes(self, length):
        """Other seeds are refused before anything is computed with them."""
        with pytest.raises(ValueError, match="32 bytes"):
            VrfKey(bytes(length))


class TestKeys:
    @pytest.mark.parametrize("public", SMALL_ORDER, ids=bytes.hex)
    def test_small_order(self, public):
        """Each of the eight points of small order is refused: RFC 9381, 5.4.5."""
        with pytest.raises(BadProof, match="small order"):
            verify(public, b"job", PROOF)

    @pytest.mark.parametrize("public", [*OTHER_SPELLINGS, OFF_CURVE], ids=bytes.hex)
    def test_other_spellings_and_no_points(self, public):
        """What RFC 8032, 5.1.3, does not decode is refused, although libsodium would take some of it."""
        with pytest.raises(BadProof, match="no point of the curve"):
            check_key(public)

    @pytest.mark.parametrize("length", [0, 31, 33, 1000])
    def test_length(self, length):
        """A key has 32 bytes; the refusal does not repeat a long one."""
        with pytest.raises(BadProof, match="has 32 bytes") as caught:
            check_key(bytes(length))
        assert len(caught.value.message) < 300

    @settings(max_examples=20, deadline=None)
    @given(keys)
    def test_every_seed_has_a_good_key(self, key):
        """Keys made from seeds pass."""
        assert len(key.public) == KEY_BYTES
        check_key(key.public)


class TestProofs:
    @pytest.mark.parametrize("proof", [b"", PROOF[:-1], PROOF + b"\x00", PROOF * 2])
    def test_length(self, proof):
        """A proof has 80 bytes."""
        for read in (lambda: verify(KEY.public, b"job", proof), lambda: proof_to_hash(proof)):
            with pytest.raises(BadProof, match="not 80"):
                read()

    @pytest.mark.parametrize("gamma", [*OTHER_SPELLINGS, OFF_CURVE], ids=bytes.hex)
    def test_gamma_must_decode(self, gamma):
        """Gamma is a point in its one spelling: 5.4.4 with RFC 8032, 5.1.3."""
        for read in (lambda: verify(KEY.public, b"job", gamma + PROOF[32:]), lambda: proof_to_hash(gamma + PROOF[32:])):
            with pytest.raises(BadProof, match="gamma"):
                read()

    @pytest.mark.parametrize("gamma", SMALL_ORDER, ids=bytes.hex)
    def test_gamma_of_small_order_proves_nothing(self, gamma):
        """It decodes, and no such proof is good, whatever goes with it."""
        for rest in (PROOF[32:], bytes(48)):
            with pytest.raises(BadProof):
                verify(KEY.public, b"job", gamma + rest)

    @pytest.mark.parametrize("suite", Suite)
    def test_s_has_one_spelling(self, suite):
        """Adding the group's order to s would give a second good proof; s must be below it."""
        proof = KEY.prove(b"job", suite)
        larger = int.from_bytes(proof[48:], "little") + L
        with pytest.raises(BadProof, match="order"):
            verify(KEY.public, b"job", proof[:48] + larger.to_bytes(32, "little"), suite)
        with pytest.raises(BadProof, match="order"):
            proof_to_hash(proof[:48] + L.to_bytes(32, "little"), suite)

    @pytest.mark.parametrize("challenge", [bytes(16), b"\xff" * 16])
    @pytest.mark.parametrize("response", [bytes(32), (1).to_bytes(32, "little"), (L - 1).to_bytes(32, "little")])
    def test_extreme_scalars(self, challenge, response):
        """Zero and the largest scalars are refused like any other wrong ones."""
        with pytest.raises(BadProof, match="no proof"):
            verify(KEY.public, b"job", PROOF[:32] + challenge + response)


class TestOutsideTheSubgroup:
    """A key's holder can add a point of order 8 to gamma, or to the key. RFC 9381 takes some such proofs: so must a judge."""

    def test_gamma_has_no_second_output(self):
        """The holder can find other good proofs for an input, and each of them has the one output."""
        found = [proof for proof in map(shifted, range(1, 60)) if accepted(KEY.public, proof)]

        assert found
        assert {verify(KEY.public, b"job", proof) for proof in found} == {proof_to_hash(PROOF)}

    def test_adding_to_gamma_is_no_proof_yet(self):
        """Without looking for a challenge that hides it, the addition is found."""
        outside = sodium.crypto_core_ed25519_add(PROOF[:32], ORDER_8)

        assert proof_to_hash(outside + PROOF[32:]) == proof_to_hash(PROOF)
        assert not accepted(KEY.public, outside + PROOF[32:])

    def test_a_key_outside(self):
        """A key with such a part is one that RFC 9381 validates; proofs of it verify if the challenge hides the part."""
        public = sodium.crypto_core_ed25519_add(KEY.public, ORDER_8)
        check_key(public)

        assert any(accepted(public, shifted(nonce, public, part=IDENTITY, rest=0)) for nonce in range(1, 60))


def shifted(nonce: int, public: bytes = KEY.public, *, part: bytes = ORDER_8, rest: int = 5) -> bytes:
    """Return what may be a proof for b"job": gamma plus ``part``, in the hope of a challenge that leaves ``rest`` by 8."""
    point = next(
        eightfold(hashed)
        for counter in range(256)
        if (hashed := sha512(b"\x03\x01" + public + b"job" + bytes([counter]) + b"\x00")[:32]) and decodes(hashed)
    )
    digest = sha512(KEY.seed)
    secret = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
    gamma = sodium.crypto_core_ed25519_add(times(secret % L, point), part)
    u, v = times(nonce), times(nonce, point)
    for _ in range(rest):
        v = sodium.crypto_core_ed25519_sub(v, part)
    challenge = sha512(b"\x03\x02" + public + point + gamma + u + v + b"\x00")[:16]
    response = (nonce + int.from_bytes(challenge, "little") * secret) % L
    return gamma + challenge + response.to_bytes(32, "little")


def accepted(public: bytes, proof: bytes) -> bool:
    try:
        verify(public, b"job", proof)
    except BadProof:
        return False
    return True


def sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


def decodes(point: bytes) -> bool:
    try:
        check_key(point)
    except BadProof:
        return False
    return True


def times(scalar: int, point: bytes | None = None) -> bytes:
    little = scalar.to_bytes(32, "little")
    if point is None:
        return sodium.crypto_scalarmult_ed25519_base_noclamp(little)
    return sodium.crypto_scalarmult_ed25519_noclamp(little, point)


def eightfold(point: bytes) -> bytes:
    for _ in range(3):
        point = sodium.crypto_core_ed25519_add(point, point)
    return point
