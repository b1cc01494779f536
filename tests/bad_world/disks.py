"""Disks and file servers that fail in ways that a figure of free space does not show."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.bad_world.failing_disk import FailingDisk, Fails
from tests.bad_world.world import JUDGED, PERSON, Ended, NotCheckedError, Unit, World, unmount
from tests.waiting import wait_until

LATE = (
    ("a quota, at a new file", Fails.CREATE, errno.EDQUOT),
    ("a quota, at a write", Fails.WRITE, errno.EDQUOT),
    ("full, told at fsync", Fails.SYNC, errno.ENOSPC),
    ("full, told at close", Fails.CLOSE, errno.ENOSPC),
    ("a card that does not give what it holds", Fails.READ, errno.EIO),
    ("a file server that forgot the folder", Fails.READ | Fails.OPEN, errno.ESTALE),
)


def disk_that_fails_late(world: World) -> Ended:
    """a quota, a disk that is full only at fsync or close, a card or server that gives nothing back"""
    if shutil.which("cc") is None:
        raise NotCheckedError("no C compiler: apt install gcc")
    unit = world.unit("late")
    disk = FailingDisk(unit.folder, unit.state)
    sick = unit.with_(**disk.environment())
    with sick.door("--source", world.sentence) as door:
        for what, at, number in LATE:
            door.shows("Show your badge")
            disk.fail(at, number)
            door.badge()
            # What it has in memory it goes on to judge by, while the log can be written.
            saw = door.shows("DENIED_" if at & Fails.READ else "DENIED_FAULT|could not be written down")
            if at in (Fails.WRITE, Fails.SYNC):
                told = sick.does("doctor")
                assert "WRONG  disk: " in told.said, (what, told.said)
            for command in (("people",), ("policy", "recent"), ("policy", "check", world.sentence)):
                line = sick.does(*command).said
                assert "Errno" not in line, (what, line)
                assert "OSError" not in line, (what, line)
            wait_until(lambda: "One moment" not in unit.page)
            disk.fail(Fails.NOTHING)
            door.shows("Show your badge")
            door.badge()
            door.shows(JUDGED)
        door.end()
    assert unit.people() == [PERSON]
    events = unit.events()
    judged = [event for event in events if event.startswith(("DENIED_PHRASE", "DENIED_REPLAY"))]
    assert len(judged) >= len(LATE), events
    log = ", ".join(sorted({event for event in events if event.startswith("DENIED_FAULT")}))
    return Ended(saw, f"{log}, where the log could be written", "by itself, after each of the six")


@contextmanager
def card(folder: Path) -> Iterator[Path]:
    """A real ext4 of its own that becomes read-only at its first error, as a card that fails does."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise NotCheckedError("only root can mount a disk, with e2fsprogs")
    image, disk = folder / "card.img", folder / "card"
    disk.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount_card(image, disk)
    try:
        yield disk
    finally:
        unmount(disk)


def mount_card(image: Path, disk: Path) -> None:
    command = ["mount", "-o", "loop,errors=remount-ro", str(image), str(disk)]
    if subprocess.run(command, check=False).returncode:
        raise NotCheckedError("this machine lets nobody mount a disk from a file")


def fails_now(disk: Path) -> None:
    source = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(disk)], check=True, stdout=subprocess.PIPE, text=True
    )
    trigger = Path("/sys/fs/ext4") / Path(source.stdout.strip()).name / "trigger_fs_error"
    try:
        trigger.write_text("bad world")
    except OSError as err:
        raise NotCheckedError("this kernel lets nobody break an ext4") from err


def card_that_becomes_read_only(world: World) -> Ended:
    """the kernel makes a card read-only while the unit runs, as it does when one fails"""
    with card(world.folder / "dying") as disk:
        unit = world.unit("dying-unit", state=disk / "state")
        subprocess.run(["sync", "-f", str(disk)], check=True)  # what we copied there, as if written long ago
        with unit.door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.badge()
            door.shows(JUDGED)
            fails_now(disk)
            door.badge()
            saw = door.shows("Out of service")
            assert door.lives, door.told
            told = unit.does("doctor").said
            assert "WRONG  disk: " in told, told
            assert "only be read" in told, told
            for command in (("people",), ("policy", "recent")):
                unit.does(*command)  # none may call it damaged
            wait_until(lambda: "One moment" not in unit.page)
            door.terminate()
        unmount(disk)
        # A copy: a container of this machine that began meanwhile may hold the card's file system for longer.
        taken_out = shutil.copyfile(disk.with_name("card.img"), disk.with_name("taken-out.img"))
        subprocess.run(["fsck.ext4", "-p", str(taken_out)], check=False, capture_output=True)
        mount_card(taken_out, disk)
        assert unit.people() == [PERSON]
        assert "DENIED_PHRASE wrong_words" in unit.events(), unit.events()
        judged_again(unit, world)
    return Ended(saw, "nothing: the log cannot be written", "after a check of the card and a start")


def judged_again(unit: Unit, world: World) -> None:
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        door.shows(JUDGED)
        door.end()


def disk_without_inodes(world: World) -> Ended:
    """there is room, and no further file fits"""
    if os.geteuid() != 0:
        raise NotCheckedError("only root can mount a small disk")
    disk = world.folder / "inodes" / "disk"
    disk.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=200", "none", str(disk)], check=False
    )
    if mounted.returncode:
        raise NotCheckedError("this machine lets nobody mount a disk")
    try:
        unit = world.unit("inodes-unit", state=disk / "state")
        with unit.door("--source", world.sentence) as door:
            door.shows("Show your badge")
            fillers = disk / "fillers"
            fillers.mkdir()
            with suppress(OSError):
                for number in range(1000):
                    (fillers / str(number)).touch()
            door.badge()
            saw = door.shows("stays locked")
            told = unit.does("doctor").said
            assert "more files fit" in told, told
            for command in (("people",), ("policy", "recent")):
                unit.does(*command)
            refused = unit.does("enroll", "4712", *(world.reader[n].path for n in (0, 2, 3)))
            assert refused.code != 0, refused.said
            assert door.lives, door.told
            shutil.rmtree(fillers)
            door.badge()
            door.shows(JUDGED)
            door.end()
        assert unit.people() == [PERSON]
        found = [event for event in unit.events() if event.startswith("DENIED_FAULT")]
        return Ended(saw, ", ".join(sorted(set(found))), "by itself, once files are removed")
    finally:
        unmount(disk)


SCENARIOS = (disk_that_fails_late, card_that_becomes_read_only, disk_without_inodes)
