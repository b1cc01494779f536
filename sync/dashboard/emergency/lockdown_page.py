"""Lock a zone down, and see door by door what did lock."""

from __future__ import annotations

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.emergency import lockdown
from sync.dashboard.errors import RefusedError, not_found
from sync.dashboard.site import places
from sync.dashboard.web import Call, redirect, signer_of

MAX_NAME = 60


def overview(call: Call) -> Response:
    with call.backend.store.reading() as db:
        plans = lockdown.listed(db, call.viewer)
        zones = _zones(call, db)
        runs = lockdown.recent(db, call.viewer, call.now_ms)
    return call.page(
        "lockdown.html", plans=plans, zones=zones, runs=runs, able=call.backend.signer is not None,
        labels={(site, zone): label for site, zone, label, _ in zones},
    )  # fmt: skip


def confirm(call: Call) -> Response:
    """Which doors it is about, and the button."""
    site, zones, name, plan = _wanted(call, dict(call.query))
    with call.backend.store.reading() as db:
        doors = lockdown.doors_of(db, call.viewer, site, zones)
    if not doors:
        raise not_found()
    return call.page(
        "lockdown_start.html", site=site, zones=zones, name=name, plan=plan, doors=doors,
        able=call.backend.signer is not None,
    )  # fmt: skip


def start(call: Call) -> Response:
    site, zones, name, plan = _wanted(call, dict(call.form))
    run = lockdown.start(
        call.backend.store,
        signer_of(call),
        call.viewer,
        name=name,
        site=site,
        zones=zones,
        plan=plan,
        drill=call.form.get("drill") == "1",
        now_ms=call.now_ms,
        minutes=_minutes(call),
    )
    return redirect(f"/lockdown/{run}")


def run(call: Call) -> Response:
    with call.backend.store.reading() as db:
        found = lockdown.one(db, call.viewer, call.number("run"), call.now_ms)
    if found is None:
        raise not_found()
    return call.page("lockdown_run.html", run=found)


def end(call: Call) -> Response:
    number = call.number("run")
    lockdown.end(call.backend.store, signer_of(call), call.viewer, number, call.now_ms)
    return redirect(f"/lockdown/{number}")


def save_plan(call: Call) -> Response:
    name = call.text("name", MAX_NAME)
    chosen = [
        value.split("/") for key, value in call.form.items() if key.startswith("zone-") and "/" in value
    ]
    sites = {site for site, _ in chosen}
    if len(sites) != 1:
        raise RefusedError("A plan has zones of one site; choose at least one.")
    lockdown.save(
        call.backend.store, call.viewer, name, sites.pop(), [zone for _, zone in chosen], call.now_ms
    )
    return redirect("/lockdown")


def remove_plan(call: Call) -> Response:
    lockdown.remove(call.backend.store, call.viewer, call.number("plan"), call.now_ms)
    return redirect("/lockdown")


def _wanted(call: Call, given: dict[str, str]) -> tuple[str, tuple[str, ...], str, int]:
    """Site, zones, name and plan of a request: a saved plan, or one zone."""
    number = given.get("plan", "0")
    if number.isascii() and number.isdigit() and number != "0" and len(number) < 16:
        with call.backend.store.reading() as db:
            plan = next((p for p in lockdown.listed(db, call.viewer) if p.id == int(number)), None)
        if plan is None:
            raise not_found()
        return plan.site, plan.zones, plan.name, plan.id
    site, zone = given.get("site", ""), given.get("zone", "")
    with call.backend.store.reading() as db:
        label = next((name for s, z, name, _ in _zones(call, db) if (s, z) == (site, zone)), None)
    if label is None:
        raise not_found()
    return site, (zone,), label, 0


def _minutes(call: Call) -> int:
    text = call.form.get("minutes", "") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > lockdown.LONGEST_MINUTES:
        raise RefusedError("A lock-down ends by itself after up to 1440 minutes, or never.")
    return int(text)


def _zones(call: Call, db: sa.Connection) -> list[tuple[str, str, str, int]]:
    """(site, zone, label, doors) of what this account may lock."""
    found = {(p.site, p.zone): p.zone_label for p in places.load(db).values() if p.zone}
    lines = []
    for (site, zone), label in sorted(found.items()):
        doors = lockdown.doors_of(db, call.viewer, site, (zone,))
        if doors:
            lines.append((site, zone, label, len(doors)))
    return lines
