"""Opens the door that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from device.access.badges import CardBits
from device.access.decision import Notice
from device.door.gpio import GpioLines, KernelGpio
from device.door.lines import DoorError, Lines
from device.door.osdp.door import OsdpDoor
from device.door.osdp.peripheral import Panel, Peripheral
from device.door.osdp.port import SerialPort
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
    """The strike and the contacts of this unit; enter it to begin. With missing hardware the door stays
    locked, says so, and looks for it again.
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


def osdp_door(
    settings: DoorSettings,
    *,
    key: Callable[[], bytes],
    card_of: Callable[[str], CardBits | None],
    display: Callable[[str, str], None],
    now_s: Callable[[], float],
    note: Note,
    warn: Callable[[Notice], None],
    show: Callable[[str], None],
) -> OsdpDoor:
    """The same behind a controller. `key` is called each time the port is opened, and may raise DoorError."""
    return OsdpDoor(
        settings.osdp.mode,
        lambda noted: supervised_door(settings, now_s=now_s, note=noted, warn=warn, show=show),
        lambda panel: connect(settings, key(), panel),
        note=note,
        card_of=card_of,
        show=show,
        display=display,
    )


def connect(settings: DoorSettings, key: bytes | None, panel: Panel, *, install: bool = False) -> Peripheral:
    """The line to the controller, opened; enter it to serve. Raises DoorError."""
    if settings.osdp.port is None:
        raise DoorError("no port to the controller is set; name its serial port in `[door.osdp] port`")
    port = SerialPort(settings.osdp.port, settings.osdp.baud)
    try:
        return Peripheral(
            port, settings.osdp.address, key, crc32(settings.unit.encode()), panel, install=install
        )
    except BaseException:
        port.close()
        raise


def lines_of(settings: DoorSettings, now_s: Callable[[], float]) -> Lines:
    """The wires, opened. Raises DoorError."""
    if settings.kind is DoorKind.SIMULATED or not settings.gpio.chip:
        return SimulatedLines(settings.simulated.lines, now_s)
    return GpioLines(settings.gpio, KernelGpio(), now_s)
