"""Jobs that begin as earlier ones did, and where they go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aos.dispatcher import affinity
from aos.dispatcher.affinity import FIRST_CHARS, RECENT_SECONDS, TOGETHER_SECONDS, Near, Recent, beginnings
from aos.dispatcher.health import Health, State
from aos.dispatcher.placement import choose, why_chosen
from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Chat, ChatMessage, EmbeddingInput, Order, Sampling
from tests.dispatcher.jobs import NOW
from tests.dispatcher.test_placement import candidate, wanted

LONG = "x" * FIRST_CHARS


def prompt(text: str, *, project: str = "p", **sampling):
    return beginnings(Order(model="m", prompt=text, sampling=Sampling(**sampling)), project=project, model_digest="aa")


def chat(*turns: str, project: str = "p"):
    messages = [ChatMessage(role=("user", "assistant")[number % 2], content=turn) for number, turn in enumerate(turns)]
    return beginnings(Order(model="m", chat=Chat(messages=messages)), project=project, model_digest="aa")


def drawn(first, then, *, seconds: float = 60.0) -> Near | None:
    """Who ``then`` is drawn to, so long after operator 0xb got ``first``."""
    recent = Recent()
    recent.note(first, "0xb", NOW)
    return recent.near(then, NOW + timedelta(seconds=seconds))


class TestBeginnings:
    def test_a_conversation_that_goes_on(self):
        """Turns behind those that an operator computed draw to it, and so does another last turn."""
        assert drawn(chat("a", "b", "c"), chat("a", "b", "c", "d", "e")) == Near("0xb", together=False)
        assert drawn(chat("a", "b", "c"), chat("a", "b", "x")) == Near("0xb", together=False)
        assert drawn(chat("a"), chat("x")) is None
        assert drawn(chat("a", "b", "c"), chat("x", "b", "c")) is None

    def test_prompts_with_one_beginning(self):
        """Long prompts that begin alike are drawn to one operator; short ones are too little to go after."""
        assert drawn(prompt(f"{LONG}a"), prompt(f"{LONG}b")) == Near("0xb", together=False)
        assert drawn(prompt("short a"), prompt("short a")) is None

    def test_answers_to_one_request(self):
        """Whatever the seed, the same input within two seconds is to land together."""
        assert drawn(prompt("Hi", seed=1), prompt("Hi", seed=2), seconds=TOGETHER_SECONDS) == Near("0xb", together=True)
        assert drawn(chat("Hi"), chat("Hi"), seconds=TOGETHER_SECONDS) == Near("0xb", together=True)

    def test_of_another_project(self):
        """Nothing is shared between projects, so nothing is drawn."""
        assert drawn(chat("a", "b", "c"), chat("a", "b", "c", project="q"), seconds=0) is None
        assert drawn(prompt(LONG), prompt(LONG, project="q"), seconds=0) is None

    def test_texts_to_be_embedded(self):
        """Leave nothing behind."""
        order = Order(model="m", embedding=EmbeddingInput(texts=[LONG]))
        assert not any(vars_of(beginnings(order, project="p", model_digest="aa")))

    def test_it_is_forgotten(self):
        """After ten minutes an operator is not believed to have it any more."""
        assert drawn(prompt(LONG), prompt(LONG), seconds=RECENT_SECONDS) is not None
        assert drawn(prompt(LONG), prompt(LONG), seconds=RECENT_SECONDS + 1) is None

    def test_so_many_are_remembered(self, monkeypatch):
        """The oldest goes first."""
        monkeypatch.setattr(affinity, "REMEMBERED", 4)
        recent = Recent()
        for number in range(9):
            recent.note(prompt(f"{number}{LONG}"), "0xb", NOW)

        assert len(recent) == 4
        assert recent.near(prompt(f"0{LONG}"), NOW) is None
        assert recent.near(prompt(f"8{LONG}"), NOW) is not None


def vars_of(one: affinity.Beginnings) -> tuple[object, ...]:
    return one.whole, one.known_by, one.leaves


class TestChoice:
    @pytest.mark.parametrize(
        ("running", "together", "operator", "why"),
        [
            (3, False, "0xb", "It computed the same beginning before."),
            (4, False, "0xa", "It was the least loaded; 0xb knows it, but is busy."),
            (4, True, "0xb", "It has just got the same input."),
            (8, True, "0xa", "It was the only one that could take it."),
        ],
    )
    def test_who_knows_the_beginning(self, running, together, operator, why):
        """Gets it, unless it is busy and another idle; answers to one request land together while there is room."""
        near, both = Near("0xb", together), [candidate("0xa", slots=8), candidate("0xb", slots=8, running=running)]
        chosen = choose(wanted(), both, near)

        assert chosen is not None
        assert (chosen.operator, why_chosen(wanted(), chosen, both, near)) == (operator, why)

    def test_busy_while_nobody_is_idle(self):
        """Then it gets it all the same."""
        both = [candidate("0xa", slots=8, running=1), candidate("0xb", slots=8, running=7)]
        chosen = choose(wanted(), both, Near("0xb", together=False))

        assert chosen == both[1]

    @pytest.mark.parametrize(
        ("better", "worse", "why"),
        [
            ({}, {"health": Health(NOW, State.SUSPECT, reason="no")}, "The others may not work."),
            ({"running": 0, "completion": 9}, {"running": 1}, "It was the least loaded."),
            (
                {"health": Health(NOW, pace=0.001), "completion": 9},
                {"health": Health(NOW, pace=0.01)},
                "Of those that were as little loaded it was the fastest to its first text.",
            ),
            ({"completion": 1}, {"completion": 2}, "Of those that were as good it was the cheapest."),
            ({"operator": "0xa"}, {"operator": "0xb"}, "Of those that were equal it had the lowest address."),
        ],
    )
    def test_what_decides(self, better, worse, why):
        """Health, load, speed, price, address, in this order, and the choice says which it was."""
        job = wanted(amount=1000)
        one, other = candidate(**{"operator": "0xc", **better}), candidate(**{"operator": "0xb", **worse})

        assert choose(job, [one, other]) == choose(job, [other, one]) == one
        assert why_chosen(job, one, [one, other]) == why

    def test_who_is_open_gets_nothing(self):
        """Not even the only one, nor what it computed the beginning of."""
        broken = candidate(health=Health(NOW, State.OPEN, reason="no"))

        assert choose(wanted(), [broken], Near(broken.operator, together=True)) is None

    def test_a_silent_one(self):
        """Waits behind those that are heard, even one that failed the job; alone it is used."""
        silent, heard = candidate("0xa", late=True), candidate("0xb")

        assert choose(wanted(avoid=frozenset({"0xb"})), [silent, heard]) == heard
        assert choose(wanted(), [silent]) == silent

    def test_exact_jobs(self):
        """Go to those that can."""
        assert choose(wanted(exact=True), [candidate("0xa"), candidate("0xb", exact=True)]) == candidate("0xb", exact=True)


class TestPlacement:
    async def test_answers_to_one_request_land_together(self, aos):
        """Equal jobs that come at once go to one operator until it is full, then to the other; the choice says why."""
        first, second = sorted([await aos.operator(), await aos.operator()], key=lambda one: one.address)
        made = [await aos.submit() for _ in range(3)]
        leases = [await first.lease(), await first.lease(), await second.lease()]
        told = [await aos.project.ExplainJob(pb.ExplainJobRequest(name=job.name)) for job in made]

        assert [f"jobs/{lease.job.hex()}" for lease in leases] == [job.name for job in made]
        assert [one.choice for one in told] == [
            "Of those that were equal it had the lowest address.",
            "It has just got the same input.",
            "It was the only one that could take it.",
        ]

    async def test_other_questions_are_spread(self, aos):
        """What has nothing in common goes to whoever is least loaded."""
        both = [await aos.operator(), await aos.operator()]
        for text in ("One?", "Two?"):
            await aos.submit(text)

        assert {(await one.lease()).order.prompt for one in both} == {"One?", "Two?"}
