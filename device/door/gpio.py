"""The wires of a door on a GPIO chip. The one module that touches the kernel's character device.

Chips are found by label, lines by name or offset: the kernels' numbers of both change. The kernel reports
edges with their times; levels are read besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from device.door.debounce import Level
from device.door.lines import DoorError
from device.door.settings import STRIKE, GpioSettings, Pull
from device.door.supervision import Line
from sync.plain_words import why

CONSUMER = "ostiary"


@dataclass(frozen=True, slots=True)
class Wire:
    """One line as requested from the chip."""

    offset: int
    active_low: bool
    pull: Pull


class Inputs(Protocol):
    """Lines that are read, by offset."""

    def edges(self, timeout_s: float) -> Iterable[tuple[int, bool, float]]:
        """(offset, active, time.monotonic() in seconds) of each change; waits for the first."""

    def levels(self) -> Mapping[int, bool]: ...

    def close(self) -> None: ...


class Output(Protocol):
    """A line that is driven; inactive from the moment it is asked for."""

    def move(self, active: bool) -> None: ...

    def close(self) -> None: ...


class Gpio(Protocol):
    """The GPIO chips of a machine. Everything raises OSError when the kernel refuses."""

    def chips(self) -> Mapping[str, list[Path]]:
        """The device files there are, by label."""

    def offset(self, chip: Path, name: str) -> int:
        """Where the line of this name is. Raises OSError when there is none."""

    def holder(self, chip: Path, offset: int) -> str:
        """Which program has this line now; empty when none has."""

    def inputs(self, chip: Path, wires: Iterable[Wire]) -> Inputs: ...

    def output(self, chip: Path, wire: Wire) -> Output: ...


class GpioLines:
    """Lines of one door. Raises DoorError, saying what to do, when chip or lines cannot be used."""

    def __init__(self, settings: GpioSettings, gpio: Gpio, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        chip = find_chip(gpio, settings.chip)
        self._by_offset = {
            _offset(gpio, chip, settings, line, wire): line for line, wire in settings.inputs().items()
        }
        low = set(settings.active_low)
        wires = [Wire(offset, line in low, settings.pull) for offset, line in sorted(self._by_offset.items())]
        self._strike: Output | None = None
        self._inputs: Inputs | None = None
        try:
            if settings.strike:  # first: from here on the strike is held locked
                at = _offset(gpio, chip, settings, STRIKE, settings.strike)
                self._strike = gpio.output(chip, Wire(at, STRIKE in low, Pull.NONE))
            if wires:
                self._inputs = gpio.inputs(chip, wires)
        except OSError as err:
            self.close()
            raise DoorError(
                f"lines of the GPIO chip {settings.chip} cannot be used ({why(err)}); is another program "
                "using them, and is this user in the group of the chip's device?"
            ) from err

    def edges(self, timeout_s: float) -> list[Level]:
        if self._inputs is None:
            time.sleep(timeout_s)
            return []
        shift_s = self._now_s() - time.monotonic()
        try:
            return [
                Level(self._by_offset[offset], active, at_s + shift_s)
                for offset, active, at_s in self._inputs.edges(timeout_s)
            ]
        except OSError as err:
            raise _gone(err) from err

    def levels(self) -> Mapping[Line, bool]:
        if self._inputs is None:
            return {}
        try:
            return {self._by_offset[offset]: active for offset, active in self._inputs.levels().items()}
        except OSError as err:
            raise _gone(err) from err

    def move(self, released: bool) -> None:
        if self._strike is not None:
            try:
                self._strike.move(released)
            except OSError as err:
                raise _gone(err) from err

    def close(self) -> None:
        if self._strike is not None:
            with suppress(OSError):
                self._strike.move(False)
            with suppress(OSError):
                self._strike.close()
        if self._inputs is not None:
            with suppress(OSError):
                self._inputs.close()


def find_chip(gpio: Gpio, label: str) -> Path:
    """The device of the one chip with this label. Raises DoorError, which lists the labels there are."""
    try:
        chips = gpio.chips()
    except OSError as err:
        raise DoorError(
            f"the GPIO chips cannot be listed ({why(err)}); is this user in the group of /dev/gpiochip*?"
        ) from err
    found = chips.get(label, [])
    if len(found) == 1:
        return found[0]
    if found:
        raise DoorError(
            f"{len(found)} GPIO chips are called {label}, and one of them has the strike: unplug the others"
        )
    there = ", ".join(sorted(chips)) or "none"
    raise DoorError(f"no GPIO chip is called `{label}`; there: {there}. Set `[door.gpio] chip`")


def in_use(settings: GpioSettings, gpio: Gpio) -> str:
    """Which program has the door's lines now; empty when none has. Raises DoorError."""
    chip = find_chip(gpio, settings.chip)
    names: dict[str, str] = {str(line): wire for line, wire in settings.inputs().items()}
    if settings.strike:
        names[STRIKE] = settings.strike
    offsets = [_offset(gpio, chip, settings, name, wire) for name, wire in names.items()]
    try:
        holders = {gpio.holder(chip, offset) for offset in offsets}
    except OSError as err:
        raise DoorError(f"the GPIO chip {settings.chip} cannot be asked for its lines ({why(err)})") from err
    return ", ".join(sorted(holders - {""}))


