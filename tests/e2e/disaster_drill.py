"""`scripts/disaster-drill`: a registry is put back from yesterday's backup, then lost. What comes back?

Broker, claim service with its guard, worker, database, uplinks and TPMs in software are the real processes,
and units are provisioned by `ostiary provision`. Of each door process its store, log and follower run here.
Between backup and loss happens what hurts most: somebody is enrolled, somebody is forgotten, a unit comes,
one is stolen and revoked, rules change, and doors write events all the time, also while there is no registry.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import load
from sync.events import UnitId, unit_id
from sync.fleet.provisioning.recovery import awaited
from sync.registry.fleet.people import Fleet
from sync.registry.fleet.status import screen
from sync.registry.reports import status
from sync.service.command_line import wall_ms
from tests.device.unit.fleet_world import DOOR, DoorUnit, rules
from tests.e2e.site_world import OSTIARY, SiteWorld, Unit, site_world
from tests.e2e.test_fleet_state import WallClock
from tests.sync.services import POSTGRES_BIN, Postgres, postgres

DESK, STOLEN, LATE = "st-mary/desk", "st-mary/stolen", "st-mary/late"
REVOKED = "our certificate was revoked"
PATIENCE_S = 300.0
Checks = dict[str, bool]


@dataclass
class Member:
    """A unit with its TPM: what its door keeps runs in this process, its uplink in one of its own."""

    box: Unit
    door: DoorUnit

    @property
    def name(self) -> UnitId:
        return self.door.name

    def opens(self, times: int) -> None:
        """So many events, as of attempts at the door."""
        for _ in range(times):
            self.door.trail.note("GRANTED", "all_factors_passed", DOOR)

    @property
    def sequence(self) -> int:
        return self.door.log.status().sequence


@dataclass
class Drill:
    site: SiteWorld
    folder: Path
    stack: ExitStack
    cluster: Postgres | None = None
    members: dict[str, Member] = field(default_factory=dict)

    # What a site does on every day

    def provision(self, name: str) -> Member:
        short = name.partition("/")[2]
        tpm = self.stack.enter_context(SwTpm(self.folder / f"tpm-{short}"))
        box = Unit(self.folder / short, tpm)
        box.set_up(name, DOOR)
        box.ostiary("provision", self.site.claim(name, door=DOOR))
        door = DoorUnit(unit_id(name), box.folder, WallClock(), load(box.config)).start()
        self.stack.callback(door.crash)
        self.site.run(f"uplink-{short}", [*OSTIARY, "sync", "--health-every", "2"], **box.surroundings)
        self.members[name] = member = Member(box, door)
        return member

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Doors look as their threads would, until it is so."""
        started = time.monotonic()
        while not holds():
            for member in self.members.values():
                member.door.follower.look()
            if time.monotonic() - started > PATIENCE_S:
                raise SystemExit(f"disaster-drill: this did not come about: {what}\n{self.said()}")
            time.sleep(0.1)

    def said(self) -> str:
        with closing(self.site.store()) as store:
            shown = "\n".join(screen(store, wall_ms()).lines())
        logs = [path.read_text()[-600:] for path in sorted(self.site.folder.glob("*.log"))]
        return "\n".join([shown, *logs])

    def want_rules(self, version: int) -> None:
        file = self.folder / "rules.toml"
        file.write_bytes(rules(version))
        self.site.ostiary("fleet", "want", "site:st-mary", "--rules", str(file), *self.site.db)

    def well(self) -> bool:
        with closing(self.site.store()) as store:
            return screen(store, wall_ms()).well

    def told(self) -> bool:
        """Whether no unit would erase somebody if the recovery ended now."""
        with closing(self.site.store()) as store:
            return not awaited(store)

    def sent(self) -> bool:
        """Whether everything has a receipt."""
        return all(m.door.log.status().pending == 0 for m in self.live())

    def live(self) -> list[Member]:
        return [member for name, member in self.members.items() if name != STOLEN]

    # What is lost

    def back_up(self) -> None:
        if self.cluster is not None:
            self._postgres("pg_dump", "-Fc", "-f", str(self.cluster.folder / "yesterday"), "registry")
            return
        with (
            closing(sqlite3.connect(self.site.folder / "registry.db")) as now,
            closing(sqlite3.connect(self.folder / "yesterday.db")) as then,
        ):
            now.backup(then)

    def lose(self, backup: bool) -> None:
        """The database is gone; with `backup`, yesterday's is put in its place. Nothing else runs."""
        for name in ("worker", "claims", "broker"):
            self.site.stop(name)
        if self.cluster is not None:
            self._postgres("dropdb", "--force", "registry")
            self._postgres("createdb", "registry")
            if backup:
                self._postgres("pg_restore", "-d", "registry", str(self.cluster.folder / "yesterday"))
        else:
            for path in self.site.folder.glob("registry.db*"):
                path.unlink()
            if backup:
                shutil.copyfile(self.folder / "yesterday.db", self.site.folder / "registry.db")
        if not backup:
            self.site.ostiary("registry", "create", *self.site.db)

    def _postgres(self, tool: str, *arguments: str) -> None:
        assert self.cluster is not None
        at = ["-h", "127.0.0.1", "-p", str(self.cluster.port), "-U", "registry"]
        command = self.cluster.as_user([str(POSTGRES_BIN / tool), *at, *arguments])
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        if done.returncode:
            raise SystemExit(f"disaster-drill: {tool}: {done.stderr}")

    # What is looked at

    def people(self) -> set[str]:
        with closing(self.site.store()) as store, store.reading() as db:
            return {uid for uid, row in Fleet.read(db).people.items() if row.forgotten_ms is None}

    def held(self) -> dict[str, set[str]]:
        return {member.name: set(member.door.store.vault.uids()) for member in self.live()}

    def states(self) -> dict[str, str]:
        return {name: state for name, state in self.site.states().items() if "~" not in name}

    def verified(self) -> bool:
        """Each unit's export, held against its own key as an auditor holds it, with every event in it."""
        for member in self.live():
            bundle, key = self.folder / "export.bundle", self.folder / "audit.pem"
            public = member.door.store.audit_signer.public_key()
            key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            name, receipts = member.name, str(self.site.site.folder / "receipts.pem")
            export = ["--form", "bundle", "--unit", name, "-o", str(bundle), *self.site.db]
            self.site.ostiary("registry", "export", *export)
            self.site.ostiary(
                *("audit", "verify", str(bundle), "--key", str(key)),
                "--unit",
                name,
                "--registry-key",
                receipts,
            )
        return True

    def alarms(self) -> set[str]:
        with closing(self.site.store()) as store:
            return {str(alarm["kind"]) for alarm in status.open_alarms(store)}

    def kept_out(self, name: str) -> bool:
        """Whether its uplink, which tries all the time, has never been let in again since it was revoked."""
        short = name.partition("/")[2]
        since = self.site.log(f"uplink-{short}").read_text().partition(REVOKED)[2]
        return not self.site.ended(f"uplink-{short}") and "connected to the broker again" not in since

    def stored(self) -> dict[str, int]:
        with closing(self.site.store()) as store:
            return {one.unit: one.size for one in status.unit_statuses(store, wall_ms())}


