"""What the unit remembers across power cuts, and the old copies it refuses."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device.access.memory.history import (
    History,
    HistoryBusyError,
    HistoryError,
    HistoryRollbackError,
    present_boot,
    recall,
)
from device.access.memory.remembered import (
    LIMITS_WITH_LIVENESS,
    AttemptLimits,
    First,
    Position,
    Remembered,
)
from device.access.memory.timekeeping import TimeSeen

WHO = "person:UID7"
LIMITS = AttemptLimits()


def mac(purpose: str, message: bytes) -> bytes:
    return hmac.digest(b"key", purpose.encode() + b"\0" + message, hashlib.sha256)


class NvCounter:
    """Counts like TPM NV: it outlives the process, and a power cut may hit before or after it moves."""

    def __init__(self, value: int = 1) -> None:
        self.now = value
        self.writes = 0

    def value(self) -> int:
        return self.now

    def advance(self) -> int:
        self.now += 1
        self.writes += 1
        return self.now


class PowerCut(BaseException):
    """The plug is pulled here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def counter() -> NvCounter:
    return NvCounter()


@pytest.fixture
def history(path: Path, counter: NvCounter) -> Iterator[History]:
    opened = History(path, counter, mac, opened_s=0.0)
    yield opened
    opened.close()


def reopen(history: History, counter: NvCounter, opened_s: float = 0.0) -> History:
    history.close()
    return History(history.path, counter, mac, opened_s=opened_s)


def test_five_failures_make_a_person_wait_and_the_wait_doubles():
    waits = [LIMITS.wait_after(failures) for failures in range(9)]
    assert waits == [0, 0, 0, 0, 0, 30, 60, 120, 240]
    assert LIMITS.wait_after(1_000) == 3_600


def test_with_liveness_ten_failures_are_free_and_a_hundred_disable():
    assert LIMITS_WITH_LIVENESS.wait_after(9) == 0
    assert LIMITS_WITH_LIVENESS.wait_after(10) == 30
    assert LIMITS_WITH_LIVENESS.disable_after == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"free_failures": 0},
        {"free_failures": 60},
        {"disable_after": 101},
        {"first_wait_s": 5.0},
        {"longest_wait_s": 10.0},
        {"first_wait_s": float("nan")},
    ],
)
def test_limits_laxer_than_the_standard_are_refused(wrong):
    with pytest.raises(ValueError):
        AttemptLimits(**wrong)


def test_failures_survive_a_restart_and_the_wait_begins_anew(history, counter):
    for at in range(6):
        history.charge(WHO, float(at))
    assert history.standing(WHO, LIMITS, 5.0).wait_s == 60.0
    assert history.standing(WHO, LIMITS, 50.0).wait_s == 15.0
    restarted = reopen(history, counter, opened_s=3.0)
    assert restarted.standing(WHO, LIMITS, 3.0).wait_s == 60.0
    assert restarted.standing(WHO, LIMITS, 63.0).may_try
    restarted.close()


def test_a_monotonic_clock_that_jumps_back_lengthens_a_wait_and_never_shortens_it(history):
    for _ in range(5):
        history.charge(WHO, 1_000.0)
    assert history.standing(WHO, LIMITS, 10.0).wait_s == 30.0


def test_fifty_failures_disable_until_an_admin_acts(history, counter):
    for _ in range(50):
        history.charge(WHO, 0.0)
    assert history.standing(WHO, LIMITS, 1e9).disabled
    restarted = reopen(history, counter)
    assert restarted.standing(WHO, LIMITS, 1e9).disabled
    assert restarted.pardon(WHO)
    assert restarted.standing(WHO, LIMITS, 0.0).may_try
    assert not restarted.pardon(WHO)
    restarted.close()


def test_a_success_forgets_the_failures_of_that_person_only(history):
    history.charge(WHO, 0.0)
    history.charge("person:OTHER", 0.0)
    history.settle((WHO,), {"UID7": Position("ward", datetime(2026, 1, 1, tzinfo=UTC))})
    assert history.failing() == {"person:OTHER": 1}
    assert history.position("UID7").zone == "ward"


def test_a_refund_takes_back_one_charge(history):
    history.charge(WHO, 0.0)
    history.charge(WHO, 0.0)
    history.refund(WHO)
    assert history.failing() == {WHO: 1}
    history.refund(WHO)
    history.refund(WHO)
    assert history.failing() == {}


