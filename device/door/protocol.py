"""What every door does with a decision, whatever hardware stands behind it."""

from __future__ import annotations

from typing import Protocol

from device.access.decision import Decision


class Door(Protocol):
    """The strike. `obey` returns once the strike has moved; it never raises a door open.

    An emergency release holds until `lock`; every other opening ends by itself.
    """

    def obey(self, decision: Decision) -> None: ...

    def lock(self) -> None: ...

    def hold(self, for_s: float) -> None:
        """Stand unlocked for so long from now, whatever opens and shuts meanwhile; 0 ends it. Raises
        DoorError where this strike is not ours to hold."""

    def close(self) -> None: ...
