"""The uplink says beside the audit log how it is, and `ostiary doctor` shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from device.commands import doctor
from device.errors import DeviceError
from device.uplink.state import NAME, StateFile, UplinkState, read


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
     b'{"connected": true, "since_ms": 1, "trouble": []}'],
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
    assert "uplink" not in [one["what"] for one in json.loads(told.stdout)]
