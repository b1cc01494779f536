"""A clock that was lost, set, or lies: what the unit believes, and for how long it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from device.access.memory.timekeeping import CONFIRM_S, SETTLED_S, TOLERANCE_S, Timekeeper, TimeSeen
from device.clock import Now

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Clocks:
    """Both clocks of a machine; a test sets one of them."""

    def __init__(self, wall: datetime = NOON) -> None:
        self.wall = wall
        self.monotonic_s = 50.0

    def now(self, passed_s: float = 0.0) -> Now:
        self.wall += timedelta(seconds=passed_s)
        self.monotonic_s += passed_s
        return Now(self.wall, self.monotonic_s)


def test_an_honest_clock_is_believed_and_says_nothing() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    for _ in range(100):
        timekeeper.look(clocks.now(300.0))
    assert timekeeper.jumps() == 0
    assert timekeeper.seen.latest_s == clocks.wall.timestamp()
    assert not timekeeper.seen.behind(clocks.wall)


def test_a_clock_set_back_is_noticed_once_and_rights_go_by_the_later_time() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    timekeeper.look(clocks.now())
    clocks.wall -= 9 * DAY
    seen = timekeeper.look(clocks.now(60.0))
    assert timekeeper.jumps() == 1
    assert timekeeper.jumps() == 0
    assert seen.behind(clocks.wall)
    assert seen.time(clocks.wall) == NOON
    timekeeper.look(clocks.now(300.0))
    assert timekeeper.jumps() == 0


def test_a_step_of_a_time_service_is_no_jump() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    timekeeper.look(clocks.now())
    clocks.wall -= timedelta(seconds=TOLERANCE_S - 1)
    assert not timekeeper.look(clocks.now(1.0)).behind(clocks.wall)
    assert timekeeper.jumps() == 0


def test_a_clock_of_1970_is_behind_even_on_a_unit_that_has_seen_nothing() -> None:
    clocks = Clocks(datetime(1970, 1, 1, tzinfo=UTC))
    assert Timekeeper(TimeSeen()).look(clocks.now()).behind(clocks.wall)


def test_what_was_seen_before_a_restart_counts_after_it() -> None:
    kept: list[TimeSeen] = []
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen(), kept.append)
    timekeeper.look(clocks.now())
    late = Clocks(NOON - 30 * DAY)
    again = Timekeeper(kept[-1])
    assert again.look(late.now()).behind(late.wall)
    assert again.jumps() == 1


def test_a_clock_chip_in_local_time_locks_nothing_once_the_time_service_has_put_it_right() -> None:
    """Each start is two hours ahead, for a minute: nobody waits two hours after a power cut."""
    kept = [TimeSeen(NOON.timestamp())]
    for start in range(3):
        timekeeper = Timekeeper(kept[-1], kept.append)
        clocks = Clocks(NOON + timedelta(hours=2, minutes=10 * start))
        timekeeper.look(clocks.now())
        timekeeper.look(clocks.now(60.0))
        clocks.wall -= timedelta(hours=2)
        assert not timekeeper.look(clocks.now(1.0)).behind(clocks.wall)


def test_hours_ahead_that_last_are_seen_and_setting_the_clock_back_after_them_is_noticed() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen(NOON.timestamp()))
    clocks.wall += timedelta(hours=5)
    timekeeper.look(clocks.now())
    timekeeper.look(clocks.now(CONFIRM_S))
    clocks.wall -= timedelta(hours=5)
    assert timekeeper.look(clocks.now(60.0)).behind(clocks.wall)


def test_a_moment_in_2040_is_not_believed_for_ever_and_hours_of_it_are() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    timekeeper.look(clocks.now())
    clocks.wall = datetime(2040, 1, 1, tzinfo=UTC)
    timekeeper.look(clocks.now(1.0))
    timekeeper.look(clocks.now(CONFIRM_S / 2))
    clocks.wall = NOON + timedelta(seconds=clocks.monotonic_s - 50.0)
    assert not timekeeper.look(clocks.now()).behind(clocks.wall), "it was put right before it counted"
    assert timekeeper.jumps() == 2
    clocks.wall = datetime(2040, 1, 1, tzinfo=UTC)
    timekeeper.look(clocks.now(1.0))
    timekeeper.look(clocks.now(CONFIRM_S + 1))
    clocks.wall = NOON
    assert timekeeper.look(clocks.now(1.0)).behind(clocks.wall)
    timekeeper.trust(clocks.now())
    assert not timekeeper.look(clocks.now(1.0)).behind(clocks.wall)


def test_nothing_runs_out_before_clock_and_running_time_have_agreed_for_days() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    timekeeper.look(clocks.now())
    while clocks.monotonic_s < SETTLED_S:
        assert not timekeeper.settled()
        timekeeper.look(clocks.now(3600.0))
    timekeeper.look(clocks.now(3600.0))
    assert timekeeper.settled()
    clocks.wall += 400 * DAY
    timekeeper.look(clocks.now(60.0))
    assert not timekeeper.settled(), "the clock jumped: the days count anew"


def test_agreement_lasts_over_a_restart_but_not_over_a_long_time_off() -> None:
    seen = TimeSeen(NOON.timestamp(), SETTLED_S)
    soon, late = Clocks(NOON + timedelta(minutes=5)), Clocks(NOON + 40 * DAY)
    short, long = Timekeeper(seen), Timekeeper(seen)
    short.look(soon.now())
    long.look(late.now())
    assert short.settled()
    assert not long.settled()


def test_a_clock_of_2038_or_2106_at_the_very_first_start_is_not_believed_for_ever() -> None:
    for year in (2038, 2106):
        kept = [TimeSeen()]
        wrong = Clocks(datetime(year, 2, 7, 6, 28, 10, tzinfo=UTC))
        first = Timekeeper(kept[-1], kept.append)
        first.look(wrong.now())
        first.look(wrong.now(CONFIRM_S / 2))
        assert first.jumps() == 1, "it is written down"
        right = Clocks()
        assert not Timekeeper(kept[-1]).look(right.now()).behind(right.wall)


def test_looks_a_tenth_of_a_second_apart_count_what_has_passed_and_no_more() -> None:
    clocks, timekeeper = Clocks(), Timekeeper(TimeSeen())
    for _ in range(11):
        seen = timekeeper.look(clocks.now(0.1))
    assert round(seen.steady_s, 6) == 1.0
