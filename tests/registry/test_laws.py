"""What holds between operators and models, whatever is registered."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aos.registry import catalog
from aos.registry.catalog import Listing
from aos.registry.leases import Lease, Offered, Registration
from aos.registry.offers import Offer
from aos.testing.clock import START

CLAIM = timedelta(seconds=10)
seconds = st.integers(-60, 60).map(lambda count: START + timedelta(seconds=count))


@st.composite
def registrations(draw) -> list[Registration]:
    """A few operators, live, lapsed and gone, with models of the same names and different weights."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        lease = Lease(f"0x{number:040x}", START, draw(seconds), draw(st.none() | seconds.filter(lambda time: time <= START)))
        names = draw(st.lists(st.sampled_from("mno"), min_size=1, unique=True))
        offers = [
            Offered(
                Offer(name, draw(st.sampled_from(["aa", "bb"])), draw(st.integers(1, 9)), True, 1, draw(st.integers(0, 9)), 1),
                draw(seconds),
            )
            for name in names
        ]
        found.append(Registration(lease, tuple(offers), 0, ()))
    return found


def by_model(known: list[Registration]) -> dict[str, list[Listing]]:
    found: dict[str, list[Listing]] = {}
    for registration in known:
        for one in registration.offers:
            found.setdefault(one.offer.model, []).append(Listing(registration.lease, one))
    return found


class TestCatalog:
    @given(registrations())
    def test_a_model_is_run_by_live_operators_of_one_kind_of_weights(self, known):
        """Whoever is listed under a model is there and has its weights; if nobody is, a reason is."""
        for name, listings in by_model(known).items():
            model = catalog.model(name, listings, now=START, claim=CLAIM)
            mine = {one.lease.operator: one for one in listings}
            assert all(mine[operator].lease.live(START) for operator in model.operators)
            assert all(mine[operator].offered.offer.digest == model.digest for operator in model.operators)
            assert bool(model.operators) != bool(model.reason)
            assert list(model.operators) == sorted(model.operators)

    @given(registrations())
    def test_a_live_operator_makes_its_model_usable(self, known):
        """While somebody live offers a model and nobody lapsed claims it, it can be used."""
        for name, listings in by_model(known).items():
            live = [one for one in listings if one.lease.live(START)]
            lapsed = [one for one in listings if not one.lease.live(START) and one.lease.claims(START, CLAIM)]
            if live and not lapsed:
                assert catalog.model(name, listings, now=START, claim=CLAIM).operators

    @given(registrations())
    def test_operators_and_models_agree(self, known):
        """An operator is routable exactly if one of its models lists it, and otherwise says why."""
        listings = by_model(known)
        models = {name: catalog.model(name, offers, now=START, claim=CLAIM) for name, offers in listings.items()}
        claimants = {name: catalog.claimant(offers, now=START, claim=CLAIM) for name, offers in listings.items()}
        first = {name: claim for name, claim in claimants.items() if claim is not None}
        for registration in known:
            used = any(registration.lease.operator in models[one.offer.model].operators for one in registration.offers)
            assert (catalog.why_not(registration, first, now=START, states={}) == "") == used

    @given(registrations())
    def test_prices_cover_every_operator_that_may_run_it(self, known):
        """What is held for a job is enough whoever gets it."""
        for name, listings in by_model(known).items():
            model = catalog.model(name, listings, now=START, claim=CLAIM)
            for one in listings:
                if one.lease.operator in model.operators:
                    assert one.offered.offer.completion_price <= model.completion_price
                    assert one.offered.offer.context_length <= model.context_length
