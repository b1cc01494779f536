"""What a decision moves. Fail secure: a door is released for a moment and locks again by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from device.policy import Decision

log = logging.getLogger(__name__)


class Door(Protocol):
    """The strike. `obey` returns once the strike has moved; it never raises a door open."""

    def obey(self, decision: Decision) -> None: ...

    def close(self) -> None: ...


class SimulatedDoor:
    """A strike that tells what it does. It is released only while `unlock_s` seconds have not passed."""

    def __init__(
        self, name: str, unlock_s: float, now_s: Callable[[], float], show: Callable[[str], None]
    ) -> None:
        self._name = name
        self._unlock_s = unlock_s
        self._now_s = now_s
        self._show = show
        self._released_until_s = 0.0

    @property
    def is_locked(self) -> bool:
        return self._now_s() >= self._released_until_s

    def obey(self, decision: Decision) -> None:
        """Release the strike for a decision that opens; for every other one keep it as it is."""
        if not decision.opens:
            self._show(f"{self._name}: stays locked")
            return
        self._released_until_s = self._now_s() + self._unlock_s
        self._show(f"{self._name}: strike released for {self._unlock_s:g} s")
        log.info("strike of %s released for %g s", self._name, self._unlock_s)

    def close(self) -> None:
        """Lock at once."""
        self._released_until_s = 0.0