def every_day(drill: Drill, more: int) -> None:
    """A site that works: rules, people, events. Then the backup. Then what the backup does not know."""
    for name in (DESK, *(f"st-mary/ward-{number}" for number in range(1, more + 1)), STOLEN):
        drill.provision(name)
    site = drill.site
    desk = drill.members[DESK].door
    drill.want_rules(2)
    site.ostiary("fleet", "want", f"unit:{DESK}", "--enrols", *site.db)
    for number, uid in enumerate(("ANNA", "BRUNO")):
        site.ostiary("fleet", "doors", uid, "site:st-mary", *site.db)
        desk.enrol(uid, number)
    for member in drill.members.values():
        member.opens(20)
    drill.until("everybody is held", lambda: all(v == {"ANNA", "BRUNO"} for v in drill.held().values()))
    drill.until("the registry knows everybody", lambda: drill.people() == {"ANNA", "BRUNO"})
    drill.until("all is well before", lambda: drill.well() and drill.sent())
    drill.back_up()
    drill.want_rules(3)
    site.ostiary("fleet", "doors", "CARLA", "site:st-mary", *site.db)
    desk.enrol("CARLA", 7)
    site.ostiary("fleet", "forget", "BRUNO", *site.db)
    drill.provision(LATE)
    for member in drill.live():
        member.opens(10)
    drill.until("what came since", lambda: all(v == {"ANNA", "CARLA"} for v in drill.held().values()))
    drill.until("the registry knows CARLA", lambda: drill.people() == {"ANNA", "CARLA"})
    drill.until("all is well since", lambda: drill.well() and drill.sent())
    site.ostiary("registry", "revoke", STOLEN, *site.db)
    log = site.log("uplink-stolen")
    drill.until("the stolen unit is off", lambda: REVOKED in log.read_text())


