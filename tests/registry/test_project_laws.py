"""What holds of AI projects whatever happens to them, in any order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aos.errors import AosError
from aos.registry.projects import Report, Wanted, register, report, told, unregister
from aos.registry.replicas import Project, Replica, State, Terms, due, passed, settle
from aos.registry.specs import Kind, Spec
from aos.testing.clock import START

TERMS = Terms(lease=timedelta(seconds=30), drain=timedelta(seconds=100), memory=timedelta(seconds=500))
OWNERS = ("0xa", "0xb")
SPECS = tuple(Spec(model, f"http://127.0.0.1/{model}", Kind.TEXT, "", "127.0.0.1") for model in "xyz")

seconds = st.one_of(st.integers(0, 40), st.integers(0, 700))
registrations = st.tuples(st.just("register"), st.sampled_from(OWNERS), st.sets(st.sampled_from(SPECS), min_size=1))
ends = st.tuples(st.just("unregister"), st.sampled_from(OWNERS), st.booleans())
reports = st.tuples(
    st.just("report"),
    st.sampled_from(OWNERS),
    st.tuples(
        st.sampled_from((State.REGISTERED, State.HEALTHY, State.UNHEALTHY, State.REFUSED, State.DRAINING)), st.integers(0, 2)
    ),
)
steps = st.lists(st.tuples(seconds, st.one_of(registrations, ends, reports)), max_size=25)


DRAINED = (
    (0, ("register", "0xa", {SPECS[0]})),
    (0, ("report", "0xa", (State.HEALTHY, 1))),
    (0, ("unregister", "0xa", False)),
)


class History:
    """A project through a sequence of moves."""

    def __init__(self) -> None:
        self.now, self.project, self.known, self.gone, self.leases = START, None, dict[str, Replica](), set[str](), 0

    def at(self, later: int) -> None:
        self.now += timedelta(seconds=later)
        if self.project is not None:
            aged = settle(self.project, now=self.now, terms=TERMS)
            assert len(passed(self.project, aged)) <= len(self.project.replicas)
            self.keep(aged)

    def move(self, what: str, who: str, how: Any) -> None:
        before = self.project
        try:
            if what == "register":
                self.leases += 1
                wanted = Wanted("p", who, who, tuple(sorted(how, key=lambda spec: spec.model)))
                self.keep(register(before, wanted, now=self.now, terms=TERMS, lease_id=f"{self.leases:032x}"))
                again = register(self.project, wanted, now=self.now, terms=TERMS, lease_id="other")
                assert again == self.project, "the same list changes nothing"
                assert not told(self.project, again, who, "register-project")
            elif what == "unregister":
                self.keep(unregister(before, "p", who, now=self.now, force=how))
            elif before is not None:
                state, running = how
                said = {identity: Report(state, "why", (), None, None, running) for identity in self.known}
                self.keep(report(before, said, who, now=self.now, terms=TERMS)[0])
        except AosError:
            assert self.project is before

    def keep(self, project: Project | None) -> None:
        self.project = project
        for one in project.replicas if project is not None else ():
            assert one.id not in self.gone or one.state is State.GONE, "what is gone never comes back"
            self.known[one.id] = one
            if one.state is State.GONE:
                self.gone.add(one.id)


@given(steps)
# time passes at once from its being drained to the very instant at which it is forgotten
@example([*DRAINED, (530, ("unregister", "0xa", True))])
@settings(deadline=None, max_examples=60)
def test_whatever_happens(moves):
    """Ids are one's own, a list has each server once, what is gone stays gone, and time always has something ahead of it."""
    history = History()
    for later, move in moves:
        history.at(later)
        history.move(*move)
        project = history.project
        if project is None:
            continue
        identities = [one.id for one in project.replicas]
        assert len(set(identities)) == len(identities)
        keys = [(one.asked, one.spec.key) for one in project.replicas if one.there]
        assert len(set(keys)) == len(keys)
        assert all(one.owner in OWNERS for one in [project])
        assert due(project, TERMS) > history.now, "or time would stand still at it"
        assert settle(project, now=history.now, terms=TERMS) == project, "once is enough"
        assert all(one.expires > history.now for one in project.replicas if one.state not in {State.LAPSED, State.GONE})


@given(steps)
@settings(deadline=None, max_examples=30)
def test_left_alone_everything_ends(moves):
    """A project that nobody touches any more is forgotten, in a bounded number of steps of time."""
    history = History()
    for later, move in moves:
        history.at(later)
        history.move(*move)
    project, now = history.project, history.now
    for _ in range(4 * 25 * len(SPECS)):
        if project is None:
            break
        now = max(now, due(project, TERMS))
        project = settle(project, now=now, terms=TERMS)
    assert project is None


@given(st.integers(30, 2000))
@settings(deadline=None, max_examples=30)
def test_what_ends_is_told(later):
    """However late somebody looks, the log is told that a drained replica is gone, though it may be forgotten by then."""
    history = History()
    for _, move in DRAINED:
        history.move(*move)
    assert history.project is not None
    after = settle(history.project, now=START + timedelta(seconds=later), terms=TERMS)
    assert [entry.action for entry in passed(history.project, after)] == ["replica-gone"]
    assert (after is None) == (later >= 530)
