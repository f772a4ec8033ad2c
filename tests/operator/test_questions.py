"""Questions: taken within limits, answered with a receipt, kept through stops and crashes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aos.errors import InvalidField, JobNotFound, ModelNotFound, QueueFull, RequestIdReused
from aos.operator.questions import Question, State, job_of
from aos.store.questions import MIGRATIONS, SqlQuestionStore
from aos.store.sqlite import sqlite_file
from aos.testing.clock import ManualClock
from aos.testing.scripted import ScriptedModel
from aos.verification.receipts import check_bundle
from tests.operator.questioning import ask, ended, questioned


class TestAnswer:
    async def test_an_answer_has_a_receipt_that_can_be_checked(self, key, script):
        """The text, and a signed receipt whose job follows from the question's id."""
        async with questioned(key, script) as queue:
            assert (await ask(queue)).state is State.PENDING
            question = await ended(queue)

        assert question.state is State.DONE
        assert question.bundle is not None
        assert question.bundle.output == "It is mathematics."
        assert question.bundle.receipt.job == job_of(question)
        assert len(question.bundle.receipt.state_root) == 32
        assert all(finding.good is not False for finding in check_bundle(question.bundle)), list(check_bundle(question.bundle))

    async def test_the_engines_refusal_is_the_questions_end(self, key, script):
        """What the engine refuses, a prompt beyond the context say, ends the question with the reason."""
        async with questioned(key, script) as queue:
            await ask(queue, prompt="x" * 20_000)
            question = await ended(queue)

        assert (question.state, question.reason, question.bundle) == (State.FAILED, "CONTEXT_OVERFLOW", None)
        assert "16384" in question.problem

    async def test_the_engines_failure_is_the_questions_end(self, key, script):
        """An engine that fails in mid-answer ends this question; the next one is answered."""
        async with questioned(key, script) as queue:
            hold = script.hold(after="It")
            await ask(queue, "first")
            await hold.reached()
            script.fail()
            hold.release()
            first = await ended(queue, "first")
            await ask(queue, "second")
            second = await ended(queue, "second")

        assert (first.state, first.reason) == (State.FAILED, "ENGINE_FAILED")
        assert second.state is State.DONE

    async def test_an_answer_has_its_time(self, key, script):
        """A question that takes too long ends with DEADLINE, and the engine is free again."""
        clock = ManualClock()
        async with questioned(key, script, clock=clock, answer_seconds=60) as queue:
            hold = script.hold(after="It")
            await ask(queue)
            await hold.reached()
            clock.advance(seconds=61)
            question = await ended(queue)
            hold.release()

        assert (question.state, question.reason) == (State.FAILED, "DEADLINE")


class TestTaking:
    async def test_asking_again_is_safe(self, key, script):
        """The same id and contents give the first question back, before its end and behind it."""
        async with questioned(key, script) as queue:
            hold = script.hold(after="It")
            first = await ask(queue)
            await hold.reached()
            again = await ask(queue)
            hold.release()
            question = await ended(queue)
            late = await ask(queue)

            assert again == replace(first, starts=1)
            assert late == question
            assert queue.unanswered == 0

    async def test_an_id_cannot_change_its_mind(self, key, script):
        """The same id with another prompt is refused."""
        async with questioned(key, script) as queue:
            await ask(queue)
            with pytest.raises(RequestIdReused):
                await ask(queue, prompt="Other?")

    async def test_the_queue_is_bounded(self, key, script):
        """With as many unanswered as there may be, the next is refused at once; an answer makes room."""
        async with questioned(key, script, unanswered=2, at_once=1) as queue:
            hold = script.hold(after="It")
            await ask(queue, "first")
            await hold.reached()
            await ask(queue, "second")
            with pytest.raises(QueueFull) as refused:
                await ask(queue, "third")
            hold.release()
            await ended(queue, "second")
            await ask(queue, "third")
            await ended(queue, "third")

        assert refused.value.facts == {"queue": "questions", "limit": "2"}

    @pytest.mark.parametrize(
        ("name", "model", "prompt", "url", "field"),
        [
            ("a/b", "m", "hi", "", "id"),
            ("x" * 129, "m", "hi", "", "id"),
            ("q", "", "hi", "", "question.model"),
            ("q", "m", "", "", "question.prompt"),
            ("q", "m", "hi", "ftp://example.com", "callback"),
            ("q", "m", "hi", "http://10.1.2.3/", "callback"),
            ("q", "m", "hi", "http://169.254.169.254/latest/meta-data", "callback"),
        ],
    )
    async def test_refused_before_anything_is_kept(self, key, script, name, model, prompt, url, field):
        """What cannot be asked is refused with the field's name, and is not there afterwards."""
        async with questioned(key, script) as queue:
            with pytest.raises(InvalidField) as refused:
                await queue.ask(name, model=model, prompt=prompt, url=url)
            with pytest.raises(JobNotFound):
                await queue.get(name)

        assert refused.value.facts["field"] == field

    async def test_a_model_that_is_not_here(self, key, script):
        """A model that the operator does not have is refused with the names of those that it has."""
        async with questioned(key, script) as queue:
            with pytest.raises(ModelNotFound) as refused:
                await queue.ask("q", model="other", prompt="hi", url="")

        assert refused.value.facts["offered"] == "m"


