from __future__ import annotations

import base64

import pytest

from aos.rpc.channel import channel
from aos.v1 import registry_pb2 as pb
from aos.v1 import registry_pb2_grpc
from aos.v1.types_pb2 import Price
from aos.verification.keys import OperatorKey, prove
from tests.databases import ON_SQLITE
from tests.refusals import refused
from tests.registry.conftest import an_offer

OTHER_SPELLING = base64.urlsafe_b64encode(b"ListModels\nab").decode().rstrip("=")[:-1] + "h"
"""Base64 whose last bits, which carry nothing, differ from those of the token for model `ab`."""


@pytest.fixture
def keys() -> list[OperatorKey]:
    return sorted((OperatorKey.create() for _ in range(3)), key=lambda key: key.address.lower())


def addresses(*keys: OperatorKey) -> list[str]:
    return [key.address.lower() for key in keys]


class TestModels:
    async def test_a_model_is_what_its_operators_offer(self, registry, keys):
        """Operators of the same weights are one model: the longest context and, of each price, the dearest."""
        await registry.register(keys[1], an_offer(context_length=10, price=Price(prompt_token="9" * 30, completion_token="1")))
        registry.clock.advance(seconds=1)
        await registry.register(keys[0], an_offer(context_length=20, price=Price(prompt_token="5", completion_token="7")))

        model = await registry.model()
        assert list(model.operators) == addresses(*keys[:2])
        assert (model.digest, model.context_length, model.chat) == ("aa" * 32, 20, True)
        assert model.price == Price(prompt_token="9" * 30, completion_token="7")
        assert (model.routable, model.reason) == (True, "")
        assert model.created.seconds == registry.second - 1

    async def test_the_dearest_price_is_of_those_that_can_be_used(self, registry, keys):
        """An operator that has lapsed does not make the model dearer."""
        await registry.register(keys[0], an_offer(price=Price(prompt_token="100", completion_token="100")))
        registry.clock.advance(seconds=20)
        await registry.register(keys[1])
        registry.clock.advance(seconds=15)

        model = await registry.model()
        assert list(model.operators) == addresses(keys[1])
        assert model.price == Price(prompt_token="1", completion_token="2")

    async def test_a_model_without_operators_says_why(self, registry, keys):
        """A known model that nobody runs now is shown as it was, with what became of each operator."""
        await registry.register(keys[0])
        await registry.register(keys[1])
        registry.clock.advance(seconds=10)
        await registry.unregister(keys[1])
        registry.clock.advance(seconds=32)

        model = await registry.model()
        assert not model.routable
        assert not model.operators
        assert model.context_length == 1024
        one, two = addresses(*keys[:2])
        assert model.reason == f"{one} lease expired 12 s ago; {two} unregistered 32 s ago"

    async def test_an_unknown_model_is_refused_with_the_known_ones(self, registry, key):
        """Whoever misspells a model is told the names that there are."""
        with refused("MODEL_NOT_FOUND", code="NOT_FOUND", model="mm", offered=""):
            await registry.model("mm")
        await registry.register(key, an_offer("n"), an_offer("m"))
        with refused("MODEL_NOT_FOUND", model="mm", offered="m, n"):
            await registry.model("mm")

    async def test_the_list_of_known_ones_is_bounded(self, registry, key):
        """The refusal names twenty models, not sixty-four."""
        await registry.register(key, *(an_offer(f"m{index:02}") for index in range(64)))
        with refused("MODEL_NOT_FOUND", offered=", ".join(f"m{index:02}" for index in range(20))):
            await registry.model("none")

    async def test_long_names_still_make_a_refusal(self, registry, key):
        """Names at their longest, the unknown one beyond it, do not keep the refusal from arriving."""
        await registry.register(key, *(an_offer(f"{index:0128}") for index in range(64)))
        with refused("MODEL_NOT_FOUND"):
            await registry.model("x" * 100_000)


class TestAbilities:
    async def test_a_model_is_exact_if_one_operator_is(self, registry, keys):
        """Jobs that are to be exact go to those that can: one that cannot takes nothing from them."""
        await registry.register(keys[1], an_offer())
        assert not (await registry.model()).exact
        info = await registry.register(keys[0], an_offer(exact=True))
        assert info.offers[0].exact
        assert (await registry.model()).exact
        await registry.unregister(keys[0])
        assert not (await registry.model()).exact

    async def test_a_model_embeds_if_one_operator_does(self, registry, keys):
        """Jobs that ask for vectors go to those that make some."""
        await registry.register(keys[0], an_offer())
        assert not (await registry.model()).embeddings
        info = await registry.register(keys[1], an_offer(embeddings=True))
        assert info.offers[0].embeddings
        assert (await registry.model()).embeddings

    async def test_a_model_runs_controllers_if_one_operator_does(self, registry, keys):
        """Orders with a controller are placed with those that run one, so one is enough; the offer is told as it was made."""
        await registry.register(keys[0])
        assert not (await registry.model()).controllers
        info = await registry.register(keys[1], an_offer(controllers=True))
        assert info.offers[0].controllers
        assert (await registry.model()).controllers

    async def test_what_is_not_signed_for_is_refused(self, registry, keys):
        """Nobody adds an ability to somebody else's offer."""
        proof = prove(keys[0], "register", [an_offer()], issued_at=registry.second)
        with refused("BAD_SIGNATURE"):
            await registry.stub.RegisterOperator(pb.RegisterOperatorRequest(proof=proof, offers=[an_offer(exact=True)]))


