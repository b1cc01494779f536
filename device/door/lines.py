"""The wires of a door, read from GPIO or, in a trial, from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from device.door.debounce import Level
from device.door.supervision import Line
from device.errors import DeviceError


class DoorError(DeviceError):
    """The hardware of the door cannot be used. The strike stays locked or locks."""


class Lines(Protocol):
    """One door's inputs and its strike. Every method raises DoorError when the hardware is gone."""

    def edges(self, timeout_s: float) -> Iterable[Level]:
        """Changes since the last call, waiting up to `timeout_s` for the first; times of the door's clock."""

    def levels(self) -> Mapping[Line, bool]:
        """The level of every wired input now."""

    def move(self, released: bool) -> None:
        """Release the strike or lock it. Called from any thread."""

    def close(self) -> None:
        """Lock the strike and let go of the hardware. Raises nothing."""
