"""What a door remembers of its attempts: the sound of each, and the habits of whoever it let in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from device.access.decision import Decision, Outcome
from device.clock import Now
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.liveness.errors import LivenessError
from device.liveness.memory import MemoryLimits, UtteranceMemory
from device.liveness.memory_file import MemoryFile
from device.liveness.timing import NO_HABIT, Habit, Timing, timing
from device.liveness.weights import shipped
from device.secure_store.signing import Mac
from device.state_folder import StateFolder

RecordOf = Callable[[str], UUID]
"""The vault's record id of an enrolled person; raises when there is none."""


class ReplayGuard:
    """One door's. `note` before an attempt is decided on, `settle` after."""

    def __init__(
        self,
        folder: Path,
        mac: Mac,
        record_of: RecordOf,
        *,
        at_least: int,
        now: datetime,
        noted: Callable[[int], None],
        people: Callable[[], Iterable[str]] | None = None,
        limits: MemoryLimits | None = None,
    ) -> None:
        """`people` are those enrolled: habits of others are erased.

        Raises MemoryRollbackError or LivenessError: then the unit must not serve.
        """
        path = StateFolder(folder).replay_memory
        self.memory = UtteranceMemory(path, mac, at_least=at_least, now=now, noted=noted, limits=limits)
        self._habits = Habits(path, mac, record_of)
        if people is not None:
            self._habits.keep_only(people)
        self._number: int | None = None
        self._timing: Timing | None = None

    def note(
        self, heard: Evidence | Exception, phrase: str, uid: str, to_speech_s: float, now: Now
    ) -> Evidence | Exception:
        """Remember what was heard, durably. What cannot be remembered comes back as the error it is.

        The evidence comes back with the timing, which only the door knows.
        """
        self._number = self._timing = None
        if not isinstance(heard, Evidence):
            return heard
        fingerprint = heard.context.fingerprint
        if fingerprint is None or heard.context.reuse_llr is None:
            return LivenessError("this was not compared with what the unit remembers; run `ostiary doctor`")
        try:
            self._number = self.memory.remember(fingerprint, now.wall)
        except LivenessError as err:
            return err
        self._timing = timing(to_speech_s, phrase, heard.quality.speech_s)
        person = uid or (heard.identified.uid if heard.identified is not None else "")
        llr = self._habits.llr(person, self._timing) if person and self._timing is not None else None
        return replace(heard, context=replace(heard.context, timing_llr=llr))

    def settle(self, decision: Decision) -> None:
        """What opened a door is remembered longest, and its timing becomes a habit. Never raises: the door
        has decided."""
        if decision.opens and self._number is not None:
            self.memory.opened(self._number)
        if decision.outcome is Outcome.GRANTED and decision.person and self._timing is not None:
            self._habits.learn(decision.person, self._timing)

    def close(self) -> None:
        self.memory.close()
        self._habits.close()


class Habits:
    """Timings by person: sealed, found by a keyed hash, and void for another enrolment."""

    def __init__(self, path: Path, mac: Mac, record_of: RecordOf) -> None:
        self._mac = mac
        self._record_of = record_of
        self._file = MemoryFile(path, mac)
        self._weights = shipped().timing

    def llr(self, uid: str, timing: Timing) -> float:
        """0 until enough is known of `uid`."""
        return self._of(uid).llr(timing, self._weights)

    def learn(self, uid: str, timing: Timing) -> None:
        """One more timing. A habit that cannot be written is no reason to hold anybody up."""
        try:
            body = self._record_of(uid).bytes + self._of(uid).with_(timing).to_bytes()
            self._file.keep_habit(self._tag(uid), body)
        except DeviceError:
            return

    def forget(self, uid: str) -> None:
        """Erase what is known of `uid`. Raises LivenessError."""
        self._file.forget_habit(self._tag(uid))

    def keep_only(self, people: Callable[[], Iterable[str]]) -> None:
        """Erase the habits of everybody else: deletions by other ways than `forget` reach them here."""
        found = self._file.habits()
        kept = {self._tag(uid) for uid in people()} if found else set()
        for tag in found:
            if tag not in kept:
                self._file.forget_habit(tag)

    def close(self) -> None:
        self._file.close()

    def _of(self, uid: str) -> Habit:
        try:
            body = self._file.habit(self._tag(uid))
            if body is None or body[:16] != self._record_of(uid).bytes:
                return NO_HABIT
            return Habit.from_bytes(body[16:])
        except (DeviceError, ValueError):
            return NO_HABIT

    def _tag(self, uid: str) -> bytes:
        return self._mac("habit person", uid.encode())[:16]


def forget_habit(folder: Path, mac: Mac, uid: str) -> None:
    """Erase the habit of a person who is forgotten, also while the unit runs. Raises LivenessError."""
    path = StateFolder(folder).replay_memory
    if not path.exists():
        return
    file = MemoryFile(path, mac)
    try:
        file.forget_habit(mac("habit person", uid.encode())[:16])
    finally:
        file.close()
