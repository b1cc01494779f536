"""Heat, supply and memory of the board, and its strike, from the kernel, for `ostiary doctor`."""

from __future__ import annotations

from pathlib import Path

from device.door.settings import GpioSettings
from device.errors import DeviceError

HOT_MILLIDEGREES = 80_000
"""From here on a Raspberry Pi's firmware slows the processor down, and soon a Jetson's."""
MIN_FREE_KB = 100 << 10
RASPBERRY = "sys/devices/platform/soc/soc:firmware/get_throttled"
_NOW = {
    0x1: "the supply's voltage is too low",
    0x2 | 0x4 | 0x8: "the processor is slowed down because of heat",
}
"""Bits of a Raspberry Pi's `get_throttled` that tell of now."""
REMEDY = (
    "heat: air, shade, a heat sink, a larger case; voltage: a supply of 5 V and 5 A with short wires; "
    "memory: end what else runs here"
)

KEPT_OUTPUTS = "sys/module/*/parameters/persist_gpio_outputs"
"""Of a Raspberry Pi's GPIO drivers: `Y` where a line stays as a program that died had driven it."""
LET_GO = "put `dtparam=strict_gpiod` into /boot/firmware/config.txt and restart the board"


def board(root: Path = Path("/")) -> str:
    """Temperature and free memory. Raises DeviceError where the board cannot do its work in time."""
    wrong, told = [], []
    degrees = [
        zone
        for path in root.glob("sys/class/thermal/thermal_zone*/temp")
        if (zone := _number(path)) is not None
    ]
    if degrees:
        told.append(f"{max(degrees) / 1000:.0f} °C")
        if max(degrees) >= HOT_MILLIDEGREES:
            wrong.append(f"it is {max(degrees) / 1000:.0f} °C hot")
    throttled = _number(root / RASPBERRY, 16) or 0
    wrong += [why for bits, why in _NOW.items() if throttled & bits]
    free_kb = _free_kb(root / "proc/meminfo")
    if free_kb is not None:
        told.append(f"{free_kb >> 10} MiB of memory free")
        if free_kb < MIN_FREE_KB:
            wrong.append(f"only {free_kb >> 10} MiB of memory are free")
    if wrong:
        raise DeviceError("; ".join(wrong))
    return ", ".join(told) or "the kernel says nothing about it"


def strike_let_go(gpio: GpioSettings, root: Path = Path("/")) -> str:
    """Raises DeviceError where the kernel would leave the strike released when the unit dies."""
    if not gpio.strike:
        return "not on GPIO"
    if keeping := sorted(path.parts[-3] for path in root.glob(KEPT_OUTPUTS) if _says_yes(path)):
        raise DeviceError(f"{', '.join(keeping)} leaves it released when the unit dies during a grant")
    return "no driver says that it stays released when the unit dies"


def _says_yes(path: Path) -> bool:
    try:
        return path.read_text("ascii").strip() == "Y"
    except (OSError, ValueError):
        return False


def _number(path: Path, base: int = 10) -> int | None:
    """The number in a file; None without the file, or where the sensor does not answer."""
    try:
        return int(path.read_text("ascii").strip(), base)
    except (OSError, ValueError):
        return None


def _free_kb(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
