"""Anomalies on a real registry: what must raise an alarm does, what an ordinary day brings does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync.errors import SyncError
from sync.events import pseudonym
from sync.registry.reports import status
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules, tail_probability
from tests.sync.parts import START_MS, TENANT_KEY, event
from tests.sync.registry.ingest.test_ingest import Registry, Unit

HOUR_MS = 3_600_000
MIDNIGHT_MS = START_MS - START_MS % 86_400_000


class Watched:
    """A registry, its units and a detector."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(f"sqlite:///{folder}/registry.db")
        self.units = [self.registry.register(Unit(f"site-{n // 2}/unit-{n}")) for n in range(8)]
        self.detector = Detector(self.registry.store, load_rules())
        self.step()

    def happens(self, unit: int, times_ms: list[int], **changes: Any) -> None:
        """Events of one unit at these times; they arrive at the time of the last."""
        log = self.units[unit]
        made = []
        for at in times_ms:
            number = len(log.bodies) + len(made) + 1
            fields = {"time_ms": at, "monotonic_ms": at - MIDNIGHT_MS + 10**10, "person": None, **changes}
            made.append(event(number, **fields))
        self.registry.clock.now_ms = max(self.registry.clock.now_ms, times_ms[-1])
        for start in range(0, len(made), 400):
            self.registry.take(log.batch(made[start : start + 400]))

    def step(self) -> None:
        self.registry.clock.now_ms += 5000
        self.detector.step(self.registry.clock())

    def alarms(self) -> dict[str, dict[str, Any]]:
        return {name: alarm for name, alarm in self.registry.alarms().items() if not name.startswith("CLOCK")}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.registry.store.close()


def seconds(*offsets: float) -> list[int]:
    return [START_MS + int(offset * 1000) for offset in offsets]


def test_five_spoofs_at_one_door_in_five_minutes_raise_one_alarm(watched: Watched) -> None:
    watched.happens(0, seconds(0, 50, 100, 150), kind="DENIED_SPOOF", door="pharmacy")
    watched.step()
    assert watched.alarms() == {}
    watched.happens(0, seconds(200, 210), kind="DENIED_REPLAY", door="pharmacy")
    watched.step()
    alarm = watched.alarms()["SPOOF_BURST"]
    assert (alarm["unit"], alarm["door"], alarm["evidence"]["count"]) == ("site-0/unit-0", "pharmacy", 6)
    assert alarm["evidence"]["events"][0] == "site-0/unit-0#1"


def test_the_same_spoofs_spread_over_an_hour_or_over_doors_are_no_burst(watched: Watched) -> None:
    watched.happens(0, seconds(*range(0, 3600, 400)), kind="DENIED_SPOOF")
    for unit in range(1, 4):
        watched.happens(unit, seconds(5000, 5001, 5002), kind="DENIED_SPOOF")
    watched.step()
    assert "SPOOF_BURST" not in watched.alarms()


def test_spoofs_across_many_doors_are_one_attack(watched: Watched) -> None:
    for unit in range(6):
        watched.happens(unit, seconds(unit * 10, unit * 10 + 3), kind="DENIED_SPOOF", door="icu-2")
    watched.step()
    assert watched.alarms()["SPOOF_BURST_MANY_DOORS"]["evidence"]["doors"] == 6


def test_one_voice_at_two_sites_is_noticed_and_at_one_site_is_not(watched: Watched) -> None:
    person = pseudonym(TENANT_KEY, "BADGE1")
    watched.happens(0, seconds(0), person=person)
    watched.happens(1, seconds(30), person=person)
    watched.step()
    assert watched.alarms() == {}
    watched.happens(4, seconds(120), person=person)
    watched.step()
    evidence = watched.alarms()["VOICE_AT_TWO_SITES"]["evidence"]
    assert evidence["person"] == str(person)
    assert "site-2/unit-4#1" in evidence["events"]


