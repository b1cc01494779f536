"""`scripts/check-gpio`: a door's wires on a chip that the kernel simulates, through the real libgpiod.

The module gpio-sim makes a chip whose inputs are pulled up or down, and whose outputs are read, in sysfs
(Documentation/admin-guide/gpio/gpio-sim.rst). Needs root, configfs and the module, from Linux 5.17 on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from device.access.decision import Decision, Notice, Outcome, Reason
from device.door.gpio import GpioLines, KernelGpio, find_chip, in_use
from device.door.lines import DoorError
from device.door.settings import GpioSettings, Pull
from device.door.supervised import SupervisedDoor
from device.door.supervision import DoorTiming, Line
from tests.waiting import wait_until

CONFIG, DEVICES = Path("/sys/kernel/config"), Path("/sys/devices/platform")
LABEL, NAMES = "ostiary-sim", ("STRIKE", "CONTACT", "EXIT", "TAMPER", "FIRE")
SETTINGS = GpioSettings(
    chip=LABEL,
    strike="STRIKE",
    contact="CONTACT",
    request_to_exit="EXIT",
    tamper="TAMPER",
    fire="FIRE",
    active_low=("request_to_exit", "fire"),
)
"""As docs/operator/doors.md wires a door: a fire panel's contact that closes, and pull-ups."""
WIRES = {Line.CONTACT: 1, Line.EXIT: 2, Line.TAMPER: 3, Line.FIRE: 4}
SETTLE_S = 0.03
BOUNCES = 12
GRANT = Decision(Outcome.GRANTED, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME)


class NotCheckedError(Exception):
    """This machine cannot simulate a chip; the text says why."""


class Chip:
    """A simulated chip with the five lines; `sysfs` is its folder there while it is live."""

    def __init__(self, config: Path, devices: Path, name: str, label: str = LABEL) -> None:
        self._made, self._devices = config / "gpio-sim" / name, devices
        self._bank = self._made / "bank"
        self._lines = [self._bank / f"line{number}" for number in range(len(NAMES))]
        for folder in (self._made, self._bank):
            folder.mkdir()
        (self._bank / "num_lines").write_text(str(len(NAMES)))
        (self._bank / "label").write_text(label)
        for folder, line in zip(self._lines, NAMES, strict=True):
            folder.mkdir()
            (folder / "name").write_text(line)

    def live(self, plugged: bool) -> None:
        (self._made / "live").write_text("1" if plugged else "0")

    @property
    def device(self) -> str:
        """Such as gpiochip0."""
        return (self._bank / "chip_name").read_text().strip()

    @property
    def sysfs(self) -> Path:
        return self._devices / (self._made / "dev_name").read_text().strip() / self.device

    def pull(self, line: Line, up: bool) -> None:
        (self.sysfs / f"sim_gpio{WIRES[line]}" / "pull").write_text("pull-up" if up else "pull-down")

    def bounce(self, line: Line, up: bool) -> None:
        """The contact closes and opens a dozen times on its way to `up`, some 1 ms each."""
        for number in range(BOUNCES):
            self.pull(line, up is (number % 2 == 0))
            time.sleep(0.001)
        self.pull(line, up)

    def strike(self) -> str:
        """The strike's voltage: 0 or 1."""
        return (self.sysfs / "sim_gpio0" / "value").read_text().strip()

    def remove(self) -> None:
        with suppress(OSError):
            self.live(False)
        for folder in (*self._lines, self._bank, self._made):
            if folder.is_dir():
                folder.rmdir()


@contextmanager
def chip(config: Path = CONFIG, devices: Path = DEVICES) -> Iterator[Chip]:
    """A live chip. Raises NotCheckedError."""
    with suppress(OSError):  # a user's PATH may have no modprobe
        subprocess.run(["modprobe", "gpio-sim"], capture_output=True, check=False)
    if not config.is_dir():
        raise NotCheckedError("this kernel has no configfs")
    if config == CONFIG and not (config / "gpio-sim").is_dir():
        subprocess.run(["mount", "-t", "configfs", "none", str(config)], capture_output=True, check=False)
    if not (config / "gpio-sim").is_dir():
        raise NotCheckedError("this kernel has no module gpio-sim")
    try:
        made = Chip(config, devices, "ostiary")
    except PermissionError as err:
        raise NotCheckedError("only root can make a chip") from err
    try:
        made.live(True)
        yield made
    finally:
        made.remove()


def opened(settings: GpioSettings = SETTINGS) -> GpioLines:
    return GpioLines(settings, KernelGpio(), time.monotonic)


