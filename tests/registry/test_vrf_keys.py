"""Operators' VRF keys: registered with the operator's signature, shown with the time from which they count."""

from __future__ import annotations

import pytest

from aos.v1 import registry_pb2 as pb
from aos.verification.keys import OperatorKey, prove
from aos.verification.vrf import VrfKey
from tests.databases import ON_SQLITE
from tests.refusals import refused
from tests.registry.conftest import an_offer

VRF = VrfKey(b"\x01" * 32)


async def register(registry, key: OperatorKey, vrf: bytes, *, signed: bytes | None = None) -> pb.OperatorInfo:
    offers = [an_offer()]
    proof = prove(key, "register", offers, issued_at=registry.second, vrf_key=vrf if signed is None else signed)
    return await registry.stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=offers, vrf_key=vrf))


class TestVrfKey:
    async def test_it_is_shown(self, registry):
        """What is registered is what everyone sees, with its time; an operator without one has neither."""
        key = OperatorKey.create()
        info = await register(registry, key, VRF.public)
        without = await registry.register(OperatorKey.create(), an_offer("other"))

        assert info.vrf_key == VRF.public
        assert info.vrf_key_since == info.registered
        shown = await registry.stub.GetOperator(pb.GetOperatorRequest(name=info.name))
        assert (shown.vrf_key, shown.vrf_key_since) == (info.vrf_key, info.vrf_key_since)
        assert without.vrf_key == b""
        assert not without.HasField("vrf_key_since")

    async def test_the_same_key_keeps_its_time(self, registry):
        """Registering again, and renewing, do not make it new; another key is new, and so is a key that was given up."""
        key = OperatorKey.create()
        first = await register(registry, key, VRF.public)
        registry.clock.advance(seconds=10)
        assert (await register(registry, key, VRF.public)).vrf_key_since == first.vrf_key_since
        assert (await registry.renew(key)).vrf_key_since == first.vrf_key_since
        registry.clock.advance(seconds=10)
        other = await register(registry, key, VrfKey(b"\x02" * 32).public)
        assert other.vrf_key_since.ToSeconds() == first.vrf_key_since.ToSeconds() + 20
        registry.clock.advance(seconds=10)
        back = await register(registry, key, VRF.public)
        assert back.vrf_key_since.ToSeconds() == first.vrf_key_since.ToSeconds() + 30

    @pytest.mark.parametrize("signed", [b"", VrfKey(b"\x02" * 32).public])
    @ON_SQLITE
    async def test_it_is_signed_for(self, registry, signed):
        """Nobody on the way can add a key or put another in its place."""
        with refused("BAD_SIGNATURE"):
            await register(registry, OperatorKey.create(), VRF.public, signed=signed)

    @pytest.mark.parametrize("key", [b"\x01", bytes(32), (1).to_bytes(32, "little"), b"\x02" * 32, b"\xff" * 32, b"\x01" * 33])
    @ON_SQLITE
    async def test_what_is_no_key(self, registry, key):
        """Points that are none, of small order, or of another length are refused by name."""
        with refused("INVALID_FIELD", field="vrf_key"):
            await register(registry, OperatorKey.create(), key)