def test_what_a_power_cut_breaks_off_stays_charged_and_the_next_success_forgets_it(path, counter):
    """Nobody is there to give it back; were it free, people who can cut the power could guess for nothing."""
    history = History(path, counter, mac, opened_s=0.0)
    history.charge(WHO, 0.0)
    restarted = reopen(history, counter)
    assert restarted.failing() == {WHO: 1}
    restarted.settle((WHO,))
    assert restarted.failing() == {}
    restarted.close()


def test_a_count_of_before_is_the_count_again_whatever_was_written_since(history):
    history.charge(WHO, 0.0)
    history.charge("person:OTHER", 0.0)
    for failures in (3, 1):
        history.count_again(WHO, failures)
        assert history.failing() == {WHO: failures, "person:OTHER": 1}
    history.settle((WHO,))
    history.count_again(WHO, 1)
    assert history.failing() == {WHO: 1, "person:OTHER": 1}
    history.count_again(WHO, 0)
    assert history.failing() == {"person:OTHER": 1}


def test_what_was_shown_lately_is_remembered_across_a_restart_and_then_forgotten(path, counter):
    history = History(path, counter, mac, opened_s=0.0, phrase_horizon=3)
    for number in range(5):
        history.remember(bytes([number] * 8))
    restarted = reopen(history, counter)
    assert [restarted.shown_before(bytes([number] * 8)) for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    restarted.close()


def test_lock_down_survives_a_restart_until_it_is_lifted(history, counter):
    history.lock_down("*", True)
    restarted = reopen(history, counter)
    assert restarted.locked_down("pharmacy")
    restarted.lock_down("*", False)
    assert not restarted.locked_down("pharmacy")
    restarted.close()


def test_forgetting_a_person_erases_failures_and_position(history, path):
    history.charge(WHO, 0.0)
    history.settle((), {"UID7": Position("ward", datetime(2026, 1, 1, tzinfo=UTC))})
    assert history.forget("UID7") is True
    assert history.forget("UID7") is False
    assert b"UID7" not in path.read_bytes()


def test_every_start_that_is_used_gets_a_larger_epoch_and_an_unused_one_wears_nothing(history, counter):
    epochs = []
    for _ in range(5):
        epochs.append(history.begin())
        assert history.begin() == epochs[-1]
        history = reopen(history, counter)
        history = reopen(history, counter)
    assert epochs == sorted(set(epochs))
    assert counter.writes == 5
    history.close()


def test_an_old_copy_of_the_file_is_refused(history, path, counter):
    history.charge(WHO, 0.0)
    old = path.read_bytes()
    later = reopen(history, counter)
    for _ in range(4):
        later.charge(WHO, 0.0)
    later.close()
    path.write_bytes(old)
    with pytest.raises(HistoryRollbackError):
        History(path, counter, mac, opened_s=0.0)


def test_a_file_that_was_removed_is_missed(history, path, counter):
    history.charge(WHO, 0.0)
    history.close()
    path.unlink()
    with pytest.raises(HistoryRollbackError):
        History(path, counter, mac, opened_s=0.0)


def test_a_file_from_another_tpm_is_refused(history, path, counter):
    history.charge(WHO, 0.0)
    history.close()
    with pytest.raises(HistoryRollbackError):
        History(path, counter, lambda p, m: mac(p, m + b"other"), opened_s=0.0)
    with pytest.raises(HistoryRollbackError):
        History(path, NvCounter(500), mac, opened_s=0.0)


@pytest.mark.parametrize("spoil", ["flip", "truncate", "empty", "huge", "garbage"])
def test_a_damaged_file_is_refused(history, path, counter, spoil):
    history.charge(WHO, 0.0)
    history.close()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "flip": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
            "truncate": whole[: len(whole) // 2],
            "empty": b"",
            "huge": whole + b" " * (5 * 1024 * 1024),
            "garbage": os.urandom(300),
        }[spoil]
    )
    with pytest.raises(HistoryError):
        History(path, counter, mac, opened_s=0.0)


