"""Attempts for one person at one door within minutes are judged together, and those of others are not."""

from __future__ import annotations

import json
import math
import random

import pytest
import sqlalchemy as sa

from sync.events import unit_id
from sync.registry.campaigns import known
from sync.registry.campaigns.bouts import BOUT_MS, MOST_OPEN, Bout, Moment, Open, OpenBouts
from sync.registry.campaigns.grouping import Limits
from sync.registry.database.campaign_tables import campaigns, prints, reports
from sync.registry.database.store import StoreError
from sync.threats.prints import (
    MODEL,
    VALUES,
    Print,
    as_values,
    likeness,
    numbers,
)
from tests.sync.registry.campaigns.site import ATTACKER, PERSON, Site

DAY_MS = 86_400_000


def far(seed: int, number: int, alike: float = 0.5) -> bytes:
    """One of many prints of a tool, so alike to what they have in common, and not to each other."""
    own, dice = random.Random(seed), random.Random(1000 * seed + number)
    tool = _unit([own.gauss(0, 1) for _ in range(VALUES)])
    other = [dice.gauss(0, 1) for _ in range(VALUES)]
    along = sum(a * b for a, b in zip(tool, other, strict=True))
    other = _unit([b - along * a for a, b in zip(tool, other, strict=True)])
    rest = math.sqrt(1 - alike**2)
    return as_values([alike * a + rest * b for a, b in zip(tool, other, strict=True)])


def _unit(values: list[float]) -> list[float]:
    length = math.hypot(*values)
    return [value / length for value in values]


def test_attempts_that_resemble_nothing_apart_are_one_attack_together(site: Site) -> None:
    prints = [[far(ATTACKER, 5 * unit + number) for number in range(5)] for unit in range(4)]
    alike = [likeness(a, b) for a in prints[0] for b in prints[1]]
    assert sum(1000 * one >= Limits().joins for one in alike) <= 2, "of 25"
    for unit, each in enumerate(prints):
        site.bout(unit, *each)
    (campaign,) = known.found(site.store, site.clock(), least=3)
    assert (campaign.times, campaign.reporters) == (20, 4)
    assert site.warned_of(far(ATTACKER, 99, 0.9))


def test_the_first_attempt_moves_to_where_the_whole_bout_belongs(site: Site) -> None:
    for unit in range(2):
        site.bout(unit, *(far(ATTACKER, 5 * unit + number) for number in range(5)))
    site.bout(2, far(ATTACKER, 20))
    first = site.sizes()
    site.bout(2, *(far(ATTACKER, 20 + number) for number in range(1, 5)))
    assert (first, site.sizes()) == ([10, 1], [15])
    with site.store.reading() as db:
        rows = db.execute(sa.select(prints.c.campaign, prints.c.unit)).all()
        assert len({row.campaign for row in rows}) == 1, "the prints' own rows follow"
        assert len(rows) == 15


@pytest.mark.parametrize("how", ["other people", "nobody named", "other doors", "later", "let in between"])
def test_what_is_no_bout_is_not_joined(site: Site, how: str) -> None:
    for number in range(5):
        person = {"other people": f"p-{number}", "nobody named": None}.get(how, "p-1")
        door = f"icu-{number}" if how == "other doors" else "icu"
        assert site.attack(0, far(ATTACKER, number), person=person, door=door)
        site.clock.now_ms += 600_001 if how == "later" else 60_000
        if how == "let in between":
            site.event(site.units[0], "GRANTED", "p-1")
    assert site.sizes() == [1] * 5


def test_several_people_who_fail_at_one_door_within_minutes_are_no_campaign(site: Site) -> None:
    for door in range(6):
        for person in range(5):
            values = site.like(100 + 5 * door + person)
            site.attack(door, values, kind="DENIED_VOICE", person=f"p-{door}-{person}")
            site.clock.now_ms += 30_000
    assert site.threats() == []
    assert max(site.sizes()) <= 2, "two of thirty people may be alike"


