"""A unit that loses disk, TPM, memory, random numbers or processor time: locked, says so, serves again."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss.constants import TPM2_SU

from device.secure_store.hardware.swtpm import SwTpm
from device.settings import models_dir
from tests.bad_world.world import JUDGED, OSTIARY, PATIENCE_S, Door
from tests.device.secure_store.lockout import lock_by_wrong_passwords
from tests.speech import Reading, require_tools

pytestmark = pytest.mark.e2e

WAIT_S = 2


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


@pytest.mark.parametrize("how", ["full", "read_only"])
def test_a_unit_whose_disk_takes_nothing_at_the_start_says_what_to_do_and_writes_it_down_afterwards(
    disk: Path, environment: dict[str, str], tmp_path: Path, reader: list[Reading], how: str
) -> None:
    memory = tmp_path / "run"
    memory.mkdir()
    environment |= {"OSTIARY_STATE_DIR": str(disk / "state"), "OSTIARY_RUNTIME_DIR": str(memory)}
    enrolled(environment, reader)
    attempt = [*OSTIARY, "run", "--claim", "4711", "--source", str(reader[4].path)]
    fill = disk / "fill"
    if how == "full":
        with suppress(OSError), fill.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for _ in range(2):
        told = refused(attempt, environment)
        assert told.startswith("ostiary: ")
        assert "nothing is lost" in told
    doctor = subprocess.run(
        [*OSTIARY, "doctor"], env=environment, capture_output=True, text=True, check=False
    )
    assert doctor.returncode == 1, doctor.stdout
    assert "Traceback" not in doctor.stderr
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    fill.unlink(missing_ok=True)
    assert served(attempt, environment).count(f"FAULT disk_{how}") == 1
    assert served(attempt, environment).count(f"FAULT disk_{how}") == 1  # told once


def power_up(tpm: SwTpm) -> None:
    """As a board does: its kernel starts the TPM, whatever becomes of the unit."""
    tpm.reboot()
    with suppress(TSS2_Exception), ESAPI(tpm.tcti) as esapi:
        esapi.startup(TPM2_SU.CLEAR)


def test_a_disk_that_was_read_only_until_the_power_went_is_in_the_log_at_the_next_good_start(
    disk: Path, environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    """What the unit noted in memory is gone with the power; the TPM has counted the starts all the same."""
    memory = tmp_path / "run"
    memory.mkdir()
    with SwTpm(tmp_path / "tpm") as tpm:
        config = tmp_path / "ostiary.toml"
        config.write_text(f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{tpm.tcti}"\n')
        environment |= {
            "OSTIARY_STATE_DIR": str(disk / "state"),
            "OSTIARY_RUNTIME_DIR": str(memory),
            "OSTIARY_CONFIG": str(config),
        }
        enrolled(environment, reader)
        attempt = [*OSTIARY, "run", "--claim", "4711", "--source", str(reader[4].path)]
        assert "FAULT" not in served(attempt, environment)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for _ in range(2):
            power_up(tpm)
            assert refused(attempt, environment).startswith("ostiary: ")
            for note in memory.iterdir():
                note.unlink()
        power_up(tpm)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert served(attempt, environment).count("FAULT unrecorded_starts") == 1
        power_up(tpm)
        assert served(attempt, environment).count("FAULT unrecorded_starts") == 1  # told once


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


def tpm_unit(environment: dict[str, str], tmp_path: Path, tpm: SwTpm, reader: list[Reading]) -> list[str]:
    """A unit whose keys are in `tpm`, with somebody enrolled; the command for one attempt at it."""
    config = tmp_path / "ostiary.toml"
    config.write_text(f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{tpm.tcti}"\n')
    environment["OSTIARY_CONFIG"] = str(config)
    enrolled(environment, reader)
    return [*OSTIARY, "run", "--claim", "4711", "--source", str(reader[4].path)]


def refused(attempt: list[str], environment: dict[str, str]) -> str:
    """The one line with which the unit does not start."""
    ended = subprocess.run(
        attempt, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 3
    assert "released" not in ended.stdout
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def served(attempt: list[str], environment: dict[str, str]) -> list[str]:
    """The `KIND reason` of the log's events, oldest first, after an attempt at a unit that does start."""
    subprocess.run(attempt, env=environment, check=True, capture_output=True, timeout=PATIENCE_S)
    recent = [*OSTIARY, "policy", "recent", "--json", "--count", "60"]
    told = subprocess.run(recent, env=environment, check=True, capture_output=True, text=True)
    events = json.loads(told.stdout[told.stdout.index("[") :])
    return [f"{one['kind']} {one['reason']}" for one in reversed(events)]


