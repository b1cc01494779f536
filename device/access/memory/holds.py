"""Holds: a door stands unlocked from one time to another, under stated conditions. Pure.

The end is part of it: a unit that hears nothing more ends the hold itself.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_S = 24 * 3600.0
AHEAD_S = 48 * 3600.0
FIRST_PERSON, NOT_ON_HOLIDAYS = "first_person", "not_on_holidays"


@dataclass(frozen=True, slots=True)
class Hold:
    """Unlocked between two moments (Unix seconds)."""

    begins_s: float
    ends_s: float
    first_person: bool = False
    """Only once somebody was let in at this door after the beginning."""
    on_holidays: bool = True
    begun: bool = False
    """Somebody was let in; without meaning unless `first_person`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.begins_s < self.ends_s <= self.begins_s + LONGEST_S:
            raise ValueError("a hold ends after it begins, a day later at most")

    def to_list(self) -> list[float | bool]:
        return [self.begins_s, self.ends_s, self.first_person, self.on_holidays, self.begun]

    def to_text(self, door: str) -> str:
        """As one line, for an order."""
        flags = [FIRST_PERSON] * self.first_person + [NOT_ON_HOLIDAYS] * (not self.on_holidays)
        return " ".join([door, f"{self.begins_s:.3f}", f"{self.ends_s:.3f}", *flags])


def from_text(text: str) -> tuple[str, Hold]:
    """(door, hold) of such a line. Raises ValueError."""
    door, begins, ends, *flags = text.split(" ")
    if not set(flags) <= {FIRST_PERSON, NOT_ON_HOLIDAYS}:
        raise ValueError("an unknown condition of a hold")
    return door, Hold(float(begins), float(ends), FIRST_PERSON in flags, NOT_ON_HOLIDAYS not in flags)
