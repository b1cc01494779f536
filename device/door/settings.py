"""Settings of the door."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from device.door.osdp.settings import OsdpMode, OsdpSettings
from device.door.supervision import DoorTiming, Line
from device.evidence.vocabulary import Language

STRIKE = "strike"
_NAMES = (STRIKE, *Line)


class DoorKind(StrEnum):
    """What moves when a decision opens."""

    SIMULATED = "simulated"
    GPIO = "gpio"
    OSDP = "osdp"


class Pull(StrEnum):
    """The resistor that the board puts on every input."""

    UP = "up"
    DOWN = "down"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SimulatedSettings:
    """A door of files, for development."""

    lines: Path | None = None
    """A folder with the files `contact`, `request_to_exit`, `tamper` and `fire`, each `0` or `1` (missing:
    `0`), where `strike` is written.
    """


@dataclass(frozen=True, slots=True)
class GpioSettings:
    """The door's wires on a GPIO chip, each by the board's name for its line, or its offset."""

    chip: str = ""
    """The chip's label, such as `pinctrl-rp1` (Raspberry Pi 5) or `pinctrl-bcm2711` (4); no number, since
    kernels renumber chips.
    """
    strike: str = ""
    contact: str = ""
    """Active while the door is open."""
    request_to_exit: str = ""
    """Active while somebody asks to leave."""
    tamper: str = ""
    """Active while the case is open."""
    fire: str = ""
    """Active while the fire panel calls for release; the rules say whether this door obeys."""
    active_low: tuple[str, ...] = ()
    """Lines that are active at 0 V, by the names above."""
    pull: Pull = Pull.UP
    debounce_ms: float = field(default=30.0, metadata={"low": 1.0, "high": 500.0})

    def __post_init__(self) -> None:
        wrong = [
            f"active_low names `{name}`; lines are {', '.join(_NAMES)}"
            for name in self.active_low
            if name not in _NAMES
        ]
        wired = {name: getattr(self, name) for name in _NAMES if getattr(self, name)}
        by_wire: dict[str, list[str]] = {}
        for name, wire in wired.items():
            by_wire.setdefault(wire, []).append(name)
        wrong += [
            f"{' and '.join(names)} are both {wire}" for wire, names in by_wire.items() if len(names) > 1
        ]
        if wired and not self.chip:
            wrong.append("`chip` is missing: the label of the chip that has these lines")
        if self.chip and not wired:
            wrong.append("a chip without a line; name at least `strike`")
        if wrong:
            raise ValueError("; ".join(wrong))

    def inputs(self) -> dict[Line, str]:
        """The wired inputs."""
        return {line: wire for line in Line if (wire := getattr(self, line))}


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Which door this is, what moves it and for how long."""

    name: str = "door-1"
    unit: str = "site-1/unit-1"
    language: str = "en"
    """Of what the door shows and says; `device/feedback/languages` has a file for each."""
    phrases: Language = Language.ENGLISH
    """In which phrases are shown and heard, and spoken names and numbers; the rules may give a person another
    (`phrases`). Any but English needs the larger words model: `ostiary models build --only words-base`.
    """
    kind: DoorKind = DoorKind.SIMULATED
    unlock_s: float = field(default=5.0, metadata={"low": 0.5, "high": 60.0})
    """How long the strike stays released; the rules may give a person longer (`unlock_s`)."""
    timing: DoorTiming = field(default_factory=DoorTiming)
    simulated: SimulatedSettings = field(default_factory=SimulatedSettings)
    gpio: GpioSettings = field(default_factory=GpioSettings)
    osdp: OsdpSettings = field(default_factory=OsdpSettings)

    def __post_init__(self) -> None:
        if self.kind is DoorKind.GPIO and not self.gpio.strike:
            raise ValueError('kind = "gpio" needs `gpio.chip` and `gpio.strike`')
        if self.kind is DoorKind.OSDP:
            self._check_osdp()

    def _check_osdp(self) -> None:
        own_strike = bool(self.gpio.strike or self.simulated.lines)
        wrong = []
        if self.osdp.port is None:
            wrong.append('kind = "osdp" needs `osdp.port`')
        if self.osdp.mode is OsdpMode.REPORT and not own_strike:
            wrong.append('osdp.mode = "report" needs a strike of the unit: `gpio.chip` and `gpio.strike`')
        if self.osdp.mode is not OsdpMode.REPORT and (self.gpio.strike or self.gpio.contact):
            wrong.append(
                f'osdp.mode = "{self.osdp.mode}" leaves strike and contact to the controller: '
                "remove `gpio.strike` and `gpio.contact`"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
