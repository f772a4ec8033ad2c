"""The scripted model: what a test can make it say and do."""

from __future__ import annotations

import asyncio

import pytest

from aos.errors import EngineFailed
from aos.operator.batch import Row
from aos.operator.engine import Engine
from aos.operator.stream import Piece
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import FINISH_REASON_STOP
from tests.operator.orders import answer, asking, chatting


class TestScript:
    async def test_usual_answer(self, engine):
        """It says its pieces to everyone, every time."""
        assert [(await answer(engine, asking(prompt))).text for prompt in "ab"] == ["It is mathematics."] * 2

    async def test_queued(self, script, engine):
        """Queued answers are said once each, in order; then the usual one."""
        script.say("first")
        script.say("sec", "ond")

        assert [(await answer(engine, asking())).text for _ in range(3)] == ["first", "second", "It is mathematics."]

    async def test_to_someone(self, script, engine):
        """An answer that is meant for a prompt waits for it."""
        script.say("Later.", to="When?")

        assert [(await answer(engine, asking(prompt))).text for prompt in ("Why?", "And: When?")] == [
            "It is mathematics.",
            "Later.",
        ]

    async def test_any_temperature(self, engine):
        """No sampling draws anything but the script."""
        got = await answer(engine, asking(temperature=2.0, top_p=0.5, top_k=40, seed=5))

        assert got.text == "It is mathematics."

    async def test_conversation(self, script, engine):
        """Conversations are answered, too; the prompts are there to be looked at."""
        await answer(engine, chatting("Hi", "Hello", "Bye"))

        assert script.prompts == ["user: Hi\nassistant: Hello\nuser: Bye\n"]

    async def test_goes_on_for_another(self):
        """A second model with the same script goes on where the first was; a queued answer is recognised by its beginning."""
        one, two = ScriptedModel("usual"), ScriptedModel("usual")
        one.say("a special answer")
        two.say("a special answer")
        async with Engine("m", one) as first, Engine("m", two) as second:
            begun = await answer(first, asking(max_tokens=5))
            rest = await answer(second, asking(), accepted=begun.tokens)

        assert (begun.text, rest.text) == ("a spe", "cial answer")

    async def test_fails_once(self, script, engine):
        """A failure that is asked for comes once."""
        script.fail(RuntimeError("as told"))

        with pytest.raises(EngineFailed, match="as told"):
            await answer(engine, asking())
        assert (await answer(engine, asking())).end.reason == FINISH_REASON_STOP

    def test_wrong_position(self):
        """It refuses tokens that do not follow those that it has: an engine that mixes up sequences is found out."""
        with pytest.raises(ValueError, match="slot 0 holds 0 tokens"):
            ScriptedModel().decode([Row(1, 0, 3, [65], draws=True)])


class TestHold:
    async def test_stepping(self, script, engine):
        """A held answer goes on token by token as the test lets it."""
        hold = script.hold(after="It")
        text = ""

        async def read() -> None:
            nonlocal text
            async for one in engine.generate(asking()):
                text += one.text if isinstance(one, Piece) else ""

        reading = asyncio.create_task(read())
        await hold.reached()
        assert text == "It"
        hold.step(3)
        await hold.reached()
        assert text == "It is"
        hold.release()
        await reading
        assert text == "It is mathematics."

    async def test_others_pass(self, script, engine):
        """An answer that does not begin that way is not held."""
        script.say("Something else.")
        hold = script.hold(after="It")

        assert (await answer(engine, asking())).text == "Something else."
        with pytest.raises(TimeoutError):
            await hold.reached(0.01)

    async def test_forgotten(self, script, engine, monkeypatch):
        """A hold that nobody releases ends in a failure, not in a test that hangs."""
        monkeypatch.setattr("aos.testing.scripted.HOLD_SECONDS", 0.01)
        script.hold()

        with pytest.raises(EngineFailed, match="nobody released it"):
            await answer(engine, asking())
