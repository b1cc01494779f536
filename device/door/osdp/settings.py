"""Settings of the controller behind a door."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

BAUD_RATES = (9_600, 19_200, 38_400, 57_600, 115_200, 230_400)


class OsdpMode(StrEnum):
    """What unit and controller tell each other."""

    GATE = "gate"
    """The person's own card goes to the controller, after every check has passed and never before."""
    CLAIM_FROM_PANEL = "claim-from-panel"
    """The controller reads the badge and asks; the unit answers with its verdict."""
    REPORT = "report"
    """The unit moves its own strike; the controller is told what was decided."""


@dataclass(frozen=True, slots=True)
class OsdpSettings:
    """The line to the controller."""

    mode: OsdpMode = OsdpMode.GATE
    port: Path | None = None
    """The serial device of the RS-485 adapter, such as `/dev/serial/by-id/...`."""
    address: int = field(default=1, metadata={"low": 0, "high": 126})
    baud: int = 9_600

    def __post_init__(self) -> None:
        if self.baud not in BAUD_RATES:
            raise ValueError(f"baud must be one of {', '.join(map(str, BAUD_RATES))}, not {self.baud}")