def test_every_single_bit_flip_is_detected(history, path, counter):
    history.charge(WHO, 0.0)
    history.close()
    whole = path.read_bytes()
    for bit in range(0, len(whole) * 8, 3):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(HistoryRollbackError):
            History(path, counter, mac, opened_s=0.0)


def test_an_admin_can_start_over(history, path, counter):
    history.charge(WHO, 0.0)
    history.close()
    path.write_bytes(b"damaged")
    History.start_over(path, counter, mac, opened_s=0.0).close()
    again = History(path, counter, mac, opened_s=0.0)
    assert again.failing() == {}
    again.close()


def test_no_change_at_all_can_be_undone_with_a_copy_from_before_it(history, path, counter):
    history.charge(WHO, 0.0)
    history.close()
    copy = path.read_bytes()
    for change in (lambda h: h.lock_down("*", True), lambda h: h.pardon(WHO), lambda h: h.remember(b"x" * 8)):
        path.write_bytes(copy)
        changed = History(path, counter, mac, opened_s=0.0)
        change(changed)
        changed.close()
        path.write_bytes(copy)
        with pytest.raises(HistoryRollbackError):
            History(path, counter, mac, opened_s=0.0)
        History.start_over(path, counter, mac, opened_s=0.0).close()
        again = History(path, counter, mac, opened_s=0.0)
        again.charge(WHO, 0.0)
        again.close()
        copy = path.read_bytes()


def test_only_one_process_holds_the_history(history, path, counter):
    with pytest.raises(HistoryBusyError):
        History(path, counter, mac, opened_s=0.0)


def test_a_closed_history_takes_no_more_writes(history):
    history.close()
    with pytest.raises(HistoryError):
        history.charge(WHO, 0.0)


def test_a_full_disk_is_an_error_and_changes_nothing(history, monkeypatch):
    history.charge(WHO, 0.0)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(HistoryError, match="the disk is full"):
            history.settle((WHO,))
    assert history.failing() == {WHO: 1}


@pytest.mark.parametrize("cut_at", ["before the counter moves", "after the counter moved"])
def test_a_power_cut_while_a_start_begins_harms_nothing_and_reuses_no_epoch(path, cut_at):
    counter = NvCounter()

    class Cut(NvCounter):
        def value(self) -> int:
            return counter.value()

        def advance(self) -> int:
            if cut_at == "after the counter moved":
                counter.advance()
            raise PowerCut

    epochs = []
    for _ in range(10):
        history = History(path, Cut(), mac, opened_s=0.0)
        with pytest.raises(PowerCut):
            history.begin()
        history.close()
        whole = History(path, counter, mac, opened_s=0.0)
        epochs.append(whole.begin())
        whole.close()
    assert epochs == sorted(set(epochs))


def test_a_copy_made_between_two_writes_of_a_cut_start_is_refused_later(path):
    counter = NvCounter()

    class Cut(NvCounter):
        def value(self) -> int:
            return counter.value()

        def advance(self) -> int:
            raise PowerCut

    history = History(path, Cut(), mac, opened_s=0.0)
    with pytest.raises(PowerCut):
        history.begin()
    history.close()
    copy = path.read_bytes()
    used = History(path, counter, mac, opened_s=0.0)
    used.charge(WHO, 0.0)
    used.close()
    path.write_bytes(copy)
    with pytest.raises(HistoryRollbackError):
        History(path, counter, mac, opened_s=0.0)


UNIT = textwrap.dedent("""
    import hashlib, hmac, sys, time
    from pathlib import Path
    from device.access.memory.history import History

    state = Path(sys.argv[1])

    class FileCounter:
        def value(self):
            return int((state / "nv").read_text())
        def advance(self):
            new = self.value() + 1
            (state / "nv.new").write_text(str(new))
            (state / "nv.new").replace(state / "nv")
            return new

    mac = lambda purpose, message: hmac.digest(b"key", purpose.encode() + b"\\0" + message, hashlib.sha256)
    history = History(state / "history", FileCounter(), mac, opened_s=0.0)
    while True:
        history.charge("person:UID7", 0.0)
        print(history.failing()["person:UID7"], flush=True)
""")


