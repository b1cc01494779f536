"""The outbox: durable before it returns, bounded, never silent about what it could not keep."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync.events import Record
from sync.outbox import Outbox, OutboxError, OutboxFullError, OutboxLimits, OutboxRollbackError
from sync.outbox.unit_events import unit_event
from sync.proofs import chain
from sync.proofs.bundle import key_to_der
from sync.proofs.heads import open_head
from sync.proofs.verify import verify
from tests.sync.parts import DOORS, START_MS, UNIT, Clock, SoftwareSigner, event, whole_log

SMALL = OutboxLimits(max_events=10, batch_events=4, ballast_bytes=1 << 16, keep_events=0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:
    with Outbox(tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=clock, limits=SMALL) as made:
        yield made


def reopened(tmp_path: Path, clock: Clock, **changes: object) -> Outbox:
    return Outbox(
        tmp_path / "audit.db",
        **{"unit": UNIT, "doors": DOORS, "now_ms": clock, "limits": SMALL, **changes},  # type: ignore[arg-type]
    )


def test_events_get_consecutive_numbers_and_a_growing_chain(outbox: Outbox) -> None:
    stored = [outbox.append(event(i)) for i in range(3)]
    assert [s.sequence for s in stored if s] == [1, 2, 3]
    bodies = [s.body for s in stored if s]
    assert stored[-1] is not None
    assert stored[-1].chain == chain.extend(chain.genesis(outbox.unit), bodies)
    assert Record.from_bytes(bodies[1]).event == event(1)


def test_numbering_goes_on_after_a_restart_and_a_boot_is_counted(tmp_path: Path, clock: Clock) -> None:
    with reopened(tmp_path, clock) as first:
        assert first.next_boot() == 1
        first.append(event(0))
    with reopened(tmp_path, clock) as second:
        assert second.next_boot() == 2
        stored = second.append(event(1))
    assert stored is not None
    assert stored.sequence == 2


def test_an_event_of_another_process_joins_the_start_that_the_log_is_in(outbox: Outbox) -> None:
    signer, made = SoftwareSigner(), []
    hour = 3_600_000
    beside = unit_event("FORGOTTEN", "on_request", door=DOORS[0], time_ms=START_MS, keystore="tpm")
    for number, (time_ms, boot, mono) in enumerate([(0, 1, 0), (hour, 1, hour), (9 * hour, 2, 5)]):
        stored = outbox.append(event(number, time_ms=START_MS + time_ms, boot=boot, monotonic_ms=mono))
        later = dataclasses.replace(beside, event_id=uuid.uuid4(), time_ms=START_MS + time_ms + 7 * hour // 8)
        made += [stored, outbox.append(later, other_process=True)]
    outbox.seal(signer)
    places = [(s.record.event.boot, s.record.event.monotonic_ms) for s in made if s]
    assert places[1] == (1, 7 * hour // 8)
    assert places[5] == (2, 5 + 7 * hour // 8)
    bodies = [s.body for s in made if s]
    heads, position = [], 0
    while batch := outbox.batch_after(position):
        heads.append(batch.head)
        position = batch.size
    log = whole_log(outbox.unit, bodies, heads, key_to_der(signer.public_key()))
    report = verify(log.to_bytes(), signer.public_key(), checkpoints=heads)
    assert (report.findings, report.notes) == ([], []), "nobody is accused and no clock was moved"


def test_the_first_event_of_a_log_may_be_another_processs(outbox: Outbox) -> None:
    made = unit_event("ENROLLED", "operator", door=DOORS[0], time_ms=START_MS, keystore="tpm")
    stored = outbox.append(made, other_process=True)
    assert stored is not None
    assert (stored.record.event.boot, stored.record.event.monotonic_ms) == (0, 0)


@pytest.mark.parametrize(("later_ms", "monotonic_ms"), [(0, 70), (-5_000, 70), (1, 71)])
def test_the_time_of_another_processs_event_goes_on_by_the_wall_clock_and_never_back(
    outbox: Outbox, later_ms: int, monotonic_ms: int
) -> None:
    outbox.append(event(0, boot=4, monotonic_ms=70))
    made = unit_event("ENROLLED", "operator", door=DOORS[0], time_ms=START_MS + later_ms, keystore="tpm")
    stored = outbox.append(made, other_process=True)
    assert stored is not None
    assert (stored.record.event.boot, stored.record.event.monotonic_ms) == (4, monotonic_ms)


def test_batches_end_at_signed_heads_and_join_without_a_seam(outbox: Outbox) -> None:
    signer = SoftwareSigner()
    for i in range(9):
        outbox.append(event(i))
    assert outbox.batch_after(0) is None
    assert outbox.seal(signer)
    sizes, position, previous = [], 0, chain.genesis(outbox.unit)
    while batch := outbox.batch_after(position):
        assert batch.previous_chain == previous
        previous = chain.extend(previous, batch.bodies)
        head = open_head(batch.head, signer.public_key(), outbox.unit)
        assert (head.size, head.chain) == (batch.size, previous)
        position = batch.size
        sizes.append(len(batch.bodies))
    assert sizes == [4, 4, 1]
    assert outbox.seal(signer) is None


def test_rows_leave_on_a_receipt_for_our_own_chain_and_on_nothing_else(outbox: Outbox) -> None:
    signer = SoftwareSigner()
    stored = [outbox.append(event(i)) for i in range(6)]
    outbox.seal(signer)
    assert stored[3] is not None
    assert not outbox.acknowledge(4, b"x" * 32)
    assert not outbox.acknowledge(400, b"x" * 32)
    assert outbox.status().pending == 6
    assert outbox.acknowledge(4, stored[3].chain)
    assert outbox.acknowledge(2, b"anything: forgotten long ago")
    assert outbox.status().pending == 2
    rest = outbox.batch_after(4)
    assert rest is not None
    assert (rest.first, rest.previous_chain) == (5, stored[3].chain)


def test_when_it_is_full_a_high_risk_door_stops_and_a_low_risk_door_goes_on(
    outbox: Outbox, tmp_path: Path, clock: Clock
) -> None:
    signer = SoftwareSigner()
    for i in range(10):
        outbox.append(event(i))
    with pytest.raises(OutboxFullError, match="stays locked"):
        outbox.append(event(10))
    assert [outbox.append(event(i), risk="low") for i in range(10, 13)] == [None] * 3
    outbox.close()
    with reopened(tmp_path, clock) as again:
        assert again.status().overflow_count == 3
        again.seal(signer)
        batch = again.batch_after(0)
        assert batch is not None
        assert again.acknowledge(batch.size, open_head(batch.head, signer.public_key(), again.unit).chain)
        stored = again.append(event(13))
        assert stored is not None
        assert stored.sequence == 12
        again.seal(signer)
        bodies = []
        position = batch.size
        while more := again.batch_after(position):
            bodies += more.bodies
            position = more.size
        overflow = Record.from_bytes(bodies[-2]).event
        assert (overflow.kind, overflow.count, overflow.reason) == ("OUTBOX_OVERFLOW", 3, "backlog_too_large")
        assert overflow.time_ms == START_MS + 10_000
        assert again.status().overflow_count == 0


def test_a_unit_that_nobody_reads_from_goes_on_for_years_and_past_a_wrong_clock(
    outbox: Outbox, clock: Clock
) -> None:
    outbox.append(event(0, time_ms=5_000))  # 1970: before the network told the time
    for number in range(1, 6):
        clock.now_ms += 400 * 86_400_000
        assert outbox.append(event(number, time_ms=clock.now_ms)) is not None
    clock.now_ms = 1_000
    assert outbox.append(event(6, time_ms=clock.now_ms)) is not None


def test_how_full_the_log_is_can_be_seen_long_before_it_is(outbox: Outbox) -> None:
    shares = []
    for number in range(10):
        shares.append(outbox.fill().share)
        outbox.append(event(number))
    assert shares == sorted(shares)
    assert shares[8] == pytest.approx(0.8)
    assert outbox.fill().reason == "backlog_too_large"


def test_a_log_that_was_made_for_a_group_of_users_stays_theirs(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "audit.db"
    path.touch()
    path.chmod(0o660)
    for _ in range(2):
        with reopened(tmp_path, clock) as box:
            box.append(event(0))
        assert path.stat().st_mode & 0o777 == 0o660


def test_nobody_else_on_the_machine_reads_the_log(outbox: Outbox, tmp_path: Path) -> None:
    outbox.append(event(0))
    for path in tmp_path.glob("audit.db*"):
        if path.suffix != ".ballast":
            assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_somebody_filled_stops_high_risk_doors_and_still_records_the_overflow(
    small_disk: Path, clock: Clock
) -> None:
    limits = OutboxLimits(ballast_bytes=1 << 20)
    with reopened(small_disk, clock, limits=limits) as box:
        assert box.append(event(0)) is not None
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        with pytest.raises(OutboxFullError, match="disk full"):
            box.append(event(1))
        assert (small_disk / "audit.db.ballast").exists()
        assert {box.append(event(i), risk="low") for i in range(2, 502)} == {None}
        assert not (small_disk / "audit.db.ballast").exists()
        assert (box.status().overflow_count, box.status().sequence) == (500, 1)
        (small_disk / "filler").unlink()
        assert box.append(event(502)) is not None
        assert (box.status().overflow_count, box.status().sequence) == (0, 3)


def test_a_door_that_is_not_configured_and_a_foreign_unit_are_refused(
    outbox: Outbox, tmp_path: Path, clock: Clock
) -> None:
    with pytest.raises(OutboxError, match="not configured"):
        outbox.append(event(0, door="rossi"))
    with pytest.raises(OutboxError, match="belongs to"):
        reopened(tmp_path, clock, unit="st-mary/icu-9")


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "audit.db").write_bytes(b"not a database" * 100)
    with pytest.raises(OutboxError, match="doctor"):
        reopened(tmp_path, clock)


def test_a_removed_row_is_noticed_before_anything_is_sent(outbox: Outbox, tmp_path: Path) -> None:
    for i in range(4):
        outbox.append(event(i))
    outbox.seal(SoftwareSigner())
    with closing(sqlite3.connect(tmp_path / "audit.db")) as other, other:
        other.execute("DELETE FROM events WHERE sequence = 2")
    with pytest.raises(OutboxError, match="missing"):
        outbox.batch_after(0)


class FileCounter:
    """A monotonic counter in a variable that outlives the disk."""

    def __init__(self) -> None:
        self.now = 0

    def value(self) -> int:
        return self.now

    def advance(self) -> int:
        self.now += 1
        return self.now


def test_an_old_copy_of_the_disk_is_refused(tmp_path: Path, clock: Clock) -> None:
    counter = FileCounter()
    with reopened(tmp_path, clock, counter=counter) as first:
        first.append(event(0))
    copy = (tmp_path / "audit.db").read_bytes()
    for i in (1, 2):
        with reopened(tmp_path, clock, counter=counter) as later:
            later.append(event(i))
    (tmp_path / "audit.db").write_bytes(copy)
    with pytest.raises(OutboxRollbackError):
        reopened(tmp_path, clock, counter=counter)


def test_a_door_that_starts_while_another_process_opens_the_log_is_no_old_copy(
    tmp_path: Path, clock: Clock
) -> None:
    counter = FileCounter()
    with reopened(tmp_path, clock, counter=counter) as first:
        first.append(event(0))

    class Slow(FileCounter):
        """The same counter, which answers only when the door has started."""

        def value(self) -> int:
            reopened(tmp_path, clock, counter=counter).close()
            return counter.value()

    with reopened(tmp_path, clock, counter=Slow(), advances=False) as beside:
        assert beside.append(event(1), other_process=True) is not None


def test_two_threads_append_without_a_gap(tmp_path: Path, clock: Clock) -> None:
    limits = OutboxLimits(ballast_bytes=0)
    with reopened(tmp_path, clock, limits=limits) as box:
        threads = [
            threading.Thread(target=lambda: [box.append(event(i)) for i in range(25)]) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        box.seal(SoftwareSigner())
        batch = box.batch_after(0)
    assert batch is not None
    assert [Record.from_bytes(b).sequence for b in batch.bodies] == list(range(1, 51))


WRITER = """
import sys, time
from pathlib import Path
from sync.outbox import Outbox
from tests.sync.parts import DOORS, UNIT, event
box = Outbox(Path(sys.argv[1]), unit=UNIT, doors=DOORS, now_ms=lambda: 1_790_000_000_000)
number = box.status().sequence
while True:
    box.append(event(number))
    number += 1
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_what_append_returned_survives_kill_nine(tmp_path: Path, clock: Clock) -> None:
    promised = 0
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "audit.db")], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        target = promised + 40
        for line in writer.stdout:
            promised = int(line)
            if promised >= target:
                os.kill(writer.pid, signal.SIGKILL)
                break
        promised = max([promised, *map(int, writer.stdout.read().split())])
        writer.wait()
    with reopened(tmp_path, clock, limits=OutboxLimits(ballast_bytes=0)) as box:
        status = box.status()
        assert status.sequence in (promised, promised + 1)
        box.seal(SoftwareSigner())
        batch = box.batch_after(0)
    assert batch is not None
    assert len(batch.bodies) == status.sequence


