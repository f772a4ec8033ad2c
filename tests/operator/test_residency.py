"""Which engines are in memory, whatever is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from aos.operator.residency import Grant, Load, Residency, Unload

WEIGHTS = {"a": 4, "b": 3, "c": 5}


def parts(key: str) -> dict[str, int]:
    """The engines a, b and c; a and A share their weights."""
    return {f"weights {key.lower()}": WEIGHTS[key.lower()], f"sequences {key}": 1}


@dataclass
class Shell:
    """Does what residency says when the test lets it, and checks each step as it comes."""

    residency: Residency
    resident: dict[str, str] = field(default_factory=dict)
    users: dict[int, str] = field(default_factory=dict)
    waiting: dict[int, str] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)
    number: int = 0
    tick: int = 0

    def want(self, key: str) -> int:
        self.number += 1
        self.waiting[self.number] = key
        self.residency.want(self.number, key, parts(key))
        self.plan()
        return self.number

    def leave(self, waiter: int) -> None:
        if waiter in self.users:
            key = self.users.pop(waiter)
            self.touch(key)
        else:
            key = self.waiting.pop(waiter)
        self.residency.leave(waiter, key)
        self.plan()

    def settle(self, key: str, *, well: bool = True) -> None:
        """A load or an unload comes to its end."""
        if self.resident[key] == "unloading":
            del self.resident[key]
            self.residency.unloaded(key)
        elif well:
            self.resident[key] = "ready"
            self.residency.loaded(key)
        else:
            del self.resident[key]
            for waiter in self.residency.failed(key):
                assert self.waiting.pop(waiter) == key
            assert key not in self.waiting.values()
        self.plan()

    def unsettled(self) -> list[str]:
        return [key for key, state in self.resident.items() if state != "ready"]

    def touch(self, key: str) -> None:
        self.tick += 1
        self.touched[key] = self.tick

    def plan(self) -> None:
        for step in self.residency.plan():
            key = str(step.key)
            match step:
                case Load():
                    assert key not in self.resident
                    assert "loading" not in self.resident.values(), "one at a time"
                    self.resident[key] = "loading"
                    self.touch(key)
                case Unload():
                    self.check_least_recent(key)
                    self.resident[key] = "unloading"
                case Grant(waiter=waiter):
                    assert self.resident[key] == "ready"
                    assert self.waiting.pop(waiter) == key
                    self.users[waiter] = key
                    self.touch(key)
        held = {name: size for key in self.resident for name, size in parts(key).items()}
        assert sum(held.values()) == self.residency.used <= self.residency.budget

    def check_least_recent(self, key: str) -> None:
        idle = [one for one, state in self.resident.items() if state == "ready" and one not in self.users.values()]
        assert key in idle, "nothing in use is unloaded"
        assert key == min(idle, key=lambda one: self.touched.get(one, 0)), "the least recently used goes first"


moves = st.lists(st.tuples(st.sampled_from(["want", "leave", "settle", "fail"]), st.integers(0, 7)), max_size=60)


class TestResidency:
    @given(st.integers(6, 16), moves)
    def test_the_budget_holds_and_everybody_gets_a_turn(self, budget, moves):
        """Whatever comes: never over the budget, nothing unloaded in use, the least recently used goes first, all are served."""
        shell = Shell(Residency(budget))
        for move, pick in moves:
            match move:
                case "want":
                    shell.want("aAbc"[pick % 4])
                case "leave" if here := [*shell.users, *shell.waiting]:
                    shell.leave(here[pick % len(here)])
                case "settle" | "fail" if unsettled := shell.unsettled():
                    shell.settle(unsettled[pick % len(unsettled)], well=move == "settle")
                case _:
                    pass
        rounds = 0
        while shell.waiting or shell.users or shell.unsettled():
            rounds += 1
            assert rounds < 1000, f"{shell.waiting} are never served"
            for key in shell.unsettled():
                shell.settle(key)
            for waiter in list(shell.users):
                shell.leave(waiter)

    def test_an_engine_is_loaded_once_for_all_who_wait(self):
        """Requests for an engine on its way share the load, and are let in together."""
        shell = Shell(Residency(6))
        first, second = shell.want("c"), shell.want("c")
        assert shell.resident == {"c": "loading"}
        shell.settle("c")

        assert shell.users == {first: "c", second: "c"}

    def test_shared_weights_count_once(self):
        """Two models over the same weights fit where two of their own would not."""
        shell = Shell(Residency(6))
        for key in "aA":
            shell.want(key)
            shell.settle(key)

        assert shell.resident == {"a": "ready", "A": "ready"}
        assert shell.residency.used == 6

    def test_a_steady_stream_starves_nobody(self):
        """Once somebody waits for the memory of a busy engine, its newcomers wait behind them."""
        shell = Shell(Residency(6))
        early = shell.want("c")
        shell.settle("c")
        other = shell.want("b")
        late = shell.want("c")
        assert late in shell.waiting
        shell.leave(early)
        shell.settle("c")
        shell.settle("b")
        assert shell.users == {other: "b"}
        shell.leave(other)
        shell.settle("b")
        shell.settle("c")

        assert shell.users == {late: "c"}

    def test_those_that_fit_beside_are_not_held_up(self):
        """While one waits for memory, engines that stay in memory let everybody in."""
        shell = Shell(Residency(10))
        for key in "ab":
            shell.want(key)
            shell.settle(key)
        shell.want("c")
        beside = shell.want("b")

        assert shell.users[beside] == "b"

    def test_a_failed_load_ends_those_who_waited_and_no_others(self):
        """Whoever comes later makes it try again."""
        shell = Shell(Residency(6))
        shell.want("c")
        shell.settle("c", well=False)
        assert shell.resident == {}
        again = shell.want("c")
        shell.settle("c")

        assert shell.users == {again: "c"}

    def test_what_can_never_fit(self):
        """An engine larger than the whole budget is known beforehand."""
        residency = Residency(5)
        assert residency.fits(parts("a"))
        assert not residency.fits(parts("c"))
