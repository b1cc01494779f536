"""Clocks that lie, disks that fill, files of the wrong owner."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.bad_world.world import JUDGED, PERSON, Ended, NotCheckedError, World, fill, small_disk, unmount
from tests.waiting import wait_until

HOURS = """\
version = {version}
[risks.standard]
factors = ["claim", "voice"]
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "standard"
[schedules.day]
from = "{begins}"
to = "{ends}"
[[allow]]
roles = ["enrolled"]
{schedule}
[people.4711]
badges = ["4711"]
"""


def clock_in_the_future(world: World) -> Ended:
    """one start with a clock of 2045"""
    unit = world.unit("future")
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.end()
    with unit.at("2045-01-01 12:00:00").door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        saw = door.shows("stays locked")
        door.end()
    assert unit.people() == [PERSON], "nobody is erased at one look"
    assert "CLOCK_SET clock_fault" in unit.events()
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        door.shows(JUDGED)  # judged again, as an enrolled person
        door.end()
    return Ended(saw, "CLOCK_SET clock_fault", "with the right time the person is judged as before")


def clock_of_1970(world: World) -> Ended:
    """a board without a battery starts in 1970"""
    unit = world.unit("past")
    hours = HOURS.format(version=1, begins="00:00", ends="23:59", schedule='schedule = "day"')
    assert unit.adopts(hours).code == 0
    with unit.at("1970-01-01 12:00:00").door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        saw = door.shows("stays locked|clock|time")
        door.shows("DENIED_|stays locked")
        door.end()
    events = unit.events()
    told = [event for event in events if "clock" in event]
    assert told, events
    assert not any(event.startswith("GRANTED") for event in events)
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        door.shows("DENIED_(PHRASE|VOICE)|released|opens")
    return Ended(saw, ", ".join(sorted(set(told))), "with the right time the hours count again")


def times_with_a_zone(world: World) -> Ended:
    """rules whose hours carry a zone"""
    unit = world.unit("zones")
    refused = []
    for begins, ends in (("06:30Z", "22:00Z"), ("06:30+02:00", "22:00"), ("06:30-00:00", "22:00")):
        ran = unit.adopts(HOURS.format(version=1, begins=begins, ends=ends, schedule='schedule = "day"'))
        assert ran.code != 0, ran.said
        assert "without a zone" in ran.said
        refused.append(ran.said)
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        door.shows(JUDGED)
        door.end()
    return Ended(
        "nothing: the admin got a line for each time", "nothing", "the rules of before stay in force"
    )


def full_disk(world: World) -> Ended:
    """not one byte is free"""
    disk = small_disk(world.folder / "full", 64)
    try:
        unit = world.unit("full-unit", state=disk / "state")
        with unit.door("--source", world.sentence) as door:
            door.shows("Show your badge")
            ballast = fill(disk)
            door.badge()
            saw = door.shows("stays locked")
            # Every command says what an operator can do, and none calls for the vault's destruction.
            for command in (("store", "status"), ("doctor",), ("policy", "recent"), ("people",)):
                unit.does(*command)
            refused = unit.does("enroll", "4712", *(world.reader[n].path for n in (0, 2, 3)))
            assert refused.code != 0
            wait_until(lambda: "One moment" not in unit.page)
            assert door.lives
            ballast.unlink()
            door.badge()
            door.shows(JUDGED)
            door.end()
        assert unit.people() == [PERSON]
        log = [event for event in unit.events() if "fault" in event or "disk" in event or "log" in event]
        return Ended(saw, ", ".join(sorted(set(log))) or "counted as overflow", "by itself, with room again")
    finally:
        unmount(disk)


def disk_nearly_full(world: World) -> Ended:
    """10 MB are free, and then none"""
    disk = small_disk(world.folder / "near", 24)
    try:
        unit = world.unit("near-unit", state=disk / "state")
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * max(0, shutil.disk_usage(disk).free - (10 << 20)))
        with unit.door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.badge()
            saw = door.shows("stays locked|out of service")
            assert door.lives, door.told
            wait_until(lambda: "One moment" not in unit.page)
            told = unit.does("doctor").said
            assert "MiB free" in told, told
            ballast.unlink()
            door.badge()
            door.shows(JUDGED)
            door.end()
        return Ended(saw, "doctor: disk, WRONG", "by itself, with room again")
    finally:
        unmount(disk)


def command_of_root(world: World) -> Ended:
    """somebody runs a command as root in the unit's folder"""
    if os.geteuid() != 0:
        raise NotCheckedError("only root can try what root leaves")
    unit = world.unit("root")
    for path in (unit.state, *unit.state.rglob("*")):
        shutil.chown(path, 65534, 65534)
    refused = unit.does("enroll", "4712", *(world.reader[n].path for n in (0, 2, 3)))
    assert refused.code == 3, refused.said
    unit.does("store", "status")
    left = [path for path in unit.state.rglob("*") if path.stat().st_uid == 0]
    assert left == [], left
    line = refused.said.strip().splitlines()[-1]
    return Ended(f"the admin: {line}", "nothing", "nothing of root's is left, so the unit starts")


def home_that_is_a_tilde(world: World) -> Ended:
    """`OSTIARY_STATE_DIR` begins with a tilde"""
    unit = world.unit("tilde")
    home = unit.folder / "home"
    shutil.copytree(unit.state, home / "kept")
    tilde = unit.with_(HOME=str(home), OSTIARY_STATE_DIR="~/kept")
    assert tilde.people() == [PERSON]
    assert not Path("~").exists()
    nobody = tilde.with_(HOME="", OSTIARY_STATE_DIR="~no-such-user/x").does("people")
    assert nobody.code != 0
    return Ended("nothing", "nothing", "it is the home folder, as in a shell")


SCENARIOS = (
    *(clock_in_the_future, clock_of_1970, times_with_a_zone, full_disk, disk_nearly_full),
    *(command_of_root, home_that_is_a_tilde),
)
