"""`scripts/fleet-100`: a hundred units on one broker. How long until each is as wanted, or off the broker.

Beside the seconds stands the processor time of all processes together, which other work on the machine does
not change: with N cores free it takes no less than that divided by N.

Units have a vault, an audit log, a follower and an MQTT session of their own, with a P-256 key each; they run
in one process, their keys lie in files and their disks in memory, for a hundred TPMs in software and one disk
for all would be what is measured. Broker, claim service with its guard, worker and database are the real
processes. What the judge finds in the recorded attempt is given: models are not opened.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import hashlib
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.fleet.follower import LOOK_EVERY_S
from device.unit.fleet.rehearsed import RehearsalError
from device.uplink.facts import read_standing
from device.uplink.letters.mail import DoorMail
from sync.events import UnitId, unit_id
from sync.fleet.exchange import card
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry.database.schema import certificates
from sync.registry.fleet import wanted
from sync.registry.fleet.status import screen
from sync.service.command_line import wall_ms
from sync.transport.agent import Agent, AgentSettings
from sync.transport.mqtt import LinkSettings, Reactor
from sync.transport.topics import COMMANDS, DESIRED, PARTS, RECEIPTS, topic
from tests.device.door_world import evidence
from tests.device.model_store.bundles import make_bundle
from tests.device.unit.fleet_world import DOOR, LAPTOP, DoorUnit, rules
from tests.device.unit.test_fleet_apply import KEY, in_use
from tests.e2e.site_world import SiteWorld, site_world
from tests.e2e.test_fleet_state import WallClock
from tests.sync.services import NOW, postgres

PATIENCE_S = 600.0
CONVERGED_WITHIN_S = 60.0
REVOKED_WITHIN_S = 10.0
CANARIES = 3


@dataclass(eq=False)
class Member:
    """One unit and its uplink, driven by `Fleet.turn`."""

    door: DoorUnit
    agent: Agent
    restarts: int = 0
    bad: str = ""
    """The bundle that does not decide here."""
    look_at: float = 0.0

    @property
    def standing(self) -> dict[str, str | int]:
        return read_standing(StateFolder(self.door.state).desired / "standing.json")

    def look(self) -> None:
        if time.monotonic() < self.look_at:  # as often as its thread would
            return
        self.look_at = time.monotonic() + LOOK_EVERY_S
        if self.door.ended != self.restarts:  # as systemd would
            self.restarts = self.door.ended
            self.door.restart()
        broken = bool(self.bad) and in_use(self.door) == self.bad
        said = RehearsalError("not_confirmed", "a recorded attempt that is clear would be refused")
        self.door.finds = said if broken else evidence()
        self.door.follower.look()


@dataclass
class Fleet:
    site: SiteWorld
    folder: Path
    reactor: Reactor = field(default_factory=Reactor)
    members: dict[UnitId, Member] = field(default_factory=dict)
    looked: Callable[[Member], None] = lambda _: None

    def add(self, number: int) -> None:
        name, site = unit_id(f"st-mary/unit-{number:03}"), self.site
        base = Settings(store=LAPTOP)
        fleet = replace(
            base.fleet,
            commands=site.site.folder / "commands.pem",
            authority=site.site.pki() / "ca.pem",
            trial_s=5.0,
        )
        own = replace(base, door=replace(base.door, unit=name, name=DOOR), fleet=fleet)
        door = DoorUnit(name, self.folder / f"unit-{number}", WallClock(), own).start()
        now, authority = dt.datetime.now(dt.UTC), site.site.authority(NOW)
        files = authority.issue(name, now, into=self.folder)
        serial = x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number
        with closing(site.store()) as store:
            store.register(name, key_to_der(door.store.audit_signer.public_key()), wall_ms())
            with store.transaction() as db:
                made = card(authority, name, door.store.keystore.exchange().public_key(), now)
                wanted.keep_card(db, name, made)
                row = {"serial": f"{serial:x}", "unit": name, "tpm": "", "issued_ms": wall_ms()}
                ends = {"expires_ms": wall_ms() + 80 * 86_400_000}
                db.execute(sa.insert(certificates).values(**row, **ends))
            if number < CANARIES:
                wanted.set_tags(store, name, frozenset({"tag:canary"}))
        key = key_from_bytes((site.site.folder / "commands.pem").read_bytes())
        mail = DoorMail(
            StateFolder(door.state).desired, name, key, wall_ms, lambda: self.members[name].agent.report_now()
        )
        link = self.reactor.link(
            LinkSettings("localhost", site.ports[0], name, files),
            subscriptions=[topic(name, channel) for channel in (RECEIPTS, COMMANDS, DESIRED, PARTS)],
        )
        member = Member(door, None)  # type: ignore[arg-type]
        member.agent = Agent(
            log=door.log,
            signer=door.store.audit_signer,
            link=link,
            registry_key=key_from_bytes((site.site.folder / "receipts.pem").read_bytes()),
            now_s=time.monotonic,
            time_ms=wall_ms,
            settings=AgentSettings(health_every_s=30.0),
            facts=lambda: self.facts(member),
            mail=mail,
        )
        self.members[name] = member

    @staticmethod
    def facts(member: Member) -> dict[str, str | int]:
        door = member.door
        models = in_use(door)
        told = {"policy": f"rules-{door.controller.rules.version}"}
        return {**member.standing, **told, "models": f"sha256:{models[:16]}" if models else "none-0"}

    def turn(self) -> None:
        self.reactor.poll(0.01)
        for member in self.members.values():
            if member.agent.log is not member.door.log:  # it was started again
                member.agent.log = member.door.log
            member.agent.step()
        for member in self.members.values():
            member.look()
            self.looked(member)

    def until(self, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> float:
        started = time.monotonic()
        while not holds():
            self.turn()
            if time.monotonic() - started > within_s:
                raise SystemExit("fleet-100: that did not come about")
        return time.monotonic() - started

    def each(self, holds: Callable[[Member], bool], among: list[Member] | None = None) -> list[float]:
        """Seconds from now until it holds, for each unit."""
        started, seen = time.monotonic(), dict[UnitId, float]()
        group = list(self.members.values()) if among is None else among

        wanted = {member.door.name for member in group}

        def look(member: Member) -> None:
            if member.door.name in wanted and member.door.name not in seen and holds(member):
                seen[member.door.name] = time.monotonic() - started

        self.looked = look
        self.until(lambda: len(seen) == len(group))
        return sorted(seen.values())

    def close(self) -> None:
        self.reactor.close()
        for member in self.members.values():
            member.door.crash()


@contextmanager
def fleet_of(units: int, database: str | None, folder: Path) -> Iterator[Fleet]:
    with site_world(database) as site:
        site.start(worker=True, fleet=True)
        fleet = Fleet(site, folder)
        try:
            for number in range(units):
                fleet.add(number)
                if number % 10 == 9:
                    fleet.turn()
            fleet.until(lambda: all(m.agent.link.connected for m in fleet.members.values()))
            yield fleet
        finally:
            fleet.close()


def told(what: str, seconds: list[float], worked_s: float) -> None:
    cuts = statistics.quantiles(seconds, n=20) if len(seconds) > 1 else seconds * 19
    print(
        f"{what}: {len(seconds)} units, p50 {cuts[9]:.1f} s, p95 {cuts[18]:.1f} s, last {seconds[-1]:.1f} s; "
        f"{worked_s:.1f} s of processor time",
        flush=True,
    )


def worked_s() -> float:
    """Processor time of this process and of all that it started, while they run."""
    ticks, parents = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = entry.read_text().rpartition(")")[2].split()
            process = int(entry.parent.name)
            parents[process] = int(after_name[1])
            ticks[process] = int(after_name[11]) + int(after_name[12])

    def ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and ours(parents[process]))

    return sum(count for process, count in ticks.items() if ours(process)) / os.sysconf("SC_CLK_TCK")


def converge(fleet: Fleet) -> list[float]:
    """New rules for the whole site, until each unit obeys them."""
    file = fleet.folder / "rules-7.toml"
    file.write_bytes(rules(7))
    before_s = worked_s()
    fleet.site.ostiary("fleet", "want", "site:st-mary", "--rules", str(file), *fleet.site.db)
    seconds = fleet.each(lambda m: m.door.controller.rules.version == 7)
    told("rules wanted until in force", seconds, worked_s() - before_s)
    return seconds


def forgotten(fleet: Fleet) -> list[float]:
    """Somebody enrolled at the first unit and held by all, until nobody holds them."""
    site, first = fleet.site, next(iter(fleet.members.values()))
    site.ostiary("fleet", "want", f"unit:{first.door.name}", "--enrols", *site.db)
    site.ostiary("fleet", "doors", "4711", "site:st-mary", *site.db)
    before_s = worked_s()
    first.door.enrol("4711", 1)
    seconds = fleet.each(lambda m: "4711" in m.door.store.vault.uids())
    told("enrolled at one until held", seconds, worked_s() - before_s)
    before_s = worked_s()
    site.ostiary("fleet", "forget", "4711", *site.db)
    seconds = fleet.each(lambda m: "4711" not in m.door.store.vault.uids())
    told("a person revoked until gone", seconds, worked_s() - before_s)
    return seconds


def refused_by_themselves(fleet: Fleet) -> bool:
    """Rules that lock everybody out, then a bundle that cannot decide, rolled out to a canary first."""
    site = fleet.site
    for member in fleet.members.values():
        member.door.enrol("ANNA", 2)
    file = fleet.folder / "rules-8.toml"
    file.write_bytes(rules(8, role="nobody", more=""))
    before_s = worked_s()
    site.ostiary("fleet", "want", "site:st-mary", "--rules", str(file), *site.db)
    seconds = fleet.each(lambda m: m.standing.get("standing") == "refused")
    told("locking rules wanted until refused", seconds, worked_s() - before_s)
    kept = all(m.door.controller.rules.version == 7 for m in fleet.members.values())
    print(shown(fleet))
    file.write_bytes(rules(9))
    site.ostiary("fleet", "want", "site:st-mary", "--rules", str(file), *site.db)
    fleet.each(lambda m: m.door.controller.rules.version == 9)
    key = fleet.folder / "release.pem"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for version in (1, 2):
        make_bundle(fleet.folder / f"bundle-{version}", version=version, key=KEY)
    canaries = list(fleet.members.values())[:CANARIES]
    for version, stages in ((1, "100"), (2, "50,100")):
        folder = str(fleet.folder / f"bundle-{version}")
        options = ["--key", str(key), "--stages", stages, "--soak", "0", "--attempts", "0", *site.db]
        if version == 2:
            name = hashlib.sha256((fleet.folder / "bundle-2/manifest.json").read_bytes()).hexdigest()
            for member in fleet.members.values():
                member.bad = name
        site.ostiary("fleet", "roll-out", folder, *options)
        state = "done" if version == 1 else "halted"
        fleet.until(lambda state=state: rollout_state(fleet) == state)  # type: ignore[misc]
    back = all(m.standing.get("standing") == "went_back" for m in canaries if m.standing) and not any(
        in_use(m.door) == m.bad for m in fleet.members.values()
    )
    others = [m for m in fleet.members.values() if m not in canaries]
    untouched = all(m.standing.get("standing") != "went_back" for m in others)
    print(shown(fleet))
    return kept and back and untouched


def rollout_state(fleet: Fleet) -> str:
    with closing(fleet.site.store()) as store:
        found = screen(store, wall_ms()).rollout
    return str(found["state"]) if found else ""


def shown(fleet: Fleet) -> str:
    fleet.until(lambda: True)
    until = time.monotonic() + 3.0
    fleet.until(lambda: time.monotonic() > until)  # health messages come in
    with closing(fleet.site.store()) as store:
        return "\n".join(f"    {line}" for line in screen(store, wall_ms()).lines())


def revoked(fleet: Fleet, singly: int) -> list[float]:
    """Some one after the other, then the rest at once: until the broker has ended their sessions."""
    seconds, members, before_s = [], list(fleet.members.values()), worked_s()
    for member in members[:singly]:
        with closing(fleet.site.store()) as store:
            store.revoke(member.door.name, wall_ms())
        seconds += fleet.each(lambda m: not m.agent.link.connected, [member])
    told("revoked one after the other until off the broker", sorted(seconds), worked_s() - before_s)
    rest, before_s = members[singly:], worked_s()
    if rest:
        with closing(fleet.site.store()) as store:
            for member in rest:
                store.revoke(member.door.name, wall_ms())
        at_once = fleet.each(lambda m: not m.agent.link.connected, rest)
        told(f"revoked {len(rest)} at once until off the broker", at_once, worked_s() - before_s)
        seconds += at_once
    return sorted(seconds)


def run(units: int, database: str | None, singly: int) -> bool:
    with ExitStack() as stack:
        # In memory: a hundred units have a disk each, and this machine has one.
        memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        made = tempfile.TemporaryDirectory(prefix="ostiary-fleet-", dir=memory)
        folder = Path(stack.enter_context(made))
        if database == "postgresql":
            database = stack.enter_context(postgres()).url
        started = time.monotonic()
        fleet = stack.enter_context(fleet_of(units, database, folder))
        print(f"{units} units are connected, {time.monotonic() - started:.0f} s after the start")
        well = {
            f"as wanted within {CONVERGED_WITHIN_S:g} s": converge(fleet)[-1] <= CONVERGED_WITHIN_S,
            f"a person gone within {REVOKED_WITHIN_S:g} s": forgotten(fleet)[-1] <= REVOKED_WITHIN_S,
            "what harms came back by itself, and the roll-out halted": refused_by_themselves(fleet),
            f"revoked units off within {REVOKED_WITHIN_S:g} s": revoked(fleet, singly)[-1]
            <= REVOKED_WITHIN_S,
        }
    for what, held in well.items():
        print(f"{'yes' if held else 'NO '}  {what}")
    return all(well.values())


def main() -> int:
    logging.disable(logging.ERROR)  # a hundred doors would each say what they refuse
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--units", type=int, default=100)
    options.add_argument("--database", default="postgresql", choices=["postgresql", "sqlite"])
    options.add_argument("--singly", type=int, default=10, help="So many are revoked one after the other.")
    chosen = options.parse_args()
    database = None if chosen.database == "sqlite" else "postgresql"
    return 0 if run(chosen.units, database, chosen.singly) else 1


if __name__ == "__main__":
    sys.exit(main())
