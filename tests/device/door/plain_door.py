"""A door without contacts, for tests that look at decisions alone."""

from __future__ import annotations

import math
from collections.abc import Callable

from device.access.decision import Decision, Outcome


class PlainDoor:
    """A strike that tells what it does. It is released while `unlock_s` seconds have not passed, or in an
    emergency until it is locked.
    """

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
        if decision.outcome is Outcome.EMERGENCY_RELEASE:
            self._released_until_s, how_long = math.inf, "until the alarm ends"
        else:
            until_s, how_long = self._now_s() + self._unlock_s, f"for {self._unlock_s:g} s"
            self._released_until_s = max(self._released_until_s, until_s)
        self._show(f"{self._name}: strike released {how_long}")

    def lock(self) -> None:
        """Lock at once."""
        self._released_until_s = 0.0
        self._show(f"{self._name}: locked")

    def hold(self, for_s: float) -> None:
        """Released for so long."""
        self._released_until_s = self._now_s() + for_s

    def close(self) -> None:
        """Lock at once, without a word."""
        self._released_until_s = 0.0
