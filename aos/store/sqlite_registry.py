"""Registrations in SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aos.registry.catalog import Listing
from aos.registry.leases import Lease, Offered, Registration
from aos.registry.offers import Offer
from aos.registry.store import Kept
from aos.store.registry_audit import write_entries
from aos.store.sqlite import SqliteFile
from aos.v1.attestation_pb2 import Attested

MIGRATIONS: Final = Migrations("registry")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@MIGRATIONS(name="0001_operators")
def _operators(db: Database) -> None:
    # times are microseconds since 1970-01-01 UTC; prices outgrow 64 bits, so they are decimal text
    for sql in (
        """CREATE TABLE registry_operators (
            operator TEXT PRIMARY KEY,
            registered INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            departed INTEGER,
            ends INTEGER NOT NULL,
            issued_at INTEGER NOT NULL,
            used TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_operators_ends ON registry_operators (ends)",
        """CREATE TABLE registry_offers (
            operator TEXT NOT NULL REFERENCES registry_operators ON DELETE CASCADE,
            position INTEGER NOT NULL,
            model TEXT NOT NULL,
            digest TEXT NOT NULL,
            context_length INTEGER NOT NULL,
            chat INTEGER NOT NULL,
            prompt_price TEXT NOT NULL,
            completion_price TEXT NOT NULL,
            slots INTEGER NOT NULL,
            since INTEGER NOT NULL,
            PRIMARY KEY (operator, position)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX registry_offers_model ON registry_offers (model, operator)",
    ):
        db.execute(sql)


@MIGRATIONS(name="0002_exact_and_embeddings")
def _exact_and_embeddings(db: Database) -> None:
    for column in ("exact", "embeddings"):
        db.execute(f"ALTER TABLE registry_offers ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="0003_vrf_keys")
def _vrf_keys(db: Database) -> None:
    db.execute("ALTER TABLE registry_operators ADD COLUMN vrf_key BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE registry_operators ADD COLUMN vrf_key_since INTEGER")


@MIGRATIONS(name="0004_attested")
def _attested(db: Database) -> None:
    # an Attested message; empty for operators that have shown no evidence
    db.execute("ALTER TABLE registry_operators ADD COLUMN attested BLOB NOT NULL DEFAULT x''")


@MIGRATIONS(name="0005_images_and_replicas")
def _images_and_replicas(db: Database) -> None:
    for column in ("images", "image_edits"):
        db.execute(f"ALTER TABLE registry_offers ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE registry_offers ADD COLUMN replicas TEXT NOT NULL DEFAULT ''")


@MIGRATIONS(name="0006_lapses_noted")
def _lapses_noted(db: Database) -> None:
    db.execute("ALTER TABLE registry_operators ADD COLUMN noted INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE INDEX registry_operators_lapses ON registry_operators (expires) WHERE departed IS NULL AND noted = 0")


@MIGRATIONS(name="0006_controllers")
def _controllers(db: Database) -> None:
    db.execute("ALTER TABLE registry_offers ADD COLUMN controllers INTEGER NOT NULL DEFAULT 0")


class SqliteRegistryStore:
    """A RegistryStore in one file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def change(self, operator: str, decide: Callable[[Registration | None], Kept], *, now: datetime) -> Registration:
        """Show ``decide`` what is known of the operator, if anything, keep what it returns, and return the registration."""

        def work(db: Database) -> Registration:
            return _keep(db, _read(db, operator), decide, now)

        return await self._file.transact(work)

    async def lapse(self, now: datetime, decide: Callable[[Registration], Kept]) -> None:
        """Show ``decide`` each operator whose lapse is to be noted by ``now``, and keep what it returns."""

        def work(db: Database) -> None:
            rows = db.query(
                "SELECT operator FROM registry_operators WHERE departed IS NULL AND noted = 0 AND expires <= ? ORDER BY expires",
                [_write_time(now)],
            )
            for row in list(rows):
                before = _read(db, row["operator"])
                assert before is not None, "its address was read in this transaction"
                _keep(db, before, decide, now)

        await self._file.transact(work)

    async def next_lapse(self) -> datetime | None:
        """Return when the next operator lapses unless it is renewed; None: there is none."""
        asked = "SELECT min(expires) FROM registry_operators WHERE departed IS NULL AND noted = 0"
        found = await self._file.transact(lambda db: db.execute(asked).fetchone()[0])
        return None if found is None else _time(found)

    async def forget(self, before: datetime) -> None:
        """Drop the operators whose lease ended before that time, if that has been noted."""

        def work(db: Database) -> None:
            gone = "DELETE FROM registry_operators WHERE ends < ? AND (noted = 1 OR departed IS NOT NULL)"
            db.execute(gone, [_write_time(before)])

        await self._file.transact(work)

    async def count(self) -> int:
        """Return how many operators are kept."""
        return await self._file.transact(lambda db: db.execute("SELECT count(*) FROM registry_operators").fetchone()[0])

    async def get(self, operator: str, *, since: datetime) -> Registration | None:
        """Return one operator."""
        found = await self._file.transact(lambda db: _read(db, operator))
        return found if found is not None and found.lease.ends >= since else None

    async def page(self, *, after: str, limit: int, since: datetime) -> Sequence[Registration]:
        """Return operators in the order of their addresses."""

        def work(db: Database) -> list[Registration]:
            rows = db.query(
                "SELECT * FROM registry_operators WHERE operator > ? AND ends >= ? ORDER BY operator LIMIT ?",
                [after, _write_time(since), limit],
            )
            return _registrations(db, list(rows))

        return await self._file.transact(work)

    async def listings(self, models: Collection[str], *, since: datetime) -> dict[str, list[Listing]]:
        """Return every offer of these models, by model; models that nobody offers are absent."""

        def work(db: Database) -> dict[str, list[Listing]]:
            rows = db.query(
                "SELECT * FROM registry_offers JOIN registry_operators USING (operator)"
                " WHERE model IN (SELECT value FROM json_each(?)) AND ends >= ? ORDER BY model, operator",
                [json.dumps(list(models)), _write_time(since)],
            )
            found: dict[str, list[Listing]] = {}
            for row in rows:
                found.setdefault(row["model"], []).append(Listing(_lease(row), _offered(row), _read_attested(row)))
            return found

        return await self._file.transact(work)

    async def models(self, *, after: str, limit: int, since: datetime) -> Sequence[str]:
        """Return names of models, sorted."""

        def work(db: Database) -> list[str]:
            rows = db.query(
                "SELECT DISTINCT model FROM registry_offers JOIN registry_operators USING (operator)"
                " WHERE model > ? AND ends >= ? ORDER BY model LIMIT ?",
                [after, _write_time(since), limit],
            )
            return [row["model"] for row in rows]

        return await self._file.transact(work)


Known = TypeVar("Known", Registration, Registration | None)


def _keep(db: Database, before: Known, decide: Callable[[Known], Kept], now: datetime) -> Registration:
    made = decide(before)
    if made.registration != before:
        _write(db, made.registration, offers=before is None or before.offers != made.registration.offers)
    write_entries(db, made.entries, now)
    return made.registration


def _read(db: Database, operator: str) -> Registration | None:
    row = next(iter(db.query("SELECT * FROM registry_operators WHERE operator = ?", [operator])), None)
    return None if row is None else _registration(row, _offers(db, operator))


def _registrations(db: Database, rows: Sequence[dict[str, Any]]) -> list[Registration]:
    """Return the operators of these rows, their offers read together."""
    offers: dict[str, list[Offered]] = {row["operator"]: [] for row in rows}
    asked = "SELECT * FROM registry_offers WHERE operator IN (SELECT value FROM json_each(?)) ORDER BY operator, position"
    for row in db.query(asked, [json.dumps(list(offers))]):
        offers[row["operator"]].append(_offered(row))
    return [_registration(row, offers[row["operator"]]) for row in rows]


def _offers(db: Database, operator: str) -> list[Offered]:
    rows = db.query("SELECT * FROM registry_offers WHERE operator = ? ORDER BY position", [operator])
    return [_offered(row) for row in rows]


def _registration(row: dict[str, Any], offers: Iterable[Offered]) -> Registration:
    since = None if row["vrf_key_since"] is None else _time(row["vrf_key_since"])
    used = tuple(row["used"].split())
    attested, noted = _read_attested(row), bool(row["noted"])
    return Registration(_lease(row), tuple(offers), row["issued_at"], used, row["vrf_key"], since, attested, noted)


def _read_attested(row: dict[str, Any]) -> Attested | None:
    return Attested.FromString(row["attested"]) if row["attested"] else None


def _lease(row: dict[str, Any]) -> Lease:
    left = None if row["departed"] is None else _time(row["departed"])
    return Lease(row["operator"], _time(row["registered"]), _time(row["expires"]), left)


def _offered(row: dict[str, Any]) -> Offered:
    offer = Offer(
        model=row["model"],
        digest=row["digest"],
        context_length=row["context_length"],
        chat=bool(row["chat"]),
        prompt_price=int(row["prompt_price"]),
        completion_price=int(row["completion_price"]),
        slots=row["slots"],
        exact=bool(row["exact"]),
        embeddings=bool(row["embeddings"]),
        images=bool(row["images"]),
        image_edits=bool(row["image_edits"]),
        controllers=bool(row["controllers"]),
        replicas=tuple(row["replicas"].split()),
    )
    return Offered(offer, _time(row["since"]))


def _write(db: Database, registration: Registration, *, offers: bool) -> None:
    lease = registration.lease
    values: dict[str, Any] = {
        "operator": lease.operator,
        "registered": _write_time(lease.registered),
        "expires": _write_time(lease.expires),
        "departed": None if lease.left is None else _write_time(lease.left),
        "ends": _write_time(lease.ends),
        "issued_at": registration.issued_at,
        "used": " ".join(registration.used),
        "vrf_key": registration.vrf_key,
        "vrf_key_since": None if registration.vrf_key_since is None else _write_time(registration.vrf_key_since),
        "attested": b"" if registration.attested is None else registration.attested.SerializeToString(),
        "noted": int(registration.noted),
    }
    db.table("registry_operators").upsert(values, pk="operator")
    if not offers:
        return
    db.execute("DELETE FROM registry_offers WHERE operator = ?", [lease.operator])
    for position, one in enumerate(registration.offers):
        offer = one.offer
        row: dict[str, Any] = {
            "operator": lease.operator,
            "position": position,
            "model": offer.model,
            "digest": offer.digest,
            "context_length": offer.context_length,
            "chat": int(offer.chat),
            "prompt_price": str(offer.prompt_price),
            "completion_price": str(offer.completion_price),
            "slots": offer.slots,
            "exact": int(offer.exact),
            "embeddings": int(offer.embeddings),
            "images": int(offer.images),
            "image_edits": int(offer.image_edits),
            "controllers": int(offer.controllers),
            "replicas": " ".join(offer.replicas),
            "since": _write_time(one.since),
        }
        db.table("registry_offers").insert(row)


def _write_time(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
