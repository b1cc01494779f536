"""What is wanted, layer by layer: for all, a site, a zone, a tag, one unit; the narrower layer counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.events import UnitId, unit_id, version_text
from sync.orders.desired import MAX_PART_BYTES, THRESHOLDS, Part, WantedBundle
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.fleet_tables import cards, parts, unit_tags, wanted
from sync.registry.database.store import Store

ITEMS = frozenset({"rules", "bundle", "thresholds", "software", "enrols", "recovering"})
LAYERS = ("all", "site", "zone", "tag", "unit")
"""From the widest to the narrowest."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def scope_of(text: str) -> str:
    """`all`, `site:NAME`, `zone:NAME`, `tag:NAME` or `unit:SITE/UNIT`. Raises SyncError."""
    layer, _, name = text.partition(":")
    if text == "all":
        return text
    if layer == "unit":
        return f"unit:{unit_id(name)}"
    if layer in LAYERS and _NAME.fullmatch(name):
        return text
    raise SyncError(f"{text!r} is no scope; it is all, or site:NAME, zone:NAME, tag:NAME or unit:SITE/UNIT")


def scopes_of(unit: str, tags: frozenset[str]) -> frozenset[str]:
    """Every scope that this unit is in."""
    return tags | {"all", f"site:{unit.partition('/')[0]}", f"unit:{unit}"}


@dataclass(frozen=True, slots=True)
class Layer:
    scope: str
    value: Any
    set_ms: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """Every layer of every item."""

    layers: Mapping[str, tuple[Layer, ...]]

    def of(self, item: str, scopes: frozenset[str]) -> Any:
        """The value of the narrowest layer that the unit is in; of two tags the one that was set last."""
        fitting = [layer for layer in self.layers.get(item, ()) if layer.scope in scopes]
        if not fitting:
            return None
        return max(fitting, key=lambda one: (LAYERS.index(one.scope.partition(":")[0]), one.set_ms)).value


def wishes(db: Connection) -> Wishes:
    found: dict[str, list[Layer]] = {}
    for row in db.execute(sa.select(wanted)):
        found.setdefault(row.item, []).append(Layer(row.scope, json.loads(row.value), row.set_ms))
    return Wishes({item: tuple(layers) for item, layers in found.items()})


def tags_of_units(db: Connection) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for row in db.execute(sa.select(unit_tags)):
        found.setdefault(row.unit, set()).add(row.tag)
    return {unit: frozenset(tags) for unit, tags in found.items()}


def want(store: Store, scope: str, item: str, value: Any, account: str, now_ms: int) -> None:
    """Set one layer, or take it away where `value` is None. Raises SyncError."""
    scope = scope_of(scope)
    if item not in ITEMS:
        raise SyncError(f"what can be wanted is {', '.join(sorted(ITEMS))}; {item!r} is none of them")
    _check(item, value)
    text = None if value is None else json.dumps(value, sort_keys=True)
    with store.transaction() as db:
        set_layer(db, scope, item, text, account, now_ms)
        on_record(db, account, "want", 1, now_ms, f"{item} of {scope}")


def set_layer(db: Connection, scope: str, item: str, value: str | None, account: str, now_ms: int) -> None:
    """Replace one layer by `value` (JSON), or take it away where that is None."""
    db.execute(sa.delete(wanted).where(wanted.c.scope == scope, wanted.c.item == item))
    if value is not None:
        row = {"scope": scope, "item": item, "value": value, "account": account, "set_ms": now_ms}
        db.execute(sa.insert(wanted).values(row))


TOLD = "told"
"""No wish: while a registry recovers, it says of a unit that all whom it reported are known here."""


def note_told(db: Connection, unit: UnitId, whole: bool, now_ms: int) -> None:
    """Keep whether all whom a unit reported are known here."""
    set_layer(db, f"unit:{unit}", TOLD, "true" if whole else None, unit, now_ms)


def end_recovery(db: Connection, without: frozenset[UnitId], now_ms: int) -> None:
    """Stop asking units whom they hold, except those in `without`, whose answers so far still count."""
    kept = {f"unit:{unit}" for unit in without}
    of_it = wanted.c.item.in_(("recovering", TOLD))
    db.execute(sa.delete(wanted).where(of_it, wanted.c.scope.not_in(kept)))
    asked = sa.select(wanted.c.scope).where(wanted.c.item == "recovering")
    for scope in sorted(kept - set(db.execute(asked).scalars())):
        set_layer(db, scope, "recovering", "true", "", now_ms)


def forget_told(db: Connection) -> None:
    """Drop what units said in an earlier recovery."""
    db.execute(sa.delete(wanted).where(wanted.c.item == TOLD))


def _check(item: str, value: Any) -> None:
    if value is None:
        return
    if item == "thresholds" and not all(
        name in THRESHOLDS and isinstance(llr, float) and abs(llr) <= 12 for name, llr in value.items()
    ):
        raise SyncError(f"thresholds are {', '.join(sorted(THRESHOLDS))}, each from -12 to 12")
    if item == "software":
        version_text(value)


def keep_part(db: Connection, data: bytes) -> Part:
    """Have `data` where units can fetch it."""
    if not 0 < len(data) <= MAX_PART_BYTES:
        raise SyncError(f"a part has 1 to {MAX_PART_BYTES} bytes")
    part = Part.of(data)
    if db.execute(sa.select(parts.c.size).where(parts.c.sha256 == part.sha256)).first() is None:
        db.execute(sa.insert(parts).values(sha256=part.sha256, size=part.size, data=data))
    return part


def piece(store: Store, sha256: bytes, offset: int, length: int) -> tuple[Part, bytes] | None:
    """Some bytes of a part, or None where there are none."""
    query = sa.select(parts.c.size, sa.func.substr(parts.c.data, offset + 1, length).label("data"))
    with store.reading() as db:
        row = db.execute(query.where(parts.c.sha256 == sha256)).one_or_none()
    data = bytes(row.data) if row is not None else b""
    return (Part(sha256, row.size), data) if row is not None and data else None


def set_tags(store: Store, unit: UnitId, tags: frozenset[str]) -> None:
    """The zones and tags of a unit, in place of those before."""
    for tag in tags:
        if scope_of(tag).partition(":")[0] not in ("zone", "tag"):
            raise SyncError(f"{tag!r} is no zone:NAME or tag:NAME")
    with store.transaction() as db:
        db.execute(sa.delete(unit_tags).where(unit_tags.c.unit == unit))
        for tag in sorted(tags):
            db.execute(sa.insert(unit_tags).values(unit=unit, tag=tag))


def keep_card(db: Connection, unit: UnitId, card: bytes) -> None:
    """The certificate of a unit's exchange key: from now on people can be enrolled there from afar."""
    db.execute(sa.delete(cards).where(cards.c.unit == unit))
    db.execute(sa.insert(cards).values(unit=unit, certificate=card))


def part_value(part: Part) -> list[Any]:
    return [part.sha256.hex(), part.size]


def as_part(value: Any) -> Part | None:
    return None if value is None else Part(bytes.fromhex(value[0]), int(value[1]))


def as_bundle(value: Any) -> WantedBundle | None:
    if value is None:
        return None
    manifest = Part(bytes.fromhex(value["manifest"][0]), int(value["manifest"][1]))
    return WantedBundle(manifest, bytes.fromhex(value["signature"]), bytes.fromhex(value["key"]))
