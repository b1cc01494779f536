"""Refuses a recording of an earlier attempt: remembers the sound of each, before anybody decides on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from device.access.decision import Decision
from device.clock import Now
from device.evidence.judge import Evidence
from device.liveness.errors import LivenessError
from device.liveness.memory import UtteranceMemory
from device.secure_store.signing import Mac
from device.state_folder import StateFolder


class ReplayGuard:
    """One door's. `note` before an attempt is decided on, `settle` after."""

    def __init__(
        self,
        folder: Path,
        mac: Mac,
        *,
        at_least: int,
        now: datetime,
        noted: Callable[[int], None],
    ) -> None:
        """Raises MemoryRollbackError or LivenessError: then the unit must not serve."""
        path = StateFolder(folder).replay_memory
        self.memory = UtteranceMemory(path, mac, at_least=at_least, now=now, noted=noted)
        self._number: int | None = None

    def note(self, heard: Evidence | Exception, now: Now) -> Evidence | Exception:
        """Remember what was heard, durably. Returns the error where it cannot be remembered."""
        self._number = None
        if not isinstance(heard, Evidence):
            return heard
        fingerprint = heard.context.fingerprint
        if fingerprint is None or heard.context.reuse_llr is None:
            return LivenessError("this was not compared with what the unit remembers; run `ostiary doctor`")
        try:
            self._number = self.memory.remember(fingerprint, now.wall)
        except LivenessError as err:
            return err
        return heard

    def settle(self, decision: Decision) -> None:
        """What opened a door is remembered longest. Never raises: the door has decided."""
        if decision.opens and self._number is not None:
            self.memory.opened(self._number)

    def close(self) -> None:
        self.memory.close()
