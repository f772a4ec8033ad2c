from __future__ import annotations

import pytest

from aos.registry.settings import RegistrySettings
from aos.rpc.channel import channel
from aos.testing.clock import START, ManualClock
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey, prove
from tests.databases import ON_SQLITE
from tests.refusals import refused
from tests.registry.conftest import an_offer, running


class TestRegistering:
    async def test_an_operator_is_listed_with_what_it_offers(self, registry, key):
        """A registration gives back the offers, the times and that jobs may be sent."""
        info = await registry.register(key, an_offer("m"), an_offer("other/model:7b.Q8"))

        assert info.name == f"operators/{key.address.lower()}"
        assert [offer.model for offer in info.offers] == ["m", "other/model:7b.Q8"]
        assert (info.registered.seconds, info.expires.seconds) == (START.timestamp(), START.timestamp() + 30)
        assert (info.routable, info.reason) == (True, "")
        assert await registry.operator(key) == info

    async def test_offers_replace_the_ones_before(self, registry, key):
        """A shorter list takes the missing models away."""
        await registry.register(key, an_offer("m"), an_offer("n"))
        registry.clock.advance(seconds=1)
        info = await registry.register(key, an_offer("n"))

        assert [offer.model for offer in info.offers] == ["n"]
        with refused("MODEL_NOT_FOUND", code="NOT_FOUND", model="m", offered="n"):
            await registry.model("m")

    async def test_a_retry_is_safe(self, registry, key):
        """The same message again changes nothing, even the time."""
        first = await registry.register(key, issued_at=registry.second)
        registry.clock.advance(seconds=5)

        assert await registry.register(key, issued_at=registry.second - 5) == first

    async def test_registering_again_begins_the_time_anew(self, registry, key):
        """A later registration keeps the first one's date and moves the end."""
        first = await registry.register(key)
        registry.clock.advance(seconds=20)
        again = await registry.register(key)

        assert again.registered == first.registered
        assert again.expires.seconds == first.expires.seconds + 20

    async def test_anyone_with_a_key_may_register(self, registry, key):
        """No token is needed: the signature speaks for the operator."""
        async with channel(registry.address) as opened:
            offers = [an_offer()]
            proof = prove(key, "register", offers, issued_at=registry.second)
            stub = registry_pb2_grpc.RegistryStub(opened)
            info = await stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=offers))

        assert info.routable

    async def test_a_full_registry_refuses_strangers_and_keeps_its_own(self, database_address, key):
        """The bound on operators is named, and does not stop known ones from coming back."""
        settings = RegistrySettings(operators=1)
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            await registry.register(key)
            with refused("QUEUE_FULL", code="RESOURCE_EXHAUSTED", queue="operators", limit="1"):
                await registry.register(OperatorKey.create())
            registry.clock.advance(seconds=60)
            assert (await registry.register(key)).routable


