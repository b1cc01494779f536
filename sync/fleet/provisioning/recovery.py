"""After a registry was put back from a backup, or made anew: what is known without it.

The list of revoked certificates lies on the broker's machine. What it names stays revoked, whatever the
database remembers: without that, a unit that was stolen since the backup would be let in again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.events import UnitId, unit_id
from sync.fleet.certificates import LEAF_DAYS
from sync.fleet.provisioning.claims import milliseconds
from sync.fleet.provisioning.site import Site
from sync.plain_file import LARGE_BYTES, plain_bytes
from sync.plain_words import what_and_why
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.membership import retire
from sync.registry.database.schema import certificates, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, take_turn
from sync.registry.fleet import wanted

MOST_NAMED = 5
LISTED = "listed"
"""Second half of the unit's name for revoked serial numbers of which nothing else is known."""


def begin(site: Site, store: Store, account: str, now: dt.datetime) -> int:
    """Ask every unit what it holds, and revoke what the broker's list names.

    Returns how many revoked certificates were not known here. Raises SyncError where the list cannot be read,
    or is not the site's.
    """
    serials, now_ms = _listed(site, now), milliseconds(now)
    fresh = 0
    with store.transaction() as db:
        take_turn(db, Turn.RECOVERY)
        for serial in sorted(serials):
            here = certificates.c.serial == f"{serial:x}"
            revoked = sa.func.coalesce(certificates.c.revoked_ms, now_ms)
            if db.execute(sa.update(certificates).where(here).values(revoked_ms=revoked)).rowcount:
                continue
            fresh += 1
            ends = milliseconds(now + dt.timedelta(days=LEAF_DAYS))
            row = {"serial": f"{serial:x}", "unit": unit_id(f"{site.name}/{LISTED}"), "tpm": ""}
            times = {"issued_ms": now_ms, "expires_ms": ends, "revoked_ms": now_ms}
            db.execute(sa.insert(certificates).values(**row, **times))
        good = sa.func.sum(sa.case((certificates.c.revoked_ms.is_(None), 1), else_=0))
        alive = certificates.c.expires_ms > now_ms
        gone = sa.select(certificates.c.unit).where(alive).group_by(certificates.c.unit).having(good == 0)
        names = list(db.execute(gone).scalars())
        still = (units.c.unit.in_(names), units.c.revoked_ms.is_(None))
        db.execute(sa.update(units).where(*still).values(revoked_ms=now_ms))
        for name in names:
            retire(db, unit_id(name), now_ms)
        wanted.forget_told(db)
        wanted.set_layer(db, "all", "recovering", "true", account, now_ms)
        on_record(db, account, "want", 1, now_ms, "recovering of all")
    return fresh


def end(
    store: Store,
    account: str,
    now: dt.datetime,
    *,
    without: Collection[UnitId] = (),
    anyway: Collection[UnitId] = (),
) -> tuple[UnitId, ...]:
    """Have units hold those whom this registry names and nobody else; returns which are still asked.

    Those in `without` go on being asked and erase nobody, until this is called again. Those in `anyway` are
    ended although they would erase somebody. Raises SyncError while any other unit would, and for names that
    no unit here has.
    """
    if both := sorted({*without} & {*anyway}):
        raise SyncError(f"{', '.join(both)}: either go on asking a unit, or end it anyway")
    with store.transaction() as db:
        take_turn(db, Turn.RECOVERY)  # no unit says whom it holds, and none comes back, between look and end
        # Their rows are the lock: no unit's health comes in between.
        here = sa.select(units.c.unit).where(units.c.revoked_ms.is_(None)).order_by(units.c.unit)
        strange = sorted({*without, *anyway} - set(db.execute(here.with_for_update()).scalars()))
        if strange:
            raise SyncError(f"this registry has no unit {', '.join(strange)} that is not revoked")
        _refuse({unit: why for unit, why in _awaited(db).items() if unit not in {*without, *anyway}})
        wanted.end_recovery(db, frozenset(without), milliseconds(now))
        on_record(db, account, "want", 1, milliseconds(now), _told(without, anyway))
    return tuple(sorted(without))


def _refuse(waiting: Mapping[UnitId, str]) -> None:
    """Raises SyncError where units would erase somebody."""
    if waiting:
        told = [f"{unit} {why}" for unit, why in waiting.items()]
        more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
        raise SyncError(
            f"this would have units erase people: {'; '.join(told[:MOST_NAMED])}{more}. Wait for them, leave "
            "them out (--without UNIT), or end it there too (--anyway UNIT): who is not known here enrols "
            "again"
        )


def _told(without: Collection[UnitId], anyway: Collection[UnitId]) -> str:
    """For the record: what was said of which units."""
    parts = [("without", without), ("anyway", anyway)]
    said = "; ".join(f"{name} {', '.join(sorted(these))}" for name, these in parts if these)
    return f"recovering ended{'; ' + said if said else ''}"


def awaited(store: Store) -> dict[UnitId, str]:
    """Why, by unit that the recovery still needs: it has not said since it began whom it holds, or holds
    somebody unknown here.

    A unit that says it holds nobody by the fleet, or takes no documents, has nothing to tell: people who were
    enrolled for it alone stay there, whatever the registry names.
    """
    with store.reading() as db:
        return _awaited(db)


def _awaited(db: Connection) -> dict[UnitId, str]:
    wished, tags = wanted.wishes(db), wanted.tags_of_units(db)
    told = {layer.scope for layer in wished.layers.get(wanted.TOLD, ())}
    rows = db.execute(sa.select(units).where(units.c.revoked_ms.is_(None)).order_by(units.c.unit)).all()
    layers = wished.layers.get("recovering", ())
    found = {}
    for row in rows:
        scopes = wanted.scopes_of(row.unit, tags.get(row.unit, frozenset()))
        if wished.of("recovering", scopes) is not True or f"unit:{row.unit}" in told:
            continue
        began_ms = min(layer.set_ms for layer in layers if layer.scope in scopes)
        facts = json.loads(row.health or "{}").get("facts") or {}
        held = facts.get("fleet_people", facts.get("people", 0))
        if row.health_ms is None or row.health_ms < began_ms:
            found[unit_id(row.unit)] = "has not been heard since"
        elif held:
            found[unit_id(row.unit)] = (
                f"holds {held} of the fleet's people, and not all of them are known here"
            )
    return found


def recovering(db: Connection) -> bool:
    """Whether any unit is asked what it holds."""
    return any(layer.value is True for layer in wanted.wishes(db).layers.get("recovering", ()))


def _listed(site: Site, now: dt.datetime) -> frozenset[int]:
    try:
        found = x509.load_pem_x509_crl(plain_bytes(site.revoked, LARGE_BYTES))
    except (OSError, ValueError) as err:
        raise SyncError(
            f"{site.revoked} cannot be read ({what_and_why(err)}); without it units that were revoked "
            "would be let in"
        ) from err
    if not found.is_signature_valid(site.authority(now).key.public_key()):
        raise SyncError(f"{site.revoked} is not this site's list of revoked certificates")
    return frozenset(one.serial_number for one in found)
