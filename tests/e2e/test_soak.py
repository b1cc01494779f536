"""The first minutes of the soak: anybody who is refused leaves little on the disk, and no door opens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.e2e
def test_attempts_one_after_another_open_no_door_and_write_little() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.door.soak", "--attempts", "12", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found["attempts"] == 12
    assert found["doors opened (must be 0)"] == 0
    assert sum(count for name, count in found.items() if name.startswith("decisions: ")) == 12
    # A page of the log's file is written several times; a hundred of them would wear out a card.
    assert found["written per attempt, kB"] < 400
