"""An operator's questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.errors import JobNotFound
from aos.operator.questions import Callback, CallbackState, Load, Question, State
from aos.store.reading import kept
from aos.store.sql import SqlDatabase, Transaction
from aos.v1.dispatcher_pb2 import ReceiptBundle

MIGRATIONS: Final = Migrations("questions")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ALL: Final = (1 << 63) - 1
"""More than there are rows."""
_OPEN: Final = "(state = 'pending' OR callback_state = 'due')"


@MIGRATIONS(name="0001_questions")
def _create_questions(db: Database) -> None:
    # times are microseconds since 1970-01-01 UTC
    for sql in (
        """CREATE TABLE questions (
            id TEXT PRIMARY KEY,
            model TEXT NOT NULL,
            prompt TEXT NOT NULL,
            url TEXT NOT NULL,
            created INTEGER NOT NULL,
            state TEXT NOT NULL,
            starts INTEGER NOT NULL,
            bundle BLOB,
            reason TEXT NOT NULL,
            problem TEXT NOT NULL,
            ended INTEGER,
            callback_state TEXT NOT NULL,
            callback_attempts INTEGER NOT NULL,
            callback_problem TEXT NOT NULL,
            callback_due INTEGER
        ) STRICT""",
        f"CREATE INDEX questions_open ON questions (created) WHERE {_OPEN}",
        f"CREATE INDEX questions_ended ON questions (ended) WHERE NOT {_OPEN}",
    ):
        db.execute(sql)


class SqlQuestionStore:
    """Satisfies QuestionStore. The database must have the tables of questions."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def take(self, name: str, decide: Callable[[Question | None, Load], Question]) -> Question:
        def work(tx: Transaction) -> Question:
            held = _find(tx, name)
            taken = decide(held, _load(tx))
            if taken != held:
                _write(tx, taken)
            return taken

        return await self._database.transact(work)

    async def put(self, question: Question) -> None:
        await self._database.transact(lambda tx: _write(tx, question))

    async def get(self, name: str) -> Question:
        found = await self._database.transact(lambda tx: _find(tx, name))
        if found is None:
            raise JobNotFound(f"questions/{name}")
        return found

    async def open(self) -> Sequence[Question]:
        sql = f"SELECT * FROM questions WHERE {_OPEN} ORDER BY created, rowid"  # noqa: S608  # a constant
        return await self._database.transact(lambda tx: [_read(row) for row in tx.query(sql)])

    async def forget(self, before: datetime, keep: int) -> None:
        def work(tx: Transaction) -> None:
            tx.execute(f"DELETE FROM questions WHERE NOT {_OPEN} AND ended < ?", [_stamp(before)])  # noqa: S608  # a constant
            oldest = f"SELECT id FROM questions WHERE NOT {_OPEN} ORDER BY ended DESC LIMIT {_ALL} OFFSET ?"  # noqa: S608  # a constant
            tx.execute(f"DELETE FROM questions WHERE id IN ({oldest})", [keep])  # noqa: S608  # a constant

        await self._database.transact(work)


def _find(tx: Transaction, name: str) -> Question | None:
    row = next(iter(tx.query("SELECT * FROM questions WHERE id = ?", [name])), None)
    return None if row is None else _read(row)


def _load(tx: Transaction) -> Load:
    sql = f"""SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE callback_state = 'due') AS due
        FROM questions WHERE {_OPEN}"""  # noqa: S608  # a constant
    row = next(iter(tx.query(sql)))
    return Load(row["pending"], row["due"])


def _write(tx: Transaction, question: Question) -> None:
    callback = question.callback
    row = {
        "id": question.id,
        "model": question.model,
        "prompt": question.prompt,
        "url": question.url,
        "created": _stamp(question.created),
        "state": str(question.state),
        "starts": question.starts,
        "bundle": question.bundle.SerializeToString() if question.bundle is not None else None,
        "reason": question.reason,
        "problem": question.problem,
        "ended": _stamp(question.ended),
        "callback_state": str(callback.state),
        "callback_attempts": callback.attempts,
        "callback_problem": callback.problem,
        "callback_due": _stamp(callback.due),
    }
    tx.execute(kept("questions", row, "id"), row)


def _read(row: Mapping[str, Any]) -> Question:
    return Question(
        id=row["id"],
        model=row["model"],
        prompt=row["prompt"],
        url=row["url"],
        created=_EPOCH + timedelta(microseconds=row["created"]),
        state=State(row["state"]),
        starts=row["starts"],
        bundle=None if row["bundle"] is None else ReceiptBundle.FromString(row["bundle"]),
        reason=row["reason"],
        problem=row["problem"],
        ended=_time(row["ended"]),
        callback=Callback(
            CallbackState(row["callback_state"]), row["callback_attempts"], row["callback_problem"], _time(row["callback_due"])
        ),
    )


def _stamp(time: datetime | None) -> int | None:
    return None if time is None else (time - _EPOCH) // _MICROSECOND


def _time(stamp: int | None) -> datetime | None:
    return None if stamp is None else _EPOCH + timedelta(microseconds=stamp)
