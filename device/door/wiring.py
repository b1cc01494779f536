"""Tells an installer about a door's wires."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from device.access.rules import Rules
from device.door.gpio import CONSUMER, Gpio, GpioLines, in_use
from device.door.lines import DoorError, Lines
from device.door.settings import DoorKind, DoorSettings
from device.door.supervision import Line

WORDS = {
    Line.CONTACT: ("closed", "open"),
    Line.EXIT: ("not pressed", "pressed"),
    Line.TAMPER: ("case closed", "case open"),
    Line.FIRE: ("no alarm", "ALARM"),
}
"""What inactive and active mean."""
_NEVER_AT_REST = {
    Line.FIRE: "the fire input says ALARM; without one, mend its wire or `[door.gpio] active_low`: "
    "the unit would release the door",
    Line.TAMPER: "the case is open, or its tamper wire is broken",
}


def fire_input_missing(settings: DoorSettings, rules: Rules) -> str:
    """What to do where the rules release this door by a fire input that has no wire; else empty."""
    door = rules.doors.get(settings.name)
    if door is None or not door.fire_release or settings.gpio.fire:
        return ""
    if settings.kind is DoorKind.SIMULATED and settings.simulated.lines:
        return ""
    return (
        f"the rules release {settings.name} by the fire input, and no line is its wire: name it in "
        "`[door.gpio] fire`, or take `fire_release` out of the rules"
    )


def examined(settings: DoorSettings, gpio: Gpio, now_s: Callable[[], float]) -> str:
    """The state of every wire. Raises DoorError when chip or lines cannot be used, or a wire at rest tells an
    alarm.
    """
    if not settings.gpio.chip:
        return f"{settings.kind}; no GPIO lines are set"
    holder = in_use(settings.gpio, gpio)
    if holder == CONSUMER:
        return f"{settings.gpio.chip}: in use by the running unit; stop it to look at each wire"
    if holder:
        raise DoorError(f"lines of {settings.gpio.chip} are in use by {holder}; stop it or choose others")
    lines = GpioLines(settings.gpio, gpio, now_s)
    try:
        levels = lines.levels()
    finally:
        lines.close()
    wrong = [said for line, said in _NEVER_AT_REST.items() if levels.get(line)]
    if wrong:
        raise DoorError("; ".join(wrong))
    told = [f"{line} {WORDS[line][active]}" for line, active in levels.items()]
    if settings.kind is DoorKind.GPIO:
        told.append("strike locked")
    return f"{settings.gpio.chip}: {', '.join(told)}"


def tried(
    lines: Lines, levels: Mapping[Line, bool], stop: Callable[[], bool]
) -> Iterator[tuple[Line, bool, tuple[Line, ...]]]:
    """Each change of a wire from `levels` on, with the wires not yet seen in both states; ends when there are
    none, or `stop` says so.
    """
    seen = {line: {active} for line, active in levels.items()}
    last = dict(levels)
    while not stop() and any(len(states) < 2 for states in seen.values()):
        list(lines.edges(0.1))
        for line, active in lines.levels().items():
            if active != last[line]:
                last[line] = active
                seen[line].add(active)
                yield line, active, tuple(name for name, states in seen.items() if len(states) < 2)
