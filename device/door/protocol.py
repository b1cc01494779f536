"""What every door does with a decision, on any hardware."""

from __future__ import annotations

from typing import Protocol

from device.access.decision import Decision


class Door(Protocol):
    """The strike. `obey` returns once the strike has moved; no error opens a door.

    An emergency release holds until `lock`; every other opening ends by itself.
    """

    def obey(self, decision: Decision) -> None: ...

    def lock(self) -> None: ...

    def hold(self, for_s: float) -> None:
        """Stand unlocked for so long from now; 0 ends it. Raises DoorError where a controller has it."""

    def close(self) -> None: ...
