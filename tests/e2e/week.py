"""A week at two doors in minutes, as real processes: what grows, what wears out, and what each day has to do.

    python -m tests.e2e.week                       seven days, 288 visits a day at one door
    python -m tests.e2e.week --days 1 --visits 40  a shorter form
    python -m tests.e2e.week --out DIR             every visit's figures, and a plot

Processes: `ostiary run` at a door with a fleet, its `ostiary sync`, broker, claim service, registry worker
and `registry watch`; and `ostiary run` at a door on its own, which moves its log to files. Real models, a TPM
in software for each door, and clocks that jump ahead, at most 290 s at once (the network's 600 s; the broker
has the wall clock alone), so that whatever is due every few minutes, hours or days is done. Sound goes
through the microphone's pipe as fast as the door listens. flite says the phrase on the display, so the rule
leaves out the live check; it is computed all the same. The week begins 56 days after the units were
provisioned, so that a certificate becomes due, and two consents run out. Exit code 1 when a bound does not
hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from device.secure_store.hardware.swtpm import SwTpm
from device.state_folder import StateFolder
from device.uplink import archive
from device.uplink.facts import read_standing
from sync.events import Record, unit_id
from sync.registry.reports import export
from tests.e2e.site_world import OSTIARY, eventually, site_world
from tests.e2e.week_clock import JumpingClocks, nobody_at
from tests.e2e.week_door import Answer, Disk, Door, Process
from tests.e2e.week_figures import Daily, Series, plot, rows

DAY_S, STEP_S, SETTLE_S = 86_400, 290, 0.06
NETWORK_STEP_S, NETWORK_SETTLE_S = 600, 0.3
PROVISIONED_DAYS_AGO = 56
BY_HOUR = (3, 2, 2, 2, 3, 8, 25, 22, 14, 12, 12, 11, 14, 22, 25, 16, 12, 11, 10, 9, 12, 22, 15, 4)
"""Visits of an hour, as parts of 288: three changes of shift."""
PEOPLE = {"4711": "slt", "4712": "rms", "4713": "awb"}
RULES = """\
version = 1
[risks.standard]
factors = ["claim", "phrase", "voice"]
thresholds = { phrase_llr = 0.0, voice_llr = 3.0 }
challenge = { style = "digits", digits = 4 }
[zones.pharmacy]
[doors.pharmacy]
zone = "pharmacy"
risk = "standard"
[schedules.never]
days = ["mon"]
from = "03:00"
to = "03:01"
[[allow]]
roles = ["staff"]
[[allow]]
roles = ["seldom"]
schedule = "never"
[people.4714]
roles = ["seldom"]
badges = ["4714"]
""" + "".join(f'[people.{uid}]\nroles = ["staff"]\nbadges = ["{uid}"]\n' for uid in PEOPLE)


@dataclass
class Visit:
    """Who comes with which badge, and says what; `right` may be let in."""

    badge: str
    answer: Answer
    right: bool = False


def visits(seed: int) -> Iterator[Visit]:
    """Endless: most are right; some slip, some show another's badge, some play what was said before."""
    rng = random.Random(seed)
    while True:
        uid, other = rng.sample(sorted(PEOPLE), 2)
        kind = rng.random()
        if kind < 0.76:
            yield Visit(uid, Answer(PEOPLE[uid]), right=True)
        elif kind < 0.84:
            yield Visit(uid, Answer(PEOPLE[uid], "the river was quiet in the early morning"))
        elif kind < 0.90:
            yield Visit(uid, Answer(PEOPLE[other]))
        elif kind < 0.94:
            yield Visit(uid, Answer(PEOPLE[uid], "again"))
        elif kind < 0.97:
            yield Visit(uid, Answer())
        else:
            yield Visit("9999", Answer(PEOPLE[uid]))


def times(days: int, a_day: int) -> list[int]:
    """When somebody comes, in seconds from the first midnight, by the curve of a day."""
    rng = random.Random(7)
    found = []
    for day in range(days):
        hours = rng.choices(range(24), BY_HOUR, k=a_day)
        found += [day * DAY_S + hour * 3600 + rng.randrange(3600) for hour in hours]
    return sorted(found)


