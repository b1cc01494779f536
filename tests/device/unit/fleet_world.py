"""A hospital in one process: a registry's database, the issuer of documents, units with real stores and logs.

Messages go from hand to hand instead of over a broker; everything else is the product's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from device.access.controller import AccessController
from device.access.memory.history import History
from device.access.voices import is_enrolled
from device.clock import Now
from device.evidence.judge import Evidence
from device.model_store import slots
from device.model_store.minimum_versions import pinned_minimum, raise_minimum
from device.secure_store import Consent, Store, StoreSettings, Template, open_store
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Unit, open_log, rules_of
from device.unit.audit import AuditTrail, EventContext
from device.unit.fleet.follower import Follower
from device.unit.fleet.following import take_up
from device.uplink.facts import read_standing
from device.uplink.letters.mail import DoorMail
from sync.errors import SyncError
from sync.events import Record, UnitId, unit_id
from sync.fleet.certificates import Authority
from sync.fleet.exchange import card
from sync.keys import FileSigner
from sync.orders.desired import Contents, Desired, Roster
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store as Registry
from sync.registry.fleet import people, wanted
from sync.registry.fleet.issuer import DocumentIssuer, FleetHandler
from sync.registry.fleet.status import Screen, screen
from sync.registry.ingest.ingest import Ingest
from sync.transport.health import signed_health, write_health
from sync.transport.topics import DESIRED, PARTS, STATEMENTS, WANTS
from tests.device.door_world import evidence
from tests.device.secure_store.people import with_door

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LAPTOP = StoreSettings(profile="laptop", keystore="software")
DOOR = "ward"
RULES = """
version = {version}
{more}
[risks.standard]
[zones.ward]
[doors.ward]
zone = "ward"
risk = "standard"
[[allow]]
roles = ["{role}"]
[people.ANNA]
roles = {own}
"""


def rules(version: int = 1, role: str = "enrolled", more: str = "admit_unlisted = true") -> bytes:
    own = '["nurse"]' if role == "nurse" else "[]"
    return RULES.format(version=version, role=role, more=more, own=own).encode()


class Clock:
    """One clock for everybody."""

    def __init__(self) -> None:
        self.now = Now(START, 50.0)

    def __call__(self) -> Now:
        return self.now

    def ms(self) -> int:
        return int(self.now.wall.timestamp() * 1000)

    def passes(self, seconds: float) -> None:
        self.now = Now(self.now.wall + timedelta(seconds=seconds), self.now.monotonic_s + seconds)


@dataclass
class DoorUnit:
    """One unit; `up` is what runs of it, and `crash` ends that as a power cut does."""

    name: UnitId
    folder: Path
    clock: Clock
    settings: Settings
    finds: Evidence | BaseException = field(default_factory=evidence)
    """What the judge finds in the recorded attempt, or what is raised instead."""
    judging: threading.Event | None = None
    """Until this is set, the judge does not answer."""
    ended: int = 0
    store: Store = field(init=False)
    follower: Follower = field(init=False)
    controller: AccessController = field(init=False)
    trail: AuditTrail = field(init=False)
    mail: DoorMail = field(init=False)
    _up: ExitStack | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self) -> DoorUnit:
        """As `ostiary run` does, without sound and models in memory."""
        with ExitStack() as up:
            self.store = up.enter_context(open_store(self.state, self.settings.store, warn=lambda _: None))
            plan = take_up(self.store, self.state, self.models)
            if self.models.exists():
                slots.active(self.models, minimum=pinned_minimum(self.store.vault))
            if plan is None:
                raise_minimum(self.store.vault, slots.reached(self.models))
            present = rules_of(self.state, DOOR)
            history = History(
                StateFolder(self.state).history,
                self.store.keystore.counter("attempts"),
                self.store.mac,
                opened_s=self.clock().monotonic_s,
                never_used=self.store.never_used("attempts"),
            )
            up.callback(history.close)
            counter, never = self.store.keystore.counter("audit"), self.store.never_used("audit")
            log = open_log(self.settings, self.state, present, self.clock, counter, never)
            up.enter_context(log)
            self.log = log
            self.controller = AccessController(
                self.name,
                present,
                history,
                self.store.mac,
                enrolled=lambda u: is_enrolled(self.store.vault, u),
            )
            self.controller.time.look(self.clock())
            self.store.vault.go_by(lambda: self.clock().wall)
            context = EventContext.of(self.store, log.next_boot(), self.clock())
            self.trail = trail = AuditTrail(log, context, lambda: self.controller.rules, self.clock)
            parts = SimpleNamespace(
                store=self.store, controller=self.controller, trail=trail, clock=self.clock, log=log
            )
            self.follower = Follower(
                cast(Unit, parts), self.settings, self.state, self.models,
                plan=plan, end=self._end, recorded=self._recorded,
            )  # fmt: skip
            self._up = up.pop_all()
        return self

    def crash(self) -> None:
        """What was not on the disk is lost; handles are closed so that this process can open them again."""
        if self._up is not None:
            self._up.close()
            self._up = None

    def restart(self) -> DoorUnit:
        self.crash()
        return self.start()

    def _end(self) -> None:
        self.ended += 1

    def _recorded(self) -> Evidence:
        if self.judging is not None:
            self.judging.wait(60.0)
        if isinstance(self.finds, BaseException):
            raise self.finds
        return self.finds

    @property
    def is_up(self) -> bool:
        return self._up is not None

    def holds(self) -> dict[str, Template]:
        return {uid: self.store.vault.template(uid) for uid in self.store.vault.uids()}

    def enrol(self, uid: str, seed: int, text: str = "2026-01", days: int = 300) -> None:
        """Somebody enrols at this unit, with a door vector."""
        now = self.clock().wall
        consent = Consent("desk", now, text, now + timedelta(days=days), "doors and store")
        self.store.vault.enrol(uid, with_door(seed), consent)

    def standing(self) -> tuple[int, str, str]:
        told = read_standing(StateFolder(self.state).desired / "standing.json")
        return int(told["document"]), str(told["standing"]), str(told["why"])

    def events(self) -> list[str]:
        """What its log says, oldest first."""
        self.log.seal(self.store.audit_signer)
        held = self.log.held(10_000)
        return [] if held is None else [Record.from_bytes(body).event.kind for body in held.bodies]


class Hospital:
    """A registry with a fleet. `settle` carries messages until nobody has anything to say."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = Clock()
        self.registry = Registry.open(url or f"sqlite:///{folder}/registry.db")
        self.key = FileSigner.load_or_create(folder / "commands.key")
        (folder / "commands.pem").write_bytes(self.key.public_pem())
        self.authority = Authority.open(folder / "pki", datetime.now(UTC) - timedelta(days=300))
        self.issuer = DocumentIssuer(self.registry, self.key, self.clock.ms)
        self.desk = FleetHandler(self.registry, self.clock.ms)
        self.ingest = Ingest(self.registry, self.key, self.clock.ms)
        self.units: dict[str, DoorUnit] = {}
        self.offline: set[str] = set()
        self.retained: dict[str, bytes] = {}
        self.reports = 0
        self.sent: list[tuple[str, str, bytes]] = []
        """Everything that passed through the registry's hands."""

    def unit(self, name: str, settings: Settings | None = None, *, admitted: bool = True) -> DoorUnit:
        """A new unit, running, registered and, as a rule, with a card for its exchange key."""
        base = settings or Settings(store=LAPTOP)
        own = replace(
            base,
            door=replace(base.door, unit=unit_id(name), name=DOOR),
            fleet=replace(
                base.fleet,
                commands=self.folder / "commands.pem",
                authority=self.folder / "pki/ca.pem",
            ),
        )
        made = DoorUnit(unit_id(name), self.folder / name.replace("/", "_"), self.clock, own)
        made.start()
        made.mail = DoorMail(StateFolder(made.state).desired, made.name, self.key.public_key(), self.clock.ms)
        self.units[name] = made
        key = key_to_der(made.store.audit_signer.public_key())
        self.registry.register(made.name, key, self.clock.ms())
        if admitted:
            exchange = made.store.keystore.exchange().public_key()
            self.admit(made.name, card(self.authority, made.name, exchange, START))
        return made

    def admit(self, name: UnitId, made: bytes) -> None:
        with self.registry.transaction() as db:
            wanted.keep_card(db, name, made)

    def want(self, scope: str, **items: object) -> None:
        for item, value in items.items():
            wanted.want(self.registry, scope, item, value, "desk", self.clock.ms())

    def want_rules(self, scope: str, data: bytes, version: int) -> None:
        with self.registry.transaction() as db:
            part = wanted.keep_part(db, data)
        self.want(scope, rules={"part": wanted.part_value(part), "version": version})

    def doors(self, uid: str, *scopes: str) -> None:
        people.allow(self.registry, uid, frozenset(scopes), "desk", self.clock.ms())

    def forget(self, uid: str) -> None:
        people.forget(self.registry, uid, "desk", self.clock.ms())

    def step(self) -> None:
        """Each does its part once."""
        for unit, message in self.publish():
            self.retained[unit] = message
        for name, unit in self.units.items():
            if name in self.offline or not unit.is_up:
                continue
            if name in self.retained:
                self.deliver(unit, DESIRED, self.retained[name])
            unit.follower.look()
            self.clock.passes(0.3)
            self.carry(unit)

    def publish(self) -> list[tuple[UnitId, bytes]]:
        due = self.issuer.round()
        self.issuer.published(due)
        self.sent += [(unit, DESIRED, message) for unit, message in due]
        return due

    def carry(self, unit: DoorUnit) -> None:
        """What the uplink publishes, to the registry; and its pieces back."""
        for channel, payload in unit.mail.due(self.clock().monotonic_s, 1):
            self.sent.append((unit.name, channel, payload))
            if channel == WANTS:
                piece = self.desk.piece(payload)
                if piece is not None:
                    self.sent.append((unit.name, PARTS, piece))
                    self.deliver(unit, PARTS, piece)
            elif channel == STATEMENTS:
                self.desk.heard(unit.name, payload)
        self.report(unit)

    def deliver(self, unit: DoorUnit, channel: str, payload: bytes) -> bool:
        """Whether the uplink took it."""
        try:
            unit.mail.take(channel, payload)
        except SyncError:
            return False
        return True

    def report(self, unit: DoorUnit) -> None:
        """A health message with what the unit says of itself."""
        self.reports += 1
        facts = dict(read_standing(StateFolder(unit.state).desired / "standing.json"))
        present = rules_of(unit.state, DOOR).version
        facts["policy"] = f"rules-{present}"
        found = slots.read_slots(unit.models) if unit.models.exists() else None
        facts["models"] = "none-0" if found is None else f"sha256:{found.current[:16]}"
        numbers = {"counter": self.reports, "time_ms": self.clock.ms()}
        told = write_health("online", numbers, facts)
        self.ingest.health([(unit.name, signed_health(unit.name, told, unit.store.audit_signer))])

    def settle(self, most: int = 40, until: Callable[[], bool] | None = None) -> None:
        """Until nothing changes any more, or `until` holds. Fails when that takes too long."""
        for _ in range(most):
            before = len(self.sent)
            self.step()
            done = until() if until is not None else len(self.sent) == before
            if done:
                return
        raise AssertionError("it does not settle")

    def screen(self) -> Screen:
        return screen(self.registry, self.clock.ms())

    def document(self, unit: DoorUnit, counter: int, contents: Contents, **times: int) -> bytes:
        """A document as the issuer would sign it."""
        now = times.get("issued_ms", self.clock.ms())
        expires = times.get("expires_ms", now + 3_600_000)
        return Desired(unit.name, counter, now, expires, contents).signed(self.key)

    def part(self, unit: DoorUnit, data: bytes) -> object:
        """A part that has come to the unit already."""
        with self.registry.transaction() as db:
            return wanted.keep_part(db, data)

    def close(self) -> None:
        for unit in self.units.values():
            unit.crash()
        self.registry.close()


def roster(*hold: object) -> Roster:
    return Roster(tuple(hold))  # type: ignore[arg-type]
