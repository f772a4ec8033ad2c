"""Registrations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from aos.registry.catalog import Listing
from aos.registry.leases import Lease, Offered, Registration
from aos.registry.offers import Offer
from aos.registry.store import Kept
from aos.store.reading import among, at_one_time, first, kept
from aos.store.registry_audit import write_entries
from aos.store.registry_news import news_version, tell_others
from aos.store.sql import SqlDatabase, Transaction
from aos.v1.attestation_pb2 import Attested

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OPERATOR: Final = (
    "operator", "registered", "expires", "departed", "ends", "issued_at", "used", "vrf_key", "vrf_key_since", "attested", "noted",
)  # fmt: skip
_OFFER: Final = (
    "operator", "position", "model", "digest", "context_length", "chat", "prompt_price", "completion_price", "slots", "exact",
    "embeddings", "images", "image_edits", "controllers", "replicas", "since",
)  # fmt: skip

_KEEP_OPERATOR: Final = kept("registry_operators", _OPERATOR, "operator")
_ADD_OFFER: Final = kept("registry_offers", _OFFER)

Known = TypeVar("Known", Registration, Registration | None)


class SqlRegistryStore:
    """A RegistryStore in a database. ``origin`` is what it says of itself when it tells other registries that something changed."""

    def __init__(self, database: SqlDatabase, *, origin: str = "") -> None:
        self._database, self._origin = database, origin

    async def change(self, operator: str, decide: Callable[[Registration | None], Kept], *, now: datetime) -> Registration:
        """Show ``decide`` what is known of the operator, if anything, keep what it returns, and return the registration."""

        def work(tx: Transaction) -> Registration:
            return self._keep(tx, _read(tx, operator, own=True), decide, now)

        return await self._database.transact(work)

    async def lapse(self, now: datetime, decide: Callable[[Registration], Kept]) -> None:
        """Show ``decide`` each operator whose lapse is to be noted by ``now``, and keep what it returns."""

        def work(tx: Transaction) -> None:
            # of two registries that look at once, the second finds what the first has left
            sql = f"""SELECT * FROM registry_operators WHERE departed IS NULL AND noted = 0 AND expires <= ?
                ORDER BY expires, operator{tx.lock}"""  # noqa: S608  # fixed words
            for before in _registrations(tx, list(tx.query(sql, [_write_time(now)]))):
                self._keep(tx, before, decide, now)

        await self._database.transact(work)

    def _keep(self, tx: Transaction, before: Known, decide: Callable[[Known], Kept], now: datetime) -> Registration:
        made = decide(before)
        if made.registration != before:
            _write(tx, made.registration, offers=before is None or before.offers != made.registration.offers)
        if made.news:
            tell_others(tx, self._origin)
        write_entries(tx, made.entries, now)
        return made.registration

    async def next_lapse(self) -> datetime | None:
        """Return when the next operator lapses unless it is renewed; None: there is none."""
        asked = "SELECT min(expires) FROM registry_operators WHERE departed IS NULL AND noted = 0"
        found = await self._database.transact(lambda tx: tx.execute(asked).fetchone()[0])
        return None if found is None else _time(found)

    async def forget(self, before: datetime) -> None:
        """Drop the operators whose lease ended before that time, if that has been noted."""

        def work(tx: Transaction) -> None:
            gone = "DELETE FROM registry_operators WHERE ends < ? AND (noted = 1 OR departed IS NOT NULL)"
            tx.execute(gone, [_write_time(before)])

        await self._database.transact(work)

    async def version(self) -> int:
        """Return a number that grows with everything that registries of the database are told."""
        return await self._database.transact(news_version)

    async def count(self) -> int:
        """Return how many operators are kept."""
        return await self._database.transact(lambda tx: tx.execute("SELECT count(*) FROM registry_operators").fetchone()[0])

    async def get(self, operator: str, *, since: datetime) -> Registration | None:
        """Return one operator."""

        def work(tx: Transaction) -> Registration | None:
            at_one_time(tx)
            return _read(tx, operator)

        found = await self._database.transact(work)
        return found if found is not None and found.lease.ends >= since else None

    async def page(self, *, after: str, limit: int, since: datetime) -> Sequence[Registration]:
        """Return operators in the order of their addresses."""

        def work(tx: Transaction) -> list[Registration]:
            at_one_time(tx)
            rows = tx.query(
                "SELECT * FROM registry_operators WHERE operator > ? AND ends >= ? ORDER BY operator LIMIT ?",
                [after, _write_time(since), limit],
            )
            return _registrations(tx, list(rows))

        return await self._database.transact(work)

    async def listings(self, models: Collection[str], *, since: datetime) -> dict[str, list[Listing]]:
        """Return every offer of these models, by model; models that nobody offers are absent."""

        def work(tx: Transaction) -> dict[str, list[Listing]]:
            are, names = among(tx, models)
            sql = f"""SELECT * FROM registry_offers JOIN registry_operators USING (operator)
                WHERE model {are} AND ends >= ? ORDER BY model, operator"""  # noqa: S608  # one of two texts
            rows = tx.query(sql, [names, _write_time(since)])
            found: dict[str, list[Listing]] = {}
            for row in rows:
                found.setdefault(row["model"], []).append(Listing(_lease(row), _offered(row), _read_attested(row)))
            return found

        return await self._database.transact(work)

    async def models(self, *, after: str, limit: int, since: datetime) -> Sequence[str]:
        """Return names of models, sorted."""

        def work(tx: Transaction) -> list[str]:
            rows = tx.query(
                "SELECT DISTINCT model FROM registry_offers JOIN registry_operators USING (operator)"
                " WHERE model > ? AND ends >= ? ORDER BY model LIMIT ?",
                [after, _write_time(since), limit],
            )
            return [row["model"] for row in rows]

        return await self._database.transact(work)


def _read(tx: Transaction, operator: str, *, own: bool = False) -> Registration | None:
    if own:
        tx.advisory(f"registry operator {operator}")  # it may not be there yet
    sql = f"SELECT * FROM registry_operators WHERE operator = ?{tx.lock if own else ''}"  # noqa: S608  # fixed words
    row = first(tx, sql, operator)
    return None if row is None else _registration(row, _offers(tx, operator))


def _registrations(tx: Transaction, rows: Sequence[dict[str, Any]]) -> list[Registration]:
    """Return the operators of these rows, their offers read together."""
    offers: dict[str, list[Offered]] = {row["operator"]: [] for row in rows}
    are, operators = among(tx, offers)
    asked = f"SELECT * FROM registry_offers WHERE operator {are} ORDER BY operator, position"  # noqa: S608  # one of two texts
    for row in tx.query(asked, [operators]):
        offers[row["operator"]].append(_offered(row))
    return [_registration(row, offers[row["operator"]]) for row in rows]


def _offers(tx: Transaction, operator: str) -> list[Offered]:
    rows = tx.query("SELECT * FROM registry_offers WHERE operator = ? ORDER BY position", [operator])
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


def _write(tx: Transaction, registration: Registration, *, offers: bool) -> None:
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
    tx.execute(_KEEP_OPERATOR, values)
    if not offers:
        return
    tx.execute("DELETE FROM registry_offers WHERE operator = ?", [lease.operator])
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
        tx.execute(_ADD_OFFER, row)


def _write_time(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
