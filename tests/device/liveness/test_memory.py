"""The memory across power cuts, full disks, old copies and attackers who try to make it forget."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from device.liveness import Fingerprint, LivenessError, MemoryRollbackError
from device.liveness.fingerprint import BITS
from device.liveness.memory import MemoryLimits, UtteranceMemory
from tests.device.liveness.sounds import NOON, mac, noise, speech
from tests.speech import Reading
from tests.sync.disks import CAN_MOUNT, Disk

KNOWN = 4.0


@dataclass
class Unit:
    """A memory and the history that vouches for it."""

    folder: Path
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    vouched: int = 0
    now: datetime = NOON
    busy_s: float = 10.0
    memory: UtteranceMemory = field(init=False)

    def start(self) -> Unit:
        self.memory = UtteranceMemory(
            self.folder / "memory.db",
            mac,
            at_least=self.vouched,
            now=self.now,
            noted=self._noted,
            limits=self.limits,
            busy_s=self.busy_s,
        )
        return self

    def _noted(self, version: int) -> None:
        self.vouched = version

    def power_cut(self) -> Unit:
        """Nothing is closed in order; the files are all that is left."""
        self.memory.close()
        return self.start()

    def marks(self, seed: int, seconds: float = 2.0) -> Fingerprint:
        return self.memory.fingerprinter(noise(seconds, seed))

    def hears(self, seed: int, *, opens: bool = False, seconds: float = 2.0) -> int:
        number = self.memory.remember(self.marks(seed, seconds), self.now)
        if opens:
            self.memory.opened(number)
        return number

    def knows(self, seed: int, seconds: float = 2.0) -> bool:
        return self.memory.find(self.marks(seed, seconds)).score > 1.5


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path).start()


def test_what_was_heard_is_known_after_a_power_cut(unit: Unit, reader: list[Reading]) -> None:
    marks = unit.memory.fingerprinter(speech(reader[4].path))
    unit.memory.remember(marks, unit.now)
    again = unit.power_cut()
    assert len(again.memory) == 1
    assert again.memory.find(marks).score > KNOWN


def test_nothing_heard_is_nothing_known(unit: Unit) -> None:
    assert not unit.knows(1)
    assert len(unit.power_cut().memory) == 0


def test_the_oldest_goes_when_the_memory_is_full(tmp_path: Path) -> None:
    unit = Unit(tmp_path, MemoryLimits(utterances=4)).start()
    for seed in range(6):
        unit.hears(seed)
    assert [unit.knows(seed) for seed in range(6)] == [False, False, True, True, True, True]
    assert len(unit.power_cut().memory) == 4


def test_room_is_counted_in_marks_too(tmp_path: Path) -> None:
    unit = Unit(tmp_path, MemoryLimits(marks=64)).start()
    for seed in range(4):
        unit.hears(seed, seconds=14.0)
    assert len(unit.memory) == 1
    assert unit.knows(3, 14.0)


def test_nobody_can_push_out_what_opened_a_door_with_noise_of_their_own(tmp_path: Path) -> None:
    unit = Unit(tmp_path, MemoryLimits(utterances=8)).start()
    unit.hears(100, opens=True)
    for seed in range(30):
        unit.hears(seed)
    assert unit.knows(100)
    assert unit.power_cut().knows(100)


def test_openings_do_not_crowd_out_everything_else(tmp_path: Path) -> None:
    unit = Unit(tmp_path, MemoryLimits(utterances=8, granted_share=0.75)).start()
    for seed in range(20):
        unit.hears(seed, opens=True)
    unit.hears(50)
    unit.hears(51)
    assert unit.knows(50)
    assert unit.knows(51)
    assert unit.knows(19)


def test_what_is_older_than_the_limit_is_forgotten_on_disk_too(tmp_path: Path) -> None:
    unit = Unit(tmp_path, MemoryLimits(days=2.0)).start()
    unit.hears(1)
    unit.now += timedelta(days=3)
    unit.hears(2)
    assert not unit.knows(1)
    assert len(unit.power_cut().memory) == 1


def test_smaller_limits_after_a_restart_keep_the_latest(tmp_path: Path) -> None:
    unit = Unit(tmp_path).start()
    for seed in range(6):
        unit.hears(seed)
    unit.limits = MemoryLimits(utterances=2)
    unit.power_cut()
    assert len(unit.memory) == 2
    assert unit.knows(5)
    unit.hears(7)
    unit.limits = MemoryLimits()
    assert len(unit.power_cut().memory) == 2


def test_an_old_copy_that_was_put_back_is_refused(unit: Unit) -> None:
    unit.hears(1)
    unit.memory.close()
    shutil.copy(unit.folder / "memory.db", unit.folder / "old.db")
    unit.start().hears(2)
    unit.memory.close()
    shutil.copy(unit.folder / "old.db", unit.folder / "memory.db")
    with pytest.raises(MemoryRollbackError, match="version 1, the history knows 2"):
        unit.start()


def test_a_memory_that_is_gone_is_refused(unit: Unit) -> None:
    unit.hears(1)
    unit.memory.close()
    for path in unit.folder.glob("memory.db*"):
        path.unlink()
    with pytest.raises(MemoryRollbackError, match="start-over"):
        unit.start()


def test_a_memory_ahead_of_the_history_is_taken(unit: Unit) -> None:
    """Power went between the memory's write and the history's."""
    unit.hears(1)
    unit.vouched = 0
    assert unit.power_cut().knows(1)


def _delete_a_row(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM utterances WHERE number = 1")


def _swap_rows(db: sqlite3.Connection) -> None:
    rows = dict(db.execute("SELECT number, sealed FROM utterances"))
    db.executemany("UPDATE utterances SET sealed = ? WHERE number = ?", [(rows[1], 2), (rows[2], 1)])


def _flip_a_bit(db: sqlite3.Connection) -> None:
    (row,) = db.execute("SELECT sealed FROM utterances WHERE number = 1").fetchone()
    db.execute("UPDATE utterances SET sealed = ? WHERE number = 1", (bytes([row[0] ^ 1]) + row[1:],))


def _add_a_row(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO utterances VALUES (9, ?)", (bytes(200),))


def _enormous_row(db: sqlite3.Connection) -> None:
    db.execute("UPDATE utterances SET sealed = ? WHERE number = 1", (bytes(1 << 20),))


def _text_row(db: sqlite3.Connection) -> None:
    db.execute("UPDATE utterances SET sealed = 'text' WHERE number = 1")


def _raise_version(db: sqlite3.Connection) -> None:
    db.execute("UPDATE head SET version = version + 5")


def _text_version(db: sqlite3.Connection) -> None:
    db.execute("UPDATE head SET version = 'many'")


def _no_head(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM head")


@pytest.mark.parametrize(
    "damage",
    [
        _delete_a_row,
        _swap_rows,
        _flip_a_bit,
        _add_a_row,
        _enormous_row,
        _text_row,
        _raise_version,
        _text_version,
        _no_head,
    ],
)
def test_a_changed_memory_is_refused(unit: Unit, damage: Callable[[sqlite3.Connection], None]) -> None:
    unit.hears(1)
    unit.hears(2)
    unit.memory.close()
    with sqlite3.connect(unit.folder / "memory.db") as db:
        damage(db)
    db.close()
    with pytest.raises(MemoryRollbackError):
        unit.start()


def test_a_file_that_is_no_database_is_refused(unit: Unit) -> None:
    unit.memory.close()
    for path in unit.folder.glob("memory.db*"):
        path.unlink()
    (unit.folder / "memory.db").write_bytes(b"x" * 8192)
    with pytest.raises(MemoryRollbackError):
        unit.start()


def test_another_units_memory_is_refused(unit: Unit, tmp_path: Path) -> None:
    unit.hears(1)
    unit.memory.close()
    with pytest.raises(MemoryRollbackError):
        UtteranceMemory(
            tmp_path / "memory.db",
            lambda purpose, message: mac("other" + purpose, message),
            at_least=0,
            now=NOON,
            noted=lambda version: None,
        )


def test_a_memory_that_cannot_be_written_says_so_and_keeps_what_it_had(unit: Unit) -> None:
    unit.hears(1)
    holder = sqlite3.connect(unit.folder / "memory.db", isolation_level=None)
    unit.busy_s = 0.05
    unit.power_cut()
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LivenessError, match="cannot be written"):
        unit.hears(2)
    holder.execute("ROLLBACK")
    holder.close()
    assert unit.knows(1)
    assert not unit.knows(2)
    unit.hears(3)
    assert len(unit.power_cut().memory) == 2


def test_the_disk_holds_neither_marks_nor_sound(unit: Unit, reader: list[Reading]) -> None:
    wave = speech(reader[4].path)
    marks = unit.memory.fingerprinter(wave)
    unit.memory.remember(marks, unit.now)
    written = b"".join(path.read_bytes() for path in unit.folder.glob("memory.db*"))
    assert marks.stored[2].tobytes() not in written
    assert (wave[8_000:8_064] * 32768).astype("<i2").tobytes() not in written


def test_a_row_is_a_kilobit_a_second(unit: Unit) -> None:
    unit.hears(1, seconds=4.0)
    with closing(sqlite3.connect(unit.folder / "memory.db")) as beside:
        (size,) = beside.execute("SELECT length(sealed) FROM utterances").fetchone()
    assert size < 4.0 * 135 + 64


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in ({"utterances": 0}, {"marks": 10}, {"days": 0.0}, {"granted_share": 1.0}):
        with pytest.raises(ValueError):
            MemoryLimits(**wrong)  # type: ignore[arg-type]


def test_marks_do_not_tell_who_spoke(unit: Unit, reader: list[Reading]) -> None:
    """Different sentences of one person are no more alike than sentences of anybody."""
    waves = [speech(one.path) for one in reader]
    marks = [unit.memory.fingerprinter(wave).stored for wave in waves]
    agreements = [
        float(np.unpackbits(~(a[i] ^ b[j])).mean())
        for n, a in enumerate(marks)
        for b in marks[:n]
        for i in range(len(a))
        for j in range(len(b))
    ]
    assert abs(float(np.mean(agreements)) - 0.5) < 0.01
    assert len(agreements) > 100
    assert marks[0].shape[1] * 8 == BITS


def test_a_memory_that_another_program_holds_is_not_damaged(unit: Unit) -> None:
    unit.busy_s = 0.05
    unit.hears(1)
    unit.memory.close()
    with closing(sqlite3.connect(unit.folder / "memory.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LivenessError, match="nothing is lost") as told:
            unit.start()
    assert not isinstance(told.value, MemoryRollbackError)
    assert "start-over" not in str(told.value)
    unit.start()


def _refused(folder: Path) -> str:
    """Why there is no memory in `folder`; nothing of it stays open."""
    try:
        Unit(folder).start()
    except MemoryRollbackError as err:
        return f"rollback: {err}"
    except LivenessError as err:
        return str(err)
    return ""


@pytest.mark.skipif(not CAN_MOUNT, reason="nobody may mount a small disk here")
def test_a_memory_on_a_full_disk_or_one_that_became_read_only_is_not_damaged(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1)
    try:
        (tmp_path / "unit").mkdir()
        disk.fill()
        assert "nothing is lost" in _refused(tmp_path / "unit")
        disk.make_room()
        Unit(tmp_path / "unit").start().memory.close()
        gc.collect()
        disk.read_only(True)
        assert re.match(
            "the memory of utterances cannot be used now|cannot open", _refused(tmp_path / "unit")
        )
        gc.collect()
        disk.read_only(False)
        Unit(tmp_path / "unit").start().memory.close()
    finally:
        disk.remove()


def test_a_pipe_or_a_folder_in_place_of_the_memory_is_told_and_not_waited_for(unit: Unit) -> None:
    unit.memory.close()
    for make in (os.mkfifo, Path.mkdir):
        for path in unit.folder.glob("memory.db*"):
            path.unlink()
        make(unit.folder / "memory.db")
        with pytest.raises(LivenessError, match="a plain file belongs there"):
            unit.start()
