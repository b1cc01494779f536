"""Remembers marks of the utterances heard lately, bounded in number and age, in RAM and sealed on disk.

An utterance is remembered, durably, before anybody decides on it: pulling the plug after the door opened does
not make the unit forget. Utterances that opened a door are what an attacker wants to replay, so they are
dropped last, and nobody can push them out with noise.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from device.liveness.errors import LivenessError, MemoryRollbackError
from device.liveness.fingerprint import BITS, MAX_STORED, SECRET_BYTES, Fingerprint, Fingerprinter
from device.liveness.memory_file import BUSY_S, MemoryFile
from device.liveness.search import Index, Match
from device.secure_store.signing import Mac

_ROW = struct.Struct(">BBQ")  # format, opened a door, seconds since 1970
_FORMAT = 1
_MARK_BYTES = BITS // 8


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How much is remembered, and for how long."""

    utterances: int = 2_048
    marks: int = 32_768
    """240 ms each: 2,048 utterances of 3.8 s."""
    granted_share: float = 0.75
    """Of the room, that utterances which opened a door may take from others."""
    days: float = 30.0

    def __post_init__(self) -> None:
        if not (1 <= self.utterances <= 16_384 and MAX_STORED <= self.marks <= 262_144):
            raise ValueError("a memory holds 1 to 16,384 utterances and 64 to 262,144 marks")
        if not (0.0 < self.granted_share < 1.0 and 0.0 < self.days <= 365.0):
            raise ValueError("the granted share lies between 0 and 1, the age is a year at most")


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    marks: int
    opened: bool
    heard_at_s: int


class UtteranceMemory:
    """Remembers, finds again, forgets. Safe for the judge's threads beside the door's loop."""

    def __init__(
        self,
        path: Path,
        mac: Mac,
        *,
        at_least: int,
        now: datetime,
        noted: Callable[[int], None],
        limits: MemoryLimits | None = None,
        busy_s: float = BUSY_S,
    ) -> None:
        """Open `path`. `at_least` is the version that the history knows; `noted` tells it of a new one.
        Raises MemoryRollbackError when the file is older, changed or gone, LivenessError when it cannot be
        read."""
        self._limits = limits or MemoryLimits()
        self._noted = noted
        self._lock = threading.Lock()
        self.fingerprinter = fingerprinter(mac)
        self._index = Index(self._limits.marks)
        self._kept: dict[int, _Kept] = {}
        self._to_mark: set[int] = set()
        self._stale: set[int] = set()
        self._file = MemoryFile(path, mac, busy_s)
        try:
            rows = self._file.load(at_least)
            latest = sorted(rows)[-self._limits.utterances :]
            for number in reversed(latest):
                if len(self._index) + len(rows[number]) // _MARK_BYTES <= self._limits.marks:
                    self._admit(number, rows[number])
            self._stale = set(rows) - set(self._kept)  # the limits were lowered: gone with the next commit
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, heard: Fingerprint) -> Match:
        """How well `heard` fits anything remembered."""
        with self._lock:
            return self._index.search(heard)

    def remember(self, heard: Fingerprint, now: datetime) -> int:
        """Keep the marks of `heard`; returns a number for `opened`. Durable when it returns. Raises
        LivenessError when it cannot be written: then nothing may open."""
        body = _ROW.pack(_FORMAT, 0, _seconds(now)) + heard.stored.tobytes()
        with self._lock:
            number = max(self._kept, default=0) + 1
            gone = self._surplus(now, len(heard.stored))
            put = {old: self._row_opened(old) for old in self._to_mark - gone} | {number: body}
            version = self._file.commit(put, gone | self._stale)
            self._stale.clear()
            self._to_mark.clear()
            self._drop(gone)
            for old, row in put.items():
                self._admit(old, row)
        self._noted(version)
        return number

    def opened(self, number: int) -> None:
        """That utterance opened a door: it is forgotten last. On disk with the next utterance."""
        with self._lock:
            if number in self._kept:
                self._to_mark.add(number)

    def close(self) -> None:
        self._file.close()

    def _admit(self, number: int, row: bytes) -> None:
        """Take a row into RAM; an earlier one of this number only changes its rank."""
        if len(row) < _ROW.size + _MARK_BYTES or (len(row) - _ROW.size) % _MARK_BYTES:
            raise _other_form()
        form, opened, seconds = _ROW.unpack_from(row)
        marks = (len(row) - _ROW.size) // _MARK_BYTES
        if form != _FORMAT or marks > MAX_STORED:
            raise _other_form()
        if number not in self._kept:
            stored = np.frombuffer(row, np.uint8, offset=_ROW.size).reshape(marks, _MARK_BYTES)
            self._index.add(number, stored)
        self._kept[number] = _Kept(number, marks, bool(opened), seconds)

    def _row_opened(self, number: int) -> bytes:
        return _ROW.pack(_FORMAT, 1, self._kept[number].heard_at_s) + self._index.marks(number)

    def _surplus(self, now: datetime, new_marks: int) -> set[int]:
        """What is too old, and what one more utterance of `new_marks` has to push out."""
        oldest = _seconds(now - timedelta(days=self._limits.days))
        gone = {kept.number for kept in self._kept.values() if kept.heard_at_s < oldest}
        marks = sum(kept.marks for kept in self._kept.values() if kept.number not in gone)
        count = len(self._kept) - len(gone)
        while count >= self._limits.utterances or marks + new_marks > self._limits.marks:
            loser = self._least_wanted(gone)
            gone.add(loser)
            marks, count = marks - self._kept[loser].marks, count - 1
        return gone

    def _least_wanted(self, gone: set[int]) -> int:
        """The oldest that opened nothing; the oldest that did once those fill more than their share."""
        left = [kept for number, kept in self._kept.items() if number not in gone]
        granted = [k for k in left if k.opened or k.number in self._to_mark]
        others = [k for k in left if not (k.opened or k.number in self._to_mark)]
        crowded = sum(k.marks for k in granted) > self._limits.granted_share * self._limits.marks
        crowded = crowded or len(granted) > self._limits.granted_share * self._limits.utterances
        pool = granted if crowded or not others else others
        return min(pool, key=lambda kept: kept.number).number

    def _drop(self, numbers: set[int]) -> None:
        if numbers:
            self._index.drop(numbers)
            for number in numbers:
                del self._kept[number]


def _other_form() -> MemoryRollbackError:
    return MemoryRollbackError(
        "the memory of utterances has another form; find out why, then `ostiary policy start-over`"
    )


def fingerprinter(mac: Mac) -> Fingerprinter:
    """Marks under this unit's secret."""
    return Fingerprinter(mac("utterance marks", b"")[:SECRET_BYTES])


def _seconds(when: datetime) -> int:
    seconds = when.timestamp()
    if not math.isfinite(seconds):
        raise LivenessError("the clock gives no time")
    return max(0, int(seconds))
