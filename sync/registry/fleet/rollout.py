"""Rolls out models in stages: a canary, per cents, all. A unit that goes back, or a rate, halts it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.errors import SyncError
from sync.registry.database.alarm_rows import on_record
from sync.registry.database.fleet_tables import documents, rollouts
from sync.registry.database.schema import events, units
from sync.registry.database.store import Store
from sync.registry.database.transactions import Turn, insert, take_turn
from sync.registry.fleet.wanted import scope_of, scopes_of, set_layer, tags_of_units
from sync.registry.verification import Alarm
from sync.vocabulary import DECISIONS

PAST_MS = 14 * 24 * 3600 * 1000
"""Rates are compared with those of the same doors in the two weeks before."""
HALT_Z = 3.3
"""A rate halts a roll-out from this many standard errors on: by chance once in a thousand looks."""
REFUSED = tuple(sorted(kind for kind in DECISIONS if kind.startswith("DENIED_")))
SPOOFS = ("DENIED_SPOOF",)
RUNNING = ("running", "halted")


@dataclass(frozen=True, slots=True)
class Rolling:
    """The roll-outs that have not ended, and what each of their units gets."""

    rows: tuple[Any, ...]
    members: dict[int, frozenset[str]]

    def bundle_of(self, unit: str, scopes: frozenset[str]) -> Any:
        """The models that a roll-out has for this unit by now, or None."""
        for row in self.rows:
            if unit in self.members[row.id]:
                return json.loads(row.bundle)
        return None


def start(
    store: Store,
    scope: str,
    bundle: dict[str, Any],
    canary: str,
    percents: tuple[int, ...],
    soak_s: int,
    attempts: int,
    account: str,
    now_ms: int,
) -> int:
    """Begin with the canary; returns the roll-out's number. Raises SyncError."""
    scope, canary = scope_of(scope), scope_of(canary)
    if not percents or list(percents) != sorted(set(percents)) or not 0 < percents[0] <= percents[-1] == 100:
        raise SyncError("the stages are rising per cents that end with 100, such as 10,50,100")
    with store.transaction() as db:
        take_turn(db, Turn.DOCUMENTS)
        if db.execute(sa.select(rollouts.c.id).where(rollouts.c.state.in_(RUNNING))).first() is not None:
            raise SyncError("a roll-out has not ended; `ostiary fleet roll-out --stop` ends it")
        if not _members(db, scope, canary, 0, percents):
            raise SyncError(f"no unit is in {canary}; tag one with `ostiary fleet tag`")
        row = {
            "scope": scope,
            "bundle": json.dumps(bundle, sort_keys=True),
            "canary": canary,
            "percents": json.dumps(list(percents)),
            "soak_s": soak_s,
            "attempts": attempts,
            "stage": 0,
            "stage_ms": now_ms,
            "state": "running",
            "why": "",
            "account": account,
            "started_ms": now_ms,
        }
        number = insert(db, rollouts, **row)
        on_record(db, account, "roll-out", 1, now_ms, f"models of {scope}")
    return number


def stop(store: Store, account: str, now_ms: int) -> bool:
    """End it where it stands: units that have the new models keep them. False when none runs."""
    with store.transaction() as db:
        ended = sa.update(rollouts).where(rollouts.c.state.in_(RUNNING))
        done = db.execute(ended.values(state="stopped", why=f"by {account}")).rowcount
        on_record(db, account, "roll-out stopped", done, now_ms)
    return bool(done)


def rolling(db: Connection) -> Rolling:
    """The roll-outs that are not done; units keep the models of one that was stopped."""
    query = sa.select(rollouts).where(rollouts.c.state != "done").order_by(rollouts.c.id.desc())
    rows = tuple(db.execute(query))
    return Rolling(rows, {row.id: _of(db, row, row.stage) for row in rows})


def assess(db: Connection, now_ms: int) -> list[Alarm]:
    """Halt, go on to the next stage, or wait. Returns what somebody has to be told."""
    alarms: list[Alarm] = []
    # Its row is the lock: one that somebody stops now does not go on, and is not wanted by all.
    for row in db.execute(sa.select(rollouts).where(rollouts.c.state == "running").with_for_update()).all():
        members = _of(db, row, row.stage)
        standing = {m: _standing(db, m, json.loads(row.bundle)) for m in members}
        back = sorted(unit for unit, word in standing.items() if word == "back")
        why = f"{back[0]} took the new models back" if back else _rates(db, row, members, now_ms)
        if why:
            _set(db, row, state="halted", why=why)
            told = {"why": why, "scope": row.scope}
            alarms.append(Alarm("ROLL_OUT_HALTED", "critical", None, f"ROLL_OUT_HALTED {row.id}", told))
            continue
        waiting = sorted(unit for unit, word in standing.items() if word != "applied")
        if waiting:
            _set(
                db,
                row,
                why=f"{len(members) - len(waiting)} of {len(members)} have them; {waiting[0]} not yet",
            )
            continue
        if now_ms - row.stage_ms < row.soak_s * 1000:
            _set(db, row, why=f"all {len(members)} have them; watched until the time is over")
            continue
        seen = _counted(db, members, row.stage_ms, now_ms)[0]
        if seen < row.attempts:
            _set(db, row, why=f"{seen} of {row.attempts} attempts seen with them")
            continue
        if row.stage == len(json.loads(row.percents)):
            _finish(db, row, now_ms)
        else:
            _set(db, row, stage=row.stage + 1, stage_ms=now_ms, why="")
    return alarms


