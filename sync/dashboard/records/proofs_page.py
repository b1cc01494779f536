"""Proofs: how each chain is, its log to take away, and a check in the page itself."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from starlette.responses import Response

from sync.cose import peek1
from sync.dashboard.accounts.rights import site_within, within
from sync.dashboard.errors import not_found
from sync.dashboard.site import places
from sync.dashboard.web import Call
from sync.events import unit_id
from sync.proofs.heads import Head
from sync.registry.database.schema import alarms, heads, retained, units
from sync.registry.reports import export

BROKEN = ("GAP", "FORK", "REWRITE", "COUNTER_ROLLBACK", "BOOT_ROLLBACK", "BAD_SIGNATURE")


def listing(call: Call) -> Response:
    with call.backend.store.reading() as db:
        rows = [
            row for row in db.execute(sa.select(units).order_by(units.c.unit)) if _whole(call, db, row.unit)
        ]
        wrong = _wrong(db)
        last = sa.select(heads.c.unit, sa.func.max(heads.c.received_ms).label("ms")).group_by(heads.c.unit)
        newest = {row.unit: row.ms for row in db.execute(last)}
        known = places.load(db)
    labels = {unit: place.label for (unit, _), place in known.items()}
    lines = [
        {
            "unit": row.unit,
            "label": labels.get(row.unit, ""),
            "size": row.size,
            "head_ms": newest.get(row.unit),
            "whole": row.frontier is not None,
            "wrong": wrong.get(row.unit, []),
            "revoked": row.revoked_ms,
        }
        for row in rows
    ]
    sound = sum(line["whole"] and not line["wrong"] for line in lines)
    return call.page("proofs.html", lines=lines, sound=sound)


def one(call: Call) -> Response:
    unit = _unit(call)
    with call.backend.store.reading() as db:
        row = db.execute(sa.select(units).where(units.c.unit == unit)).one()
        mine = sa.select(heads).where(heads.c.unit == unit).order_by(heads.c.size.desc()).limit(1)
        head = db.execute(mine).one_or_none()
        number = db.execute(
            sa.select(sa.func.count()).select_from(heads).where(heads.c.unit == unit)
        ).scalar_one()
        gone = db.execute(sa.select(retained.c.size).where(retained.c.unit == unit)).scalar()
        wrong = _wrong(db).get(unit, [])
        label = next((p.label for (u, _), p in places.load(db).items() if u == unit), "")
    return call.page(
        "proof.html",
        unit=unit,
        label=label,
        row=row,
        wrong=wrong,
        heads=number,
        gone=gone or 0,
        head=Head.from_bytes(peek1(bytes(head.cose))) if head is not None else None,
        fingerprint=hashlib.sha256(bytes(row.public_key)).hexdigest(),
        key_pem=_pem(bytes(row.public_key)),
        file=f"{unit.replace('/', '-')}.bundle",
    )


def bundle(call: Call) -> Response:
    """The unit's whole log as we hold it. On record first."""
    unit = _unit(call)
    made = export.bundle(call.backend.store, unit_id(unit))
    call.note("export", f"the log of {unit}", len(made.events))
    return _file(made.to_bytes(), f"{unit.replace('/', '-')}.bundle")


def newest_head(call: Call) -> Response:
    """The newest signed head alone: to hold a later log against."""
    unit = _unit(call)
    with call.backend.store.reading() as db:
        query = sa.select(heads.c.cose, heads.c.size).where(heads.c.unit == unit)
        row = db.execute(query.order_by(heads.c.size.desc()).limit(1)).one_or_none()
    if row is None:
        raise not_found()
    return _file(bytes(row.cose), f"{unit.replace('/', '-')}-{row.size}.head")


def _unit(call: Call) -> str:
    """The unit of the address, if this account may see all of its doors: a log cannot be cut by door."""
    unit = f"{call.path['site']}/{call.path['unit']}"
    with call.backend.store.reading() as db:
        known = db.execute(sa.select(units.c.unit).where(units.c.unit == unit)).one_or_none()
        if known is None or not _whole(call, db, unit):
            raise not_found()
    return unit


def _whole(call: Call, db: sa.Connection, unit: str) -> bool:
    scopes = call.viewer.scopes
    if site_within(scopes, unit.split("/")[0]):
        return True
    doors = [door for (name, door) in places.load(db) if name == unit]
    inside = [
        db.execute(sa.select(within(scopes, sa.literal(unit), sa.literal(door)))).scalar() for door in doors
    ]
    return bool(inside) and all(inside)


def _wrong(db: sa.Connection) -> dict[str, list[str]]:
    query = sa.select(alarms.c.unit, alarms.c.kind).where(
        alarms.c.kind.in_(BROKEN), alarms.c.unit.is_not(None)
    )
    found: dict[str, list[str]] = {}
    for row in db.execute(query.distinct().order_by(alarms.c.kind)):
        found.setdefault(row.unit, []).append(row.kind)
    return found


def _pem(der: bytes) -> str:
    return load_der_public_key(der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _file(data: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="application/octet-stream", headers=headers)
