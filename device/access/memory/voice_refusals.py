"""Who was refused for their voice too often of late, so that they should enrol again. Pure.

Kept: for each such person the days of the last few refusals, and of which enrolment. Nothing is kept of who
was refused for anything else, and nothing for longer than the days count.
"""

from __future__ import annotations

from dataclasses import dataclass

OFTEN = 3
"""So many refusals ..."""
WITHIN_DAYS = 7
"""... within so many days are often."""
MOST_ENROLMENTS = 2**53


@dataclass(frozen=True, slots=True)
class VoiceRefusals:
    """Of one person: `days` are numbers of UTC days since 1970, those of the last refusals, oldest first."""

    enrolment: int
    """How often they had been enrolled here: what was refused by an older voiceprint does not count."""
    days: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.enrolment < MOST_ENROLMENTS or not 1 <= len(self.days) <= OFTEN:
            raise ValueError(f"of one person 1 to {OFTEN} refusals are kept")

    def counts(self, day: int) -> bool:
        """Whether any of it still counts on `day`."""
        return bool(_recent(self, self.enrolment, day))

    def often(self, enrolment: int, day: int) -> bool:
        """Whether that enrolment was refused often enough on `day` to be made anew."""
        return len(_recent(self, enrolment, day)) >= OFTEN


def with_one_more(before: VoiceRefusals | None, enrolment: int, day: int) -> VoiceRefusals:
    """The refusals of a person once another is added on `day`."""
    recent = () if before is None else _recent(before, enrolment, day)
    return VoiceRefusals(enrolment, (*recent, day)[-OFTEN:])


def _recent(found: VoiceRefusals, enrolment: int, day: int) -> tuple[int, ...]:
    """The days that still count. Those ahead of `day` do not: a clock was wrong then or is wrong now."""
    if found.enrolment != enrolment:
        return ()
    return tuple(one for one in found.days if 0 <= day - one < WITHIN_DAYS)
