"""Desired state and an enrolment over a real broker: two units with TPMs, a worker, the commands."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store
from sync.registry.fleet.status import Screen, screen
from tests.device.secure_store.people import same_voice, with_door
from tests.device.unit.fleet_world import DOOR, Clock, DoorUnit, rules
from tests.e2e.sync_world import Process
from tests.e2e.test_sync_simulate import OSTIARY
from tests.sync.services import NOW, Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
UNITS = ("st-mary/desk", "st-mary/ward")
PATIENCE_S = 180.0


class WallClock(Clock):
    """The machine's own: certificates and documents are of today."""

    def __call__(self):  # type: ignore[no-untyped-def]
        self.now = replace(self.now, wall=datetime.now(UTC), monotonic_s=time.monotonic())
        return self.now


class Site:
    """A broker, a worker that keeps the fleet, and per unit: a TPM, a door's follower, an uplink process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open(folder / "pki", NOW)
        self.broker = Mosquitto(folder, self.authority, default=False)
        self.broker.start()
        self.database = ["--database", f"sqlite:///{folder}/registry.db"]
        for name in ("receipts", "commands"):
            key = FileSigner.load_or_create(folder / f"{name}.key")
            (folder / f"{name}.pem").write_bytes(key.public_pem())
        self.store = Store.open(f"sqlite:///{folder}/registry.db")
        files = self.authority.issue("worker-1", NOW)
        command = [*OSTIARY, "registry", "worker", *self.database, "--broker", self.address]
        command += ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
        command += [
            "--signing-key",
            str(folder / "receipts.key"),
            "--fleet-key",
            str(folder / "commands.key"),
        ]
        self.worker = Process("worker", command, folder / "worker.log")
        self.worker.start()
        self.tpms = [SwTpm(folder / f"tpm-{number}").start() for number in range(len(UNITS))]
        self.units = [self._unit(name, tpm) for name, tpm in zip(UNITS, self.tpms, strict=True)]
        self.uplinks = [self._uplink(unit) for unit in self.units]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.broker.port}"

    def ostiary(self, *arguments: str, fails: bool = False, **more: str) -> str:
        made = subprocess.run(
            [*OSTIARY, *arguments], env={**os.environ, **more}, capture_output=True, text=True, timeout=180
        )
        assert fails or made.returncode == 0, made.stderr
        return made.stdout

    def fleet(self, *arguments: str) -> str:
        name, *rest = arguments
        return self.ostiary("fleet", name, *rest, *self.database)

    def screen(self) -> Screen:
        return screen(self.store, time.time_ns() // 1_000_000)

    def _unit(self, name: str, tpm: SwTpm) -> DoorUnit:
        base = Settings(store=tpm.settings())
        fleet = replace(
            base.fleet, commands=self.folder / "commands.pem", authority=self.folder / "pki/ca.pem"
        )
        own = replace(base, door=replace(base.door, unit=name, name=DOOR), fleet=fleet)
        made = DoorUnit(unit_id(name), self.folder / name.replace("/", "_"), WallClock(), own)
        made.folder.mkdir()
        (made.folder / "ostiary.toml").write_text(
            f'[door]\nunit = "{name}"\nname = "{DOOR}"\n'
            f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{tpm.tcti}"\n'
            f'[fleet]\ncommands = "{fleet.commands}"\nauthority = "{fleet.authority}"\n'
        )
        made.start()
        env = self.env(made)
        (made.folder / "exchange.pem").write_text(self.ostiary("store", "exchange-key", **env))
        audit = key_to_der(made.store.audit_signer.public_key())
        self.store.register(made.name, audit, time.time_ns() // 1_000_000)
        exchange = ["--exchange-key", str(made.folder / "exchange.pem")]
        self.fleet("admit", name, *exchange, "--authority", str(self.folder / "pki"))
        return made

    def env(self, unit: DoorUnit) -> dict[str, str]:
        config = str(unit.folder / "ostiary.toml")
        return {
            "OSTIARY_STATE_DIR": str(unit.state),
            "OSTIARY_CONFIG": config,
            "OSTIARY_MODELS_DIR": str(unit.models),
        }

    def _uplink(self, unit: DoorUnit) -> Process:
        files = self.authority.issue(unit.name, NOW)
        settings = " ".join(f"{name}={value}" for name, value in self.env(unit).items())
        command = f"{settings} exec {OSTIARY[0]} -c '{OSTIARY[2]}' sync --broker {self.address}"
        command += f" --ca {files.ca} --cert {files.certificate} --key {files.key} --health-every 5"
        command += f" --registry-key {self.folder}/receipts.pem --command-key {self.folder}/commands.pem"
        made = Process("uplink", ["sh", "-c", command], self.folder / "uplink.log")
        made.start()
        return made

    def until(self, holds: Callable[[], bool], *, without: int | None = None) -> float:
        """Doors look as their threads would, until `holds`; how many seconds that took."""
        started = time.monotonic()
        while not holds():
            for number, unit in enumerate(self.units):
                if number != without:
                    unit.follower.look()
            assert time.monotonic() - started < PATIENCE_S, (self.folder / "uplink.log").read_text()[-2000:]
            time.sleep(0.1)
        return time.monotonic() - started

    def close(self) -> None:
        for uplink in self.uplinks:
            uplink.kill()
        self.worker.kill()
        for unit in self.units:
            unit.crash()
        for tpm in self.tpms:
            tpm.power_cut()
        self.broker.remove()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_rules_an_enrolment_and_its_erasure_reach_the_doors_over_the_broker(site: Site) -> None:
    desk, ward = site.units
    file = site.folder / "rules.toml"
    file.write_bytes(rules(7))
    site.fleet("want", "site:st-mary", "--rules", str(file), "--threshold", "voice_llr=3.5")
    site.fleet("want", "unit:st-mary/desk", "--enrols")
    site.until(lambda: all(unit.controller.rules.version == 7 for unit in site.units))
    assert ward.controller.rules.risks["standard"].thresholds.voice_llr == 3.5
    site.fleet("doors", "4711", "site:st-mary")
    desk.enrol("4711", 1)
    took_s = site.until(lambda: "4711" in ward.store.vault.uids())
    assert same_voice(ward.holds()["4711"], with_door(1))
    print(f"enrolled at the desk, held at the ward after {took_s:.1f} s")
    site.until(lambda: site.screen().well)
    told = json.loads(site.ostiary("fleet", "status", "--json", *site.database, fails=True))
    assert told["state"]["converged"] == 2
    # One door is away when she asks to be forgotten, and owes its receipt until it is back.
    site.uplinks[1].kill()
    site.fleet("forget", "4711")
    site.until(lambda: {unit for unit, _, _ in site.screen().owing} == {"st-mary/ward"}, without=1)
    assert desk.store.vault.uids() == ()
    site.uplinks[1].start()
    site.until(lambda: ward.store.vault.uids() == ())
    site.until(lambda: not site.screen().owing)
