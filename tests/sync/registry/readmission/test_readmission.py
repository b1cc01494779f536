"""The way back after a fork or a new disk: two people, a new log, and the old one kept and provable."""

from __future__ import annotations

import pytest

from sync.errors import SyncError
from sync.events import UnitId
from sync.proofs.bundle import key_to_der
from sync.proofs.verify import verify
from sync.registry import readmission
from sync.registry.reports import export, status
from tests.sync.parts import SoftwareSigner
from tests.sync.registry.ingest.test_ingest import REGISTRY, Registry, Unit, cluster, registry, some

__all__ = ["cluster", "registry"]


def readmit(registry: Registry, unit: Unit, key: bytes | None = None) -> str:
    store, now = registry.store, registry.clock()
    number = readmission.ask(store, unit.unit, account="m.desk", why="ticket 812", now_ms=now, key=key)
    with pytest.raises(SyncError, match="second person"):
        readmission.approve(store, number, account="m.desk", now_ms=now)
    unit_name, closed = readmission.approve(store, number, account="n.desk", now_ms=now)
    assert unit_name == unit.unit
    with pytest.raises(SyncError, match="no open request"):
        readmission.approve(store, number, account="o.desk", now_ms=now)
    registry.seconds += 10
    return closed


def forked(registry: Registry) -> tuple[Unit, Unit]:
    """A unit and its copied from an old copy of the disk, which the registry refuses."""
    unit = registry.register(Unit())
    registry.take(unit.batch(some(1, 4)))
    copied = unit.copy()
    registry.take(unit.batch(some(5, 6)))
    copied.oldest = 5
    assert registry.take(copied.batch(some(5, 5, kind="DENIED_VOICE")))[0].status == "refused"
    return unit, copied


def test_a_readmitted_unit_goes_on_and_both_its_logs_verify(registry: Registry) -> None:
    unit, copied = forked(registry)
    closed = readmit(registry, unit)
    assert closed == f"{unit.unit}~1"
    assert closed in {one.unit for one in status.unit_statuses(registry.store, registry.clock())}
    for alarm in status.open_alarms(registry.store):
        status.acknowledge(registry.store, alarm["id"], "m.desk", registry.clock())
    copied.oldest = 6  # the registry has the first five under the closed log, as far as the copied knows
    assert registry.take(copied.batch(some(6, 8)))[0].status == "stored"
    assert registry.take(copied.batch(some(9, 9)))[0].size == 9
    assert registry.alarms() == {}, "what is in the closed log is no gap"
    key, registry_key = unit.signer.public_key(), REGISTRY.public_key()
    old = export.bundle(registry.store, UnitId(closed)).to_bytes()
    assert verify(old, key, unit=unit.unit).findings == []
    new = export.bundle(registry.store, unit.unit).to_bytes()
    report = verify(new, key, unit=unit.unit, registry_key=registry_key)
    assert (report.findings, report.first, report.events) == ([], 6, 4)
    assert any("in an earlier log (m.desk, n.desk)" in note for note in report.notes)
    assert not verify(new, key, unit=unit.unit).sound, "without the registry's key nobody accounts for them"


def test_a_unit_with_a_new_disk_and_a_new_key_begins_with_event_one(registry: Registry) -> None:
    unit = registry.register(Unit())
    registry.take(unit.batch(some(1, 4)))
    fresh = Unit()
    fresh.signer = SoftwareSigner()
    closed = readmit(registry, unit, key_to_der(fresh.signer.public_key()))
    assert registry.take(fresh.batch(some(1, 3)))[0].size == 3
    assert registry.alarms() == {}, "the workers know the new key at once"
    made = export.bundle(registry.store, unit.unit).to_bytes()
    assert verify(made, fresh.signer.public_key()).findings == []
    assert len(export.bundle(registry.store, UnitId(closed)).events) == 4


def test_a_second_fork_is_a_fork_again_and_closes_a_second_log(registry: Registry) -> None:
    unit, _ = forked(registry)
    readmit(registry, unit)
    again = Unit()
    again.signer = unit.signer
    registry.take(again.batch(some(1, 2)))
    copied = again.copy()
    registry.take(again.batch(some(3, 4)))
    assert registry.take(copied.batch(some(3, 3, kind="DENIED_VOICE")))[0].status == "refused"
    assert readmit(registry, unit) == f"{unit.unit}~2"


def test_a_stranger_is_not_readmitted_and_everything_is_on_record(registry: Registry) -> None:
    with pytest.raises(SyncError, match="not registered"):
        readmission.ask(registry.store, UnitId("no/one"), account="m", why="x", now_ms=0)
    unit, _ = forked(registry)
    readmit(registry, unit)
    rows = status.accesses(registry.store)
    assert [(row["account"], row["action"]) for row in rows] == [("n.desk", "readmit"), ("m.desk", "readmit")]
    assert "ticket 812" in rows[1]["subject"]
    (request,) = readmission.listed(registry.store)
    assert (request["account"], request["approved_by"]) == ("m.desk", "n.desk")
