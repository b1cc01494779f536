"""A hospital that does not exist: doors, people and a year of events, through the registry's real door.

Every unit has a key of its own and signs heads over a real chain; the batches go through the same checks and
the same transaction as those of real units, so every proof of this data verifies. The same seed gives the
same year, except for keys, which are new each time.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import ec

from sync.cose import peek1
from sync.dashboard.demo.demo_orders import Happened, Obedience
from sync.dashboard.demo.demo_places import demo_places
from sync.dashboard.site import places
from sync.dashboard.site.names import NameBook
from sync.dashboard.site.places import Place
from sync.events import AuditEvent, EventTimings, Signer, UnitId, pseudonym, unit_id
from sync.fleet.simulated import MemoryLog
from sync.keys import FileSigner
from sync.orders.commands import Result, open_command
from sync.proofs.bundle import key_to_der
from sync.proofs.heads import Head
from sync.registry import commands
from sync.registry.database.store import Store
from sync.registry.ingest.ingest import Ingest
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.transport.health import write_health
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
SEND_EVERY_MS = HOUR_MS
LIVE_EVERY_S = 0.5
HEALTH_EVERY_MS = 60_000
SILENT_FOR_MS = HOUR_MS
"""So long the last unit has been silent when the year ends, at any hour: one incident is always open."""
TENANT_KEY = b"people of the demonstration only"
MODELS = ("campplus-int8-f0982ceb", "tiny-en-int8-4c1e", "spoof-int8-9a20")
NEW_MODELS = ("campplus-int8-f0982ceb", "tiny-en-int8-4c1e", "spoof-int8-b7d1")

_FIRST = (
    "Ada", "Amina", "Anton", "Beatrice", "Carlos", "Chidi", "Dina", "Elif", "Emil", "Farah", "Giulia", "Hana",
    "Ines", "Jonas", "Kofi", "Lena", "Luca", "Mara", "Nadia", "Omar", "Paula", "Quentin", "Rosa", "Samir",
    "Tomas", "Uma", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
_LAST = (
    "Abara", "Bianchi", "Conti", "Dubois", "Eriksen", "Ferrari", "Garcia", "Haas", "Ivanova", "Jansen",
    "Keller", "Lind", "Moretti", "Novak", "Okafor", "Petrov", "Rossi", "Schmid", "Tanaka", "Vogel",
)  # fmt: skip
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
class _Unit:
    place: Place
    log: MemoryLog
    signer: Signer
    noise: float
    busy: float
    clock_ms: int = 0
    born_ms: int = 0
    sent: int = 0
    models: tuple[str, ...] = MODELS
    pending: list[tuple[int, AuditEvent]] = field(default_factory=list)
    orders: Obedience = field(default_factory=Obedience)


class DemoData:
    """Makes the hospital in `store`. `now_ms` is when its year ends."""

    def __init__(self, store: Store, now_ms: int, size: DemoSize | None = None, seed: int = 1) -> None:
        self._store = store
        self._now_ms = now_ms
        self._size = size or DemoSize()
        self._dice = random.Random(seed)  # noqa: S311 - invented people at invented doors
        self._clock_ms = now_ms
        self._ingest = Ingest(store, FileSigner.generate(), lambda: self._clock_ms)
        self._start_ms = now_ms - self._size.days * DAY_MS
        self._people = [str(pseudonym(TENANT_KEY, f"demo-{n}")) for n in range(self._size.people)]
        self._units = [self._unit(place) for place in demo_places(self._size.doors)]

    @property
    def _alive(self) -> list[_Unit]:
        """All but the last, which is silent."""
        return self._units[:-1] or self._units

    @property
    def doors(self) -> list[Place]:
        return [unit.place for unit in self._units]

    def make(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """The whole year; returns how many events were stored. `progress` hears of each day."""
        places.replace(self._store, self.doors)
        for unit in self._units:
            self._store.register(
                UnitId(unit.place.unit), key_to_der(unit.signer.public_key()), self._start_ms
            )
        detector = Detector(self._store, load_rules())
        first = self._start_ms // DAY_MS
        for day in range(first, first + self._size.days + 1):
            for unit in self._units:
                unit.pending += self._day(unit, day * DAY_MS)
            self._attacks(day * DAY_MS)
            for unit in self._units[len(self._alive) :]:
                unit.pending = [pair for pair in unit.pending if pair[0] < self._now_ms - SILENT_FOR_MS]
            for until_ms in range(day * DAY_MS + SEND_EVERY_MS, (day + 1) * DAY_MS + 1, SEND_EVERY_MS):
                self._send(min(until_ms, self._now_ms))
            if (day - first) % 7 == 6 or day >= first + self._size.days - 2:
                detector.step(self._clock_ms, units=False)  # they report at the end alone
            progress(1)
        for unit in self._units:
            self._store.desire(UnitId(unit.place.unit), {"models": NEW_MODELS[-1], "policy": "rules-7"})
        self._report(self._now_ms)
        detector.step(self._now_ms)
        return sum(unit.sent for unit in self._units)

    def name_people(self, names: NameBook) -> int:
        """Give everybody a name."""
        pairs = []
        for number, person in enumerate(self._people):
            first, last = _FIRST[number % len(_FIRST)], _LAST[(number // 3 + number) % len(_LAST)]
            pairs.append((person, f"{first} {last}"))
        return names.keep(pairs, self._start_ms)

    def live(
        self, stop: threading.Event, now_ms: Callable[[], int], key: ec.EllipticCurvePublicKey | None = None
    ) -> None:
        """Go on from the end of the year until stopped: people pass, units report, and orders are obeyed.

        `key` is whose orders the units obey. One unit stays silent.
        """
        health_ms = 0
        while not stop.wait(LIVE_EVERY_S):
            at_ms = now_ms()
            if self._dice.random() < 0.35:
                unit = self._dice.choice(self._alive)
                unit.pending += self._as_ordered(unit, self._attempt(unit, at_ms), at_ms)
            for unit in self._alive:
                self._happens(unit, at_ms, unit.orders.passed(at_ms))
            self._send(at_ms + 1)
            if at_ms - health_ms > HEALTH_EVERY_MS:
                health_ms = at_ms
                self._report(at_ms)
            if key is not None:
                self.obey(key, at_ms)

    def obey(self, key: ec.EllipticCurvePublicKey, at_ms: int) -> int:
        """Every unit but the silent one does what it is ordered to, and says so with its signature; how
        many did."""
        answers = []
        for name, message in commands.due(self._store, at_ms):
            mine = next((unit for unit in self._alive if unit.place.unit == name), None)
            if mine is None:
                continue
            order = open_command(message, key, name, at_ms)
            self._happens(mine, at_ms, mine.orders.take(order, at_ms))
            result = Result(name, order.counter, "done", "none", at_ms)
            answers.append((name, result.signed(mine.signer)))
        if answers:
            self._clock_ms = at_ms
            self._ingest.results(answers)
        return len(answers)

    def _happens(self, unit: _Unit, at_ms: int, happened: Iterable[Happened]) -> None:
        unit.pending += [(at_ms, self._event(unit, at_ms, kind, reason)) for kind, reason in happened]

    def _as_ordered(
        self, unit: _Unit, tried: Iterable[tuple[int, AuditEvent]], now_ms: int
    ) -> Iterator[tuple[int, AuditEvent]]:
        """Attempts as a door decides them that was ordered something."""
        for at_ms, event in tried:
            refused = None
            if event.kind == "GRANTED":
                refused = unit.orders.refusal(str(event.person), at_ms)
            yield at_ms, event if refused is None else replace(event, kind=refused[0], reason=refused[1])
            if event.kind == "GRANTED" and refused is None:
                self._happens(unit, now_ms, unit.orders.passed(now_ms, somebody=True))

    # -- one unit

    def _unit(self, place: Place) -> _Unit:
        name = unit_id(place.unit)
        return _Unit(
            place,
            MemoryLog(name, lambda: 0.0, lambda: self._clock_ms),
            FileSigner.generate(),
            noise=self._dice.choice((0.6, 0.8, 1.0, 1.0, 1.3, 2.2)),
            busy=self._dice.choice((0.4, 0.7, 1.0, 1.0, 1.4, 2.0)),
            born_ms=self._start_ms,
        )

    def _day(self, unit: _Unit, day_ms: int) -> Iterator[tuple[int, AuditEvent]]:
        weekend = (day_ms // DAY_MS + 4) % 7 in (0, 6)
        wanted = self._size.per_day * unit.busy * (0.55 if weekend else 1.0)
        times = int(wanted) + (self._dice.random() < wanted % 1)
        if day_ms <= self._start_ms < day_ms + DAY_MS:
            yield self._start_ms, self._event(unit, self._start_ms, "BOOT", "started")
            for number in range(3):
                at_ms = self._start_ms + (number + 1) * 60_000
                person = self._person(unit)
                yield at_ms, self._event(unit, at_ms, "ENROLLED", "on_request", person=person)
            for kind in ("ERASURE_BEGUN", "FORGOTTEN"):
                at_ms += 60_000
                yield at_ms, self._event(unit, at_ms, kind, "on_request", person=person)
        if (
            self._start_ms // DAY_MS + self._size.days * 3 // 4
        ) * DAY_MS == day_ms and self._dice.random() < 0.9:
            unit.models = NEW_MODELS
            yield (
                day_ms + 2 * HOUR_MS,
                self._event(unit, day_ms + 2 * HOUR_MS, "MODELS_APPLIED", "new_version"),
            )
        for _ in range(times):
            hour = self._dice.choices(range(24), _HOURS)[0]
            at_ms = day_ms + hour * HOUR_MS + self._dice.randrange(HOUR_MS)
            yield from self._attempt(unit, at_ms)
        if unit.place.label.endswith(("clinic", "garden")) and not weekend:
            for hour, kind in ((8, "UNLOCKED"), (17, "RELOCKED")):
                at_ms = day_ms + hour * HOUR_MS
                yield at_ms, self._event(unit, at_ms, kind, "schedule")
        if self._dice.random() < 0.012:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield at_ms, self._event(unit, at_ms, "DOOR_OPEN_TOO_LONG", "held_open")
            yield at_ms + 90_000, self._event(unit, at_ms + 90_000, "DOOR_CLOSED", "none")
        if self._dice.random() < 0.0012:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield at_ms, self._event(unit, at_ms, "DOOR_FORCED_OPEN", "forced")
            yield at_ms + 40_000, self._event(unit, at_ms + 40_000, "DOOR_CLOSED", "none")
        if self._dice.random() < 0.0004:
            at_ms = day_ms + self._dice.randrange(DAY_MS)
            yield (
                at_ms,
                self._event(unit, at_ms, "DURESS", "duress_word", person=self._person(unit), silent=True),
            )

    def _attempt(self, unit: _Unit, at_ms: int) -> Iterator[tuple[int, AuditEvent]]:
        person = self._person(unit)
        if self._dice.random() > 0.07 * unit.noise:
            if unit.place.label.startswith("Controlled drugs"):
                first = self._event(
                    unit, at_ms - 9_000, "AWAITING_SECOND_PERSON", "second_person_needed",
                    person=self._person(unit), scores=(6.5, 8.5, 3.4),
                )  # fmt: skip
                yield at_ms - 9_000, first
            yield (
                at_ms,
                self._event(
                    unit, at_ms, "GRANTED", "all_factors_passed", person=person, scores=(6.5, 8.5, 3.4)
                ),
            )
            return
        kind, reason, _ = self._dice.choices(_REFUSALS, [w for *_, w in _REFUSALS])[0]
        scores = {
            "DENIED_VOICE": (6.0, -1.5, 3.0), "DENIED_PHRASE": (-2.0, 7.5, 3.0), "STEP_UP": (1.2, 7.0, 3.0),
            "DENIED_QUALITY": (0.5, 2.5, 0.6),
        }.get(kind)  # fmt: skip
        yield at_ms, self._event(unit, at_ms, kind, reason, person=person, scores=scores)
        if kind in ("STEP_UP", "DENIED_PHRASE", "DENIED_QUALITY", "DENIED_EXPIRED"):
            again_ms = at_ms + self._dice.randrange(9_000, 30_000)
            yield (
                again_ms,
                self._event(
                    unit, again_ms, "GRANTED", "all_factors_passed", person=person, scores=(6.5, 8.5, 3.4)
                ),
            )

    def _attacks(self, day_ms: int) -> None:
        """Now and then somebody plays a voice to a door, and in one week to many."""
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
                event = self._event(
                    unit, when, kind, reason, person=person, scores=(5.5, 5.0, -3.2), more=found
                )
                unit.pending.append((when, event))

    def _person(self, unit: _Unit) -> str:
        """Each zone has its own staff, most of the time; nobody works at two sites."""
        sites = sorted({other.place.site for other in self._units})
        staff = self._people[sites.index(unit.place.site) :: len(sites)]
        start = sum(map(ord, unit.place.zone)) * 7
        spread = 40 if self._dice.random() < 0.9 else len(staff)
        return staff[(start + self._dice.randrange(spread)) % len(staff)]

    def _event(
        self,
        unit: _Unit,
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

    # -- to the registry

    def _send(self, until_ms: int) -> None:
        """What the units gathered goes to the registry, a signed batch each, as of `until_ms`."""
        messages = []
        self._clock_ms = until_ms
        for unit in self._units:
            unit.pending.sort(key=lambda pair: pair[0])
            fit = [event for at_ms, event in unit.pending if self._start_ms <= at_ms < until_ms]
            unit.pending = [pair for pair in unit.pending if pair[0] >= until_ms]
            for event in fit:
                unit.log.append(event)
            if not fit:
                continue
            unit.log.seal(unit.signer)
            while (batch := unit.log.batch_after(unit.sent)) is not None:
                message = BatchMessage(
                    unit.log.unit, batch.first, batch.previous_chain, batch.first, batch.bodies, batch.head
                )
                messages.append((topic(unit.log.unit, EVENTS), message.to_bytes()))
                unit.sent = batch.size
                unit.log.acknowledge(batch.size, Head.from_bytes(peek1(batch.head)).chain)
        if messages:
            self._ingest.process(messages)

    def _report(self, at_ms: int) -> None:
        """Health messages, as of a moment."""
        reports = {}
        for unit in self._alive:
            facts: dict[str, str | int | bool] = {
                "software": "0.1.0", "models": unit.models[-1], "policy": "rules-7", "keystore": "tpm",
                "profile": "production", "simulated": True,
            }  # fmt: skip
            numbers = {"time_ms": at_ms, "sequence": unit.sent, "pending": 0, "overflow": 0, "refused": 0}
            reports[UnitId(unit.place.unit)] = write_health("online", numbers, facts).decode()
        self._store.save_health(reports, at_ms)
