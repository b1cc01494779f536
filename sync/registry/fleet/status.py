"""The fleet on one screen: who is as it should be, who drifts, what is rolled out, who owes a receipt."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from sync.registry.database.fleet_tables import documents, enrolments
from sync.registry.database.store import Store
from sync.registry.fleet import rollout
from sync.registry.fleet.people import owing
from sync.registry.reports.status import UnitStatus, unit_statuses

MOST_LINES = 12
"""Lines shown of each list: a screen has some forty."""
_WORDS = {
    "locks_everybody_out": "the rules would lock everybody out",
    "rules_refused": "the rules were refused",
    "models_refused": "the models were refused",
    "people_refused": "an enrolment was refused",
    "not_confirmed": "a recorded attempt was not decided",
    "restarted": "it restarted twice",
    "fault": "they could not be taken up",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One unit that is not as it should be."""

    unit: str
    state: str
    document: str
    trouble: str


@dataclass(frozen=True, slots=True)
class Screen:
    """`converged` units have applied their last document; `behind` is why the others have not."""

    units: int
    states: dict[str, int]
    following: int
    converged: int
    behind: tuple[Line, ...]
    people: int
    forgotten: int
    owing: tuple[tuple[str, str, int], ...]
    """(unit, person, since ms): who was forgotten, and has not been proved erased there yet."""
    rollout: dict[str, Any] | None
    over: int = 0
    """Voiceprints, at all units, that have come over to the speaker model that is to follow."""
    not_over: int = 0
    late: tuple[tuple[str, int], ...] = ()
    """(unit, how many have not come over), most first."""
    unproved: tuple[tuple[str, str, int], ...] = ()
    """As `owing`, of units that were revoked: nothing is heard from those any more."""

    @property
    def well(self) -> bool:
        halted = self.rollout is not None and self.rollout["state"] == "halted"
        return not self.behind and not self.owing and not halted

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "well": self.well}

    def lines(self) -> list[str]:
        states = ", ".join(f"{times} {state}" for state, times in sorted(self.states.items()))
        told = [f"{self.units} units: {states or 'none'}"]
        told.append(f"{self.converged} of {self.following} that follow documents are as they should be")
        told += _listed([f"  {line.unit}  {line.document}  {line.trouble}" for line in self.behind])
        if self.rollout is not None:
            one = self.rollout
            told.append(
                f"roll-out of {one['models']} to {one['scope']}: {one['state']}, at {one['stage']}, "
                f"{one['units']} units{'; ' + one['why'] if one['why'] else ''}"
            )
        if self.over or self.not_over:
            told.append(
                f"a speaker model follows another: {self.over} voiceprints have come over, {self.not_over} "
                "have not (`ostiary store successor` on a unit names them)"
            )
            told += _listed([f"  {unit}  {count} to come" for unit, count in self.late])
        told.append(f"{self.people} people enrolled, {self.forgotten} forgotten")
        if self.owing:
            told.append(f"{len(self.owing)} deletion receipts are owed:")
            told += _listed([f"  {unit}  {uid}" for unit, uid, _ in self.owing])
        if self.unproved:
            told.append(
                f"{len(self.unproved)} deletion receipts will not come, for the unit was revoked; its "
                "store opens with its own TPM alone:"
            )
            told += _listed([f"  {unit}  {uid}" for unit, uid, _ in self.unproved])
        return told


def screen(store: Store, now_ms: int) -> Screen:
    statuses = [status for status in unit_statuses(store, now_ms) if "~" not in status.unit]
    with store.reading() as db:
        numbers = {row.unit: row.counter for row in db.execute(sa.select(documents))}
        told = db.execute(sa.select(enrolments.c.forgotten_ms)).scalars().all()
        owed = tuple(owing(db))
        newest = rollout.newest(db)
    live = [status for status in statuses if status.state != "revoked"]
    alive = {status.unit for status in live}
    following = [status for status in live if status.unit in numbers]
    behind = tuple(line for status in following if (line := _line(status, numbers[status.unit])) is not None)
    facts = [(status.unit, status.health.get("facts", {})) for status in live]
    late = sorted(((u, f.get("not_over", 0)) for u, f in facts if f.get("not_over", 0)), key=lambda e: -e[1])
    return Screen(
        len(live),
        dict(Counter(status.state for status in live)),
        len(following),
        len(following) - len(behind),
        behind,
        sum(at is None for at in told),
        sum(at is not None for at in told),
        tuple(one for one in owed if one[0] in alive),
        newest,
        sum(told.get("over", 0) for _, told in facts),
        sum(count for _, count in late),
        tuple(late),
        tuple(one for one in owed if one[0] not in alive),
    )


def _line(status: UnitStatus, wanted: int) -> Line | None:
    facts = status.health.get("facts", {})
    at, standing, why = facts.get("document", 0), facts.get("standing", ""), facts.get("why", "none")
    document = f"document {at} of {wanted}"
    if at < wanted:
        return Line(status.unit, status.state, document, f"{status.state}, has not applied it yet")
    if standing == "trial":
        return Line(status.unit, status.state, document, "new models on trial")
    if standing in ("refused", "went_back"):
        said = "went back" if standing == "went_back" else "kept what it had"
        return Line(status.unit, status.state, document, f"{said}: {_WORDS.get(why, why)}")
    drift = ", ".join(
        f"{name} is {is_now or 'nothing'} instead of {should}"
        for name, (should, is_now) in sorted(status.drifted.items())
        if name not in ("document", "standing")
    )
    return Line(status.unit, status.state, document, drift) if drift else None


def _listed(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"  and {more} more"] if more > 0 else [])]