class Week:
    """The site, both doors, and their clocks."""

    def __init__(self, folder: Path, parts: ExitStack) -> None:
        self.folder, self.series = folder, Series()
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.now_s = 0
        self.clocks, self.network = JumpingClocks(folder / "doors"), JumpingClocks(folder / "network")
        self.tpms = tpms = [parts.enter_context(SwTpm(folder / f"tpm-{n}")) for n in (1, 2)]
        os.environ.update(self.network.environment())  # of every process that starts from here on
        self.site = parts.enter_context(site_world())
        self.site.start(worker=True, fleet=True)
        self.door = Door(folder / "door", tpms[0], self.clocks, "st-mary/ward")
        self.alone = Door(folder / "alone", tpms[1], self.clocks, "st-mary/alone")
        self._provision()
        self._later()
        parts.callback(self.alone.kill)
        parts.callback(self.door.kill)

    def _provision(self) -> None:
        site, door, alone = self.site, self.door, self.alone
        rules = self.folder / "rules.toml"
        rules.write_text(RULES)
        door.set_up(door.name)
        with door.config.open("a") as file:
            file.write("retention_days = 60\n")  # the consents run out on the fifth day
        door.ostiary("provision", site.claim(door.name))
        for uid in ("4715", "4716"):
            door.enrol(uid, "kal16")
        door.config.write_text(door.config.read_text().replace("retention_days = 60\n", ""))
        for uid, voice in PEOPLE.items():
            door.enrol(uid, voice)
        alone.set_up(alone.name)
        with alone.config.open("a") as file:
            file.write("[audit]\nstandalone = true\nrotate_events = 1000\n")
        for uid, voice in PEOPLE.items():
            alone.enrol(uid, voice)
        alone.ostiary("policy", "adopt", str(rules))
        site.ostiary("fleet", "want", "site:st-mary", "--rules", str(rules), *site.db)

    def _later(self) -> None:
        """Everything starts again, most of a certificate's life later."""
        site = self.site
        for name in ("broker", "claims", "worker"):
            site.stop(name)
        today_s = int(time.time()) % DAY_S
        for clocks in (self.clocks, self.network):
            clocks.go_on(PROVISIONED_DAYS_AGO * DAY_S - today_s)
        site.start(broker=False)
        wall_only = self.network.environment(wall_only=True)
        site.run("broker", ["mosquitto", "-c", str(site.site.folder / "broker/mosquitto.conf")], **wall_only)
        site.start(broker=False, claims=False, worker=True, fleet=True)
        signing = ["--signing-key", str(site.site.folder / "receipts.key")]
        site.run(
            "watch",
            [*OSTIARY, "registry", "watch", *site.db, "--keep-months", "1", "--keep-alarms", "30", *signing],
        )
        site.run(
            "uplink",
            [*OSTIARY, "sync", "--health-every", "300"],
            **{**self.door.surroundings, **self.network.environment()},
        )
        self.door.start()
        self.alone.start()
        told = StateFolder(self.door.state).desired / "standing.json"
        eventually(lambda: read_standing(told).get("standing") == "applied")  # the site's rules are in force

    def until(self, at_s: int) -> None:
        """Let time pass, in jumps that leave everybody time to look at the clock. The network's are longer
        and fewer: what waits for an answer there must not see its limit pass before the answer can come."""
        while self.now_s < at_s:
            step_s = min(STEP_S, at_s - self.now_s)
            behind_s = self.clocks.ahead_s + step_s - self.network.ahead_s
            networked = behind_s >= NETWORK_STEP_S or self.now_s + step_s == at_s
            with nobody_at(self.tpms, (self.door.pid, self.alone.pid, self.site._running["uplink"].pid)):
                self.clocks.go_on(step_s)
                if networked:
                    self.network.go_on(behind_s)
            self.now_s += step_s
            time.sleep(NETWORK_SETTLE_S if networked else SETTLE_S)

    def spend(self, days: int, a_day: int) -> None:
        plan, turn = visits(seed=1), 0
        for at_s in times(days, a_day):
            self.until(at_s)
            visit, turn = next(plan), turn + 1
            self._let(self.door, visit)
            if turn % 12 == 0:
                self._let(self.alone, visit)
            elif turn % 2:
                self._let(self.alone, Visit("4714", Answer()))  # a badge for which nobody speaks
            self._look(at_s)
            if turn % 50 == 0:
                look = self.series
                print(
                    f"{turn} visits, day {at_s / DAY_S:.2f}, {look.door[-1].private_mb:.1f} MB private, "
                    f"{look.disk[-1].all_kb:.0f} kB, {dict(self.outcomes)}",
                    file=sys.stderr,
                    flush=True,
                )
        self.until(days * DAY_S + 60)

    def _let(self, door: Door, visit: Visit) -> None:
        outcome = door.visit(visit.badge, visit.answer)
        name = "alone" if door is self.alone else "door"
        self.outcomes[f"{name} {outcome}"] += 1
        if outcome == "GRANTED" and not visit.right:
            self.wrong.append(f"{name}: {visit}")
        if outcome.startswith(("DENIED", "LOCKOUT")) and visit.badge in PEOPLE:
            door.pardon(visit.badge)

    def _look(self, at_s: int) -> None:
        look, running = self.series, self.site._running
        look.at_s.append(at_s)
        look.door.append(Process.of(self.door.pid))
        look.alone.append(Process.of(self.alone.pid))
        look.uplink.append(Process.of(running["uplink"].pid))
        look.worker.append(Process.of(running["worker"].pid))
        look.disk.append(Disk.of(self.door.state))
        look.disk_alone.append(Disk.of(self.alone.state))
        files = self.site.folder.glob("registry.db*")
        look.registry_kb.append(sum(path.stat().st_size for path in files) / 1000)

    def daily(self) -> Daily:
        with closing(self.site.store()) as store:
            bodies = export.bundle(store, unit_id(self.door.name)).events
        events = [Record.from_bytes(body).event for body in bodies]
        return Daily(
            renewed=self.site.log("uplink").read_text().count("the certificate was renewed"),
            forgotten=sum(event.kind == "CONSENT_EXPIRED" for event in events),
            moved=len(archive.files(StateFolder(self.alone.state).audit_archive)),
            starts=sum(event.kind == "BOOT" for event in events),
            faults=Counter(f"{e.kind} {e.reason}" for e in events if "FAULT" in e.kind),
            events=len(events),
        )


