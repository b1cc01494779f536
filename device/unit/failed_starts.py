"""Keeps a note of failed starts for the audit log, which could not be opened.

The audit log needs the TPM: its counter, and the key of the pseudonyms. So a start that fails leaves a note
in the state folder, and the next start that succeeds turns it into events. Where the disk is full or
read-only the note lies in a folder in memory, until the power goes. After that the TPM still counts that
power came more often than the unit started. The notes are not signed and decide nothing: a start goes on
without one that is damaged or was removed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from device.access.memory.history import HistoryBusyError, HistoryError, HistoryRollbackError
from device.access.rules.load import RulesError
from device.clock import Clock
from device.liveness.errors import LivenessError, MemoryRollbackError
from device.model_store.manifest import BundleError
from device.model_store.sessions import SessionError
from device.models.self_test import SelfTestError
from device.secure_store import RollbackError, SealPolicyError, StoreError, TpmBusyError, TpmLockedError
from device.secure_store.errors import StoreUnavailableError
from device.unit.assembly import NoSuchDoorError
from device.unit.audit import AuditTrail
from sync.durable import replace_file
from sync.errors import SyncError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why, why

T = TypeVar("T")

NAME = "failed-starts.json"
LAST_START = "last-start.json"
MAX_BYTES = 4096
MINUTE_MS = 60_000
LONGEST_MINUTES = 366 * 24 * 60
"""Of an older note the clock is probably wrong: its event has no count."""

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TpmBusyError, "tpm_fault"),
    (TpmLockedError, "tpm_locked"),
    (SealPolicyError, "tpm_refused"),
    (RollbackError, "rollback_refused"),
    (HistoryRollbackError, "rollback_refused"),
    (MemoryRollbackError, "rollback_refused"),
    (HistoryBusyError, ""),  # another process serves: no fault
    (StoreUnavailableError, ""),  # nothing is wrong with it; whether its disk takes anything is looked at
    (StoreError, "store_fault"),
    (HistoryError, "store_fault"),
    (LivenessError, "store_fault"),
    (BundleError, "model_fault"),
    (SessionError, "model_fault"),
    (SelfTestError, "model_fault"),
    (RulesError, "rules_refused"),
    (NoSuchDoorError, "rules_refused"),
)
"""The first that fits counts."""
_DISK_REASONS = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EROFS: "disk_read_only"}
_WORDS = frozenset(word for _, word in _REASONS if word) | set(_DISK_REASONS.values())
PROBE_BYTES = 256 * 1024
"""What a start writes to its databases, at least."""

log = logging.getLogger(__name__)


def reason(err: Exception) -> str:
    """Why a start failed, in a word of the vocabulary; empty where no event is due."""
    return next((word for kind, word in _REASONS if isinstance(err, kind)), "")


def disk_reason(folder: Path) -> str:
    """ "disk_full" or "disk_read_only" where `folder` does not take what a start writes; empty otherwise."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, PROBE_BYTES)  # wears out no card, however often it is asked
    except OSError as err:
        return _DISK_REASONS.get(err.errno or 0, "")
    return ""


class FailedStarts:
    """The note in the folder `state`. Its methods raise nothing."""

    def __init__(self, state: Path, clock: Clock, in_memory: Path | None = None) -> None:
        """`in_memory` is a folder for the note when the disk of `state` takes none."""
        self._state = state
        self._paths = [folder / NAME for folder in (state, in_memory) if folder is not None]
        self._clock = clock

    @contextmanager
    def noting(self, opening: AbstractContextManager[T]) -> Iterator[T]:
        """Enters `opening`; an error is noted and raised again."""
        with ExitStack() as parts:
            try:
                opened = parts.enter_context(opening)
            except Exception as err:
                self._note(err)
                raise
            yield opened

    def tell(self, trail: AuditTrail, door: str, power_ups: Callable[[], int | None] = lambda: None) -> None:
        """Write the note as `FAULT` events, whose `count` is the minutes since the first such failure, and
        remove it. What cannot be written stays for the next start.

        `power_ups` says how often power came to the key store. Where that is more often than this once since
        the last start that succeeded, and no note says why, it is an event too, `count` being the number.
        """
        noted = self._read()
        self._tell_unrecorded(trail, door, power_ups, explained=bool(noted))
        now_ms = self._clock().time_ms
        try:
            for word, first_ms in sorted(noted.items()):
                minutes = (now_ms - first_ms) // MINUTE_MS
                known = 0 <= minutes <= LONGEST_MINUTES
                trail.note("FAULT", word, door, count=minutes if known else None, risk="low")
            for path in self._paths:
                path.unlink(missing_ok=True)
        except (SyncError, OSError) as err:
            log.error("earlier starts that failed could not be written down: %s", what_and_why(err))

    def _tell_unrecorded(
        self, trail: AuditTrail, door: str, power_ups: Callable[[], int | None], *, explained: bool
    ) -> None:
        path = self._state / LAST_START
        try:
            now = power_ups()
            if now is None or now == (before := _power_ups_in(path)):
                return
            if before is not None and now > before + 1 and not explained:
                trail.note("FAULT", "unrecorded_starts", door, count=now - before - 1, risk="low")
            replace_file(path, json.dumps({"power_ups": now}).encode() + b"\n")
        except (StoreError, SyncError, OSError) as err:
            log.error("how often power came cannot be written down: %s", what_and_why(err))

    def _note(self, err: Exception) -> None:
        """Write each kind of fault once, however often the start is tried, to spare the card."""
        word, noted = reason(err), self._read()
        if not isinstance(err, HistoryBusyError):
            word = disk_reason(self._state) or word  # whatever stopped it
        if not word or word in noted:
            return
        text = json.dumps({**noted, word: self._clock().time_ms}, sort_keys=True)
        for path in self._paths:
            try:
                replace_file(path, text.encode() + b"\n")
                return
            except OSError as problem:
                log.warning("%s cannot be written (%s)", path, why(problem))

    def _read(self) -> dict[str, int]:
        """When a start first failed, in Unix milliseconds, by its reason."""
        noted: dict[str, int] = {}
        for path in self._paths:
            for word, first_ms in _noted_in(path).items():
                noted[word] = min(first_ms, noted.get(word, first_ms))
        return noted


def _power_ups_in(path: Path) -> int | None:
    try:
        told = json.loads(plain_bytes(path, MAX_BYTES))
        if not (isinstance(told, dict) and type(told.get("power_ups")) is int):
            raise ValueError("it holds no number")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as err:
        log.warning("%s cannot be read and is left out: %s", path, why(err))
        return None
    return int(told["power_ups"])


def _noted_in(path: Path) -> dict[str, int]:
    try:
        told = json.loads(plain_bytes(path, MAX_BYTES))
        if not isinstance(told, dict) or not told.keys() <= _WORDS:
            raise ValueError("it holds something else")
        if not all(type(at_ms) is int for at_ms in told.values()):
            raise ValueError("its times are no whole numbers")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as err:
        log.warning("%s cannot be read and is left out: %s", path, why(err))
        return {}
    return dict(told)
