"""What happens at the doors of a hospital that does not exist: people pass, are refused, and are attacked."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sync.dashboard.demo.demo_log import DemoLog
from sync.dashboard.demo.demo_orders import Obedience
from sync.dashboard.site.places import Place
from sync.events import AuditEvent, EventTimings, Signer

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MODELS = ("campplus-int8-f0982ceb", "tiny-en-int8-4c1e", "spoof-int8-9a20")
NEW_MODELS = ("campplus-int8-f0982ceb", "tiny-en-int8-4c1e", "spoof-int8-b7d1")

_HOURS = (3, 2, 2, 2, 3, 6, 14, 22, 20, 18, 16, 15, 14, 16, 17, 15, 14, 13, 12, 14, 12, 10, 7, 4)
"""How busy a hospital is, hour by hour."""

_REFUSALS: tuple[tuple[str, str, int], ...] = (
    ("DENIED_VOICE", "other_voice", 26),
    ("DENIED_PHRASE", "wrong_words", 30),
    ("STEP_UP", "weak_score", 24),
    ("DENIED_QUALITY", "too_noisy", 18),
    ("DENIED_QUALITY", "too_little_speech", 12),
    ("DENIED_EXPIRED", "challenge_expired", 10),
    ("DENIED_SCHEDULE", "outside_schedule", 7),
    ("DENIED_RULE", "not_allowed", 6),
    ("DENIED_UNKNOWN", "not_enrolled", 3),
    ("LOCKOUT_MAX_ATTEMPTS", "must_wait", 1),
)


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much: 40 doors, a year, and so many attempts a door and day."""

    doors: int = 40
    days: int = 365
    per_day: float = 12.0
    people: int = 240


@dataclass(slots=True)
class DemoUnit:
    place: Place
    log: DemoLog
    signer: Signer
    noise: float
    busy: float
    born_ms: int = 0
    models: tuple[str, ...] = MODELS
    pending: list[tuple[int, AuditEvent]] = field(default_factory=list)
    orders: Obedience = field(default_factory=Obedience)


