"""Reads the board's state from the kernel: heat, supply, memory. For `ostiary doctor`."""

from __future__ import annotations

from pathlib import Path

from device.errors import DeviceError

HOT_MILLIDEGREES = 80_000
"""From here on a Raspberry Pi's firmware slows the processor down, and a Jetson soon after."""
MIN_FREE_KB = 100 << 10
RASPBERRY = "sys/devices/platform/soc/soc:firmware/get_throttled"
_NOW = {
    0x1: "the supply's voltage is too low",
    0x2 | 0x4 | 0x8: "the processor is slowed down because of heat",
}
"""Bits of a Raspberry Pi's `get_throttled` for what is so now."""
REMEDY = (
    "heat: air, shade, a heat sink, a larger case; voltage: a supply of 5 V and 5 A with short wires; "
    "memory: end what else runs here"
)


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


def _number(path: Path, base: int = 10) -> int | None:
    """None where the board has no such file, or its sensor does not answer."""
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
