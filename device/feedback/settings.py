"""What can be set about telling people at the door. `device/settings.py` holds every value to its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """What tells a person at the door, besides the terminal; all off unless set."""

    earcons: bool = False
    """Tones on the default loudspeaker."""
    chirp: bool = True
    """Where there are tones: whether a chirp tests loudspeaker and microphone when the unit starts."""
    leds: Path | None = None
    """The folder of the kernel's LEDs `ostiary:red`, `ostiary:green`, `ostiary:blue`: `/sys/class/leds`."""
    page: Path | None = None
    """A web page for a screen at the door, best on a RAM disk: `/run/ostiary/door.html`."""
    rest_s: float = field(default=8.0, metadata={"low": 1.0, "high": 60.0})
    """How long an answer stays on display before the door asks for the next badge."""
