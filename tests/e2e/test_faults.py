"""A unit on a disk that cannot be written, or whose TPM goes away: locked, says so, and serves again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from tests.bad_world.world import OSTIARY, PATIENCE_S, Door
from tests.speech import Reading

pytestmark = pytest.mark.e2e


def enrolled(environment: dict[str, str], reader: list[Reading]) -> dict[str, str]:
    recordings = [str(reader[n].path) for n in (0, 2, 3)]
    subprocess.run(
        [*OSTIARY, "enroll", "4711", *recordings], env=environment, check=True, capture_output=True
    )
    return environment


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, which can be filled and made read-only."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    found = {**os.environ, "OSTIARY_MODELS_DIR": str(models_dir().absolute()), "OSTIARY_CONFIG": ""}
    found["OSTIARY_STATE_DIR"] = str(tmp_path / "state")
    return found


def test_a_unit_on_a_disk_that_cannot_be_written_does_not_start_and_says_so_in_one_line(
    disk: Path, environment: dict[str, str], reader: list[Reading]
) -> None:
    environment["OSTIARY_STATE_DIR"] = str(disk / "state")
    enrolled(environment, reader)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    attempt = [*OSTIARY, "run", "--claim", "4711", "--source", str(reader[4].path)]
    refused = subprocess.run(
        attempt, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert refused.returncode == 3
    assert "released" not in refused.stdout
    assert refused.stderr.splitlines()[-1].startswith("ostiary: ")
    assert "Traceback" not in refused.stderr
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    subprocess.run(attempt, env=environment, check=True, capture_output=True, timeout=PATIENCE_S)


def test_a_tpm_that_goes_away_locks_the_door_and_one_that_comes_back_serves_without_a_restart(
    environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    with SwTpm(tmp_path / "tpm") as tpm:
        config = tmp_path / "ostiary.toml"
        config.write_text(f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{tpm.tcti}"\n')
        environment["OSTIARY_CONFIG"] = str(config)
        unit = Door(enrolled(environment, reader), "--source", reader[4].path)
        unit.shows("Show your badge")
        tpm.power_cut()
        unit.badge()
        unit.shows("stays locked")
        tpm.start()
        unit.badge()
        unit.shows("DENIED_PHRASE")
        unit.end()