class World:
    """The product's door at work on the chip, in its own thread and in real time."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.door = SupervisedDoor(
            "pharmacy",
            opened,
            unlock_s=60.0,
            timing=DoorTiming(held_open_s=3.0, pre_alarm_s=2.0),
            debounce_s=SETTLE_S,
            now_s=time.monotonic,
            note=lambda kind, reason: self.events.append(f"{kind} {reason}".removesuffix(" none")),
            warn=lambda notice: self.events.append(str(notice)),
            show=lambda _: None,
        )

    def says(self, *expected: str) -> None:
        """These events come next, in this order, and nothing else does."""
        wait_until(lambda: len(self.events) >= len(expected), 60.0, lambda: f"{self.events}, not {expected}")
        time.sleep(5 * SETTLE_S)
        assert self.events == list(expected), f"{self.events}, not {expected}"
        self.events.clear()


@contextmanager
def world(made: Chip) -> Iterator[World]:
    for line in WIRES:  # at rest: closed, not pressed, case closed, no alarm
        made.pull(line, up=line in (Line.EXIT, Line.FIRE))
    built = World()
    with built.door:
        # The chip's own pull is what the unit asks for; the wires say what they say from here on.
        for line in WIRES:
            made.pull(line, up=line in (Line.EXIT, Line.FIRE))
        wait_until(lambda: not built.door.trouble(), 60.0, built.door.trouble)
        time.sleep(1.0)
        built.events.clear()
        yield built


def label(made: Chip) -> str:
    """The chip by its label, whatever number the kernel gives it, and none where two are called so."""
    made.live(False)
    seen = []
    other = Chip(CONFIG, DEVICES, "other", "other-sim")
    try:
        other.live(True)
        made.live(True)
        for number in range(2):
            if number:  # the other one is pulled, and the machine started again
                made.live(False)
                other.live(False)
                made.live(True)
            assert find_chip(KernelGpio(), LABEL) == Path("/dev") / made.device
            seen.append(made.device)
    finally:
        other.remove()
    assert len(set(seen)) == 2, f"the kernel did not renumber: {seen}"
    twin = Chip(CONFIG, DEVICES, "twin")
    try:
        twin.live(True)
        refused(lambda: find_chip(KernelGpio(), LABEL), "2 GPIO chips are called")
    finally:
        twin.remove()
    refused(lambda: find_chip(KernelGpio(), "no-such-chip"), f"there: {LABEL}")
    return f"found as {' and as '.join(seen)}; two of one label and none are refused"


def refused(what: Callable[[], object], why: str) -> None:
    try:
        what()
    except DoorError as err:
        said = str(err)
    else:
        said = "nothing"
    assert why in said, f"{said}, not {why}"


def pulls(made: Chip) -> str:
    """What a wire reads that is cut: as `pull` says, by the resistor that the kernel switches on."""
    for pull, before, high in (
        (Pull.UP, False, True),
        (Pull.DOWN, True, False),
        (Pull.NONE, True, True),
        (Pull.NONE, False, False),
    ):
        for line in WIRES:
            made.pull(line, before)
        with closing(opened(replace(SETTINGS, pull=pull))) as lines:
            read = lines.levels()
            expected = {line: high is not (line in SETTINGS.active_low) for line in WIRES}
            assert read == expected, (pull, read)
    return "a cut wire reads 3.3 V with `up`, 0 V with `down`; `none` changes nothing"


def inputs(made: Chip) -> str:
    """Each wire alone, in both states, as an edge and as a level."""
    late_s = 0.0
    with closing(opened()) as lines:
        for line in WIRES:
            is_low = line in SETTINGS.active_low
            for up in (False, True, False):
                began_s = time.monotonic()
                made.pull(line, up)
                edges = lines.edges(5.0)
                assert len(edges) == 1, f"{line}, {'up' if up else 'down'}: {edges}"
                edge = edges[0]
                late_s = max(late_s, time.monotonic() - began_s)
                assert (edge.line, edge.active) == (line, up is not is_low), edge
                assert began_s <= edge.at_s <= time.monotonic(), "the kernel's time is another clock's"
                assert lines.levels()[line] is (up is not is_low), line
                assert not lines.edges(0.0), "one change, two edges"
    low = len(SETTINGS.active_low)
    return f"{len(WIRES)} inputs, {low} of them active at 0 V; told in {late_s * 1e3:.1f} ms"


def strike(made: Chip) -> str:
    """Locked from the request on, released and locked, and locked when the door is closed."""
    told = []
    for settings in (SETTINGS, replace(SETTINGS, active_low=(*SETTINGS.active_low, "strike"))):
        with closing(opened(settings)) as lines:
            seen = [made.strike()]
            for released in (True, False, True):
                lines.move(released)
                seen.append(made.strike())
        told.append(" ".join(seen))
    assert told == ["0 1 0 1", "1 0 1 0"], told
    return f"{told[0]}, active at 0 V {told[1]}"


def killed(made: Chip) -> str:
    """A unit that dies with its strike released: this chip's driver lets the line go."""
    child = os.fork()
    if not child:
        lines = opened()
        lines.move(True)
        signal.pause()
    wait_until(lambda: made.strike() == "1", 60.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert made.strike() == "0"
    with closing(opened()):
        assert made.strike() == "0"
    return "1, and 0 after SIGKILL"


def taken(made: Chip) -> str:
    """A line that another program has is named with it."""
    with closing(opened()):
        assert in_use(SETTINGS, KernelGpio()) == "ostiary"
        refused(opened, "another program is using")
    assert in_use(SETTINGS, KernelGpio()) == ""
    return "refused while another has the lines, and told who"


def passage(made: Chip) -> str:
    """A grant, an opening and a closing with contacts that bounce."""
    with world(made) as at:
        at.door.obey(GRANT)
        assert made.strike() == "1"
        made.bounce(Line.CONTACT, up=True)
        at.says("DOOR_OPENED")
        made.bounce(Line.CONTACT, up=False)
        at.says("DOOR_CLOSED")
        assert made.strike() == "0", "the strike locks when the door has closed"
    return f"{BOUNCES} bounces are one DOOR_OPENED, one DOOR_CLOSED; the strike locks behind"


def forced(made: Chip) -> str:
    """Opened without a cause, and left open."""
    with world(made) as at:
        made.bounce(Line.CONTACT, up=True)
        at.says(
            "DOOR_OPENED",
            "DOOR_FORCED_OPEN forced",
            str(Notice.CLOSE_DOOR),
            str(Notice.CLOSE_DOOR),
            "DOOR_OPEN_TOO_LONG held_open",
        )
        made.bounce(Line.CONTACT, up=False)
        at.says("DOOR_CLOSED")
    return "DOOR_FORCED_OPEN, asked to close, DOOR_OPEN_TOO_LONG"


def leaving(made: Chip) -> str:
    """The exit button, then the door; and a case that is opened and closed."""
    with world(made) as at:
        made.bounce(Line.EXIT, up=False)
        at.says("EGRESS request_to_exit")
        assert made.strike() == "0"
        made.bounce(Line.EXIT, up=True)
        made.bounce(Line.CONTACT, up=True)
        at.says("DOOR_OPENED")
        made.bounce(Line.CONTACT, up=False)
        at.says("DOOR_CLOSED")
        made.bounce(Line.TAMPER, up=True)
        at.says("TAMPER case_opened")
        made.bounce(Line.TAMPER, up=False)
        at.says("TAMPER_ENDED case_closed")
    return "EGRESS once and no forced door; TAMPER once, TAMPER_ENDED once"


def fire(made: Chip) -> str:
    """The panel calls, with a contact that bounces, and ends the call; also amid edges of another wire."""
    with world(made) as at:
        assert not at.door.fire()
        called_s = time.monotonic()
        made.bounce(Line.FIRE, up=False)
        wait_until(at.door.fire, 60.0)
        plain_s = time.monotonic() - called_s
        made.bounce(Line.FIRE, up=True)
        wait_until(lambda: not at.door.fire(), 60.0)
        for number in range(1000):  # far more than the kernel keeps
            made.pull(Line.TAMPER, up=number % 2 == 0)
            if number == 500:
                called_s = time.monotonic()
                made.pull(Line.FIRE, up=False)
        wait_until(at.door.fire, 60.0)
        flooded_s = time.monotonic() - called_s
        made.pull(Line.FIRE, up=True)
        wait_until(lambda: not at.door.fire(), 60.0)
    plain_ms, flooded_ms = plain_s * 1e3, flooded_s * 1e3
    return f"known after {plain_ms:.0f} ms; with another wire's thousand edges after {flooded_ms:.0f} ms"


def dropped(made: Chip) -> str:
    """A call whose edge the kernel threw away, since nobody read for a while."""
    with closing(opened()) as lines:
        for number in range(1001):
            made.pull(Line.CONTACT, up=number % 2 == 0)
        made.pull(Line.FIRE, up=False)
        kept = [edge for _ in range(1000) for edge in lines.edges(0.0)]
        assert len(kept) < 1001, "the kernel kept everything"
        assert lines.levels()[Line.FIRE], "the level is not the wire's"
    return f"of 1,002 edges {len(kept)} were kept; the fire input is read all the same"


def gone(made: Chip) -> str:
    """The chip is pulled off with the strike released, and put back."""
    with world(made) as at:
        at.door.obey(GRANT)
        made.live(False)
        at.says("FAULT door_fault")
        assert "GPIO chip" in at.door.trouble()
        assert at.door.is_locked, "a grant outlived its hardware"
        made.live(True)
        wait_until(lambda: not at.door.trouble(), 60.0, at.door.trouble)
        assert made.strike() == "0"
    return "one FAULT; locked, and watched again without a restart"


CHECKS: tuple[Callable[[Chip], str], ...] = (
    label,
    pulls,
    inputs,
    strike,
    killed,
    taken,
    passage,
    forced,
    leaving,
    fire,
    dropped,
    gone,
)


def main() -> int:
    failed = 0
    try:
        with chip() as made:
            print(f"Linux {os.uname().release}, gpio-sim, {made.device}")
            for check in CHECKS:
                try:
                    print(f"pass  {check.__name__:8} {check(made)}", flush=True)
                except (AssertionError, DoorError, OSError, ValueError) as err:
                    failed = 1
                    print(f"FAIL  {check.__name__:8} {err!r}", flush=True)
    except NotCheckedError as err:
        print(f"NOT CHECKED: {err}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
