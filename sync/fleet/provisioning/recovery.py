"""A registry that was put back from a backup, or made anew: what is still known without it.

The list of revoked certificates lies on the broker's machine. What it names stays revoked, whatever the
database remembers: without that, a unit that was stolen since the backup would be let in again.
"""

from __future__ import annotations

import datetime as dt
import json

import sqlalchemy as sa
from cryptography import x509

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import LEAF_DAYS
from sync.fleet.provisioning.claims import milliseconds
from sync.fleet.provisioning.site import Site
from sync.plain_file import LARGE_BYTES, plain_bytes
from sync.registry.fleet import wanted
from sync.registry.membership import retire
from sync.registry.schema import certificates, units
from sync.registry.store import Store

MOST_NAMED = 5
LISTED = "listed"
"""Second half of the name under which serial numbers stand of which nothing else is known."""


def begin(site: Site, store: Store, account: str, now: dt.datetime) -> int:
    """Ask every unit what it holds, and revoke what the broker's list names. Returns how many were not known.

    Raises SyncError where the list cannot be read, or is not the site's.
    """
    serials, now_ms = _listed(site, now), milliseconds(now)
    fresh = 0
    with store.transaction() as db:
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
    wanted.want(store, "all", "recovering", True, account, now_ms)
    return fresh


def end(store: Store, account: str, now: dt.datetime, *, anyway: bool = False) -> None:
    """From now on units hold whom this registry names, and nobody else.

    Raises SyncError while that would have a unit erase somebody, unless `anyway`.
    """
    waiting = [] if anyway else awaited(store)
    if waiting:
        more = f" and {len(waiting) - MOST_NAMED} more" if len(waiting) > MOST_NAMED else ""
        raise SyncError(
            f"this would have units erase people: {'; '.join(waiting[:MOST_NAMED])}{more}. "
            "Wait for them, or give --anyway: who is not known here enrols again"
        )
    wanted.want(store, "all", "recovering", None, account, milliseconds(now))
    with store.transaction() as db:
        wanted.forget_told(db)


def awaited(store: Store) -> list[str]:
    """Which units have not said yet, since the recovery began, whom they hold, or hold somebody unknown here.

    A unit that says it holds nobody, or takes no documents, has nothing to tell.
    """
    with store.reading() as db:
        layers = wanted.wishes(db).layers
        began_ms = min((layer.set_ms for layer in layers.get("recovering", ())), default=None)
        told = {layer.scope for layer in layers.get(wanted.TOLD, ())}
        rows = db.execute(sa.select(units).where(units.c.revoked_ms.is_(None)).order_by(units.c.unit)).all()
    if began_ms is None:
        return []
    found = []
    for row in rows:
        held = (json.loads(row.health or "{}").get("facts") or {}).get("people", 0)
        if f"unit:{row.unit}" in told:
            continue
        if row.health_ms is None or row.health_ms < began_ms:
            found.append(f"{row.unit} has not been heard since")
        elif held:
            found.append(f"{row.unit} holds {held}, and not all of them are known here")
    return found


def recovering(store: Store) -> bool:
    with store.reading() as db:
        return wanted.wishes(db).of("recovering", frozenset({"all"})) is True


def _listed(site: Site, now: dt.datetime) -> frozenset[int]:
    try:
        found = x509.load_pem_x509_crl(plain_bytes(site.revoked, LARGE_BYTES))
    except (OSError, ValueError) as err:
        raise SyncError(
            f"{site.revoked} cannot be read ({err}); without it units that were revoked would be let in"
        ) from err
    if not found.is_signature_valid(site.authority(now).key.public_key()):
        raise SyncError(f"{site.revoked} is not this site's list of revoked certificates")
    return frozenset(one.serial_number for one in found)
