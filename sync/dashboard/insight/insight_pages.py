"""The pages about attacks, and about how units and models do."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from starlette.responses import Response

from sync.dashboard.accounts.rights import sees
from sync.dashboard.doors import doors
from sync.dashboard.insight import attacks as attack_list
from sync.dashboard.insight import calibration, counted, figures
from sync.dashboard.site import places
from sync.dashboard.site.places import Place, Places, place_of
from sync.dashboard.web import Call
from sync.dashboard.wording import drawing
from sync.dashboard.wording.languages import say, word
from sync.registry.campaigns import known as attackers
from sync.registry.database.schema import units
from sync.registry.fleet import rollout
from sync.registry.reports.status import unit_status

DAY_MS = 86_400_000
SPANS = {"30": "30 days", "90": "90 days", "365": "a year"}
FEWEST_ATTEMPTS = 10
"""A door with fewer attempts in a week is not listed."""


def attacks(call: Call) -> Response:
    span = call.query.get("days", "30")
    days = int(span) if span in SPANS else 30
    since_ms = doors.midnight_ms(call.now_ms, call.zone) - (days - 1) * DAY_MS
    with call.backend.store.reading() as db:
        by_day = attack_list.by_day(db, call.viewer, since_ms, days)
        rows = attack_list.newest(db, call.viewer, since_ms)
        known = places.load(db)
    kinds: Counter[str] = Counter()
    for (_, kind), times in by_day.items():
        kinds[kind] += times
    at_doors = Counter((row.unit, row.door) for row in rows).most_common(10)
    found = attack_list.campaigns(rows)
    return call.page(
        "attacks.html",
        days=str(days),
        spans=SPANS,
        total=kinds.total(),
        first_ms=rows[0].time_ms if len(rows) < kinds.total() else None,
        newest=len(rows),
        kinds=kinds,
        persons=len({row.person for row in rows if row.person}),
        chart=drawing.bars(
            attack_list.lines(by_day, since_ms, days, call.zone),
            {"attack": word("synthetic or loudspeaker"), "refused": word("recordings")},
            say("Attacks in {0}", word(SPANS[str(days)])),
            800,
        ),
        at_doors=[(place_of(known, *key), times) for key, times in at_doors],
        attackers=attackers.found(call.backend.store, call.now_ms, least=attack_list.LEAST)[:20],
        campaigns=[(c, [place_of(known, *key) for key in c.doors]) for c in found[:30]],
        campaign_count=len(found),
    )


def health(call: Call) -> Response:
    with call.backend.store.reading() as db:
        known = places.load(db)
        scopes = call.viewer.scopes
        seen = {unit for (unit, _), place in known.items() if sees(scopes, place.site, place.zone)}
        mine = [
            row
            for row in db.execute(sa.select(units).order_by(units.c.unit))
            if row.unit in seen or not scopes
        ]
        statuses = [unit_status(row, call.now_ms) for row in mine]
        calibrated, source = calibration.load(db)
        rolling = rollout.newest(db) if not call.viewer.scopes else None
        found = counted.load(db, call.viewer)
    labels = {unit: place.label for (unit, _), place in known.items()}
    usual = Place("x/x", "x", "x")
    thresholds = {"phrase_llr": usual.phrase_llr, "speaker_llr": usual.voice_llr, "spoof_llr": usual.live_llr}
    pictures = []
    for name, title in figures.SCORES:
        if found is None:
            break
        shapes = [("granted", found.now[name]["granted"]), ("refused", found.now[name]["refused"])]
        if name in calibrated:
            shapes.append(("calibrated", calibrated[name]["granted"]))
        middle, was = (figures.median(h[name]["granted"]) for h in (found.now, found.before))
        said = say("{0}: scores of those let in and of those refused, 30 days", word(title))
        drawn = drawing.distributions(shapes, figures.LOW, figures.HIGH, thresholds[name], said)
        apart = None
        if name in calibrated:
            apart = calibration.distance(found.now[name]["granted"], calibrated[name]["granted"])
        pictures.append((word(title), drawn, middle, was, apart))
    trouble = [t for t in found.troubles if t.attempts >= FEWEST_ATTEMPTS][:12] if found else []
    versions = Counter(str(s.health.get("facts", {}).get("models", word("unknown"))) for s in statuses)
    return call.page(
        "health.html",
        statuses=statuses,
        labels=labels,
        states=Counter(status.state for status in statuses),
        versions=versions.most_common(),
        pictures=pictures,
        trouble=[(t, place_of(known, t.unit, t.door)) for t in trouble],
        calibrated=source,
        moved=_moved(found.by_door, calibrated, known) if found else [],
        counted_ms=found.counted_ms if found else None,
        rolling=rolling,
        drifted=sum(bool(status.drifted) for status in statuses),
    )


def _moved(
    at_doors: dict[tuple[str, str], figures.Histograms], calibrated: calibration.Shapes, known: Places
) -> list[tuple[Place, str, float, float | None, float | None, int]]:
    """(door, check, distance, median here, median at calibration, scores), the furthest first."""
    found = []
    for key, here in at_doors.items():
        for name, title in figures.SCORES:
            mine = here[name]["granted"]
            if name not in calibrated or sum(mine) < calibration.FEWEST:
                continue
            apart = calibration.distance(mine, calibrated[name]["granted"])
            if apart is not None and apart >= calibration.MOVED:
                medians = (figures.median(mine), figures.median(calibrated[name]["granted"]))
                found.append((place_of(known, *key), word(title), apart, *medians, sum(mine)))
    return sorted(found, key=lambda line: -line[2])[:12]
