"""Who does the work of controllers, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event

import pytest

from aos.operator.crew import ABREAST, Crew

SECONDS = 30


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew("crew", most=2 * ABREAST + 4)
    yield made
    made.close()


class Held:
    """Works that go on until they are let go."""

    def __init__(self, crew: Crew, count: int, *, apart: bool = False) -> None:
        self.let_go = Event()
        self._begun: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            crew.submit(self._work, apart=apart)

    def _work(self) -> None:
        self._begun.put(None)
        self.let_go.wait(SECONDS)

    def begun(self) -> None:
        """Wait until one more of them has begun."""
        self._begun.get(timeout=SECONDS)


class TestCrew:
    def test_does_everything_that_is_handed_in(self, crew: Crew) -> None:
        """Each work is done once, however many there are."""
        done: SimpleQueue[int] = SimpleQueue()
        for number in range(1000):
            assert crew.submit(lambda number=number: done.put(number))
        assert sorted(done.get(timeout=SECONDS) for _ in range(1000)) == list(range(1000))
        assert done.empty()

    def test_goes_on_behind_those_that_are_slow(self, crew: Crew) -> None:
        """What waits behind slow works is done once it was seen that they do not get on, and so is all that comes after."""
        slow, done = Held(crew, ABREAST), SimpleQueue[int]()
        for _ in range(ABREAST):
            slow.begun()
        crew.submit(lambda: done.put(1))
        crew.look()
        crew.look()
        assert done.get(timeout=SECONDS) == 1
        crew.submit(lambda: done.put(2))  # without another look
        assert done.get(timeout=SECONDS) == 2
        slow.let_go.set()

    def test_lets_nobody_wait_for_what_is_apart(self, crew: Crew) -> None:
        """Works that have a thread for themselves are in nobody's way, with no look."""
        slow, done = Held(crew, ABREAST, apart=True), SimpleQueue[int]()
        for _ in range(ABREAST):
            slow.begun()
        crew.submit(lambda: done.put(1))
        assert done.get(timeout=SECONDS) == 1
        slow.let_go.set()

    def test_goes_on_after_a_failure(self, crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
        """A work that raises is logged, and the next one is done."""
        done: SimpleQueue[int] = SimpleQueue()
        crew.submit(lambda: 1 // 0)  # pyright: ignore[reportArgumentType]
        crew.submit(lambda: done.put(1))
        assert done.get(timeout=SECONDS) == 1
        crew.close()
        assert "ZeroDivisionError" in caplog.text

    def test_ends_with_all_done(self, crew: Crew) -> None:
        """Closing waits for what was handed in, also for what waits behind a slow one, and takes nothing more."""
        done: SimpleQueue[int] = SimpleQueue()
        slow = Held(crew, ABREAST)
        for _ in range(ABREAST):
            slow.begun()
        for number in range(5):
            crew.submit(lambda number=number: done.put(number))
        slow.let_go.set()
        crew.close()
        assert done.qsize() == 5
        assert not crew.submit(lambda: done.put(9))