def _offset(gpio: Gpio, chip: Path, settings: GpioSettings, name: str, wire: str) -> int:
    if wire.isdigit():
        return int(wire)
    try:
        return gpio.offset(chip, wire)
    except OSError as err:
        raise DoorError(f"the chip {settings.chip} has no line `{wire}`; mend `[door.gpio] {name}`") from err


def _gone(err: OSError) -> DoorError:
    return DoorError(f"the GPIO chip does not answer any more ({why(err)}); check its board")


class KernelGpio:
    """The chips of this machine, through libgpiod 2."""

    def chips(self) -> Mapping[str, list[Path]]:
        gpiod = _gpiod()
        found: dict[str, list[Path]] = {}
        for path in sorted(Path("/dev").glob("gpiochip*")):
            # A chip may have two names in /dev; a link is not a second chip.
            if not path.is_symlink() and gpiod.is_gpiochip_device(str(path)):
                with gpiod.Chip(str(path)) as chip:
                    found.setdefault(chip.get_info().label, []).append(path)
        return found

    def offset(self, chip: Path, name: str) -> int:
        with _gpiod().Chip(str(chip)) as opened:
            return int(opened.line_offset_from_id(name))

    def holder(self, chip: Path, offset: int) -> str:
        with _gpiod().Chip(str(chip)) as opened:
            info = opened.get_line_info(offset)
            return str(info.consumer or "the kernel") if info.used else ""

    def inputs(self, chip: Path, wires: Iterable[Wire]) -> Inputs:
        gpiod = _gpiod()
        config = {
            wire.offset: gpiod.LineSettings(
                direction=gpiod.line.Direction.INPUT,
                edge_detection=gpiod.line.Edge.BOTH,
                bias=_bias(wire.pull),
                active_low=wire.active_low,
                debounce_period=timedelta(0),  # ours (`debounce.py`) is the one that is tested
            )
            for wire in wires
        }
        return _KernelInputs(gpiod.request_lines(str(chip), consumer=CONSUMER, config=config))

    def output(self, chip: Path, wire: Wire) -> Output:
        gpiod = _gpiod()
        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT,
            output_value=gpiod.line.Value.INACTIVE,
            active_low=wire.active_low,
        )
        return _KernelOutput(
            gpiod.request_lines(str(chip), consumer=CONSUMER, config={wire.offset: settings}), wire.offset
        )


class _KernelInputs:
    def __init__(self, request: Any) -> None:
        self._request = request

    def edges(self, timeout_s: float) -> list[tuple[int, bool, float]]:
        gpiod = _gpiod()
        with _released_is_gone():
            if not self._request.wait_edge_events(timedelta(seconds=timeout_s)):
                return []
            rising = gpiod.EdgeEvent.Type.RISING_EDGE  # of the logical level: active-low is in it
            return [
                (event.line_offset, event.event_type is rising, event.timestamp_ns / 1e9)
                for event in self._request.read_edge_events()
            ]

    def levels(self) -> Mapping[int, bool]:
        active = _gpiod().line.Value.ACTIVE
        with _released_is_gone():
            offsets = self._request.offsets
            return {
                offset: value is active
                for offset, value in zip(offsets, self._request.get_values(), strict=True)
            }

    def close(self) -> None:
        with suppress(OSError), _released_is_gone():
            self._request.release()


class _KernelOutput:
    def __init__(self, request: Any, offset: int) -> None:
        self._request = request
        self._offset = offset

    def move(self, active: bool) -> None:
        value = _gpiod().line.Value
        with _released_is_gone():
            self._request.set_value(self._offset, value.ACTIVE if active else value.INACTIVE)

    def close(self) -> None:
        with suppress(OSError), _released_is_gone():
            self._request.release()


@contextmanager
def _released_is_gone() -> Iterator[None]:
    """Translates libgpiod's error for a request that another thread has released."""
    try:
        yield
    except _gpiod().exception.RequestReleasedError as err:
        raise OSError(f"{err}") from err


def _gpiod() -> Any:
    """The library, loaded on first use: a door without GPIO needs none."""
    try:
        import gpiod
    except ImportError as err:
        raise DoorError("the library gpiod is missing; run `scripts/setup`") from err
    return gpiod


def _bias(pull: Pull) -> Any:
    bias = _gpiod().line.Bias
    return {Pull.UP: bias.PULL_UP, Pull.DOWN: bias.PULL_DOWN, Pull.NONE: bias.DISABLED}[pull]
