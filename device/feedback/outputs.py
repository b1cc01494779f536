"""LEDs of a unit's board, through the kernel's LED class."""

from __future__ import annotations

from pathlib import Path

_MIXED = {
    "white": ("red", "green", "blue"),
    "blue": ("blue",),
    "green": ("green",),
    "amber": ("red", "green"),
    "red": ("red",),
}


class KernelLeds:
    """Three LEDs named `ostiary:red`, `ostiary:green` and `ostiary:blue`.

    The kernel blinks them by itself (its `timer` trigger), so a busy unit does not stutter.
    """

    def __init__(self, folder: Path) -> None:
        self._leds = {colour: folder / f"ostiary:{colour}" for colour in ("red", "green", "blue")}

    def __call__(self, colour: str, blink_hz: float) -> None:
        """Light `colour`. Raises OSError when an LED is not there."""
        for name, led in self._leds.items():
            if name not in _MIXED[colour]:
                (led / "trigger").write_text("none")
                (led / "brightness").write_text("0")
            elif blink_hz > 0.0:
                (led / "trigger").write_text("timer")
                half_ms = str(round(500.0 / blink_hz))
                (led / "delay_on").write_text(half_ms)
                (led / "delay_off").write_text(half_ms)
            else:
                (led / "trigger").write_text("none")
                (led / "brightness").write_text((led / "max_brightness").read_text().strip())
