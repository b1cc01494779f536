"""A hospital that does not exist: doors, people and a year of events, stored by the registry's own ingest.

Every unit has its own key and signs heads over a real chain; its batches pass the same checks as those of
real units, so every proof of this data verifies. The same seed gives the same year; keys are new each time.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

from sync.dashboard.demo.demo_events import DAY_MS, HOUR_MS, NEW_MODELS, DemoSize, DemoUnit, Invented
from sync.dashboard.demo.demo_log import DemoLog
from sync.dashboard.demo.demo_orders import Happened
from sync.dashboard.demo.demo_places import demo_places
from sync.dashboard.site import places
from sync.dashboard.site.names import NameBook
from sync.dashboard.site.places import Place
from sync.events import AuditEvent, UnitId, pseudonym, unit_id
from sync.keys import FileSigner
from sync.orders.commands import Result, open_command
from sync.proofs.bundle import key_to_der
from sync.registry import commands
from sync.registry.database.store import Store
from sync.registry.ingest.ingest import Ingest
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.transport.health import write_health
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, topic

SEND_EVERY_MS = HOUR_MS
LIVE_EVERY_S = 0.5
HEALTH_EVERY_MS = 60_000
SILENT_FOR_MS = HOUR_MS
"""The last unit is silent for this long when the year ends: so one incident is always open."""
TENANT_KEY = b"people of the demonstration only"
_FIRST = (
    "Ada", "Amina", "Anton", "Beatrice", "Carlos", "Chidi", "Dina", "Elif", "Emil", "Farah", "Giulia", "Hana",
    "Ines", "Jonas", "Kofi", "Lena", "Luca", "Mara", "Nadia", "Omar", "Paula", "Quentin", "Rosa", "Samir",
    "Tomas", "Uma", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
_LAST = (
    "Abara", "Bianchi", "Conti", "Dubois", "Eriksen", "Ferrari", "Garcia", "Haas", "Ivanova", "Jansen",
    "Keller", "Lind", "Moretti", "Novak", "Okafor", "Petrov", "Rossi", "Schmid", "Tanaka", "Vogel",
)  # fmt: skip


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
        self._invented = Invented(self._dice, self._size, self._start_ms, self._people, self._units)

    @property
    def _alive(self) -> list[DemoUnit]:
        """All units but the last, which is silent."""
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
                unit.pending += self._invented.day(unit, day * DAY_MS)
            self._invented.attacks(day * DAY_MS)
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
        return sum(unit.log.sequence for unit in self._units)

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
                unit.pending += self._as_ordered(unit, self._invented.attempt(unit, at_ms), at_ms)
            for unit in self._alive:
                self._happens(unit, at_ms, unit.orders.passed(at_ms))
            self._send(at_ms + 1)
            if at_ms - health_ms > HEALTH_EVERY_MS:
                health_ms = at_ms
                self._report(at_ms)
            if key is not None:
                self.obey(key, at_ms)

    def obey(self, key: ec.EllipticCurvePublicKey, at_ms: int) -> int:
        """Every unit but the silent one obeys its commands and signs the answer; returns how many did."""
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

    def _happens(self, unit: DemoUnit, at_ms: int, happened: Iterable[Happened]) -> None:
        unit.pending += [
            (at_ms, self._invented.event(unit, at_ms, kind, reason)) for kind, reason in happened
        ]

    def _as_ordered(
        self, unit: DemoUnit, tried: Iterable[tuple[int, AuditEvent]], now_ms: int
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

    def _unit(self, place: Place) -> DemoUnit:
        name = unit_id(place.unit)
        return DemoUnit(
            place,
            DemoLog(name, lambda: self._clock_ms),
            FileSigner.generate(),
            noise=self._dice.choice((0.6, 0.8, 1.0, 1.0, 1.3, 2.2)),
            busy=self._dice.choice((0.4, 0.7, 1.0, 1.0, 1.4, 2.0)),
            born_ms=self._start_ms,
        )

    # -- to the registry

    def _send(self, until_ms: int) -> None:
        """What the units gathered goes to the registry, a signed batch each, as of `until_ms`."""
        messages = []
        self._clock_ms = until_ms
        for unit in self._units:
            unit.pending.sort(key=lambda pair: pair[0])
            for at_ms, event in unit.pending:
                if self._start_ms <= at_ms < until_ms:
                    unit.log.append(event)
            unit.pending = [pair for pair in unit.pending if pair[0] >= until_ms]
            for batch, _ in unit.log.seal(unit.signer):
                message = BatchMessage(
                    unit.log.unit, batch.first, batch.previous_chain, batch.first, batch.bodies, batch.head
                )
                messages.append((topic(unit.log.unit, EVENTS), message.to_bytes()))
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
            numbers = {
                "time_ms": at_ms,
                "sequence": unit.log.sequence,
                "pending": 0,
                "overflow": 0,
                "refused": 0,
            }
            reports[UnitId(unit.place.unit)] = write_health("online", numbers, facts).decode()
        self._store.save_health(reports, at_ms)