def recover(drill: Drill, backup: bool) -> Checks:
    """As docs/operator/registry.md says, step by step; then what was lost and what was not."""
    site, before = drill.site, {member.name: member.sequence for member in drill.live()}
    documents = {member.name: member.door.standing()[0] for member in drill.live()}
    drill.lose(backup)
    for member in drill.live():
        member.opens(5)  # doors go on
    site.ostiary("fleet", "recover", "begin", *site.at)
    drill.want_rules(3)
    if not backup:
        site.ostiary("fleet", "want", f"unit:{DESK}", "--enrols", *site.db)
        for uid in ("ANNA", "CARLA"):
            site.ostiary("fleet", "doors", uid, "site:st-mary", *site.db)
    site.start(broker=False, worker=True, fleet=True)
    site.start(claims=False)
    live = {member.name for member in drill.live()}
    drill.until(
        "every unit is known", lambda: live <= {n for n, s in drill.states().items() if s == "online"}
    )
    drill.until("everybody is known", lambda: drill.people() >= {"ANNA", "CARLA"})
    kept = all(people == {"ANNA", "CARLA"} for people in drill.held().values())
    drill.until("everything is sent", drill.sent)
    drill.until("every unit has said whom it holds", drill.told)
    site.ostiary("fleet", "recover", "end", *site.at)

    def counts() -> bool:
        return all(m.door.standing()[0] > documents[m.name] for m in drill.live())

    drill.until("documents of the new registry count", counts)
    if backup:  # it still thinks that BRUNO is enrolled, and units refuse him
        site.ostiary("fleet", "forget", "BRUNO", *site.db)
    drill.until("all is well", lambda: drill.well() and drill.sent())
    stored, states = drill.stored(), drill.states()
    return {
        "every unit is recognised, also the one that came after the backup": live <= set(states),
        "the unit that was revoked after the backup stays out": states.get(STOLEN, "revoked") == "revoked"
        and drill.kept_out(STOLEN),
        "no event is lost that a unit still holds": all(
            stored[m.name] == m.sequence and m.sequence >= before[m.name] + 5 for m in drill.live()
        ),
        "the log of each unit verifies, and there is no gap": drill.verified()
        and "GAP" not in drill.alarms(),
        "nobody was erased while the registry did not know them": kept,
        "who was enrolled after the backup is known, at every door": drill.people() == {"ANNA", "CARLA"}
        and all(people == {"ANNA", "CARLA"} for people in drill.held().values()),
        "who was forgotten after the backup stays forgotten": all(
            "BRUNO" not in people for people in drill.held().values()
        ),
        "units obey the registry's documents again": all(
            m.door.controller.rules.version == 3 for m in drill.live()
        ),
    }


@contextmanager
def drill_of(database: str | None, folder: Path) -> Iterator[Drill]:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres()) if database == "postgresql" else None
        site = stack.enter_context(site_world(cluster.url if cluster else None))
        site.start(worker=True, fleet=True)
        yield Drill(site, folder, stack, cluster)


def run(database: str, more: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="ostiary-drill-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        started = time.monotonic()
        with drill_of(database, folder) as drill:
            every_day(drill, more)
            events = sum(member.sequence for member in drill.live())
            print(
                f"{len(drill.members)} units, {events} events, {time.monotonic() - started:.0f} s", flush=True
            )
            found: dict[str, Checks] = {}
            for title, backup in (("put back", True), ("lost", False)):
                begun = time.monotonic()
                found[title] = recover(drill, backup)
                print(f"registry {title}: recovered in {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{database:68} {'put back':>9} {'lost':>5}")
    for what in found["lost"]:
        put_back, lost = ("yes" if found[title][what] else "NO" for title in ("put back", "lost"))
        print(f"{what:68} {put_back:>9} {lost:>5}")
    return all(all(checks.values()) for checks in found.values())


def main() -> int:
    logging.disable(logging.ERROR)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    options.add_argument("--wards", type=int, default=3, help="Further units.")
    chosen = options.parse_args()
    return 0 if run(chosen.database, chosen.wards) else 1


if __name__ == "__main__":
    sys.exit(main())
