"""A machine that lacks what every other has: shared memory, a home, a folder for what passes, systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from device.settings import models_dir
from tests.bad_world.sounds_and_badges import PATIENT, TONES, after_the_tone, answered
from tests.bad_world.world import (
    JUDGED,
    OSTIARY,
    PERSON,
    Door,
    Ended,
    NotCheckedError,
    Unit,
    World,
    fill,
    small_disk,
    unmount,
)

NOBODY = 65534
FULL = "mount -t tmpfs -o size=4k none /dev/shm && cat /dev/zero >/dev/shm/ballast 2>&- || true"

NEARLY_FULL = "mount -t tmpfs -o size=512k none /dev/shm && head -c 458752 /dev/zero >/dev/shm/ballast"
"""64 kB are left: JACK's library would begin a database there and be killed in the middle (SIGBUS)."""
NOT_THERE = "mount -t tmpfs -o ro,size=4k,mode=000 none /dev/shm"
COMMANDS = (
    *(("people",), ("store", "status"), ("doctor",), ("policy", "recent")),
    *(("config", "show"), ("readers", "watch"), ("store", "purge")),
)


def behind(*mounts: str) -> list[str]:
    """A command that runs what follows where these mounts were made, seen by nobody else."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        raise NotCheckedError("only root can mount for one process")
    script = " && ".join((*mounts, 'exec "$@"'))
    tried = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*tried, "true"], check=False, capture_output=True).returncode:
        raise NotCheckedError("this machine lets nobody mount for one process")
    return tried


def judged(world: World, unit: Unit, through: Sequence[str]) -> str:
    """An answer at a door that runs `through` a command."""
    with Door(unit.environment, "--source", world.sentence, through=through) as door:
        door.shows("Show your badge")
        door.badge()
        saw = door.shows(JUDGED)
        door.end()
    return saw


def no_shared_memory(world: World) -> Ended:
    """/dev/shm is full, or not there"""
    for name, mount in (
        ("shm-full", FULL),
        ("shm-none", NOT_THERE),
    ):
        saw = judged(world, world.unit(name), behind(mount))
    return Ended(saw, "nothing", "nothing to recover from: judged as ever")


def home_that_cannot_be_read(world: World) -> Ended:
    """the unit's user has a home that it may not enter, or one that is not there"""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise NotCheckedError("only root can run as another user")
    world.folder.chmod(0o755)
    models = world.folder / "models"  # in the folders of the user who built them nobody else may look
    shutil.copytree(models_dir(), models)
    told = ""
    for name, home in (("home-closed", "closed"), ("home-gone", "gone")):
        unit = world.unit(name)
        closed = unit.folder / "closed"
        closed.mkdir(mode=0o700)
        for path in (unit.folder, unit.folder / "page", unit.state, *unit.state.rglob("*")):
            shutil.chown(path, NOBODY, NOBODY)
        given = unit.with_(HOME=str(unit.folder / home), OSTIARY_MODELS_DIR=str(models))
        given.environment.pop("XDG_RUNTIME_DIR", None)
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        program = [*other, sys.executable, "-c", "import device.cli"]
        if subprocess.run(program, env=given.environment, capture_output=True, check=False).returncode:
            raise NotCheckedError("another user may not read this program where it lies")
        with Door(given.environment, "--source", world.sentence, through=other) as door:
            door.shows("Show your badge")
            door.badge()
            told = door.shows(JUDGED)
            door.end()
        for command in (("people",), ("store", "status"), ("doctor",), ("policy", "recent")):
            ran = subprocess.run(
                [*other, *OSTIARY, *command],
                env=given.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "Traceback" not in ran.stderr, ran.stderr
            assert command == ("doctor",) or ran.returncode == 0, ran.stderr
    return Ended(told, "nothing", "nothing to recover from: state and settings lie elsewhere")


def no_systemd(world: World) -> Ended:
    """somebody starts the services by hand, or the socket of systemd has gone"""
    unit = world.unit("by-hand")
    gone = str(unit.folder / "no-such-socket")
    for changes in ({}, {"NOTIFY_SOCKET": gone, "WATCHDOG_USEC": "30000000", "JOURNAL_STREAM": "1:2"}):
        with unit.with_(**changes).door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.badge()
            saw = door.shows(JUDGED)
            door.end()
    assert PERSON in unit.people()
    return Ended(saw, "nothing", "nothing to recover from")


def no_shared_memory_at_a_microphone(world: World) -> Ended:
    """/dev/shm is not there, or full, where a sound server would share it with the microphone's process"""
    for name, mount in (
        ("shm-microphone-none", NOT_THERE),
        ("shm-microphone-full", FULL),
        ("shm-microphone-nearly", NEARLY_FULL),
    ):
        unit = world.unit(name, TONES + PATIENT.format(60.0))
        with Door(unit.environment, through=behind(mount)) as door:
            door.shows("Show your badge")
            saw = answered(world, door, after_the_tone(world, unit))
            door.end()
        assert not [event for event in unit.events() if "audio" in event], f"{unit.events()}\n{door.told}"
    assert "WRONG  shared memory: only 0 MiB free" in examined(unit, FULL)
    assert "well   shared memory: there is none" in examined(unit, NOT_THERE)
    return Ended(saw, "nothing", "heard and judged as ever; doctor names it")


def examined(unit: Unit, mount: str) -> str:
    command = [*behind(mount), *OSTIARY, "doctor"]
    return subprocess.run(command, env=unit.environment, capture_output=True, text=True, check=False).stdout


def no_room_for_what_passes(world: World) -> Ended:
    """the folder of temporary files is full, is not there, or may not be written"""
    disk = small_disk(world.folder / "passing", 1)
    try:
        fill(disk)
        unit = world.unit("passing-unit")
        (unit.folder / "file").write_text("")
        for place in (disk, unit.folder / "gone", unit.folder / "file"):
            tried = unit.with_(TMPDIR=str(place), TMP=str(place), TEMP=str(place))
            for command in (("people",), ("store", "status"), ("policy", "recent")):
                assert tried.does(*command).code == 0, command
            with tried.door("--source", world.sentence) as door:
                door.shows("Show your badge")
                door.badge()
                saw = door.shows(JUDGED)
                door.end()
    finally:
        unmount(disk)
    return Ended(saw, "nothing", "nothing to recover from: nothing that counts is kept there")


def no_systemd_for_any_command(world: World) -> Ended:
    """every other command by hand, with the socket of systemd gone, and without a variable of any session"""
    unit = world.unit("any-by-hand")
    gone = {"NOTIFY_SOCKET": str(unit.folder / "gone"), "WATCHDOG_USEC": "1", "JOURNAL_STREAM": "1:2"}
    given = {name: value for name, value in unit.environment.items() if name.startswith(("OSTIARY", "PATH"))}
    for environment in ({**unit.environment, **gone}, given):
        tried = Unit(unit.folder, environment)
        for command in COMMANDS:
            ran = tried.does(*command)
            assert ran.code in (0, 1), (command, ran.said)
        ran = tried.does("enroll", "4712", *(world.reader[n].path for n in (0, 2, 3)))
        assert ran.code == 0, ran.said
        assert tried.does("forget", "4712").code == 0
    return Ended("each command did what it does", "nothing", "nothing to recover from")


SCENARIOS = (
    *(no_shared_memory, no_shared_memory_at_a_microphone, no_room_for_what_passes),
    *(home_that_cannot_be_read, no_systemd, no_systemd_for_any_command),
)