def test_a_tpm_that_is_missing_or_another_one_at_the_start_is_in_the_log_once_the_unit_starts(
    environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    with SwTpm(tmp_path / "tpm") as own:
        attempt = tpm_unit(environment, tmp_path, own, reader)
        before = served(attempt, environment)
        own.power_cut()
        assert "no TPM answers" in refused(attempt, environment)
        assert "no TPM answers" in refused(attempt, environment)
        other = SwTpm(tmp_path / "other")
        other.port = own.port  # seated in its place
        with other:
            assert "another unit" in refused(attempt, environment)
        own.start()
        assert served(attempt, environment)[len(before) :] == [
            "BOOT started",
            "FAULT tpm_fault",
            "FAULT tpm_refused",
            "DENIED_REPLAY heard_before",
            "SHUTDOWN stopped",
        ]
        assert not {"FAULT tpm_fault", "FAULT tpm_refused"} & set(before)


def test_a_tpm_that_others_locked_is_an_event_and_the_door_serves_on(
    environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    with SwTpm(tmp_path / "tpm") as tpm:
        attempt = tpm_unit(environment, tmp_path, tpm, reader)
        assert "FAULT tpm_locked" not in served(attempt, environment)
        lock_by_wrong_passwords(tpm)
        found = served(attempt, environment)
        assert "FAULT tpm_locked" in found
        assert "DENIED_REPLAY heard_before" in found
        doctor = [*OSTIARY, "doctor", "--json"]
        told = subprocess.run(
            doctor, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        (looked,) = [one for one in json.loads(told.stdout) if one["what"] == "key store"]
        assert not looked["well"]
        assert "clear-lockout" in looked["fix"]


def test_a_unit_that_gets_no_more_memory_stays_locked_and_serves_again_when_it_does(
    environment: dict[str, str], reader: list[Reading]
) -> None:
    with Door(enrolled(environment, reader), "--source", reader[4].path) as unit:
        unit.shows("Show your badge")
        unit.badge()
        unit.shows("DENIED_PHRASE")
        whole, unlimited = f"/proc/{unit.pid}/status", resource.RLIM_INFINITY
        used_kb = re.search(r"VmSize:\s+(\d+)", Path(whole).read_text())
        assert used_kb is not None
        resource.prlimit(unit.pid, resource.RLIMIT_AS, (1024 * int(used_kb[1]), unlimited))
        unit.badge()
        unit.shows("DENIED_FAULT")
        resource.prlimit(unit.pid, resource.RLIMIT_AS, (unlimited, unlimited))
        unit.badge()
        unit.shows(JUDGED)
        assert "released" not in unit.told


def test_a_boot_without_random_numbers_waits_for_them_and_then_serves(
    environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    """As the kernel makes a process that asks wait until it has gathered some: here through strace."""
    require_tools(("strace",), "strace")
    enrolled(environment, reader)
    waits, trace, began_s = 3, tmp_path / "trace", time.monotonic()
    late = f"inject=getrandom:delay_enter={WAIT_S * 1_000_000}:when=1..{waits}"
    tracer = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(trace),
        "-e",
        "trace=getrandom",
        "-e",
        "signal=none",
        "-e",
        late,
    ]
    with Door(environment, "--source", reader[4].path, through=tracer) as unit:
        unit.shows("Show your badge")
        assert time.monotonic() - began_s > WAIT_S * waits
        unit.badge()
        unit.shows("DENIED_PHRASE")
        unit.end()
    assert trace.read_text().count("(DELAYED)") >= waits


@contextmanager
def throttled(pid: int) -> Iterator[None]:
    """The process gets a hundredth of the time, as on a board that saves itself from heat, and worse."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.5)
            os.kill(pid, signal.SIGCONT)
            over.wait(0.005)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        over.set()
        holder.join()


def test_a_board_that_throttles_refuses_what_it_cannot_judge_in_time_and_serves_when_it_is_cool(
    environment: dict[str, str], tmp_path: Path, reader: list[Reading]
) -> None:
    config = tmp_path / "ostiary.toml"
    config.write_text('[store]\nprofile = "laptop"\nkeystore = "software"\n[judge]\ntimeout_s = 6.0\n')
    environment["OSTIARY_CONFIG"] = str(config)
    with Door(enrolled(environment, reader), "--source", reader[4].path) as unit:
        unit.shows("Show your badge")
        with throttled(unit.pid):
            unit.badge()
            unit.shows("DENIED_FAULT: .*no judgement within 6 s")
        unit.badge()
        unit.shows(JUDGED)
        unit.end()
