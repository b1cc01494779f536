"""A registry that was put back from a backup, or made anew: what is still known without it.

The list of revoked certificates lies on the broker's machine. What it names stays revoked, whatever the
database remembers: without that, a unit that was stolen since the backup would be let in again.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from cryptography import x509

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import LEAF_DAYS
from sync.fleet.provisioning.claims import milliseconds
from sync.fleet.provisioning.site import Site
from sync.registry.fleet import wanted
from sync.registry.membership import retire
from sync.registry.schema import certificates, units
from sync.registry.store import Store

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
    wanted.want(store, "all", "recovering", True, account, now_ms)
    return fresh


def end(store: Store, account: str, now: dt.datetime) -> None:
    """From now on units hold whom this registry names, and nobody else."""
    wanted.want(store, "all", "recovering", None, account, milliseconds(now))


def recovering(store: Store) -> bool:
    with store.reading() as db:
        return wanted.wishes(db).of("recovering", frozenset({"all"})) is True


def _listed(site: Site, now: dt.datetime) -> frozenset[int]:
    try:
        found = x509.load_pem_x509_crl(site.revoked.read_bytes())
    except (OSError, ValueError) as err:
        raise SyncError(
            f"{site.revoked} cannot be read ({err}); without it units that were revoked would be let in"
        ) from err
    if not found.is_signature_valid(site.authority(now).key.public_key()):
        raise SyncError(f"{site.revoked} is not this site's list of revoked certificates")
    return frozenset(one.serial_number for one in found)