def test_a_busy_night_at_a_quiet_door_is_a_spike_and_at_a_busy_door_is_not(watched: Watched) -> None:
    for day in range(10):
        night = MIDNIGHT_MS + day * 24 * HOUR_MS + 2 * HOUR_MS
        watched.happens(0, [night], door="pharmacy")
        watched.happens(1, [night + n * 60_000 for n in range(30)], door="icu-2")
    watched.step()
    assert "OFF_HOURS_SPIKE" not in watched.alarms()
    night = MIDNIGHT_MS + 10 * 24 * HOUR_MS + 2 * HOUR_MS
    watched.happens(0, [night + n * 60_000 for n in range(30)], door="pharmacy")
    watched.happens(1, [night + n * 60_000 for n in range(33)], door="icu-2")
    watched.step()
    alarm = watched.alarms()["OFF_HOURS_SPIKE"]
    assert (alarm["unit"], alarm["evidence"]["count"]) == ("site-0/unit-0", 30)


def test_a_new_door_without_a_past_accuses_nobody() -> None:
    assert tail_probability(50, []) == 1.0
    assert tail_probability(3, [2, 3, 1, 4, 2, 3, 2]) > 0.1
    assert tail_probability(40, [2, 3, 1, 4, 2, 3, 2]) < 1e-9


def test_many_enrolments_at_once_and_a_hoarder_are_noticed(watched: Watched) -> None:
    watched.happens(2, seconds(*range(25)), kind="ENROLLED", reason="operator")
    watched.registry.store.log_access("m.desk", "export", 60_000, watched.registry.clock())
    watched.step()
    assert watched.alarms()["ENROLMENT_BURST"]["evidence"]["count"] == 25
    assert watched.alarms()["BULK_ACCESS"]["evidence"]["account"] == "m.desk"


def test_a_silent_unit_is_noticed_once_and_a_drifting_one_too(watched: Watched) -> None:
    watched.happens(0, seconds(0))
    store = watched.registry.store
    store.desire(watched.units[1].unit, {"policy": "p-2"})
    watched.registry.clock.now_ms += 10 * 60_000
    now = watched.registry.clock()
    store.save_health({watched.units[1].unit: '{"state": "online", "facts": {"policy": "p-1"}}'}, now)
    watched.step()
    watched.step()
    silent = [alarm for alarm in status.open_alarms(store) if alarm["kind"] == "UNIT_SILENT"]
    assert [alarm["unit"] for alarm in silent] == ["site-0/unit-0"]
    assert watched.alarms()["UNIT_DRIFTED"]["evidence"] == {"policy": {"desired": "p-2", "reported": "p-1"}}


def test_a_detector_that_is_restarted_neither_misses_nor_counts_twice(watched: Watched) -> None:
    for second in range(4):
        watched.happens(0, seconds(second * 20), kind="DENIED_SPOOF", door="pharmacy")
        watched.step()
        watched.detector = Detector(watched.registry.store, load_rules())
    assert "SPOOF_BURST" not in watched.alarms()
    watched.happens(0, seconds(90), kind="DENIED_SPOOF", door="pharmacy")
    watched.step()
    assert watched.alarms()["SPOOF_BURST"]["evidence"]["count"] == 5
    assert watched.alarms()["SPOOF_BURST"]["times"] == 1


def test_an_ordinary_day_of_a_ward_raises_nothing(watched: Watched) -> None:
    for unit in range(8):
        day = [MIDNIGHT_MS + 7 * HOUR_MS + n * 97_000 for n in range(300)]
        watched.happens(unit, day, door="icu-2")
        watched.happens(unit, [day[-1] + 1000], kind="DENIED_VOICE", reason="other_voice")
    watched.step()
    assert watched.alarms() == {}