def test_one_bout_has_one_say_however_often_was_tried(site: Site) -> None:
    for unit in range(3):
        site.bout(unit, *(site.like(ATTACKER) for _ in range(5)))
    with site.store.reading() as db:
        rows = db.execute(sa.select(reports)).all()
    assert [(row.times, row.counted) for row in rows] == [(5, 1)] * 3
    for row in rows:  # a budget is accounted for vectors of length one
        assert math.hypot(*json.loads(row.sums)) == pytest.approx(1000, rel=0.01)


def test_a_bout_that_goes_on_otherwise_takes_nothing_from_an_attack_that_units_are_warned_of(
    site: Site,
) -> None:
    for unit in range(3):
        site.bout(unit, site.like(ATTACKER))
    before = _centre(site)
    site.bout(0, *(site.like(PERSON) for _ in range(4)), apart_ms=1)
    assert likeness(before, _centre(site)) > 0.94, "one say of three, and alike to the other two"
    assert site.warned_of(site.like(ATTACKER))
    assert not site.warned_of(site.like(PERSON))
    assert [(one.reporters, one.state) for one in known.found(site.store, site.clock())] == [(3, "known")]


def test_a_watched_campaign_stays_what_it_is_while_its_only_bout_goes_on(site: Site) -> None:
    site.bout(0, site.like(ATTACKER))
    (campaign,) = known.found(site.store, site.clock())
    known.watch(site.store, campaign.number, "seen at a door", 2, "m.desk", site.clock())
    site.bout(0, *(site.like(PERSON) for _ in range(3)), apart_ms=1)
    assert site.threats() == [campaign.number]


def test_one_unit_of_four_moves_a_known_attack_a_little_at_most(site: Site) -> None:
    for unit in range(3):
        site.bout(unit, site.like(ATTACKER, 0.0))
    site.threats()
    for step in range(40):
        mixed = [(40 - step) * a + step * b for a, b in zip(*_both(site), strict=True)]
        site.bout(3, as_values(mixed), person=f"p-{step}")
    assert likeness(_centre(site), site.like(ATTACKER, 0.0)) > 0.95
    assert not site.warned_of(site.like(PERSON))


def _centre(site: Site) -> bytes:
    """Of the one attack that units are warned of."""
    (number,) = site.threats()
    with site.store.reading() as db:
        return bytes(db.execute(sa.select(campaigns.c.centre).where(campaigns.c.id == number)).scalar_one())


def _both(site: Site) -> tuple[list[int], list[int]]:
    return numbers(site.like(ATTACKER, 0.0)), numbers(site.like(PERSON, 0.0))


def test_open_bouts_are_forgotten_after_minutes_and_are_no_more_than_so_many() -> None:
    open_ones = OpenBouts()
    bout = Bout(unit_id("st-mary/u-1"), MODEL).with_print(Print(MODEL, bytes([1] * VALUES)), begins=True)
    for number in range(MOST_OPEN + 5):
        at = Moment("icu", f"p-{number}", number, number)
        open_ones.forget(number)
        open_ones.keep(Open(bout, at), number)
        assert open_ones.find(bout.unit, MODEL, at) is not None
    assert len(open_ones) == MOST_OPEN
    open_ones.forget(number + BOUT_MS + 1)
    assert len(open_ones) == 0


def test_a_print_that_the_database_did_not_take_is_not_counted_when_it_comes_again(site: Site) -> None:
    site.bout(0, site.like(ATTACKER))
    unit = site.units[0]
    sequence = site.event(unit, "DENIED_SPOOF", "p-1")
    with site.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE campaign_prints RENAME TO elsewhere"))
    with pytest.raises(StoreError):
        site.send(unit, site.like(ATTACKER), sequence)
    with site.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE elsewhere RENAME TO campaign_prints"))
    assert site.send(unit, site.like(ATTACKER), sequence)
    assert site.sizes() == [2]