class TestWeights:
    async def test_the_first_weights_decide(self, registry, keys):
        """The second operator with other weights under the same name is not used, and the reason names both."""
        await registry.register(keys[2])
        registry.clock.advance(seconds=1)
        late = await registry.register(keys[0], an_offer(digest="bb" * 32))

        first, second = addresses(keys[2], keys[0])
        assert not late.routable
        assert late.reason == f"offers 'm' with weights bbbbbbbbbbbb, but {first} offered it first with weights aaaaaaaaaaaa"
        model = await registry.model()
        assert (model.digest, list(model.operators)) == ("aa" * 32, [first])
        assert second not in model.operators

    async def test_digests_are_the_same_in_either_case(self, registry, keys):
        """Upper-case hex names the same weights."""
        await registry.register(keys[0], an_offer(digest="AA" * 32))
        assert (await registry.register(keys[1])).routable

    async def test_an_operator_is_used_for_its_other_models(self, registry, keys):
        """One model in conflict takes nothing from the others."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=1)
        info = await registry.register(keys[1], an_offer(digest="bb" * 32), an_offer("n"))

        assert info.routable
        assert list((await registry.model("m")).operators) == addresses(keys[0])
        assert list((await registry.model("n")).operators) == addresses(keys[1])

    async def test_a_short_loss_hands_the_name_to_nobody(self, registry, keys):
        """While the first operator has only just lapsed, other weights do not take its name over."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=29)
        await registry.register(keys[1], an_offer(digest="bb" * 32))
        registry.clock.advance(seconds=20)

        model = await registry.model()
        assert not model.routable
        assert model.digest == "aa" * 32
        assert "lease expired 19 s ago" in model.reason
        assert "with weights bbbbbbbbbbbb" in model.reason
        assert (await registry.register(keys[0])).routable

    async def test_a_long_loss_frees_the_name(self, registry, keys):
        """Five minutes after the first operator lapsed, the next weights decide, and keep deciding when it returns."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=30 + 300)
        assert (await registry.register(keys[1], an_offer(digest="bb" * 32))).routable
        registry.clock.advance(seconds=1)

        assert not (await registry.register(keys[0])).routable
        assert (await registry.model()).digest == "bb" * 32

    async def test_leaving_frees_the_name_at_once(self, registry, keys):
        """An operator that unregisters gives its claim up."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=1)
        await registry.unregister(keys[0])

        assert (await registry.register(keys[1], an_offer(digest="bb" * 32))).routable
        assert (await registry.model()).digest == "bb" * 32

    async def test_new_weights_of_the_only_operator(self, registry, key):
        """An operator may replace its own model's weights when nobody else runs it."""
        await registry.register(key)
        registry.clock.advance(seconds=1)

        assert (await registry.register(key, an_offer(digest="bb" * 32))).routable
        assert (await registry.model()).digest == "bb" * 32

    async def test_new_weights_queue_behind_the_old(self, registry, keys):
        """Among several operators, the one that changes weights waits for the others to follow."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=1)
        await registry.register(keys[1])
        registry.clock.advance(seconds=1)
        assert not (await registry.register(keys[0], an_offer(digest="bb" * 32))).routable
        registry.clock.advance(seconds=1)
        assert (await registry.register(keys[1], an_offer(digest="bb" * 32))).routable

        assert list((await registry.model()).operators) == addresses(*keys[:2])


class TestLists:
    async def test_operators_by_address_in_pages(self, registry):
        """Pages follow on from each other, in order, with nothing doubled or lost, and the last has no token."""
        keys = [OperatorKey.create() for _ in range(5)]
        for key in keys:
            await registry.register(key)

        names, token, pages = [], "", 0
        while pages == 0 or token:
            page = await registry.stub.ListOperators(pb.ListOperatorsRequest(page_size=2, page_token=token))
            names += [one.name for one in page.operators]
            token, pages = page.next_page_token, pages + 1

        assert names == sorted(f"operators/{address}" for address in addresses(*keys))
        assert pages == 3

    async def test_a_full_last_page_has_no_next(self, registry, keys):
        """As many as fit exactly make one page."""
        for key in keys:
            await registry.register(key)
        assert not (await registry.stub.ListOperators(pb.ListOperatorsRequest(page_size=3))).next_page_token

    async def test_lapsed_operators_are_listed_too(self, registry, keys):
        """The list shows who is not used, and why."""
        await registry.register(keys[0])
        registry.clock.advance(seconds=31)
        await registry.register(keys[1], an_offer(digest="bb" * 32))

        listed = (await registry.stub.ListOperators(pb.ListOperatorsRequest())).operators
        assert [one.routable for one in listed] == [False, False]
        assert listed[0].reason == "lease expired 1 s ago"
        assert "offered it first" in listed[1].reason

    async def test_models_by_name_in_pages(self, registry, key):
        """Models come sorted, each as GetModel gives it."""
        await registry.register(key, an_offer("c"), an_offer("a"), an_offer("b"))
        first = await registry.stub.ListModels(pb.ListModelsRequest(page_size=2))
        rest = await registry.stub.ListModels(pb.ListModelsRequest(page_size=2, page_token=first.next_page_token))

        assert [one.name for one in (*first.models, *rest.models)] == ["a", "b", "c"]
        assert first.models[1] == await registry.model("b")
        assert not rest.next_page_token

    @pytest.mark.parametrize("size", [-1, 1001])
    @pytest.mark.parametrize("method", ["ListOperators", "ListModels"])
    @ON_SQLITE
    async def test_a_page_size_out_of_range(self, registry, method, size):
        """The refusal names the field, what was sent and the limit."""
        with refused("INVALID_FIELD", field="page_size", value=str(size), limit="1000"):
            await getattr(registry.stub, method)(getattr(pb, f"{method}Request")(page_size=size))

    @pytest.mark.parametrize("token", ["x", "!!!", "ü", "A" * 2000, OTHER_SPELLING])
    @pytest.mark.parametrize("method", ["ListOperators", "ListModels"])
    @ON_SQLITE
    async def test_a_page_token_that_nobody_gave(self, registry, method, token):
        """Junk in place of a token is refused by name."""
        with refused("INVALID_FIELD", field="page_token", limit="a next_page_token"):
            await getattr(registry.stub, method)(getattr(pb, f"{method}Request")(page_token=token))

    async def test_a_page_token_of_another_method(self, registry, keys):
        """Tokens are good for the method that gave them."""
        for key in keys:
            await registry.register(key)
        page = await registry.stub.ListOperators(pb.ListOperatorsRequest(page_size=1))
        with refused("INVALID_FIELD", field="page_token", value=page.next_page_token):
            await registry.stub.ListModels(pb.ListModelsRequest(page_token=page.next_page_token))


class TestNames:
    async def test_an_operator_is_found_in_either_case(self, registry, key):
        """EIP-55's mixed case and lower case name the same operator."""
        info = await registry.register(key)
        assert await registry.stub.GetOperator(pb.GetOperatorRequest(name=info.name)) == info
        assert await registry.operator(key) == info

    @pytest.mark.parametrize("name", ["", "operators/", "operators/0x12", "0x" + "0" * 40, f"operators/0x{'0' * 40}/x"])
    @ON_SQLITE
    async def test_a_malformed_name(self, registry, name):
        """A name that cannot be one is refused, not searched for."""
        with refused("INVALID_FIELD", field="name", value=name):
            await registry.stub.GetOperator(pb.GetOperatorRequest(name=name))

    async def test_an_unknown_operator(self, registry):
        """A well-formed name that nobody has is not found."""
        with refused("OPERATOR_NOT_FOUND", code="NOT_FOUND", operator=f"operators/0x{'0' * 40}"):
            await registry.stub.GetOperator(pb.GetOperatorRequest(name=f"operators/0x{'0' * 40}"))


class TestAccess:
    @pytest.mark.parametrize("method", ["GetOperator", "ListOperators", "GetModel", "ListModels"])
    @pytest.mark.parametrize("token", ["", "wrong-token"])
    @ON_SQLITE
    async def test_reading_needs_a_token(self, registry, method, token):
        """Without a token that somebody holds, nothing is shown."""
        async with channel(registry.address, token) as opened:
            stub = registry_pb2_grpc.RegistryStub(opened)
            with refused("UNAUTHENTICATED", code="UNAUTHENTICATED"):
                await getattr(stub, method)(getattr(pb, f"{method}Request")())

    @pytest.mark.parametrize("token", ["admin-token", "service-token"])
    async def test_the_administrator_and_services_may_read(self, registry, token):
        """Every kind of token opens the lists."""
        async with channel(registry.address, token) as opened:
            page = await registry_pb2_grpc.RegistryStub(opened).ListModels(pb.ListModelsRequest())
        assert not page.models