def test_rules_with_mistakes_are_refused_with_all_of_them(tmp_path: Path) -> None:
    bad = tmp_path / "rules.toml"
    bad.write_text(
        '[[rule]]\nname = "x y"\nform = "burst"\nseverity = "loud"\nkinds = ["NONSENSE"]\nwindwo_s = 1\n'
    )
    with pytest.raises(SyncError) as refused:
        load_rules(bad)
    for part in ("UPPER_CASE", "severity", "NONSENSE", "windwo_s is unknown", "threshold is missing"):
        assert part in str(refused.value)
    bad.write_text("")
    with pytest.raises(SyncError, match="watch nothing"):
        load_rules(bad)


def test_a_duress_word_alarms_at_once_also_when_the_attempt_was_refused(watched: Watched) -> None:
    watched.happens(0, seconds(0), kind="DENIED_VOICE", reason="other_voice", silent_alarm=True, door="icu-2")
    watched.step()
    alarm = watched.alarms()["SOMEBODY_IN_NEED"]
    assert (alarm["severity"], alarm["unit"], alarm["door"]) == ("critical", "site-0/unit-0", "icu-2")


@pytest.mark.parametrize(
    ("kind", "reason", "times", "alarm"),
    [
        ("DURESS", "duress_word", 1, "SOMEBODY_IN_NEED"),
        ("TAMPER", "case_opened", 1, "DOOR_ATTACKED"),
        ("DOOR_FORCED_OPEN", "forced", 1, "DOOR_ATTACKED"),
        ("FAULT", "tpm_fault", 1, "UNIT_IN_TROUBLE"),
        ("OUTBOX_OVERFLOW", "disk_full", 1, "UNIT_IN_TROUBLE"),
        ("COMMAND_REFUSED", "command_failed", 3, "COMMANDS_REFUSED"),
        ("DENIED_VOICE", "other_voice", 15, "GUESSING"),
    ],
)
def test_what_somebody_must_see_at_once_is_an_alarm(
    watched: Watched, kind: str, reason: str, times: int, alarm: str
) -> None:
    watched.happens(3, seconds(*range(times)), kind=kind, reason=reason, door="icu-2")
    watched.step()
    assert watched.alarms()[alarm]["evidence"]["count"] == times


def test_a_door_whose_clock_is_hours_behind_is_watched_as_well(watched: Watched) -> None:
    behind = -6 * 3600
    for offset in (0, 50, 100, 150, 200):
        watched.happens(0, seconds(behind + offset), kind="DENIED_SPOOF", door="pharmacy")
        watched.registry.clock.now_ms += 50_000
        watched.step()
    assert watched.alarms()["SPOOF_BURST"]["evidence"]["count"] == 5


def test_what_happens_again_after_it_was_acknowledged_is_a_new_alarm(watched: Watched) -> None:
    watched.happens(0, seconds(0), kind="TAMPER", reason="case_opened", door="pharmacy")
    watched.step()
    first = watched.alarms()["DOOR_ATTACKED"]
    assert status.acknowledge(watched.registry.store, first["id"], "m.desk", watched.registry.clock())
    watched.step()
    assert watched.alarms() == {}
    watched.happens(0, seconds(20), kind="TAMPER", reason="case_opened", door="pharmacy")
    watched.step()
    again = watched.alarms()["DOOR_ATTACKED"]
    assert (again["times"], again["id"] > first["id"]) == (1, True)


def test_a_state_that_was_acknowledged_and_lasts_is_not_raised_again(watched: Watched) -> None:
    watched.happens(0, seconds(0))
    watched.registry.clock.now_ms += 10 * 60_000
    watched.step()
    silent = watched.alarms()["UNIT_SILENT"]
    assert status.acknowledge(watched.registry.store, silent["id"], "m.desk", watched.registry.clock())
    watched.step()
    assert watched.alarms() == {}


