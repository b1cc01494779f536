"""How prints become campaigns, and what honest traffic forbids. Pure: numbers in, numbers out.

Nothing here counts prints alone: one unit that is in an attacker's hands can send as many as it likes. What
counts is how many units say so, and each unit's say is as long as any other's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sync.threats.listed import MOST_LIKENESS
from sync.threats.prints import VALUES, likeness, numbers

SCALE = 127.0
LONG = 1000
"""How long a print counts in sums of them, whatever its values."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Likenesses are in thousandths."""

    joins: int = 550
    """A print this alike belongs to a campaign."""
    asks: int = 740
    """So much a unit asks of a match at least: it compares each attempt with a whole list."""
    times: int = 3
    units: int = 3
    """A campaign is known from so many attempts at so many units on."""
    counted: int = 4
    """Of one unit's prints so many move a centre."""
    settled: int = 12
    """From so many units on a centre stays where it is."""
    alone: int = 8
    """Campaigns that one unit alone has reported: its oldest go first, and nobody else's."""
    campaigns: int = 512
    honest: int = 4096
    """Prints of granted attempts that are kept ..."""
    honest_each: int = 8
    """... and of one unit so many."""
    honest_units: int = 2
    """What one unit alone calls honest forbids nothing: or it could clear its owner's tools."""
    honest_share: float = 0.001
    """Of honest attempts, that a threat may be alike to at most."""
    room: int = 30
    """Above what honest people were seen to reach."""
    life_days: int = 30


def centre(reports: Iterable[tuple[Sequence[int], int]]) -> bytes:
    """The mean direction of units' mean directions, as a print's values. (sums, counted) of each unit."""
    total = [0.0] * VALUES
    for sums, _ in reports:
        length = math.sqrt(sum(value * value for value in sums))
        if length:
            total = [there + value / length for there, value in zip(total, sums, strict=True)]
    return as_values(total)


def as_values(direction: Sequence[float]) -> bytes:
    """A direction as signed bytes, the longest of them 127."""
    longest = max((abs(value) for value in direction), default=0.0)
    if not longest:
        return bytes([1]) + bytes(VALUES - 1)
    return bytes(round(value * SCALE / longest) & 0xFF for value in direction)


def added(sums: Sequence[int], values: bytes) -> list[int]:
    """A unit's sums with one print more, of which each counts as a vector of length LONG."""
    print_ = numbers(values)
    length = math.sqrt(sum(value * value for value in print_))
    return [there + round(LONG * value / length) for there, value in zip(sums, print_, strict=True)]


def nearest(values: bytes, centres: Iterable[tuple[int, bytes]]) -> tuple[int, int]:
    """(number, likeness in thousandths) of the most alike; (0, -1000) where there is none."""
    found = [(round(1000 * likeness(values, there)), -number) for number, there in centres]
    alike, number = max(found, default=(-1000, 0))
    return -number, alike


def needed(values: bytes, honest: Mapping[str, Sequence[bytes]], limits: Limits) -> int:
    """The likeness (thousandths) that a match with `values` must have so that honest people seldom do.

    `honest` are prints of granted attempts by unit. A unit says once how alike honest people come, however
    many prints it sends. Above MOST_LIKENESS nothing can be warned of without warning of people.
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