def test_a_locked_database_is_an_outbox_error(outbox: Outbox, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxError, match="stays locked"):
        outbox.append(event(0))
    other.execute("ROLLBACK")
    other.close()
    assert outbox.append(event(0)) is not None


def test_a_log_that_was_removed_is_missed(tmp_path: Path, clock: Clock) -> None:
    counter = FileCounter()
    with reopened(tmp_path, clock, counter=counter) as first:
        first.append(event(0))
    for path in tmp_path.glob("audit.db*"):
        path.unlink()
    with pytest.raises(OutboxRollbackError, match="is gone"):
        reopened(tmp_path, clock, counter=counter)
    with reopened(tmp_path, clock) as other:  # another process of the unit, which has no counter, writes one
        other.append(event(1))
    with pytest.raises(OutboxRollbackError, match="is gone"):
        reopened(tmp_path, clock, counter=counter)


def test_a_log_on_a_counter_that_starts_high_is_a_new_log(tmp_path: Path, clock: Clock) -> None:
    counter = FileCounter()
    counter.now = 41  # a TPM starts its counters above those it had before
    with reopened(tmp_path, clock, counter=counter, never_used=41) as first:
        assert first.append(event(0)) is not None
    with reopened(tmp_path, clock, counter=counter, never_used=41) as again:
        assert again.status().sequence == 1


def test_numbers_of_health_messages_only_rise_also_after_a_kill_and_on_a_full_disk(tmp_path: Path) -> None:
    given = []
    for _ in range(3):
        box = Outbox(tmp_path / "a.db", unit=UNIT, doors=DOORS, now_ms=Clock())
        given += [box.next_report() for _ in range(5)]
        box.close()
    box = Outbox(tmp_path / "a.db", unit=UNIT, doors=DOORS, now_ms=Clock(), busy_s=0.0)
    given.append(box.next_report())
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as beside:
        beside.execute("BEGIN IMMEDIATE")  # as a disk that takes nothing
        given += [box.next_report() for _ in range(2000)]
    assert given == sorted(set(given))
