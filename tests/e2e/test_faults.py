"""A unit while its disk or its TPM fails: the door stays locked, says so, and serves again afterwards."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from tests.speech import Reading

pytestmark = pytest.mark.e2e

OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
PATIENCE_S = 180.0


class Unit:
    """`ostiary run` that hears one sentence from a file at each badge."""

    def __init__(self, environment: dict[str, str], sentence: Path) -> None:
        self._process = subprocess.Popen(
            [*OSTIARY, "run", "--verbose", "--source", str(sentence)],
            env={**environment, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def shows(self, pattern: str) -> str:
        deadline_s = time.monotonic() + PATIENCE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self.seen.append(self._lines.get(timeout=left_s))
                if re.search(pattern, self.seen[-1]):
                    return self.seen[-1]
        raise AssertionError(f"no {pattern!r} in:\n{''.join(self.seen)}")

    def badge(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("4711\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.poll() is None, "".join(self.seen)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        told = "".join(self.seen)
        assert "released" not in told
        assert "Traceback" not in told, told


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


def fill(disk: Path) -> Path:
    """Write until there is no room for one more byte."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0")
    return ballast


def test_a_disk_that_is_full_locks_the_door_and_one_with_room_serves_again(
    disk: Path, environment: dict[str, str], reader: list[Reading]
) -> None:
    environment["OSTIARY_STATE_DIR"] = str(disk / "state")
    unit = Unit(enrolled(environment, reader), reader[4].path)
    unit.shows("Show your badge")
    ballast = fill(disk)
    unit.badge()
    unit.shows("stays locked")
    ballast.unlink()
    unit.badge()
    unit.shows("DENIED_PHRASE")
    unit.end()


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
        unit = Unit(enrolled(environment, reader), reader[4].path)
        unit.shows("Show your badge")
        tpm.power_cut()
        unit.badge()
        unit.shows("stays locked")
        tpm.start()
        unit.badge()
        unit.shows("DENIED_PHRASE")
        unit.end()