def newest(db: Connection) -> dict[str, Any] | None:
    """The last roll-out, for the operator."""
    row = db.execute(sa.select(rollouts).order_by(rollouts.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    stages = ["canary", *(f"{percent} %" for percent in json.loads(row.percents))]
    models = f"sha256:{json.loads(row.bundle)['manifest'][0][:16]}"
    told = {"scope": row.scope, "state": row.state, "stage": stages[row.stage], "models": models}
    return {**told, "why": row.why, "units": len(_of(db, row, row.stage)), "started_ms": row.started_ms}


def _of(db: Connection, row: Any, stage: int) -> frozenset[str]:
    return _members(db, row.scope, row.canary, stage, tuple(json.loads(row.percents)))


def _members(
    db: Connection, scope: str, canary: str, stage: int, percents: tuple[int, ...]
) -> frozenset[str]:
    """The units of a stage: the canary's, and by their hash so many per cent of all in the scope."""
    tags = tags_of_units(db)
    live = db.execute(sa.select(units.c.unit).where(units.c.revoked_ms.is_(None))).scalars()
    names = [unit for unit in live if "~" not in unit]
    scopes = {unit: scopes_of(unit, tags.get(unit, frozenset())) for unit in names}
    inside = sorted(
        (u for u in scopes if scope in scopes[u]), key=lambda u: hashlib.sha256(u.encode()).digest()
    )
    first = {unit for unit in inside if canary in scopes[unit]}
    if stage == 0:
        return frozenset(first)
    return frozenset(first | set(inside[: math.ceil(len(inside) * percents[stage - 1] / 100)]))


def _standing(db: Connection, unit: str, bundle: dict[str, Any]) -> str:
    """`applied`, `back`, or `waiting`, by what the unit last said of itself."""
    told = db.execute(sa.select(units.c.health).where(units.c.unit == unit)).scalar()
    counter = db.execute(sa.select(documents.c.counter).where(documents.c.unit == unit)).scalar() or 0
    facts = (json.loads(told) if told else {}).get("facts", {})
    if facts.get("models") == f"sha256:{bundle['manifest'][0][:16]}":
        return "applied" if facts.get("standing") == "applied" else "waiting"
    if facts.get("document", 0) < counter:
        return "waiting"
    return "back" if facts.get("standing") in ("went_back", "refused") else "waiting"


def _rates(db: Connection, row: Any, members: frozenset[str], now_ms: int) -> str:
    """What changed at these doors against their own past, in words; empty where nothing can be said."""
    before = _counted(db, members, row.stage_ms - PAST_MS, row.started_ms)
    after = _counted(db, members, row.stage_ms, now_ms)
    if min(before[0], after[0]) < max(1, row.attempts):
        return ""
    for name, then, now in (("refusals", before[1], after[1]), ("attacks", before[2], after[2])):
        if abs(z := _z(then, before[0], now, after[0])) > HALT_Z:
            share = f"{now / after[0]:.0%} instead of {then / before[0]:.0%}"
            return f"{name} {'rose' if z > 0 else 'fell'} to {share} at the same doors"
    return ""


def _z(then: int, of_then: int, now: int, of_now: int) -> float:
    """The difference of two shares in standard errors, pooled."""
    pooled = (then + now) / (of_then + of_now)
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_then + 1 / of_now))
    return 0.0 if error == 0.0 else (now / of_now - then / of_then) / error


def _counted(db: Connection, members: frozenset[str], since_ms: int, until_ms: int) -> tuple[int, int, int]:
    """(attempts, refused, attacks) at these units' doors, by the events' own time."""
    mine = (events.c.unit.in_(sorted(members)), events.c.time_ms >= since_ms, events.c.time_ms < until_ms)
    query = sa.select(events.c.kind, sa.func.count()).where(*mine, events.c.kind.in_(sorted(DECISIONS)))
    found: dict[str, int] = {kind: times for kind, times in db.execute(query.group_by(events.c.kind)).all()}
    refused = sum(found.get(kind, 0) for kind in REFUSED)
    return sum(found.values()), refused, sum(found.get(kind, 0) for kind in SPOOFS)


def _set(db: Connection, row: Any, **values: object) -> None:
    if any(getattr(row, name) != value for name, value in values.items()):
        db.execute(sa.update(rollouts).where(rollouts.c.id == row.id).values(**values))


def _finish(db: Connection, row: Any, now_ms: int) -> None:
    """What was rolled out is what is wanted from now on."""
    _set(db, row, state="done", why="")
    set_layer(db, row.scope, "bundle", row.bundle, row.account, now_ms)