class TestProofs:
    async def test_changed_offers_are_refused(self, registry, key):
        """A proof is good for the very offers that it was made for."""
        proof = prove(key, "register", [an_offer()], issued_at=registry.second)

        with refused("BAD_SIGNATURE", code="UNAUTHENTICATED", claimed=key.address):
            await registry.stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=[an_offer(slots=5)]))

    async def test_another_key_is_refused(self, registry, key):
        """Nobody registers, renews or ends another operator."""
        await registry.register(key)
        forged = prove(OperatorKey.create(), "unregister", [], issued_at=registry.second)
        forged.operator = key.address

        with refused("BAD_SIGNATURE"):
            await registry.stub.UnregisterOperator(pb.UnregisterOperatorRequest(proof=forged))
        assert (await registry.operator(key)).routable

    @pytest.mark.parametrize("shift", [-61, 61])
    @ON_SQLITE
    async def test_a_proof_out_of_date_is_refused(self, registry, key, shift):
        """More than a minute from the registry's clock is too far, either way."""
        with refused("BAD_SIGNATURE", saying="60 s"):
            await registry.register(key, issued_at=registry.second + shift)

    @pytest.mark.parametrize("shift", [-60, 60])
    async def test_a_clock_may_be_off_by_a_minute(self, registry, key, shift):
        """Sixty seconds either way are taken."""
        assert (await registry.register(key, issued_at=registry.second + shift)).routable

    async def test_an_earlier_proof_is_refused(self, registry, key):
        """What was signed before the last proof that was taken cannot be brought in later."""
        await registry.register(key)
        with refused("BAD_SIGNATURE", saying="later one was used"):
            await registry.renew(key, issued_at=registry.second - 1)

    async def test_a_replayed_renewal_prolongs_nothing(self, registry, key):
        """A listener who repeats a renewal cannot keep a dead operator alive."""
        await registry.register(key)
        registry.clock.advance(seconds=1)
        signed_at = registry.second
        renewed = await registry.renew(key)
        registry.clock.advance(seconds=20)

        assert await registry.renew(key, issued_at=signed_at) == renewed

    async def test_a_replayed_registration_brings_no_operator_back(self, registry, key):
        """A registration cannot be repeated to undo an unregistration, even within the same second."""
        await registry.register(key)
        await registry.unregister(key)

        with refused("BAD_SIGNATURE", saying="used before"):
            await registry.register(key)
        assert not (await registry.operator(key)).routable

    async def test_a_lapsed_registration_cannot_be_replayed(self, registry, key):
        """While its proof is still young, a registration that lapsed needs a new one."""
        signed_at = registry.second
        await registry.register(key)
        registry.clock.advance(seconds=40)

        with refused("BAD_SIGNATURE", saying="used before"):
            await registry.register(key, issued_at=signed_at)

    async def test_used_proofs_are_remembered_across_a_restart(self, database_address, key):
        """Restarting the registry does not make old proofs good again."""
        clock = ManualClock()
        async with running(database_address, clock=clock) as registry:
            await registry.register(key)
            await registry.unregister(key)
        async with running(database_address, clock=clock) as registry:
            with refused("BAD_SIGNATURE", saying="used before"):
                await registry.register(key)

    async def test_one_second_takes_a_bounded_number_of_proofs(self, registry, key):
        """What must be remembered of one second stays small."""
        for slots in range(1, 17):
            await registry.register(key, an_offer(slots=slots))
        with refused("BAD_SIGNATURE"):
            await registry.register(key, an_offer(slots=17))

    @pytest.mark.parametrize("operator", ["", "0x", "0x" + "g" * 40, "operators/0x" + "0" * 40])
    @ON_SQLITE
    async def test_an_address_that_is_none_is_refused(self, registry, operator):
        """A malformed address is a bad signature, not a failure of the server."""
        proof = pb.OperatorProof(operator=operator, issued_at=registry.second, signature=bytes(65))
        with refused("BAD_SIGNATURE"):
            await registry.stub.RenewOperator(pb.RenewOperatorRequest(proof=proof))


OFFERS = {
    "offers[0].model": [an_offer(""), an_offer("m" * 129), an_offer("a b"), an_offer("ü"), an_offer("m\n")],
    "offers[0].digest": [an_offer(digest=""), an_offer(digest="a" * 63), an_offer(digest="g" * 64), an_offer(digest="a" * 65)],
    "offers[0].context_length": [an_offer(context_length=0), an_offer(context_length=(1 << 24) + 1)],
    "offers[0].slots": [an_offer(slots=0), an_offer(slots=4097)],
    "offers[0].price.prompt_token": [
        an_offer(price=Price(prompt_token=digits, completion_token="1")) for digits in ("", "-1", "1.5", "1" * 31, "٣", " 1")
    ],
    "offers[0].price.completion_token": [an_offer(price=Price(prompt_token="1"))],
}


class TestOffers:
    @pytest.mark.parametrize(("field", "offer"), [(field, offer) for field, offers in OFFERS.items() for offer in offers])
    @ON_SQLITE
    async def test_a_bad_field_is_refused_by_name(self, registry, key, field, offer):
        """Each field has its limit, and the refusal names both."""
        with refused("INVALID_FIELD", code="INVALID_ARGUMENT", field=field):
            await registry.register(key, offer)

    @pytest.mark.parametrize("count", [0, 65])
    @ON_SQLITE
    async def test_one_to_sixty_four_offers(self, registry, key, count):
        """Nothing to offer is refused, and so is too much."""
        offers = [an_offer(f"m{index}") for index in range(count)]
        proof = prove(key, "register", offers, issued_at=registry.second)
        with refused("INVALID_FIELD", field="offers", value=str(count), limit="64"):
            await registry.stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=offers))

    async def test_the_limits_themselves_are_accepted(self, registry, key):
        """Sixty-four offers at the edge of every limit register, and come back as they were."""
        widest = {"context_length": 1 << 24, "slots": 4096, "price": Price(prompt_token="9" * 30, completion_token="0")}
        offers = [an_offer(f"{index:0128}", **widest) for index in range(64)]

        assert list((await registry.register(key, *offers)).offers) == offers

    async def test_a_model_is_offered_once(self, registry, key):
        """The same model twice in one registration is refused."""
        with refused("INVALID_FIELD", field="offers[1].model", value="m"):
            await registry.register(key, an_offer("m"), an_offer("m", slots=1))