class TestRestart:
    async def test_a_question_outlives_a_stop(self, key, script, tmp_path):
        """A question that an operator had accepted and not answered is answered by the next start."""
        path = tmp_path / "questions.db"
        async with questioned(key, script, path=path) as queue:
            hold = script.hold(after="It")
            await ask(queue)
            await hold.reached()
        hold.release()
        async with questioned(key, ScriptedModel("Later."), path=path) as queue:
            question = await ended(queue)

        assert question.bundle is not None
        assert question.bundle.output == "Later."
        assert question.starts == 1, "a stop that was asked for counts for nothing"

    async def test_a_question_that_kills_the_operator_ends(self, key, script, tmp_path):
        """One that was begun as often as is tolerated, with the operator killed each time, has failed and is not begun again."""
        path = tmp_path / "questions.db"
        async with questioned(key, script, path=path) as queue:
            hold = script.hold(after="It")
            await ask(queue)
            await hold.reached()
        hold.release()
        steps = script.steps
        async with sqlite_file(path, MIGRATIONS) as file:
            store = SqlQuestionStore(file)
            await store.put(replace(await store.get("q"), starts=3))
        async with questioned(key, script, path=path) as queue:
            question = await ended(queue)

        assert (question.state, question.reason) == (State.FAILED, "OPERATOR_LOST")
        assert script.steps == steps

    async def test_a_model_that_is_gone(self, key, script, tmp_path):
        """If the operator starts without the model, its questions end with that reason."""
        path = tmp_path / "questions.db"
        async with questioned(key, script, ScriptedModel("x"), path=path) as queue:
            hold = script.hold(after="It")
            await ask(queue, "first")
            await hold.reached()
            await queue.ask("q", model="m1", prompt="hi", url="")
            await ended(queue)
            async with sqlite_file(path) as file:
                store = SqlQuestionStore(file)
                await store.put(replace(await store.get("q"), id="again", state=State.PENDING))
        hold.release()
        async with questioned(key, script, path=path) as queue:
            question = await ended(queue, "again")

        assert (question.state, question.reason) == (State.FAILED, "MODEL_NOT_FOUND")


class TestForgetting:
    async def test_old_questions_are_dropped(self, key, script):
        """A week after its end a question is gone, as soon as another one ends."""
        clock = ManualClock()
        async with questioned(key, script, clock=clock) as queue:
            await ask(queue, "old")
            await ended(queue, "old")
            clock.advance(hours=24 * 8)
            await ask(queue, "new")
            await ended(queue, "new")
            await ask(queue, "newer")
            await ended(queue, "newer")

            with pytest.raises(JobNotFound):
                await queue.get("old")
            assert (await queue.get("new")).state is State.DONE

    async def test_only_so_many_are_kept(self, tmp_path):
        """Of those that have ended, the oldest go first; one that is not answered stays, however old."""
        now = datetime(2026, 1, 1, tzinfo=UTC)
        async with sqlite_file(tmp_path / "q.db", MIGRATIONS) as file:
            store = SqlQuestionStore(file)
            await store.put(Question("open", "m", "hi", "", now))
            for number in range(4):
                ended_at = now.replace(hour=number)
                await store.put(Question(f"{number}", "m", "hi", "", now, state=State.FAILED, ended=ended_at))
            await store.forget(now, keep=2)
            left = [row["id"] for row in await file.transact(lambda db: list(db.query("SELECT id FROM questions ORDER BY id")))]

        assert left == ["2", "3", "open"]
