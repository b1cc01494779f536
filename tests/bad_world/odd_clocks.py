"""Moments at which counters of seconds end, repeat or go back."""

from __future__ import annotations

import time

from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_link import ANSWER_WITHIN_S
from tests.bad_world.clocks import MovableClock
from tests.bad_world.world import JUDGED, PERSON, Door, Ended, Unit, World
from tests.waiting import wait_until

YEAR_S = 365 * 86_400
SHORT_S = 8.0
LONG_S = 24.0
"""Longer than there is for a phrase, shorter than a silence that ends an attempt."""


def years_2038_and_2106(world: World) -> Ended:
    """starts seconds before 31 and 32 bits of seconds are full, and one after"""
    unit = world.unit("bits")
    for clock in ("2038-01-19 03:14:02", "2106-02-07 06:28:10", "2106-02-07 07:00:00"):
        with unit.at(clock).door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.badge()
            saw = door.shows("stays locked")
            door.end()
        assert unit.people() == [PERSON], clock
    assert "CLOCK_SET clock_fault" in unit.events(), unit.events()
    with unit.door("--source", world.sentence) as door:
        door.shows("Show your badge")
        door.badge()
        door.shows(JUDGED)
        door.end()
    return Ended(saw, "CLOCK_SET clock_fault", "with the right time the person is judged as before")


def leap_second(world: World) -> Ended:
    """a second comes twice, and a time server takes half a second back, while somebody is at the door"""
    unit = world.unit("leap")
    clock = MovableClock(unit.folder)
    with unit.with_(**clock.environment()).door("--source", world.sentence) as door:
        for off in (-1, 0, -1):
            door.shows("Show your badge")
            door.badge()
            door.shows("Please say")
            clock.set_off(off)
            saw = door.shows(JUDGED)
        door.end()
    assert not [event for event in unit.events() if "clock" in event], unit.events()
    return Ended(saw, "nothing: a second is no fault", "nothing to recover from")


def clock_back_while_the_tpm_is_silent(world: World) -> Ended:
    """the clock goes back by a year while the TPM is off, which no attempt asks meanwhile"""
    folder = world.folder / "tpm-clock"
    with SwTpm(folder / "tpm") as tpm:
        unit = world.bare("tpm-unit", tpm=tpm.tcti)
        enrolled = unit.does("enroll", PERSON, *(world.reader[number].path for number in (0, 2, 3)))
        assert enrolled.code == 0, enrolled.said
        clock = MovableClock(unit.folder)
        with unit.with_(**clock.environment()).door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.badge()
            door.shows(JUDGED)
            tpm.power_cut()
            door.badge()
            clock.set_off(-YEAR_S)
            saw = door.shows("stays locked")
            tpm.start()
            door.badge()
            door.shows("stays locked")
            clock.set_off(0)
            door.badge()
            door.shows(JUDGED)
            door.end()
        assert unit.people() == [PERSON]
        events = unit.events()
    log = [event for event in events if event.startswith(("FAULT", "DENIED_FAULT"))]
    return Ended(saw, ", ".join(log) or "the attempts, as ever", "by itself, once the TPM answers again")


def clock_back_while_an_attempt_waits_for_the_tpm(world: World) -> Ended:
    """the TPM takes an attempt's question and says nothing, and the clock goes back by a year meanwhile"""
    with SwTpm(world.folder / "tpm-waits" / "tpm") as tpm:
        unit = world.bare("tpm-waits-unit", tpm=tpm.tcti)
        enrolled = unit.does("enroll", PERSON, *(world.reader[number].path for number in (0, 2, 3)))
        assert enrolled.code == 0, enrolled.said
        saw = [
            _waits(world, unit, tpm, silent_s) for silent_s in (SHORT_S, LONG_S, ANSWER_WITHIN_S + SHORT_S)
        ]
        assert unit.people() == [PERSON]
        events = unit.events()
    assert any(event.startswith("DENIED_FAULT") for event in events), events
    assert "FAULT clock_fault" in events or "CLOCK_SET clock_fault" in events, events
    log = sorted({event for event in events if "FAULT" in event or "CLOCK" in event})
    return Ended(saw[-1], ", ".join(log), "by itself, once the TPM answers and the clock is right")


def _waits(world: World, unit: Unit, tpm: SwTpm, silent_s: float) -> str:
    """A start's first attempt asks the TPM for a number never used before; it is silent for so long."""
    clock = MovableClock(unit.folder)
    with unit.with_(**clock.environment()).door("--source", world.sentence) as door:
        door.shows("Show your badge")
        asked_s = time.monotonic()
        with tpm.silent():
            door.badge()
            wait_until(lambda: tpm.asked)
            clock.set_off(-YEAR_S)
            time.sleep(max(0.0, silent_s - (time.monotonic() - asked_s)))
            if silent_s > ANSWER_WITHIN_S:
                saw = door.shows("stays locked|Out of service")
        if silent_s <= ANSWER_WITHIN_S:
            saw = door.shows(JUDGED)
        _answers_again(door)
        clock.set_off(0)
        door.badge()
        door.shows(JUDGED)
        door.end()
    return saw


def _answers_again(door: Door) -> None:
    """Badges until an attempt is refused for something else than a silent TPM; the year of before opens
    nothing."""
    for _ in range(60):
        door.badge()
        if "the TPM" not in door.shows(r"DENIED_\w+: "):
            return
        time.sleep(0.5)
    raise AssertionError(f"the TPM answers, and the unit does not hear it:\n{door.told}")


SCENARIOS = (
    years_2038_and_2106,
    leap_second,
    clock_back_while_the_tpm_is_silent,
    clock_back_while_an_attempt_waits_for_the_tpm,
)
