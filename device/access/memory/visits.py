"""Visits: from when until when a temporary person may pass, within what the rules allow.

A visit only narrows what the rules allow. The end is part of it, so a unit that hears nothing more ends it
itself. People are pseudonyms here, as in events.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

MOST = 500
"""At one unit; the history that holds them is written with every attempt."""


@dataclass(frozen=True, slots=True)
class Visit:
    """From when to when (Unix seconds)."""

    begins_s: float
    ends_s: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.begins_s < self.ends_s < 2.0**33:
            raise ValueError("a visit ends after it begins")

    def to_text(self, person: str) -> str:
        """As one line, for an order."""
        return f"{person} {self.begins_s:.3f} {self.ends_s:.3f}"


def from_text(text: str) -> tuple[str, Visit | None]:
    """(pseudonym, visit) of such a line; a pseudonym alone has none any more. Raises ValueError."""
    person, *times = text.split(" ")
    if str(uuid.UUID(person)) != person or len(times) not in (0, 2):
        raise ValueError("a visit is a pseudonym, a beginning and an end")
    return person, Visit(float(times[0]), float(times[1])) if times else None
