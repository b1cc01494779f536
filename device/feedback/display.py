"""What the loop and the watch ask of a display."""

from __future__ import annotations

from typing import Protocol

from device.access.challenge import Challenge
from device.access.decision import Decision


class Display(Protocol):
    """What a person at the door is shown."""

    def ask_name(self) -> None:
        """Nobody was claimed: ask for a name or number."""

    def speaking(self) -> None:
        """Somebody is heard."""

    def judging(self) -> None:
        """The person has ended."""

    def tell(self, event: Challenge | Decision) -> None:
        """A phrase to say, or the decision."""
