"""The whole appliance behind a controller: `ostiary run` in a process, libosdp's controller in another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import osdp_sys
import pytest

from device.door.osdp.peripheral import VENDOR
from device.settings import models_dir
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.wire import Wire
from tests.speech import Reading

pytestmark = pytest.mark.e2e


def test_the_controller_asks_a_running_unit_and_gets_its_verdict(
    tmp_path: Path, reader: list[Reading]
) -> None:
    ostiary = [sys.executable, "-c", "from device.cli import main; main()"]
    with Wire() as wire:
        settings = tmp_path / "ostiary.toml"
        settings.write_text(
            "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"
            f"[door]\nkind = 'osdp'\n[door.osdp]\nport = '{wire.reader}'\nmode = 'claim-from-panel'\n"
            f"[feedback]\npage = '{tmp_path / 'door.html'}'\n"
        )
        environment = {
            **os.environ,
            "OSTIARY_STATE_DIR": str(tmp_path / "state"),
            "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
            "OSTIARY_CONFIG": str(settings),
        }
        made = subprocess.run(
            [*ostiary, "door", "osdp-key"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )
        unit = subprocess.Popen(
            [*ostiary, "run", "--source", str(reader[1].path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # A controller whose first handshakes fail waits for minutes: it is switched on after the unit.
            wait_for(lambda: (tmp_path / "door.html").exists(), 120.0)
            with PanelProcess.libosdp(wire.panel, bytes.fromhex(made.stdout.strip())) as controller:
                wait_for(lambda: any(told["secure"] for told in controller.of("status")))
                for number, asked in enumerate((b"\x014711", b"\x01;47?"), start=1):
                    controller.order(command=osdp_sys.CMD_MFG, vendor_code=VENDOR, data=asked.hex())
                    wait_for(lambda n=number: len(controller.of("event")) == n)  # type: ignore[misc]
                replies = [bytes.fromhex(told["data"]) for told in controller.of("event")]
        finally:
            unit.terminate()
            unit.wait(180)
    assert [reply[:2] for reply in replies] == [b"\x81\x00"] * 2
    assert replies[1] == b"\x81\x00DENIED_UNKNOWN"