def kept(out: Path, week: Week) -> None:
    """Everything that was looked at, and what the processes said, in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    told = {"series": week.series.__dict__, "outcomes": week.outcomes, "wrong": week.wrong}
    (out / "week.json").write_text(json.dumps(told))
    (out / "door.log").write_text("".join(week.door.told))
    for log in week.site.folder.glob("*.log"):
        (out / log.name).write_bytes(log.read_bytes())
    plot(week.series, out / "week.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--visits", type=int, default=288, help="a day")
    parser.add_argument("--out", type=Path, help="folder for week.json, week.png and the logs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ostiary-week-") as folder, ExitStack() as parts:
        week = Week(Path(folder), parts)
        began_s = time.monotonic()
        try:
            week.spend(options.days, options.visits)
        finally:
            lasted_s = time.monotonic() - began_s
            if options.out and week.series.at_s:
                kept(options.out, week)
        eventually(lambda: Disk.of(week.door.state).pending == 0)
        daily = week.daily()
    found = rows(week.series, daily, week.outcomes, week.wrong)
    table = Table("a week", "measured", "bound", "", title=f"{lasted_s / 60:.1f} minutes")
    for row in found:
        told = {True: "held", False: "BROKEN", None: ""}[row.held]
        table.add_row(row.what, row.measured, row.bound, told)
    Console(width=130).print(table)
    for name, text in (("wrong", week.wrong), ("faults", dict(daily.faults))):
        if text:
            print(f"{name}: {text}")
    sys.exit(1 if any(row.held is False for row in found) else 0)


if __name__ == "__main__":
    main()
