"""The nouns of a rules file: doors, zones, risk classes, schedules, permissions and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, tzinfo

from device.access.challenge import OFFERED, ChallengeSettings, Style
from device.access.decision import DEFAULT_FACTORS, Factor
from device.access.memory.remembered import LIMITS_WITH_LIVENESS, AttemptLimits
from device.access.policy import QualityLimits, Thresholds
from device.evidence.vocabulary import Language
from sync.person_id import PersonIdError, person_id

EVERY_DAY = frozenset(range(7))
CHOSEN = OFFERED
"""What a person may say in place of each other."""
ENROLLED = "enrolled"
"""The role that everybody with a voiceprint has."""


@dataclass(frozen=True, slots=True)
class RiskClass:
    """What a door of this class asks for, and how sure it must be."""

    name: str
    factors: frozenset[Factor] = DEFAULT_FACTORS
    thresholds: Thresholds = field(default_factory=Thresholds)
    quality: QualityLimits = field(default_factory=QualityLimits)
    attempts: AttemptLimits = LIMITS_WITH_LIVENESS
    challenge: ChallengeSettings = field(default_factory=ChallengeSettings)
    identify_margin_llr: float = 3.0
    """Without a claim: how far the best person must lead the second, on top of the stricter threshold."""
    level: str = ""
    """The security level that it starts from, where the rules name one."""
    opens_with_full_log: bool = False
    """Whether these doors go on when the audit log is full: what is not written is counted and told later."""
    voices_follow: bool = True
    """Whether voiceprints follow what these doors hear of their owners."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hours of the week, in the unit's time zone. An end before the start means the next morning."""

    name: str
    days: frozenset[int] = EVERY_DAY
    """0 is Monday."""
    begins: time = time(0, 0)
    ends: time = time(0, 0)
    on_holidays: bool = True


@dataclass(frozen=True, slots=True)
class Door:
    """One door. `tags` are its own and those of its zone."""

    name: str
    zone: str
    risk: str
    tags: frozenset[str] = frozenset()
    two_persons_within_s: float | None = None
    anti_passback_s: float | None = None
    fire_release: bool = False
    may_be_held: bool = False
    """Whether a signed command may have it stand unlocked for a while."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may pass where and when. An empty set does not narrow; `tags` must all be on the door."""

    roles: frozenset[str]
    zones: frozenset[str] = frozenset()
    doors: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    risks: frozenset[str] = frozenset()
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """What the rules say about one person. `uid` is in its normal form, `written` as the file has it."""

    uid: str
    roles: frozenset[str] = frozenset()
    badges: frozenset[str] = frozenset()
    spoken: str | None = None
    """A number or name to say instead of showing a badge."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    disabled: bool = False
    duress: tuple[bytes, ...] = ()
    """Hashes of the word that alarms silently, one for each unit: `ostiary policy duress` makes them."""
    card: str = ""
    """The card as an OSDP door's controller expects it: bits and hexadecimal digits, `26:2AB3C440`."""
    unlock_s: float | None = None
    """How long the strike stays released for somebody who needs longer; None is the door's own time."""
    says: Style | None = None
    """Words or digits, whichever this person says more easily; None is what the door's class shows."""
    begin_within_s: float | None = None
    """How long after the phrase is shown they may begin to speak; None is the class's own time."""
    phrases: Language | None = None
    """In which language they are asked, and heard; None is the door's own."""
    written: str = ""

    def challenge(self, shown: ChallengeSettings) -> ChallengeSettings:
        """What this person is shown where the class shows `shown`. Their own style takes the place of
        words or digits only; their own time never shortens the class's."""
        if self.says is not None and shown.style in CHOSEN:
            shown = replace(shown, style=self.says)
        return replace(shown, lifetime_s=max(shown.lifetime_s, self.begin_within_s or 0.0))


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that one unit's doors obey."""

    version: int
    doors: Mapping[str, Door]
    risks: Mapping[str, RiskClass]
    permissions: tuple[Permission, ...]
    people: Mapping[str, Person] = field(default_factory=dict)
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    holidays: frozenset[date] = frozenset()
    time_zone: tzinfo = UTC
    admit_unlisted: bool = False
    """Whether people with a voiceprint but no entry here count, with the role `enrolled` alone."""
    lock_down_roles: frozenset[str] = frozenset()
    """Who may still pass in a lock-down; nobody unless named."""

    def risk_at(self, door_name: str) -> RiskClass | None:
        """The risk class of a door; None where the rules know no such door."""
        door = self.doors.get(door_name)
        return self.risks.get(door.risk) if door is not None else None

    def phrases(self, uid: str, usual: Language) -> Language:
        """In which language `uid` is asked at a door that otherwise asks in `usual`."""
        person = self.person(uid)
        return usual if person is None or person.phrases is None else person.phrases

    def person(self, uid: str) -> Person | None:
        """The entry of `uid`, or a bare one where unlisted people are admitted."""
        listed = self.people.get(uid) or self.people.get(_normal(uid))
        if listed is None and self.admit_unlisted and uid:
            return Person(uid)
        return listed


def default_rules(door: str) -> Rules:
    """One door, every factor, everybody who is enrolled: what a unit does before it has a rules file."""
    return Rules(
        version=0,
        doors={door: Door(door, zone="inside", risk="standard")},
        risks={"standard": RiskClass("standard")},
        permissions=(Permission(frozenset({ENROLLED})),),
        admit_unlisted=True,
    )


def _normal(uid: str) -> str:
    try:
        return person_id(uid)
    except PersonIdError:
        return uid
