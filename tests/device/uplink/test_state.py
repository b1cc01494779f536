"""The uplink says beside the audit log how it is, and `ostiary doctor` shows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from device.commands.installed import doctor
from device.errors import DeviceError
from device.uplink.renewal import Reminder
from device.uplink.state import NAME, StateFile, UplinkState, certificate_trouble, read
from sync.transport.connecting import Validity


def test_it_is_written_when_something_changes_and_only_then(tmp_path: Path) -> None:
    now_ms = iter((1_000, 2_000, 3_000))
    file = StateFile(tmp_path / NAME, lambda: next(now_ms))
    for _ in range(5):
        file.tell(False, "connection\nrefused")
    assert read(tmp_path / NAME) == UplinkState(False, 1_000, "connection refused")
    file.tell(True)
    file.tell(True, "of before")
    assert read(tmp_path / NAME) == UplinkState(True, 2_000)


def test_a_folder_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    StateFile(tmp_path / "gone" / NAME, lambda: 1).tell(True)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"connected": 1, "since_ms": 1, "trouble": ""}', b"[" * 5000,
     b'{"connected": true, "since_ms": -1, "trouble": ""}',
     b'{"connected": true, "since_ms": 1, "trouble": []}',
     b'{"connected": true, "since_ms": 1, "trouble": "", "certificate_until_ms": "soon"}',
     b'{"connected": true, "since_ms": 1, "trouble": "", "certificate_until_ms": -1}'],
)  # fmt: skip
def test_a_damaged_file_is_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DeviceError, match="damaged"):
        read(tmp_path / NAME)


def test_doctor_names_why_the_uplink_cannot_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    found = {one.what: one for one in doctor.examine()}["uplink"]
    assert found.well
    assert "none has run" in found.detail
    (tmp_path / "audit").mkdir(exist_ok=True)
    StateFile(tmp_path / "audit" / NAME, lambda: 0).tell(False, "certificate has expired")
    found = {one.what: one for one in doctor.examine()}["uplink"]
    assert not found.well
    assert found.detail == "not connected since 1970-01-01T00:00:00+00:00: certificate has expired"
    assert "uplink.conf" in found.fix
    told = CliRunner().invoke(doctor.doctor, ["--json", "--offline"])
    assert not {"uplink", "board"} & {one["what"] for one in json.loads(told.stdout)}  # no slot's fault


def test_doctor_reminds_of_a_certificate_that_ends_while_the_uplink_is_still_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    (tmp_path / "audit").mkdir()
    file, now = StateFile(tmp_path / "audit" / NAME, lambda: 0), datetime.now(UTC)
    for days, well, said in ((60, True, "connected"), (5.1, False, "ends in 5 days"), (-2, False, "ran out")):
        file.tell(True, certificate_until_ms=int((now + timedelta(days=days)).timestamp() * 1000))
        found = {one.what: one for one in doctor.examine()}["uplink"]
        assert found.well is well
        assert said in found.detail
    (tmp_path / "audit" / NAME).write_bytes(b'{"connected": true, "since_ms": 1, "trouble": ""}')
    assert {one.what: one for one in doctor.examine()}["uplink"].well, "of an uplink of before"


def test_the_door_hears_of_the_uplinks_certificate_and_of_nothing_else(tmp_path: Path) -> None:
    path, now = tmp_path / NAME, datetime.now(UTC)
    assert certificate_trouble(path, now) == ""
    path.write_bytes(b"{")
    assert certificate_trouble(path, now) == ""
    until_ms = int((now + timedelta(days=3, hours=1)).timestamp() * 1000)
    StateFile(path, lambda: 0).tell(False, "no broker", until_ms)
    assert "ends in 3 days" in certificate_trouble(path, now)


def test_the_uplink_reminds_of_its_certificate_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    now = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
    validity, reminder = Validity(now - timedelta(days=80), now + timedelta(days=10)), Reminder()
    assert reminder.due(0.0)
    assert not reminder.due(30.0)
    assert reminder.due(60.0)
    said = [bool(reminder.look(validity, now + timedelta(hours=hours))) for hours in range(0, 96, 6)]
    assert said == [hours % 24 == 0 for hours in range(0, 96, 6)]
    assert "ends in 10 days" in caplog.text
    assert reminder.until_ms == int(validity.ends.timestamp() * 1000)
    assert reminder.look(Validity(now, now + timedelta(days=90)), now) == ""
    assert reminder.look(None, now) == ""
    assert reminder.until_ms == 0
