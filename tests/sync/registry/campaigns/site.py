"""Twelve units and a registry, for tests of campaigns."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import sqlalchemy as sa
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.exchange import seal_to
from sync.events import UnitId, unit_id
from sync.keys import FileSigner
from sync.registry.campaigns import known
from sync.registry.campaigns.handler import Campaigns
from sync.registry.campaigns.intake import Intake
from sync.registry.campaigns.warning import Warner
from sync.registry.cli import registry as registry_command
from sync.registry.database.schema import events, units
from sync.registry.database.store import Store
from sync.threats.prints import (
    MODEL,
    VALUES,
    Print,
    SealedPrint,
    as_values,
    likeness,
    open_kept,
    print_info,
)
from tests.sync.parts import Clock

DAY_MS = 86_400_000


ATTACKER, PERSON = 1, 2


class Site:
    """Twelve units, a registry, and what attackers and people sound like to the live check."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/registry.db"
        self.store, self.clock = Store.open(self.url), Clock()
        self.tenant = ec.generate_private_key(ec.SECP256R1())
        self.orders, self.receipts = FileSigner.generate(), FileSigner.generate()
        self.signers: dict[UnitId, FileSigner] = {}
        self.dice = random.Random(5)
        for number in range(12):
            name = unit_id(f"st-mary/u-{number}")
            self.signers[name] = FileSigner.generate()
            key = self.signers[name].public_key()
            self.store.register(name, _der(key), self.clock())
        self.units = list(self.signers)
        self._last: Counter[UnitId] = Counter()
        intake = Intake(self.store, self.tenant, self.clock)
        self.warner = Warner(self.store, self.orders, self.tenant.public_key(), self.clock)
        self.desk = Campaigns(intake, self.warner, self.receipts)

    def like(self, seed: int, spread: float = 0.1) -> bytes:
        """A print of one attacker's tool, or of one person: a direction and a little of its own."""
        own = random.Random(seed)
        return as_values([own.gauss(0, 1) + self.dice.gauss(0, spread) for _ in range(VALUES)])

    def event(self, unit: UnitId, kind: str, person: str | None = None, door: str = "icu") -> int:
        self._last[unit] += 1
        row = {"unit": unit, "sequence": self._last[unit], "month": 202609, "received_ms": self.clock()}
        row |= {"event_id": f"{unit}{self._last[unit]}", "time_ms": self.clock(), "door": door, "kind": kind}
        row |= {
            "reason": "none",
            "attempt": f"a{self._last[unit]}",
            "keystore": "tpm",
            "body": b"",
            "person": person,
        }
        with self.store.transaction() as db:
            db.execute(sa.insert(events).values(**row))
        return self._last[unit]

    def send(self, unit: UnitId, values: bytes, sequence: int) -> bool:
        """Whether the registry says that it has it."""
        plain = Print(MODEL, values).to_bytes()
        sealed = SealedPrint(unit, sequence, seal_to(self.tenant.public_key(), plain, print_info(unit)))
        refused: Counter[tuple[str, str]] = Counter()
        message = sealed.signed(self.signers[unit])
        answers = self.desk.take([(unit, message)], refused)
        assert not refused
        names = [n for to, a in answers for n in open_kept(a, self.receipts.public_key(), to)]
        return names == [sealed.name()]

    def attack(
        self,
        number: int,
        values: bytes,
        kind: str = "DENIED_SPOOF",
        person: str | None = None,
        door: str = "icu",
    ) -> bool:
        unit = self.units[number]
        return self.send(unit, values, self.event(unit, kind, person, door))

    def bout(self, number: int, *prints: bytes, person: str | None = "p-1", apart_ms: int = 60_000) -> None:
        """Attempts of one person at one door, one after another."""
        for values in prints:
            assert self.attack(number, values, person=person)
            self.clock.now_ms += apart_ms

    def sizes(self) -> list[int]:
        """How many attempts each campaign has, the largest first."""
        return sorted((one.times for one in known.found(self.store, self.clock())), reverse=True)

    def granted(self, number: int, values: bytes) -> None:
        assert self.send(self.units[number], values, 0)

    def threats(self) -> list[int]:
        with self.store.transaction() as db:
            return [threat.number for threat in self.warner.wanted(db, self.clock())]

    def warned_of(self, values: bytes) -> bool:
        with self.store.transaction() as db:
            threats = self.warner.wanted(db, self.clock())
        return any(1000 * likeness(values, t.values) >= t.likeness for t in threats)

    def say_healthy(self, *names: UnitId, holds: int | None = 0) -> None:
        facts = {} if holds is None else {"threats": holds}
        told = json.dumps({"state": "online", "facts": facts})
        with self.store.transaction() as db:
            mine = units.c.unit.in_(names)
            db.execute(sa.update(units).where(mine).values(health=told, health_ms=self.clock()))

    def run(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(registry_command, [*arguments, "--database", self.url])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output


def _der(key: ec.EllipticCurvePublicKey) -> bytes:
    from sync.proofs.bundle import key_to_der

    return key_to_der(key)
