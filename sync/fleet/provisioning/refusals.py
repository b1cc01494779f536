"""Refusals: what a unit is told, what is counted, and what becomes an alarm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sync.errors import MalformedError, SyncError
from sync.events import UnitId
from sync.registry.database.store import Store
from sync.registry.verification import Alarm

T = TypeVar("T")

MOST_NOTED = 60
"""Refusals a minute that are written down, of those that raise no alarm."""


class RefusedError(SyncError):
    """The unit does not get in. `code` is for programs, the message for the person at the unit."""

    def __init__(self, code: str, why: str, alarm: Alarm | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.alarm = alarm


def not_proved(unit: UnitId, why: str) -> RefusedError:
    alarm = Alarm("KEY_NOT_PROVED", "critical", unit, f"KEY_NOT_PROVED {unit} {why}", {"why": why})
    return RefusedError("not_proved", why, alarm)


def used(unit: UnitId, tpm: str) -> RefusedError:
    alarm = Alarm("CLAIM_REUSED", "critical", unit, f"CLAIM_REUSED {unit} {tpm}", {"came": tpm})
    why = f"the claim for {unit} was used by another unit; if that was not you, tell the security desk"
    return RefusedError("used", why, alarm)


class Refusals:
    """Writes refusals down. Safe for threads."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._noted: list[int] = []
        self._lock = threading.Lock()

    def on_record(self, work: Callable[[], T]) -> T:
        """What `work` returns. Its refusals are counted; those that look like an attack raise an alarm."""
        try:
            return work()
        except MalformedError as err:
            refused = RefusedError("malformed", f"the service did not understand the unit: {err}")
            self._note(refused, "")
            raise refused from err
        except RefusedError as err:
            self._note(err, err.alarm.unit or "" if err.alarm else "")
            raise

    def _note(self, refused: RefusedError, unit: str) -> None:
        now_ms = self._now_ms()
        with self._lock:  # a stranger without a claim must not keep the database busy
            self._noted = [at for at in self._noted if at > now_ms - 60_000]
            if len(self._noted) >= MOST_NOTED and refused.alarm is None:
                return
            self._noted.append(now_ms)
        with self._store.transaction() as db:
            self._store.count_refusals(db, {(f"claim {refused.code}", unit): 1}, now_ms)
            if refused.alarm is not None:
                self._store.raise_alarms(db, [refused.alarm], now_ms)
