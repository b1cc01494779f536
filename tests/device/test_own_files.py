"""A file of the program that is damaged ends in one line that says what to do, and in no verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import device
from device.errors import DeviceError
from device.own_files import own_file
from tests.waiting import PATIENCE_S

PROGRAM = Path(device.__file__).parent
WEIGHTS = [
    "evidence/conditions.toml",
    "inspection/edits.npz",
    "inspection/weights.toml",
    "liveness/joins.npz",
    "liveness/weights.toml",
    "models/spoof/prints.npz",
    "evidence/wordlists/challenge.txt",
    "evidence/wordlists/seldom.txt",
]
ASKS = {
    "evidence/wordlists/challenge.txt": "from device.evidence.wordlists import challenge_words as ask; ask()",
    "evidence/wordlists/seldom.txt": "from device.evidence.wordlists import seldom_words as ask; ask()",
}
JUDGES = (
    "from device.evidence import conditioned; "
    "from device.models.spoof import prints; from device.inspection import places; "
    "from device.liveness import joins, weights; conditioned.shipped(); places.shipped_edits(); "
    "joins.shipped_network(); weights.shipped(); prints.shipped()"
)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("harm", ["gone", "empty", "cut", "other bytes"])
def test_a_damaged_file_of_the_program_is_named_with_what_to_do(tmp_path: Path, name: str, harm: str) -> None:
    shutil.copytree(PROGRAM, tmp_path / "device", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "device" / name
    whole = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 3], "other bytes": b"\xff" * 500}[harm])
    asked = ASKS.get(name, JUDGES)
    ran = subprocess.run(
        [sys.executable, "-c", f"import device; {asked}"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert ran.returncode == 1
    assert "install this version again" in last, ran.stderr
    assert Path(name).name in last, last


def test_whatever_a_reader_stumbles_over_is_said_with_the_files_name() -> None:
    def stumbles(data: bytes) -> object:
        return {}["version"]

    with pytest.raises(DeviceError, match=r"device/liveness/weights\.toml.*install this version again"):
        own_file("device.liveness", "weights.toml", stumbles)
