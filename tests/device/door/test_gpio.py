"""Wires on a GPIO chip: found by label and name, whatever the kernel numbers them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.door.gpio import GpioLines, Inputs, KernelGpio, Output, Wire, find_chip
from device.door.lines import DoorError
from device.door.settings import DoorKind, DoorSettings, GpioSettings, Pull
from device.door.supervised import SupervisedDoor
from device.door.supervision import DoorTiming, Line
from device.door.wiring import examined, tried
from tests.e2e.gpio_sim import NotCheckedError, chip

PI5 = "pinctrl-rp1"
SETTINGS = GpioSettings(
    chip=PI5,
    strike="GPIO17",
    contact="GPIO22",
    request_to_exit="GPIO23",
    tamper="24",
    fire="GPIO25",
    active_low=("request_to_exit", "strike"),
)


class FakeChip(Inputs, Output):
    """One chip: voltages by offset, edges as the kernel queues them, and who has asked for what."""

    def __init__(self) -> None:
        self.volts = dict.fromkeys(range(54), False)
        self.wires: dict[int, Wire] = {}
        self.driven: dict[int, bool] = {}
        self.gone = False
        self._strike: Wire | None = None
        self._queue: list[tuple[int, bool, float]] = []

    def wiggle(self, offset: int, volts: bool, bounces: int = 0) -> None:
        for level in [volts, not volts] * bounces + [volts]:
            if level != self.volts[offset]:
                self.volts[offset] = level
                low = self.wires[offset].active_low
                self._queue.append((offset, level != low, time.monotonic()))

    def ask(self, wires: Iterable[Wire]) -> FakeChip:
        self.wires = {wire.offset: wire for wire in wires}
        return self

    def drive(self, wire: Wire) -> FakeChip:
        self._strike = wire
        self.move(False)
        return self

    def edges(self, timeout_s: float) -> Iterable[tuple[int, bool, float]]:
        self._check()
        queue, self._queue = self._queue, []
        return queue

    def levels(self) -> Mapping[int, bool]:
        self._check()
        return {offset: self.volts[offset] != wire.active_low for offset, wire in self.wires.items()}

    def move(self, active: bool) -> None:
        self._check()
        assert self._strike is not None
        self.driven[self._strike.offset] = active != self._strike.active_low

    def close(self) -> None: ...

    def _check(self) -> None:
        if self.gone:
            raise OSError(19, "No such device")


class FakeGpio:
    def __init__(self, *labels: str) -> None:
        self.labels = labels or ("gpio-brcmstb@107d508500", PI5)
        self.chip = FakeChip()
        self.held_by = ""

    def chips(self) -> Mapping[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for number, label in enumerate(self.labels):
            found.setdefault(label, []).append(Path(f"/dev/gpiochip{number}"))
        return found

    def offset(self, chip: Path, name: str) -> int:
        if not name.startswith("GPIO"):
            raise FileNotFoundError(2, "No such file or directory")
        return int(name.removeprefix("GPIO"))

    def holder(self, chip: Path, offset: int) -> str:
        return self.held_by

    def inputs(self, chip: Path, wires: Iterable[Wire]) -> Inputs:
        return self.chip.ask(wires)

    def output(self, chip: Path, wire: Wire) -> Output:
        return self.chip.drive(wire)


def test_the_strike_is_locked_from_the_moment_the_lines_are_opened() -> None:
    gpio = FakeGpio()
    lines = GpioLines(SETTINGS, gpio, time.monotonic)
    assert gpio.chip.driven == {17: True}, "active-low: locked is 3.3 V"
    lines.move(True)
    assert gpio.chip.driven == {17: False}
    lines.close()
    assert gpio.chip.driven == {17: True}


def test_levels_and_edges_have_the_doors_names_and_polarity() -> None:
    gpio = FakeGpio()
    gpio.chip.volts[23] = True
    lines = GpioLines(SETTINGS, gpio, time.monotonic)
    assert set(lines.levels().values()) == {False}
    gpio.chip.wiggle(22, True, bounces=4)
    gpio.chip.wiggle(23, False)
    assert lines.levels() == {Line.CONTACT: True, Line.EXIT: True, Line.TAMPER: False, Line.FIRE: False}
    edges = lines.edges(0.0)
    assert [edge.active for edge in edges if edge.line is Line.CONTACT][-1] is True
    assert [edge.active for edge in edges if edge.line is Line.EXIT] == [True]
    assert abs(edges[0].at_s - time.monotonic()) < 60.0


@pytest.mark.parametrize("labels", [(PI5,), ("other", PI5), (PI5, "other")])
def test_the_chip_is_found_whatever_its_number(labels: tuple[str, ...]) -> None:
    assert find_chip(FakeGpio(*labels), PI5) == Path(f"/dev/gpiochip{labels.index(PI5)}")


@pytest.mark.parametrize(
    ("labels", "said"), [(("pinctrl-bcm2711",), "there: pinctrl-bcm2711"), ((PI5, PI5), "2 GPIO chips")]
)
def test_a_chip_that_is_not_there_or_there_twice_is_said(labels: tuple[str, ...], said: str) -> None:
    with pytest.raises(DoorError, match=said):
        find_chip(FakeGpio(*labels), PI5)


def test_a_line_that_the_chip_does_not_have_is_named_with_its_setting() -> None:
    with pytest.raises(DoorError, match=r"no line `D7`; mend `\[door.gpio\] strike`"):
        GpioLines(GpioSettings(chip=PI5, strike="D7"), FakeGpio(), time.monotonic)


def test_a_chip_that_goes_away_is_an_error_that_says_so() -> None:
    gpio = FakeGpio()
    lines = GpioLines(SETTINGS, gpio, time.monotonic)
    gpio.chip.gone = True
    for use in (lambda: lines.move(True), lines.levels, lambda: lines.edges(0.0)):
        with pytest.raises(DoorError, match="does not answer any more"):
            use()
    lines.close()


def test_every_mistake_in_the_wiring_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="both GPIO17") as caught:
        GpioSettings(strike="GPIO17", fire="GPIO17", active_low=("door",))
    assert "active_low names `door`" in str(caught.value)
    assert "`chip` is missing" in str(caught.value)


def examine(gpio: FakeGpio) -> str:
    return examined(DoorSettings(kind=DoorKind.GPIO, gpio=SETTINGS), gpio, time.monotonic)


def test_the_doctor_tells_how_every_wire_stands() -> None:
    gpio = FakeGpio()
    gpio.chip.volts[23] = True
    told = examine(gpio)
    assert "contact closed, request_to_exit not pressed, tamper case closed, fire no alarm" in told


def test_the_doctor_calls_a_fire_input_that_says_alarm_and_an_open_case_wrong() -> None:
    gpio = FakeGpio()
    gpio.chip.volts[25] = gpio.chip.volts[24] = True
    with pytest.raises(DoorError, match=r"fire input says ALARM.*case is open"):
        examine(gpio)


def test_the_doctor_leaves_the_lines_of_a_running_unit_alone_and_names_another_holder() -> None:
    gpio = FakeGpio()
    gpio.held_by = "ostiary"
    assert "running unit" in examine(gpio)
    assert gpio.chip.driven == {}
    gpio.held_by = "gpio-hog"
    with pytest.raises(DoorError, match="in use by gpio-hog"):
        examine(gpio)


def test_a_trial_of_the_wires_ends_when_each_was_seen_in_both_states() -> None:
    gpio = FakeGpio()
    lines = GpioLines(GpioSettings(chip=PI5, contact="GPIO22", fire="GPIO25"), gpio, time.monotonic)
    trial = tried(lines, lines.levels(), lambda: False)
    for offset, left in ((22, (Line.FIRE,)), (25, ())):
        gpio.chip.wiggle(offset, True, bounces=2)
        assert next(trial)[2] == left
    assert list(trial) == []


def test_this_machines_own_chips_can_be_listed_by_the_real_library() -> None:
    assert isinstance(KernelGpio().chips(), dict)


def test_the_real_library_refuses_a_chip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "chip").write_bytes(b"")
    with pytest.raises(OSError):
        KernelGpio().output(tmp_path / "chip", Wire(0, False, Pull.NONE))


def test_a_door_on_a_bouncing_chip_writes_each_passage_once_and_times_what_was_forced() -> None:
    gpio, now_s, events = FakeGpio(), [time.monotonic()], []
    door = SupervisedDoor(
        "pharmacy",
        lambda: GpioLines(SETTINGS, gpio, lambda: now_s[0]),
        unlock_s=5.0,
        timing=DoorTiming(),
        debounce_s=0.03,
        now_s=lambda: now_s[0],
        note=lambda kind, _: events.append(kind),
        warn=lambda notice: events.append(notice),
        show=lambda _: None,
    )

    def later(seconds: float) -> None:
        now_s[0] += seconds
        door.look()

    def moves(opened: bool, bounces: int) -> None:
        gpio.chip.wiggle(22, opened, bounces)
        later(0.0)
        later(0.1)

    door.look()
    gpio.chip.wiggle(23, True)  # a button that is active at 0 V, not pressed
    later(1.0)
    events.clear()
    door.obey(Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME))
    assert gpio.chip.driven == {17: False}  # active low: released
    moves(opened=True, bounces=7)
    moves(opened=False, bounces=12)
    assert gpio.chip.driven == {17: True}
    assert events == ["DOOR_OPENED", "DOOR_CLOSED"]
    later(10.0)
    moves(opened=True, bounces=5)
    later(1.0)
    later(20.0)
    later(10.0)
    assert events[2:] == [
        "DOOR_OPENED",
        "DOOR_FORCED_OPEN",
        Notice.CLOSE_DOOR,
        Notice.CLOSE_DOOR,
        "DOOR_OPEN_TOO_LONG",
    ]
    moves(opened=False, bounces=3)
    assert events[-1] == "DOOR_CLOSED"


def test_a_machine_whose_kernel_simulates_no_chip_is_not_checked_and_says_why(tmp_path: Path) -> None:
    """`scripts/check-gpio`, without configfs and with one that has no gpio-sim."""
    with pytest.raises(NotCheckedError, match="no configfs"), chip(tmp_path / "none"):
        pass
    (tmp_path / "config").mkdir()
    if not Path("/sys/module/gpio_sim").exists():
        with pytest.raises(NotCheckedError, match="no module gpio-sim"), chip(tmp_path / "config"):
            pass
