"""Issues every unit's document: computes it, numbers it, signs it, has it published."""

from __future__ import annotations

import json
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.errors import ProofError
from sync.events import Signer, UnitId
from sync.orders.desired import Contents, Desired, Part, Roster, open_statement
from sync.orders.parts import CHUNK_BYTES, Chunk, Want
from sync.proofs.bundle import key_from_bytes
from sync.registry.database import fleet_changes
from sync.registry.database.fleet_tables import documents, parts
from sync.registry.database.schema import units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.fleet import rollout
from sync.registry.fleet.people import Fleet, heard, note_holdings, reached
from sync.registry.fleet.wanted import Wishes, as_bundle, as_part, keep_part, piece, wishes

LIFE_MS = 30 * 24 * 3600 * 1000
RENEW_MS = LIFE_MS // 2


class FleetHandler:
    """What any worker does for the fleet: hands out parts, and keeps what units say."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self.store = store
        self.now_ms = now_ms

    def piece(self, payload: bytes) -> bytes | None:
        """The piece of a part that a unit asks for; None where there is no such part.

        Anybody who knows a part's hash has its unit's document. Raises MalformedError.
        """
        want = Want.from_bytes(payload)
        found = piece(self.store, want.sha256, want.offset, CHUNK_BYTES)
        return None if found is None else Chunk(found[0], want.offset, found[1]).to_bytes()

    def heard(self, unit: UnitId, payload: bytes) -> bool:
        """Keep a statement; whether it said anything new. Raises MalformedError or ProofError."""
        der = self.store.public_keys().get(unit)
        if der is None:
            raise ProofError("unknown unit")
        statement = open_statement(payload, key_from_bytes(der), unit)
        return heard(self.store, statement, self.now_ms()) > 0


class DocumentIssuer:
    """Makes every unit's document, with the command key. One worker does; a second does no harm: they take
    turns, so that none signs last what it read first.
    """

    def __init__(self, store: Store, signer: Signer, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._signer = signer
        self._now_ms = now_ms
        self._units: tuple[frozenset[str], frozenset[str]] | None = None
        self._due_ms = 0

    def round(self) -> list[tuple[UnitId, bytes]]:
        """Bring every document up to date; returns those that were not published yet. Raises StoreError."""
        now_ms = self._now_ms()
        with self._store.transaction() as db:
            self._store.raise_alarms(db, rollout.assess(db, now_ms), now_ms)
        with self._store.transaction() as db:
            take_turn(db, Turn.DOCUMENTS)
            now_units, changed = units_now(db), fleet_changes.take(db)
            due_ms = self._due_ms
            if changed or now_units != self._units or now_ms >= due_ms:
                due_ms = self._every_document(db, now_ms)
            unsent = sa.select(documents).where(documents.c.published_ms.is_(None))
            found = [(UnitId(row.unit), bytes(row.message)) for row in db.execute(unsent)]
        self._units, self._due_ms = now_units, due_ms  # it is committed
        return found

    def _every_document(self, db: Connection, now_ms: int) -> int:
        """Renew what is not as it should be; returns when the time alone will have changed something."""
        fleet, wished, rolling = Fleet.read(db), wishes(db), rollout.rolling(db)
        known = {row.unit: row for row in db.execute(sa.select(documents))}
        for unit in sorted(fleet.scopes):
            self._renew(db, fleet, wished, rolling, UnitId(unit), known.get(unit), now_ms)
        ends = [row.until_ms for row in fleet.people.values() if row.forgotten_ms is None]
        renewed = [row.expires_ms - RENEW_MS for row in db.execute(sa.select(documents.c.expires_ms))]
        return min((at for at in (*ends, *renewed) if at > now_ms), default=now_ms + RENEW_MS)

    def published(self, sent: list[tuple[UnitId, bytes]]) -> None:
        with self._store.transaction() as db:
            for unit, message in sent:
                mine = (documents.c.unit == unit, documents.c.message == message)
                db.execute(sa.update(documents).where(*mine).values(published_ms=self._now_ms()))

    def _renew(
        self,
        db: Connection,
        fleet: Fleet,
        wished: Wishes,
        rolling: rollout.Rolling,
        unit: UnitId,
        known: sa.Row[tuple[object, ...]] | None,
        now_ms: int,
    ) -> None:
        # A registry that was put back, or made anew, counts on from what the unit has said that it applied.
        applied = fleet.reached.get(unit, 0)
        recovering = bool(wished.of("recovering", fleet.scopes[unit]))
        roster = None if recovering else fleet.roster(unit, now_ms)
        told = roster is not None and (roster != Roster() or _knows_somebody(fleet, unit))
        people = roster.to_bytes() if roster is not None and told else None
        contents = self._contents(fleet, wished, rolling, unit, None if people is None else Part.of(people))
        if contents == Contents() and known is None and not recovering:
            return
        digest = contents.digest()
        fresh = known is not None and bytes(known.digest) == digest and known.expires_ms - now_ms > RENEW_MS
        if fresh and known is not None and known.counter >= applied:
            return
        # The unit's row is the lock: two issuers never give one number to two documents.
        db.execute(sa.select(units.c.unit).where(units.c.unit == unit).with_for_update()).one()
        last = db.execute(sa.select(documents.c.counter).where(documents.c.unit == unit)).scalar() or 0
        desired = Desired(unit, max(last, applied) + 1, now_ms, now_ms + LIFE_MS, contents)
        if people is not None and roster is not None:
            keep_part(db, people)
            note_holdings(db, unit, roster)
        row = {
            "counter": desired.counter,
            "issued_ms": now_ms,
            "expires_ms": desired.expires_ms,
            "digest": digest,
            "people": None if contents.people is None else contents.people.sha256,
            "message": desired.signed(self._signer),
            "published_ms": None,
        }
        if known is None:
            db.execute(sa.insert(documents).values(unit=unit, **row))
        else:
            db.execute(sa.update(documents).where(documents.c.unit == unit).values(**row))
            self._drop_roster(db, known.people)
        facts = _facts(contents, wished, fleet.scopes[unit], desired.counter)
        db.execute(sa.update(units).where(units.c.unit == unit).values(desired=json.dumps(facts)))

    def _contents(
        self,
        fleet: Fleet,
        wished: Wishes,
        rolling: rollout.Rolling,
        unit: UnitId,
        people: Part | None,
    ) -> Contents:
        scopes = fleet.scopes[unit]
        rules = wished.of("rules", scopes)
        models = rolling.bundle_of(unit, scopes) or wished.of("bundle", scopes)
        return Contents(
            as_part(rules["part"]) if rules else None,
            people,
            as_bundle(models),
            wished.of("thresholds", scopes) or {},
            wished.of("software", scopes) or "",
        )

    def _drop_roster(self, db: Connection, sha256: object) -> None:
        """A roster that no document names any more."""
        if sha256 is None:
            return
        named = sa.select(documents.c.unit).where(documents.c.people == sha256)
        if db.execute(named).first() is None:
            db.execute(sa.delete(parts).where(parts.c.sha256 == sha256))


def units_now(db: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """(units that are not revoked, those that have applied more than this registry issued)."""
    issued = {row.unit: row.counter for row in db.execute(sa.select(documents.c.unit, documents.c.counter))}
    rows = db.execute(sa.select(units.c.unit, units.c.health).where(units.c.revoked_ms.is_(None))).all()
    ahead = {row.unit for row in rows if reached(row.health) > issued.get(row.unit, 0)}
    return frozenset(row.unit for row in rows), frozenset(ahead)


def _knows_somebody(fleet: Fleet, unit: str) -> bool:
    """Whether this unit was ever told of somebody: then an empty roster is news to it."""
    return any(there == unit for _, there in fleet.holdings)


def _facts(contents: Contents, wished: Wishes, scopes: frozenset[str], counter: int) -> dict[str, object]:
    """What a unit reports once it is as it should be; anything else is drift."""
    facts: dict[str, object] = {"document": counter, "standing": "applied"}
    rules = wished.of("rules", scopes)
    if rules:
        facts["policy"] = f"rules-{rules['version']}"
    if contents.bundle is not None:
        facts["models"] = f"sha256:{contents.bundle.manifest.sha256.hex()[:16]}"
    if contents.software:
        facts["software"] = contents.software
    return facts
