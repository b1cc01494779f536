"""The door that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from device.access.decision import Notice
from device.door.gpio import GpioLines, KernelGpio
from device.door.lines import Lines
from device.door.settings import DoorKind, DoorSettings
from device.door.simulated import SimulatedLines
from device.door.supervised import Note, SupervisedDoor

SIMULATED_DEBOUNCE_S = 0.03


def supervised_door(
    settings: DoorSettings,
    *,
    now_s: Callable[[], float],
    note: Note,
    warn: Callable[[Notice], None],
    show: Callable[[str], None],
) -> SupervisedDoor:
    """The strike and the contacts of this unit; enter it to begin. Hardware that is missing is no error here:
    the door stays locked, says so, and looks for it again.
    """
    return SupervisedDoor(
        settings.name,
        lambda: lines_of(settings, now_s),
        unlock_s=settings.unlock_s,
        timing=settings.timing,
        debounce_s=settings.gpio.debounce_ms / 1_000 if settings.gpio.chip else SIMULATED_DEBOUNCE_S,
        now_s=now_s,
        note=note,
        warn=warn,
        show=show,
    )


def lines_of(settings: DoorSettings, now_s: Callable[[], float]) -> Lines:
    """The wires, opened. Raises DoorError."""
    if settings.kind is DoorKind.SIMULATED:
        return SimulatedLines(settings.simulated.lines, now_s)
    return GpioLines(settings.gpio, KernelGpio(), now_s)