class Invented:
    """Draws events by `dice`: the same seed gives the same year. `people` are pseudonyms."""

    def __init__(
        self,
        dice: random.Random,
        size: DemoSize,
        start_ms: int,
        people: Sequence[str],
        units: Sequence[DemoUnit],
    ) -> None:
        self._dice, self._size, self._start_ms = dice, size, start_ms
        self._people, self._units = people, units

    def day(self, unit: DemoUnit, day_ms: int) -> Iterator[tuple[int, AuditEvent]]:
        weekend = (day_ms // DAY_MS + 4) % 7 in (0, 6)
        wanted = self._size.per_day * unit.busy * (0.55 if weekend else 1.0)
        times = int(wanted) + (self._dice.random() < wanted % 1)
        if day_ms <= self._start_ms < day_ms + DAY_MS:
            yield self._start_ms, self.event(unit, self._start_ms, "BOOT", "started")
            for number in range(3):
                at_ms = self._start_ms + (number + 1) * 60_000
                person = self._person(unit)
                yield at_ms, self.event(unit, at_ms, "ENROLLED", "on_request", person=person)
            for kind in ("ERASURE_BEGUN", "FORGOTTEN"):
                at_ms += 60_000
                yield at_ms, self.event(unit, at_ms, kind, "on_request", person=person)
        if (
            self._start_ms // DAY_MS + self._size.days * 3 // 4
        ) * DAY_MS == day_ms and self._dice.random() < 0.9:
            unit.models = NEW_MODELS
            yield (
                day_ms + 2 * HOUR_MS,
                self.event(unit, day_ms + 2 * HOUR_MS, "MODELS_APPLIED", "new_version"),
            )
        for _ in range(times):
            hour = self._dice.choices(range(24), _HOURS)[0]
            at_ms = day_ms + hour * HOUR_MS + self._dice.randrange(HOUR_MS)
            yield from self.attempt(unit, at_ms)
        if unit.place.label.endswith(("clinic", "garden")) and not weekend:
            for hour, kind in ((8, "UNLOCKED"), (17, "RELOCKED")):
                at_ms = day_ms + hour * HOUR_MS
                yield at_ms, self.event(unit, at_ms, kind, "schedule")
        if self._dice.random() < 0.012:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield at_ms, self.event(unit, at_ms, "DOOR_OPEN_TOO_LONG", "held_open")
            yield at_ms + 90_000, self.event(unit, at_ms + 90_000, "DOOR_CLOSED", "none")
        if self._dice.random() < 0.0012:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield at_ms, self.event(unit, at_ms, "DOOR_FORCED_OPEN", "forced")
            yield at_ms + 40_000, self.event(unit, at_ms + 40_000, "DOOR_CLOSED", "none")
        if self._dice.random() < 0.0004:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield (
                at_ms,
                self.event(unit, at_ms, "DURESS", "duress_word", person=self._person(unit), silent=True),
            )

    def attempt(self, unit: DemoUnit, at_ms: int) -> Iterator[tuple[int, AuditEvent]]:
        person = self._person(unit)
        if self._dice.random() > 0.07 * unit.noise:
            if unit.place.label.startswith("Controlled drugs"):
                first = self.event(
                    unit, at_ms - 9_000, "AWAITING_SECOND_PERSON", "second_person_needed",
                    person=self._person(unit), scores=(6.5, 8.5, 3.4),
                )  # fmt: skip
                yield at_ms - 9_000, first
            yield (
                at_ms,
                self.event(
                    unit, at_ms, "GRANTED", "all_factors_passed", person=person, scores=(6.5, 8.5, 3.4)
                ),
            )
            return
        kind, reason, _ = self._dice.choices(_REFUSALS, [w for *_, w in _REFUSALS])[0]
        scores = {
            "DENIED_VOICE": (6.0, -1.5, 3.0), "DENIED_PHRASE": (-2.0, 7.5, 3.0), "STEP_UP": (1.2, 7.0, 3.0),
            "DENIED_QUALITY": (0.5, 2.5, 0.6),
        }.get(kind)  # fmt: skip
        yield at_ms, self.event(unit, at_ms, kind, reason, person=person, scores=scores)
        if kind in ("STEP_UP", "DENIED_PHRASE", "DENIED_QUALITY", "DENIED_EXPIRED"):
            again_ms = at_ms + self._dice.randrange(9_000, 30_000)
            yield (
                again_ms,
                self.event(
                    unit, again_ms, "GRANTED", "all_factors_passed", person=person, scores=(6.5, 8.5, 3.4)
                ),
            )

    def attacks(self, day_ms: int) -> None:
        """Now and then an attack on one door, and in one week on many."""
        campaign = 0.80 < (day_ms - self._start_ms) / (self._size.days * DAY_MS) < 0.83
        chance = 0.55 if campaign else 0.035
        wanted = [unit for unit in self._units if unit.place.zone in ("pharmacy", "icu", "laboratory")]
        for unit in wanted or self._units[:1]:
            if self._dice.random() > chance:
                continue
            at_ms = day_ms + self._dice.randrange(20 * HOUR_MS, 24 * HOUR_MS)
            person = self._person(unit)
            for number in range(self._dice.randrange(1, 8 if campaign else 4)):
                replayed = self._dice.random() < 0.3
                kind, reason = ("DENIED_REPLAY", "heard_before") if replayed else ("DENIED_SPOOF", "not_live")
                when = at_ms + number * 21_000
                found = (("loudspeaker_llr", 2.5), ("reuse_llr", 1.9)) if replayed else (
                    ("cadence_llr", 1.1), ("synthetic_llr", 3.3))  # fmt: skip
                event = self.event(
                    unit, when, kind, reason, person=person, scores=(5.5, 5.0, -3.2), more=found
                )
                unit.pending.append((when, event))

    def _person(self, unit: DemoUnit) -> str:
        """Each zone has its own staff, most of the time; nobody works at two sites."""
        sites = sorted({other.place.site for other in self._units})
        staff = self._people[sites.index(unit.place.site) :: len(sites)]
        start = sum(map(ord, unit.place.zone)) * 7
        spread = 40 if self._dice.random() < 0.9 else len(staff)
        return staff[(start + self._dice.randrange(spread)) % len(staff)]

    def event(
        self,
        unit: DemoUnit,
        at_ms: int,
        kind: str,
        reason: str,
        *,
        person: str | None = None,
        scores: tuple[float, float, float] | None = None,
        silent: bool = False,
        more: tuple[tuple[str, float], ...] = (),
    ) -> AuditEvent:
        llrs: list[float | None] = [None, None, None]
        if scores is not None:
            # What was accepted lies above the rule's thresholds, as it must.
            least = (
                (unit.place.phrase_llr, unit.place.voice_llr, unit.place.live_llr)
                if kind == "GRANTED"
                else (-9.0, -9.0, -9.0)
            )
            llrs = [
                round(max(low + 0.05, self._dice.gauss(middle, 1.6)), 3)
                for middle, low in zip(scores, least, strict=True)
            ]
        if kind == "DENIED_SPOOF" and llrs[2] is not None:
            llrs[2] = min(llrs[2], unit.place.live_llr - 0.2)
        jitter = tuple((name, round(self._dice.gauss(value, 0.5), 3)) for name, value in more)
        return AuditEvent(
            event_id=uuid.UUID(int=self._dice.getrandbits(128), version=4),
            time_ms=at_ms,
            boot=1,
            monotonic_ms=max(0, at_ms - unit.born_ms),
            door=unit.place.door,
            kind=kind,
            reason=reason,
            attempt=uuid.UUID(int=self._dice.getrandbits(128), version=4) if person else None,
            person=uuid.UUID(person) if person else None,
            phrase_llr=llrs[0],
            speaker_llr=llrs[1],
            spoof_llr=llrs[2],
            models=unit.models if scores else (),
            policy="rules-7" if scores else None,
            timings=EventTimings(280, 118, 76, 70, self._dice.randint(120, 260)) if scores else None,
            keystore="tpm",
            silent_alarm=silent,
            more_scores=jitter,
        )
