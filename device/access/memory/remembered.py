"""What a unit knows of its attempts at one moment: failures, positions, lock-down, who waits. Pure.

The door process writes it (`history.py`); a rehearsal of a decision in another process reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from device.access.memory.holds import Hold
from device.access.memory.timekeeping import TimeSeen
from device.access.memory.visits import Visit
from device.access.memory.voice_refusals import VoiceRefusals
from sync.person_id import PersonIdError, person_id


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """When failures make a person wait, and when only an admin helps. NIST SP 800-63B-4 3.2.2 and 3.2.3.
    After `free_failures` the wait is `first_wait_s`, doubling with every further failure up to
    `longest_wait_s`; from `disable_after` on the claim is disabled."""

    free_failures: int = 5
    first_wait_s: float = 30.0
    longest_wait_s: float = 3600.0
    disable_after: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.free_failures < self.disable_after <= 100:
            raise ValueError(
                "failures before a wait must be at least 1, before disabling more, and 100 at most"
            )
        if not 30.0 <= self.first_wait_s <= self.longest_wait_s <= 86_400.0:
            raise ValueError("the first wait is at least 30 s, the longest not shorter and a day at most")

    def wait_after(self, failures: int) -> float:
        """Seconds that must pass between failure number `failures` and the next try."""
        if failures < self.free_failures:
            return 0.0
        doublings = min(failures - self.free_failures, 32)
        return min(self.longest_wait_s, self.first_wait_s * 2.0**doublings)


LIMITS_WITH_LIVENESS = AttemptLimits(free_failures=10, disable_after=100)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a claim stands with its limits."""

    failures: int
    wait_s: float
    disabled: bool

    @property
    def may_try(self) -> bool:
        return not self.disabled and self.wait_s <= 0.0


@dataclass(frozen=True, slots=True)
class Position:
    """The zone a person was last let into, by the wall clock."""

    zone: str
    since: datetime


@dataclass(frozen=True, slots=True)
class First:
    """The first of two persons at a door, who waits for the second until `until_s` (monotonic)."""

    uid: str
    until_s: float
    duress: bool


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything in the history. Subjects of failures are `person:UID` and `door:NAME`."""

    epoch: int
    failures: Mapping[str, int] = field(default_factory=dict)
    phrases: tuple[str, ...] = ()
    positions: Mapping[str, Position] = field(default_factory=dict)
    locked_down: frozenset[str] = frozenset()
    memory: int = 0
    """The version that the memory of utterances has reached (`device/liveness/memory_file.py`)."""
    time: TimeSeen = field(default_factory=TimeSeen)
    since_s: Mapping[str, float] = field(default_factory=dict)
    """When a subject failed last, on the monotonic clock of the boot `boot`; another boot's says nothing."""
    opened_s: float = 0.0
    first: Mapping[str, First] = field(default_factory=dict)
    boot: str = ""
    holds: Mapping[str, Hold] = field(default_factory=dict)
    """By door."""
    visits: Mapping[str, Visit] = field(default_factory=dict)
    """By pseudonym."""
    voice_refusals: Mapping[str, VoiceRefusals] = field(default_factory=dict)
    """By person: who was refused for their voice of late."""

    def standing(self, subject: str, limits: AttemptLimits, now_s: float, boot: str) -> Standing:
        """Whether `subject` may try now. In another boot than the history's, every wait begins anew."""
        subject = normal(subject)
        failures = self.failures.get(subject, 0)
        since_s = self.since_s.get(subject, self.opened_s) if boot == self.boot else now_s
        wait_s = max(0.0, limits.wait_after(failures) - max(0.0, now_s - since_s))
        return Standing(failures, wait_s, failures >= limits.disable_after)

    def is_locked_down(self, door: str) -> bool:
        return bool(self.locked_down & {door, "*"})

    def waiting(self, door: str, now_s: float, boot: str) -> First | None:
        """Who waits at `door` for a second person."""
        first = self.first.get(door) if boot == self.boot else None
        return None if first is None or now_s > first.until_s else first

    def without(self, uid: str) -> dict[str, Any]:
        """The fields that name a person, without `uid`."""
        uid = normal(uid)
        subject = f"person:{uid}"
        return {
            "failures": {s: n for s, n in self.failures.items() if s != subject},
            "since_s": {s: at for s, at in self.since_s.items() if s != subject},
            "positions": {u: p for u, p in self.positions.items() if u != uid},
            "first": {door: f for door, f in self.first.items() if normal(f.uid) != uid},
            "voice_refusals": {u: found for u, found in self.voice_refusals.items() if u != uid},
        }

    def to_bytes(self) -> bytes:
        table = {
            "version": 2,
            "epoch": self.epoch,
            "failures": dict(self.failures),
            "phrases": list(self.phrases),
            "positions": {uid: [p.zone, p.since.isoformat()] for uid, p in self.positions.items()},
            "locked_down": sorted(self.locked_down),
            "memory": self.memory,
            "time": [self.time.latest_s, self.time.steady_s],
            "since": {s: at for s, at in self.since_s.items() if s in self.failures},
            "opened": self.opened_s,
            "first": {door: [f.uid, f.until_s, f.duress] for door, f in self.first.items()},
            "boot": self.boot,
            "holds": {door: hold.to_list() for door, hold in self.holds.items()},
            "visits": {person: [v.begins_s, v.ends_s] for person, v in self.visits.items()},
            "voice_refusals": {u: [r.enrolment, *r.days] for u, r in self.voice_refusals.items()},
        }
        return json.dumps(table, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Remembered:
        """Raises ValueError, KeyError or TypeError for anything else. Version 1 knew less."""
        table: dict[str, Any] = json.loads(body)
        if table["version"] not in (1, 2):
            raise ValueError(f"version {table['version']} is neither 1 nor 2")
        latest_s, steady_s = table.get("time", (0.0, 0.0))
        return cls(
            epoch=int(table["epoch"]),
            failures={normal(subject): int(count) for subject, count in table["failures"].items()},
            phrases=tuple(table["phrases"]),
            positions={
                normal(u): Position(z, datetime.fromisoformat(t)) for u, (z, t) in table["positions"].items()
            },
            locked_down=frozenset(table["locked_down"]),
            memory=int(table.get("memory", 0)),
            time=TimeSeen(float(latest_s), float(steady_s)),
            since_s={normal(s): float(at) for s, at in table.get("since", {}).items()},
            opened_s=float(table.get("opened", 0.0)),
            first={d: First(normal(u), float(t), bool(x)) for d, (u, t, x) in table.get("first", {}).items()},
            boot=str(table.get("boot", "")),
            holds={
                door: Hold(float(b), float(e), bool(first), bool(holidays), bool(begun))
                for door, (b, e, first, holidays, begun) in table.get("holds", {}).items()
            },
            visits={p: Visit(float(b), float(e)) for p, (b, e) in table.get("visits", {}).items()},
            voice_refusals={
                normal(u): VoiceRefusals(int(enrolment), tuple(map(int, days)))
                for u, (enrolment, *days) in table.get("voice_refusals", {}).items()
            },
        )


def normal(subject: str) -> str:
    """A subject, or an id, in the form that is remembered, however it was typed or an older file has it."""
    kind, colon, name = subject.partition(":")
    if colon and kind != "person":
        return subject
    try:
        return f"person:{person_id(name)}" if colon else person_id(subject)
    except PersonIdError:
        return subject
