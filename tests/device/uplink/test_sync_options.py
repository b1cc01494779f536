"""`ostiary sync`'s pace, as docs/scale.md advises it for a country."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.uplink.cli import sync
from device.uplink.state import read
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.outbox import Outbox
from tests.sync.parts import DOORS, UNIT, Clock, event
from tests.sync.services import NOW, free_port


def types(folder: Path, *more: str) -> Result:
    files = Authority.open(folder / "pki", NOW).issue(UNIT, NOW)
    (folder / "receipts.pem").write_bytes(FileSigner.generate().public_pem())
    words = ["--unit", UNIT, "--outbox", str(folder / "audit.db"), "--broker", f"localhost:{free_port()}"]
    words += ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
    words += ["--registry-key", str(folder / "receipts.pem"), "--audit-key", str(folder / "audit.key")]
    return CliRunner().invoke(sync, [*words, "--once", "--timeout", "0.5", *more])


def test_health_and_heads_can_be_made_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    nothing_to_send = types(tmp_path, "--health-every", "300", "--seal-every", "60")
    assert nothing_to_send.exit_code == 1, "no broker"
    assert "no broker was reached, so nothing was sent" in nothing_to_send.output
    with Outbox(tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock()) as outbox:
        outbox.append(event(1))
    assert types(tmp_path, "--health-every", "300", "--seal-every", "60").exit_code == 1, "no broker"
    told = read(tmp_path / "uplink.json")
    assert told is not None
    assert not told.connected
    assert "nothing listens there" in told.trouble
    for wrong in (["--health-every", "0"], ["--health-every", "7200"], ["--seal-every", "-1"]):
        assert types(tmp_path, *wrong).exit_code == 2