def test_kill_9_at_any_moment_loses_no_charge_that_was_acknowledged(tmp_path):
    (tmp_path / "nv").write_text("1")
    acknowledged = 0
    for life in range(8):
        unit = subprocess.Popen(
            [sys.executable, "-c", UNIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + 5 * life):
            line = unit.stdout.readline()
            assert line, "the unit did not come up after a kill"
            assert int(line) > acknowledged
            acknowledged = int(line)
        unit.send_signal(signal.SIGKILL)
        for line in unit.stdout:  # what it had still said before it died
            acknowledged = max(acknowledged, int(line)) if line.endswith("\n") else acknowledged
        unit.wait()
    assert acknowledged > 8 * 3


def test_the_version_of_the_memory_is_kept_with_the_next_charge(path, counter):
    history = History(path, counter, mac, opened_s=0.0)
    history.memory_reached(7)
    history.charge(WHO, 1.0)
    history.close()
    again = History(path, counter, mac, opened_s=0.0)
    assert again.memory_version == 7
    again.close()


def test_a_history_written_before_there_was_a_memory_knows_of_none() -> None:
    body = b'{"version":1,"epoch":3,"failures":{},"phrases":[],"positions":{},"locked_down":[]}'
    assert Remembered.from_bytes(body).memory == 0


def test_nothing_in_the_file_says_who_failed_or_where_anybody_is(history, path):
    history.charge(WHO, 0.0)
    history.settle((), {"UID7": Position("maternity", datetime(2026, 1, 1, tzinfo=UTC))})
    data = path.read_bytes()
    for word in (b"UID7", b"person", b"maternity", b"2026", b"failures"):
        assert word not in data


def test_a_history_in_the_clear_of_an_earlier_version_is_read_and_enciphered(path, counter):
    body = (
        b'{"version":1,"epoch":1,"failures":{"person:UID7":3},"phrases":[],'
        b'"positions":{"UID7":["ward","2026-01-01T00:00:00+00:00"]},"locked_down":["*"],"memory":4}'
    )
    path.write_bytes(mac("attempt-history", body).hex().encode() + b"\n" + body)
    history = History(path, counter, mac, opened_s=0.0)
    assert (history.failing(), history.memory_version) == ({WHO: 3}, 4)
    assert history.locked_down("any")
    history.charge(WHO, 1.0)
    assert b"UID7" not in path.read_bytes()
    history.close()


def test_another_process_reads_what_the_door_wrote_last(history, path, counter):
    for at in range(6):
        history.charge(WHO, float(at))
    history.settle((), first={"ward": First("UID7", 90.0, False)})
    seen = recall(path, counter, mac)
    assert (
        seen.standing(WHO, LIMITS, 20.0, present_boot()).wait_s == history.standing(WHO, LIMITS, 20.0).wait_s
    )
    assert seen.waiting("ward", 80.0, present_boot()) == First("UID7", 90.0, False)
    assert seen.waiting("ward", 100.0, present_boot()) is None
    assert seen.waiting("ward", 80.0, "another boot") is None


def test_only_those_named_stay(history):
    history.charge(WHO, 0.0)
    history.charge("person:STAYS", 0.0)
    history.charge("door:ward", 0.0)
    history.keep_only(["stays"])
    assert history.failing() == {"person:STAYS": 1, "door:ward": 1}


def test_the_highest_time_seen_outlives_a_restart(history, counter):
    history.saw_time(TimeSeen(5.0, 6.0))
    history.keep()
    again = reopen(history, counter)
    assert again.time_seen == TimeSeen(5.0, 6.0)
    again.close()


@pytest.mark.parametrize("written", ["ab-12", "AB12", "ab12", "a b 12"])
def test_a_person_is_one_however_the_id_is_written(history, counter, written):
    history.charge("person:AB12", 0.0)
    history.charge(f"person:{written}", 1.0)
    history.settle((), {written: Position("ward", datetime(2026, 1, 1, tzinfo=UTC))})
    assert history.failing() == {"person:AB12": 2}
    assert history.standing(f"person:{written}", LIMITS, 1.0).failures == 2
    assert history.position("AB12") == history.position(written)
    history.refund(f"person:{written}")
    assert history.failing() == {"person:AB12": 1}
    assert history.pardon(f"person:{written}")
    assert (history.failing(), history.position("AB12")) == ({}, None)
    history.charge("person:AB12", 2.0)
    assert history.forget(written)
    assert reopen(history, counter).failing() == {}
