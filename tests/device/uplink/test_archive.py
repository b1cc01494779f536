"""A unit without a registry puts its log away in files, and anybody can still prove all of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from device.errors import DeviceError
from device.settings import AuditSettings
from device.uplink.archive import files, put_away, rotate, rotate_when_due
from sync.events import Record
from sync.outbox import Outbox, OutboxLimits
from sync.proofs.bundle import LogBundle, parse
from sync.proofs.verify import verify
from tests.sync.parts import DOORS, UNIT, Clock, SoftwareSigner, event

LIMITS = OutboxLimits(max_events=40, batch_events=4, ballast_bytes=0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock(), limits=LIMITS) as made:
        yield made


@pytest.fixture
def signer() -> SoftwareSigner:
    return SoftwareSigner()


def write(log: Outbox, first: int, last: int) -> None:
    for number in range(first, last + 1):
        assert log.append(event(number)) is not None


def opened(path: Path) -> LogBundle:
    bundle = parse(path.read_bytes())
    assert isinstance(bundle, LogBundle)
    return bundle


def test_a_full_log_takes_events_again_once_it_was_put_away_and_every_event_can_be_proved(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    kept: list[bytes] = []
    for run in range(3):  # three times as much as the log can hold
        write(log, 40 * run, 40 * run + 39)
        made = rotate(log, signer, tmp_path / "archive")
        assert log.status().pending == 0
        for path in made:
            report = verify(
                path.read_bytes(), signer.public_key(), checkpoints=kept, start=opened(path).first
            )
            assert report.sound, report.findings
            kept.append(opened(path).heads[-1])
    spans = [(first, last) for _, first, last in files(tmp_path / "archive")]
    assert spans == [(1, 40), (41, 80), (81, 120)]
    numbers = [
        Record.from_bytes(body).sequence
        for path, _, _ in files(tmp_path / "archive")
        for body in opened(path).events
    ]
    assert numbers == list(range(1, 121))


def test_a_file_from_the_middle_that_was_changed_or_left_out_is_noticed(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    for run in range(3):
        write(log, 10 * run, 10 * run + 9)
        rotate(log, signer, tmp_path / "archive")
    first, second, third = (path for path, _, _ in files(tmp_path / "archive"))
    checkpoint = opened(first).heads[-1]
    assert verify(second.read_bytes(), signer.public_key(), checkpoints=[checkpoint], start=11).sound
    assert not verify(second.read_bytes(), signer.public_key(), checkpoints=[checkpoint]).sound
    skipped = verify(third.read_bytes(), signer.public_key(), checkpoints=[checkpoint], start=21)
    assert any("older than this file" in note for note in skipped.notes)
    data = bytearray(second.read_bytes())
    data[data.index(b"all_factors_passed")] ^= 1
    assert not verify(bytes(data), signer.public_key(), start=11).sound


def test_killed_between_the_file_and_the_log_nothing_is_lost_and_nothing_stays_twice(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    write(log, 0, 9)
    log.seal(signer)
    held = log.held()
    assert held is not None
    put_away(held, signer, tmp_path / "archive")  # and the plug is pulled
    assert log.status().pending == 10
    write(log, 10, 14)
    rotate(log, signer, tmp_path / "archive")
    assert [(first, last) for _, first, last in files(tmp_path / "archive")] == [(1, 15)]
    assert log.status().pending == 0


def test_a_log_that_does_not_verify_is_not_let_go(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    write(log, 0, 9)
    log.seal(signer)
    with closing(sqlite3.connect(tmp_path / "audit.db")) as other, other:
        other.execute(
            "UPDATE events SET body = CAST(replace(body, 'st-mary', 'st-luke') AS BLOB) WHERE sequence = 3"
        )
    with pytest.raises(DeviceError, match="nothing left it"):
        rotate(log, signer, tmp_path / "archive")
    assert log.status().pending == 10


def test_with_a_limit_the_oldest_files_go_and_the_rest_still_verifies(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    for run in range(4):
        write(log, 10 * run, 10 * run + 9)
        rotate(log, signer, tmp_path / "archive", keep_bytes=10_000)
    left = files(tmp_path / "archive")
    assert 0 < len(left) < 4
    assert left[-1][2] == 40
    assert sum(path.stat().st_size for path, _, _ in left) <= 10_000
    assert all(verify(path.read_bytes(), signer.public_key(), start=first).sound for path, first, _ in left)


def test_a_running_unit_puts_its_log_away_when_it_is_half_full_and_not_before(
    log: Outbox, signer: SoftwareSigner, tmp_path: Path
) -> None:
    settings = AuditSettings(standalone=True, archive=tmp_path / "elsewhere")
    write(log, 0, 18)
    assert rotate_when_due(log, signer, settings, tmp_path) == 0
    write(log, 19, 19)
    assert rotate_when_due(log, signer, settings, tmp_path) == 20
    assert len(files(tmp_path / "elsewhere")) == 1
