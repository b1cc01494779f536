"""Simulated units and `ostiary registry` as a person runs them, and an auditor after them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.secure_store.software import SoftwareKeystore
from device.state_folder import StateFolder
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.outbox import Outbox
from tests.sync.parts import DOORS, Clock, event
from tests.sync.services import NOW, Mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    authority = Authority.open(tmp_path / "pki", NOW)
    broker = Mosquitto(tmp_path, authority, default=False)
    broker.start()
    files = authority.issue("worker-1", NOW)
    key = tmp_path / "receipts.key"
    (tmp_path / "receipts.pem").write_bytes(FileSigner.load_or_create(key).public_pem())
    database = ["--database", f"sqlite:///{tmp_path}/r.db"]
    subprocess.run([*OSTIARY, "registry", "create", *database], check=True)
    command = [*OSTIARY, "registry", "worker", *database]
    command += ["--broker", f"127.0.0.1:{broker.port}", "--signing-key", str(key)]
    command += ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
    worker = subprocess.Popen(command)
    yield tmp_path, broker.port
    worker.terminate()
    assert worker.wait(180) == 0
    broker.remove()


def test_simulated_units_arrive_and_their_export_verifies(registry: tuple[Path, int]) -> None:
    folder, port = registry
    database = ["--database", f"sqlite:///{folder}/r.db"]
    command = [sys.executable, "-m", "bench.units.simulate", "--units", "20", "--rate", "100"]
    command += ["--seconds", "3", "--json"]
    command += ["--broker", f"127.0.0.1:{port}", "--authority", str(folder / "pki")]
    command += ["--registry-key", str(folder / "receipts.pem"), *database]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (report["connected"], report["acknowledged"], report["refused"]) == (20, report["events"], 0)
    units = [*OSTIARY, "registry", "units", "--json", *database]
    rows = [json.loads(line) for line in subprocess.check_output(units, text=True).splitlines()]
    assert sum(row["size"] for row in rows) == report["events"]
    bundle = folder / "unit.bundle"
    export = [*OSTIARY, "registry", "export", "--form", "bundle", "--unit", "sim-0/unit-3"]
    subprocess.run([*export, "-o", str(bundle), *database], check=True)
    assert subprocess.run([*OSTIARY, "audit", "verify", str(bundle)], check=False).returncode == 0
    alarms = subprocess.run([*OSTIARY, "registry", "alarms", *database], check=False)
    assert alarms.returncode == 0


def test_a_unit_with_its_own_key_store_sends_its_log(
    registry: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, port = registry
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(folder / "state"))
    database = ["--database", f"sqlite:///{folder}/r.db"]
    store = StateFolder(folder / "state").store
    store.mkdir(parents=True)
    SoftwareKeystore(store / "software").close()
    unit, key = "site-1/unit-1", folder / "unit.pem"
    key.write_bytes(
        subprocess.run([*OSTIARY, "store", "audit-key"], check=True, stdout=subprocess.PIPE).stdout
    )
    subprocess.run([*OSTIARY, "registry", "register", unit, "--key", str(key), *database], check=True)
    with Outbox(folder / "state/audit/outbox.db", unit=unit, doors=DOORS, now_ms=Clock()) as outbox:
        for number in range(7):
            outbox.append(event(number))
    files = Authority.open(folder / "pki", NOW).issue(unit, NOW)
    command = [*OSTIARY, "sync", "--once", "--broker", f"127.0.0.1:{port}", "--ca", str(files.ca)]
    command += ["--cert", str(files.certificate), "--key", str(files.key)]
    subprocess.run([*command, "--registry-key", str(folder / "receipts.pem")], check=True, timeout=180)
    bundle = folder / "unit.bundle"
    export = [*OSTIARY, "registry", "export", "--form", "bundle", "--unit", unit, "-o", str(bundle)]
    subprocess.run([*export, *database], check=True)
    verify = [*OSTIARY, "audit", "verify", str(bundle), "--key", str(key), "--unit", unit, "--json"]
    report = json.loads(subprocess.check_output(verify))
    assert (report["sound"], report["events"]) == (True, 7)