class TestLeases:
    async def test_a_registration_lapses(self, registry, key):
        """Without a renewal the operator is not used any more, and the reason says since when."""
        await registry.register(key)
        registry.clock.advance(seconds=30)
        assert (await registry.operator(key)).reason == "lease expired 0 s ago"
        registry.clock.advance(seconds=12)
        info = await registry.operator(key)

        assert (info.routable, info.reason) == (False, "lease expired 12 s ago")

    async def test_a_renewal_keeps_it_alive(self, registry, key):
        """Renewed in time, it goes on for a whole lease from then."""
        await registry.register(key)
        for _ in range(5):
            registry.clock.advance(seconds=29)
            info = await registry.renew(key)

        assert info.routable
        assert info.expires.seconds == registry.second + 30

    async def test_a_renewal_too_late_is_refused(self, registry, key):
        """Once lapsed, the operator has to register again."""
        await registry.register(key)
        registry.clock.advance(seconds=30)

        with refused("LEASE_EXPIRED", code="FAILED_PRECONDITION", operator=key.address.lower()):
            await registry.renew(key)

    async def test_a_stranger_is_told_to_register(self, registry, key):
        """Renewing what was never registered is answered as if it had lapsed: the remedy is the same."""
        with refused("LEASE_EXPIRED"):
            await registry.renew(key)

    async def test_unregistering_ends_it_at_once(self, registry, key):
        """An operator that leaves stays listed, with the reason."""
        await registry.register(key)
        registry.clock.advance(seconds=1)
        assert not (await registry.unregister(key)).routable
        registry.clock.advance(seconds=150)

        assert (await registry.operator(key)).reason == "unregistered 2 min ago"

    async def test_unregistering_twice_is_told(self, registry, key):
        """There is nothing left to end."""
        await registry.register(key)
        await registry.unregister(key)
        registry.clock.advance(seconds=1)

        with refused("OPERATOR_NOT_FOUND", code="NOT_FOUND", operator=f"operators/{key.address.lower()}"):
            await registry.unregister(key)

    async def test_leases_survive_a_restart(self, database_address, key):
        """A registry that comes back knows its operators, and until when."""
        clock = ManualClock()
        async with running(database_address, clock=clock) as registry:
            info = await registry.register(key, an_offer("m"), an_offer("n"))
        async with running(database_address, clock=clock) as registry:
            assert await registry.operator(key) == info
            clock.advance(seconds=31)
            assert (await registry.operator(key)).reason == "lease expired 1 s ago"

    async def test_long_gone_operators_are_forgotten(self, registry, key):
        """A day after it lapsed an operator is not listed any more, and neither are its models."""
        await registry.register(key)
        registry.clock.advance(seconds=86_400 + 30)
        assert not (await registry.operator(key)).routable
        registry.clock.advance(seconds=1)

        with refused("OPERATOR_NOT_FOUND"):
            await registry.operator(key)
        with refused("MODEL_NOT_FOUND", offered=""):
            await registry.model()
        assert not (await registry.stub.ListOperators(pb.ListOperatorsRequest())).operators

    async def test_forgotten_operators_leave_room(self, database_address, key):
        """What is forgotten does not count against the bound."""
        settings = RegistrySettings(operators=1)
        async with running(database_address, clock=ManualClock(), settings=settings) as registry:
            await registry.register(OperatorKey.create())
            registry.clock.advance(hours=25)
            assert (await registry.register(key)).routable


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"lease": 0},
            {"lease": 1.9},
            {"claim": -1},
            {"operators": 0},
            {"forget_after": 60},
            {"claim": 90_000},
            {"projects": 0},
            {"replica_lease": -1},
            {"drain": 0},
            {"watchers": 0},
            {"api_networks": ()},
        ],
    )
    def test_a_value_that_cannot_be_is_refused(self, wrong):
        """A wrong setting is named at once; none becomes a default in silence."""
        with pytest.raises(ValueError, match=rf"^({'|'.join(wrong)}|forget_after): "):
            RegistrySettings(**wrong)
