"""Groups prints into campaigns, and keeps warnings away from honest people. Pure: numbers in, numbers out.

A campaign counts by how many units report it, each with the same weight: one unit in an attacker's hands can
send as many prints as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sync.threats.listed import MOST_LIKENESS
from sync.threats.prints import VALUES, as_values, likeness, numbers

LONG = 1000
"""The length to which each print is scaled in sums."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Likenesses are in thousandths."""

    joins: int = 500
    """A bout belongs to a campaign to whose units it is so alike on average (`Centre.alike`)."""
    asks: int = 740
    """The least likeness that a unit asks of a match: it compares each attempt with a whole list."""
    times: int = 3
    units: int = 3
    """A campaign is known from this many attempts at this many units on."""
    counted: int = 4
    """How many of one unit's bouts move a centre."""
    settled: int = 12
    """A centre that this many units have reported stays where it is."""
    alone: int = 8
    """How many campaigns are kept that one unit alone reported; its own oldest go."""
    campaigns: int = 512
    honest: int = 4096
    """How many prints of granted attempts are kept."""
    honest_each: int = 8
    """How many of them come from one unit at most."""
    honest_units: int = 2
    """Fewer units than this forbid nothing: one in an attacker's hands could clear its tools."""
    honest_share: float = 0.001
    """The share of honest attempts that a threat may resemble."""
    room: int = 30
    """Added to the likeness that honest people reached."""
    life_days: int = 30


@dataclass(frozen=True, slots=True)
class Centre:
    """What the prints of a campaign have in common."""

    values: bytes
    length: float = 1.0
    """Of the mean of units' directions: short where they are of many kinds."""

    def alike(self, values: bytes) -> int:
        """The mean likeness to what each unit told, in thousandths. What is held together loosely takes in
        little: by the likeness to its middle alone a mixed campaign would swallow its neighbours."""
        return round(1000 * self.length * likeness(values, self.values))


def middle(reports: Iterable[tuple[Sequence[int], int]]) -> Centre:
    """The mean of units' mean directions. (sums, counted) of each unit."""
    total, units = [0.0] * VALUES, 0
    for sums, _ in reports:
        length = math.hypot(*sums)
        if length:
            units += 1
            total = [there + value / length for there, value in zip(total, sums, strict=True)]
    return Centre(as_values(total), math.hypot(*total) / max(1, units))


def added(sums: Sequence[int], values: bytes) -> list[int]:
    """A unit's sums with one print more, of which each counts as a vector of length LONG."""
    print_ = numbers(values)
    length = math.sqrt(sum(value * value for value in print_))
    return [there + round(LONG * value / length) for there, value in zip(sums, print_, strict=True)]


def nearest(values: bytes, centres: Iterable[tuple[int, Centre]]) -> tuple[int, int]:
    """(number, mean likeness in thousandths) of the campaign most alike; (0, -1000) where there is none."""
    found = [(centre.alike(values), -number) for number, centre in centres]
    alike, number = max(found, default=(-1000, 0))
    return -number, alike


def needed(values: bytes, honest: Mapping[str, Sequence[bytes]], limits: Limits) -> int:
    """The likeness (thousandths) that a match with `values` must have so that honest people seldom do.

    `honest` are prints of granted attempts by unit; each unit counts once, by its closest print. Above
    MOST_LIKENESS a warning would hit honest people.
    """
    nearest_each = sorted(
        (max(round(1000 * likeness(values, one)) for one in prints) for prints in honest.values() if prints),
        reverse=True,
    )
    total = sum(map(len, honest.values()))
    allowed = max(limits.honest_units - 1, int(limits.honest_share * total))
    if len(nearest_each) <= allowed or nearest_each[allowed] < limits.asks:
        return limits.asks
    believed = nearest_each[allowed]
    return max(limits.asks, believed + limits.room)


def known(times: int, reporters: int, likeness: int, limits: Limits) -> bool:
    """Whether units may be warned of a campaign."""
    return times >= limits.times and reporters >= limits.units and likeness <= MOST_LIKENESS
