"""The engine: many requests on one thread, each of them alone in what it sees."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import numpy as np
import pytest

from aos.errors import ContextOverflow, EngineFailed, InvalidField, ModelUnsuitable, QueueFull, ShuttingDown
from aos.operator.engine import Engine
from aos.operator.stream import End, Piece
from aos.testing.scripted import ScriptedModel
from aos.v1.types_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, Order
from tests.operator.orders import answer, asking, chatting

SECONDS = 20


class TestAnswer:
    async def test_whole(self, engine):
        """An answer comes in pieces, and its end has all of it: text, tokens, prompt and reason."""
        got = await answer(engine, asking("Why?"))

        assert got.text == got.end.text == "It is mathematics."
        assert bytes(got.tokens).decode() == got.text
        assert got.tokens == got.end.tokens
        assert got.end.reason == FINISH_REASON_STOP
        assert got.end.prompt[:4] == list(b"Why?")

    async def test_end_token_is_not_counted(self, engine):
        """The token with which the model ends is no token of the answer."""
        got = await answer(engine, asking())

        assert len(got.end.tokens) == len("It is mathematics.")

    async def test_max_tokens(self, engine):
        """The answer ends after max_tokens, for that reason."""
        got = await answer(engine, asking(max_tokens=5))

        assert (got.text, got.end.reason) == ("It is", FINISH_REASON_LENGTH)

    async def test_full_context(self):
        """The answer ends where the context ends."""
        async with Engine("m", ScriptedModel("x" * 100, context=10)) as engine:
            got = await answer(engine, asking("Hello"))

        assert len(got.end.prompt) + len(got.tokens) == 10
        assert got.end.reason == FINISH_REASON_LENGTH

    async def test_stop_string(self, engine):
        """The answer ends before a stop string, which is named and never shown."""
        got = await answer(engine, asking(stop=["hem", "mat"]))

        assert (got.text, got.end.stop, got.end.reason) == ("It is ", "mat", FINISH_REASON_STOP)

    async def test_characters_are_whole(self):
        """No piece has half a character."""
        async with Engine("m", ScriptedModel("¢€\U0001d11e é")) as engine:
            got = await answer(engine, asking())

        assert got.text == "¢€\U0001d11e é"
        assert all("\ufffd" not in piece.text for piece in got.pieces)

    async def test_invalid_bytes(self):
        """Bytes that are no text are shown as U+FFFD."""
        async with Engine("m", ScriptedModel(b"a\xffb\xe2\x82")) as engine:
            got = await answer(engine, asking())

        assert got.text == got.end.text == "a\ufffdb\ufffd"

    async def test_empty(self):
        """A model that ends at once gives an empty answer, not an error."""
        async with Engine("m", ScriptedModel("")) as engine:
            got = await answer(engine, asking())

        assert (got.text, got.tokens, got.end.reason) == ("", [], FINISH_REASON_STOP)

    async def test_defaults(self, engine):
        """An order that states no sampling is run with the defaults."""
        got = await answer(engine, Order(model="m", prompt="x"))

        assert got.text == "It is mathematics."

    async def test_many_at_once(self):
        """Each of many requests gets its own answer, more than there are slots."""
        async with Engine("m", ScriptedModel(lambda prompt: f"You said {prompt}.", slots=3)) as engine:
            got = await asyncio.gather(*(answer(engine, asking(f"word {n}")) for n in range(20)))

        assert [one.text for one in got] == [f"You said word {n}." for n in range(20)]


class TestResume:
    @pytest.mark.parametrize("count", [0, 1, 7, 17, 18])
    async def test_goes_on(self, engine, count):
        """Accepted tokens are not given again, and what follows them is what would have followed."""
        whole = await answer(engine, asking())

        rest = await answer(engine, asking(), accepted=whole.tokens[:count])

        assert rest.tokens == whole.tokens[count:]
        assert rest.text == whole.text[count:]
        assert rest.end == whole.end
        assert rest.end.steps.packed() == whole.end.steps.packed()

    async def test_all_accepted(self, engine):
        """An answer whose last token is accepted has no more pieces; its steps are computed, as its receipt speaks of them."""
        whole = await answer(engine, asking(max_tokens=6))

        rest = await answer(engine, asking(max_tokens=6), accepted=whole.tokens)

        assert (rest.pieces, rest.end) == ([], whole.end)
        assert rest.end.steps.packed() == whole.end.steps.packed()

    async def test_stopped_already(self, engine):
        """An answer whose accepted tokens have a stop string ends at once."""
        whole = await answer(engine, asking(stop=["is"]))

        rest = await answer(engine, asking(stop=["is"]), accepted=whole.tokens)

        assert (rest.text, rest.end) == ("", whole.end)

    async def test_held_back_text(self):
        """Text that the first operator held back is given by the second, once."""
        async with Engine("m", ScriptedModel("one. two")) as engine:
            rest = await answer(engine, asking(stop=[".."]), accepted=list(b"one."))

        assert rest.text == ". two"

    async def test_last_words_were_seen(self):
        """Text that only the end made certain is not given twice to a reader who has it."""
        async with Engine("m", ScriptedModel("one.")) as engine:
            order = asking(stop=[".."])
            unseen = await answer(engine, order, accepted=list(b"one."), sent_bytes=3)
            seen = await answer(engine, order, accepted=list(b"one."), sent_bytes=4)

        assert (unseen.text, seen.text) == (".", "")
        assert unseen.end == seen.end

    async def test_reader_lacks_text(self, engine):
        """A reader that has the tokens and not all of their text gets the rest first."""
        rest = await answer(engine, asking(), accepted=list(b"It is "), sent_bytes=3)

        assert rest.text == "is mathematics."

    @pytest.mark.parametrize("token", [256, 258, 4_000_000_000])
    async def test_impossible_tokens(self, engine, token):
        """Accepted tokens that no answer of this model can have are refused."""
        with pytest.raises(InvalidField, match="accepted_tokens"):
            await answer(engine, asking(), accepted=[73, token])


class TestRefusals:
    @pytest.mark.parametrize(
        ("order", "error"),
        [
            (asking(""), InvalidField),
            (Order(model="m"), InvalidField),
            (asking(temperature=2.5), InvalidField),
            (asking(temperature=float("nan")), InvalidField),
            (asking(top_p=0.0), InvalidField),
            (asking(max_tokens=0), InvalidField),
            (asking(stop=[""]), InvalidField),
            (asking(stop=["x"] * 17), InvalidField),
            (asking("x" * 16_384), ContextOverflow),
        ],
    )
    async def test_before_any_work(self, engine, order, error):
        """What cannot be run is refused before the model is asked anything."""
        with pytest.raises(error):
            await answer(engine, order)

        assert engine.model.steps == 0
        assert engine.running == 0

    async def test_no_template(self):
        """A conversation for a model without a chat template is refused."""
        async with Engine("m", ScriptedModel(chat=False)) as engine:
            with pytest.raises(ModelUnsuitable, match="chat template"):
                await answer(engine, chatting("Hello"))

    async def test_prompt_fills_the_context(self):
        """A prompt that leaves no room for a token is refused, and the refusal says how long it is and may be."""
        async with Engine("m", ScriptedModel("x", context=6)) as engine:
            assert (await answer(engine, asking("1234"))).text == "x"
            with pytest.raises(ContextOverflow) as caught:
                await answer(engine, asking("12345"))

        assert caught.value.facts == {"model": "m", "promptTokens": "6", "limit": "6", "field": ""}

    async def test_queue_full(self):
        """Who finds slots and queue full is refused at once, even while the model is busy; a place that is left can be had."""
        script = ScriptedModel("yes", slots=1)
        async with Engine("m", script, waiting=1) as engine:
            hold = script.hold()
            inside = [asyncio.create_task(answer(engine, asking())) for _ in range(2)]
            await hold.reached()
            await until(lambda: engine.waiting == 1)
            with pytest.raises(QueueFull) as caught:
                await answer(engine, asking())
            assert (engine.running, engine.waiting) == (1, 1)
            hold.release()
            assert [one.text for one in await asyncio.gather(*inside)] == ["yes", "yes"]
            assert (await answer(engine, asking())).text == "yes"

        assert caught.value.facts == {"queue": "engine m", "limit": "2"}


class TestLeaving:
    async def test_cancelled(self, script, engine):
        """Who cancels leaves no work behind: the step under way is the last with its tokens."""
        hold = script.hold(after="It")
        leaving = asyncio.create_task(answer(engine, asking()))
        await hold.reached()
        steps = script.steps

        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        script.say("ok")
        hold.release()
        got = await answer(engine, asking())

        assert script.steps == steps + len("ok") + 1
        assert got.text == "ok"
        assert engine.running == 0

    async def test_abandoned(self, script, engine):
        """Who stops reading and closes the stream frees its slot."""
        async with aclosing(engine.generate(asking())) as stream:
            first = await anext(stream)
        got = await answer(engine, asking())

        assert isinstance(first, Piece)
        assert got.text == "It is mathematics."

    async def test_cancelled_while_waiting(self):
        """Who leaves the queue is never computed."""
        script = ScriptedModel("yes", slots=1)
        async with Engine("m", script) as engine:
            hold = script.hold()
            first = asyncio.create_task(answer(engine, asking("first")))
            await hold.reached()
            second = asyncio.create_task(answer(engine, asking("second")))
            await until(lambda: engine.waiting == 1)
            second.cancel()
            await asyncio.wait([second])
            hold.release()
            await first
            await answer(engine, asking("third"))

        assert script.prompts == ["first", "third"]

    async def test_loop_that_is_gone(self, engine):
        """A reader whose event loop ends in mid-answer takes nobody with it."""

        async def read_one_and_leave() -> None:
            stream = engine.generate(asking())
            await anext(stream)
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        await asyncio.to_thread(asyncio.run, read_one_and_leave())

        assert (await answer(engine, asking())).text == "It is mathematics."


class TestSlowReader:
    async def test_holds_up_nobody(self, script, engine):
        """An answer that is not read goes on, others too; its reader gets all that gathered as one piece."""
        hold = script.hold(after="It is")
        async with aclosing(engine.generate(asking(max_tokens=12))) as stream:
            first = await anext(stream)
            hold.release()
            for _ in range(3):
                await answer(engine, asking())
            rest = [one async for one in stream]

        assert [type(one) for one in rest] == [Piece, End]
        assert first.text + rest[0].text == rest[1].text == "It is mathem"


class TestFailures:
    async def test_step_fails(self, script, engine):
        """A step that fails ends its requests, each with its own error, and the next ones are answered."""
        hold = script.hold(after="It")
        failing = [asyncio.create_task(answer(engine, asking())) for _ in range(2)]
        await hold.reached()
        script.fail(RuntimeError("a bit fell over"))
        hold.release()

        errors = await asyncio.gather(*failing, return_exceptions=True)
        got = await answer(engine, asking())

        assert all(isinstance(error, EngineFailed) and "a bit fell over" in error.message for error in errors)
        assert errors[0] is not errors[1]
        assert got.text == "It is mathematics."

    async def test_others_survive(self):
        """Who had a slot, and no tokens in the step that failed, begins anew in silence."""
        script = ScriptedModel(lambda prompt: prompt.upper(), slots=3, step_tokens=3)
        async with Engine("m", script) as engine:
            hold = script.hold(after="A")
            first = asyncio.create_task(answer(engine, asking("abc")))
            await hold.reached()
            # the step that fails has 1 token of the first and 2 of the second; the third has a slot, and waits for its turn
            second = asyncio.create_task(answer(engine, asking("second")))
            await until(lambda: engine.running == 2)
            await settled(engine)
            third = asyncio.create_task(answer(engine, asking("the third")))
            await until(lambda: engine.running == 3)
            await settled(engine)
            script.fail()
            hold.release()
            got = await asyncio.gather(first, second, third, return_exceptions=True)

        assert [type(one) for one in got[:2]] == [EngineFailed, EngineFailed]
        assert got[2].text == "THE THIRD"

    async def test_broken_logits(self):
        """Logits that are no numbers end that request with EngineFailed, and not the others."""

        class Broken(ScriptedModel):
            def decode(self, rows):
                logits = super().decode(rows)
                return [row * np.float32("nan") if "broken" in self.prompts[-1] else row for row in logits]

        async with Engine("m", Broken("fine")) as engine:
            with pytest.raises(EngineFailed, match="not finite"):
                await answer(engine, asking("broken", temperature=1.0))
            assert (await answer(engine, asking("whole"))).text == "fine"

    async def test_bug(self):
        """If the thread itself dies, everyone is told, and nobody waits for it."""

        class Buggy(ScriptedModel):
            def clear(self):
                raise AssertionError("a bug")

        script = Buggy("yes", slots=1)
        async with Engine("m", script) as engine:
            hold = script.hold()
            tasks = [asyncio.create_task(answer(engine, asking())) for _ in range(3)]
            await hold.reached()
            script.fail()
            hold.release()
            async with asyncio.timeout(SECONDS):
                errors = await asyncio.gather(*tasks, return_exceptions=True)
            with pytest.raises(ShuttingDown):
                await answer(engine, asking())

        assert all(isinstance(error, EngineFailed | ShuttingDown) for error in errors)


class TestClosing:
    async def test_live_requests(self, script):
        """Closing ends live and waiting requests with ShuttingDown, even if the model holds still, and takes no new ones."""
        engine = Engine("m", script, slots=1)
        hold = script.hold(after="It")
        tasks = [asyncio.create_task(answer(engine, asking())) for _ in range(3)]
        await hold.reached()

        async with asyncio.timeout(SECONDS):
            await engine.aclose()
            errors = await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(error) for error in errors] == [ShuttingDown] * 3
        with pytest.raises(ShuttingDown):
            await answer(engine, asking())
        await engine.aclose()

    async def test_idle_costs_nothing(self, engine):
        """An engine without requests uses no processor time."""
        await answer(engine, asking())
        clock = time.pthread_getcpuclockid(engine._thread.ident)
        before = time.clock_gettime(clock)
        await asyncio.sleep(0.2)

        assert time.clock_gettime(clock) - before < 0.01


async def until(true) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.001)


async def settled(engine: Engine) -> None:
    """Wait until what was sent to the engine thread lies in its inbox, in the order of sending."""
    async with asyncio.timeout(SECONDS):
        while engine._inbox.qsize() < engine.running - 1:
            await asyncio.sleep(0.001)