def test_a_jittering_clock_is_one_alarm_and_an_alarm_of_somebody_in_need_goes_out_first(
    watched: Watched,
) -> None:
    unit = watched.units[0]
    times = [START_MS + n * 1000 + (n % 2) * 3_600_000 for n in range(400)]
    made = [event(n, time_ms=at, monotonic_ms=n * 1000, person=None) for n, at in enumerate(times)]
    watched.registry.clock.now_ms = max(times)
    watched.registry.take(unit.batch(made))
    watched.happens(1, seconds(5000), kind="DENIED_VOICE", reason="other_voice", silent_alarm=True)
    watched.step()
    waiting = watched.registry.store.undelivered("desk")
    assert [alarm["kind"] for alarm in waiting][:2] == ["SOMEBODY_IN_NEED", "CLOCK_JUMP"]
    assert waiting[1]["times"] == 399


def told(watched: Watched, unit: int, counter: int, **numbers: Any) -> None:
    now = watched.registry.clock()
    report = {"state": "online", "counter": counter, "time_ms": now, "facts": {}, **numbers}
    watched.registry.store.save_health({watched.units[unit].unit: json.dumps(report)}, now)


def test_a_unit_whose_events_are_held_back_while_its_health_comes_is_noticed(watched: Watched) -> None:
    """A broker that drops every batch and lets signs of life through."""
    for minute in range(7):
        told(watched, 0, minute + 1, pending=3, sequence=3)
        told(watched, 1, minute + 1, pending=minute % 2, sequence=3)
        watched.step()
        watched.registry.clock.now_ms += 60_000
    raised = status.open_alarms(watched.registry.store)
    alarms = [alarm for alarm in raised if alarm["kind"] == "EVENTS_HELD_BACK"]
    assert [alarm["unit"] for alarm in alarms] == [watched.units[0].unit]
    assert (alarms[0]["severity"], alarms[0]["evidence"]["pending"]) == ("critical", 3)


def test_a_busy_unit_whose_events_do_arrive_holds_nothing_back(watched: Watched) -> None:
    for minute in range(9):
        told(watched, 0, minute + 1, pending=3, sequence=3)
        watched.happens(0, seconds(minute * 60))
        watched.step()
        watched.registry.clock.now_ms += 60_000
    assert "EVENTS_HELD_BACK" not in watched.alarms()


@pytest.mark.parametrize("years", [-2, 2])
def test_a_clock_that_is_years_off_is_noticed(watched: Watched, years: int) -> None:
    now = watched.registry.clock()
    told(watched, 0, 1, time_ms=now + years * 365 * 86_400_000)
    watched.detector.step(now)
    alarm = next(a for a in status.open_alarms(watched.registry.store) if a["kind"] == "CLOCK_WRONG")
    assert alarm["evidence"]["off_ms"] == years * 365 * 86_400_000


def test_a_unit_whose_certificate_ends_soon_is_an_alarm_once_and_no_more_when_it_was_renewed(
    watched: Watched,
) -> None:
    day, now = 86_400_000, watched.registry.clock()
    told(watched, 0, 1, certificate_ms=now + 19 * day)
    told(watched, 1, 1, certificate_ms=now + 30 * day)
    told(watched, 2, 1, certificate_ms=now - day)
    told(watched, 3, 1)
    watched.detector.step(now)
    watched.detector.step(now)
    raised = [a for a in status.open_alarms(watched.registry.store) if a["kind"] == "CERTIFICATE_ENDS"]
    assert {alarm["unit"]: alarm["evidence"]["until_ms"] - now for alarm in raised} == {
        watched.units[0].unit: 19 * day,
        watched.units[2].unit: -day,
    }
    assert len(raised) == 2
    for alarm in raised:
        status.acknowledge(watched.registry.store, alarm["id"], "m.desk", now)
    told(watched, 0, 2, certificate_ms=now + 90 * day)
    watched.detector.step(now)
    assert status.open_alarms(watched.registry.store) == []


def test_a_unit_that_reports_every_five_minutes_is_not_silent_in_between(watched: Watched) -> None:
    told(watched, 0, 1, every_s=300)
    watched.registry.clock.now_ms += 4 * 60_000
    watched.step()
    assert watched.alarms() == {}
    watched.registry.clock.now_ms += 12 * 60_000
    watched.step()
    assert "UNIT_SILENT" in watched.alarms()
