"""Retention: on record, unit by unit, beside ingest; and what nobody recorded is a finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from sync.cose import peek1
from sync.errors import ProofError, SyncError
from sync.events import Record, unit_id
from sync.keys import FileSigner
from sync.proofs.audit_cli import audit
from sync.proofs.bundle import LogBundle, prove_event
from sync.proofs.heads import Head
from sync.proofs.retention import RetentionRecord, open_record
from sync.proofs.verify import Report, verify
from sync.registry.cli import registry as registry_cli
from sync.registry.database.schema import events, heads, retained
from sync.registry.reports import export
from sync.registry.retention import months
from sync.registry.retention.months import Forgotten, forget_before
from tests.sync.parts import START_MS, event
from tests.sync.registry.ingest.test_ingest import Registry, Unit, cluster, registry, some

__all__ = ["cluster", "registry"]
REGISTRY_KEY = FileSigner.generate()
OCTOBER_MS, NOVEMBER_MS = 1_793_000_000_000, 1_793_900_000_000


def forget(registry: Registry, month: int = 202611, **more: object) -> Forgotten:
    return forget_before(
        registry.store,
        month,
        signer=REGISTRY_KEY,
        account="m.desk",
        now_ms=NOVEMBER_MS,
        **more,  # type: ignore[arg-type]
    )


def checked(registry: Registry, unit: Unit, *, key: bool = True, **more: object) -> Report:
    data = export.bundle(registry.store, unit.unit).to_bytes()
    registry_key = REGISTRY_KEY.public_key() if key else None
    return verify(data, unit.signer.public_key(), unit=unit.unit, registry_key=registry_key, **more)  # type: ignore[arg-type]


def filled(registry: Registry, *names: str) -> list[Unit]:
    """Units with eight events of October in three batches, and four of November."""
    made = [registry.register(Unit(name)) for name in names]
    registry.seconds += 10  # the worker looks for new units
    for unit in made:
        registry.clock.now_ms = OCTOBER_MS
        for first, last in ((1, 5), (6, 7), (8, 8)):
            registry.take(unit.batch(some(first, last)))
        registry.clock.now_ms = NOVEMBER_MS
        registry.take(unit.batch(some(9, 12)))
    return made


def whats(report: Report) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in report.findings]


def test_what_was_deleted_is_on_record_and_the_record_goes_with_the_export(registry: Registry) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")
    assert forget(registry) == Forgotten(8, 1, {})
    made = export.bundle(registry.store, unit.unit)
    assert (made.first, len(made.events), len(made.heads)) == (9, 4, 2)
    record = open_record(made.records[0], REGISTRY_KEY.public_key(), unit.unit)
    assert record == RetentionRecord(unit.unit, 1, 8, made.chain, "m.desk", NOVEMBER_MS)
    report = checked(registry, unit)
    assert report.findings == []
    assert any("left this log on 2026-11-05, on record: m.desk" in note for note in report.notes)
    assert whats(checked(registry, unit, key=False)) == [
        "events 1 to 8: they are missing, and somebody recorded that: check it with the registry's key, "
        "--registry-key FILE"
    ]
    assert forget(registry) == Forgotten(0, 0, {}), "once is enough"


def test_a_cut_at_a_head_that_nobody_recorded_is_found_wherever_it_is(registry: Registry) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")
    whole = export.bundle(registry.store, unit.unit)
    checkpoint = [whole.heads[-1]]
    for number, message in enumerate(whole.heads[:-1]):
        head = Head.from_bytes(peek1(message))
        tree = months.Frontier().extended(map(months.chain.leaf_hash, whole.events[: head.size]))
        cut = LogBundle(
            whole.unit, whole.key, head.size + 1, head.chain, tree.to_bytes(), whole.events[head.size :],
            whole.heads[number:],
        )  # fmt: skip
        report = verify(
            cut.to_bytes(),
            unit.signer.public_key(),
            checkpoints=checkpoint,
            registry_key=REGISTRY_KEY.public_key(),
        )
        assert len(report.findings) == 1
        assert f"events 1 to {head.size}: they are missing, and nobody recorded why" in whats(report)[0]
        known = verify(cut.to_bytes(), unit.signer.public_key(), start=head.size + 1)
        assert known.findings == []


def test_a_record_by_another_key_of_another_unit_or_of_other_events_excuses_nothing(
    registry: Registry,
) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")
    forget(registry)
    made = export.bundle(registry.store, unit.unit)
    good = open_record(made.records[0], REGISTRY_KEY.public_key(), unit.unit)
    forged = good.signed(FileSigner.generate())
    foreign = RetentionRecord(unit_id("a/b"), 1, 8, made.chain, "x", 0).signed(REGISTRY_KEY)
    short = RetentionRecord(unit.unit, 1, 7, made.chain, "x", 0).signed(REGISTRY_KEY)
    late = RetentionRecord(unit.unit, 2, 8, made.chain, "x", 0).signed(REGISTRY_KEY)
    other = RetentionRecord(unit.unit, 1, 8, bytes(32), "x", 0).signed(REGISTRY_KEY)
    for record in (forged, foreign, short, late, other):
        changed = LogBundle(
            made.unit, made.key, made.first, made.chain, made.frontier, made.events, made.heads, (), (record,)
        )
        report = verify(changed.to_bytes(), unit.signer.public_key(), registry_key=REGISTRY_KEY.public_key())
        assert report.findings


@pytest.mark.parametrize("registry", ["postgresql"], indirect=True)
def test_an_event_that_comes_into_an_old_month_at_the_last_moment_does_not_go_with_it(
    registry: Registry,
) -> None:
    filled(registry, "late/unit")
    left = [True]

    def looked(*told: object) -> None:
        if left and str(told[2]).startswith("SET LOCAL lock_timeout"):
            left.pop()
            with registry.store.transaction() as db:
                row = db.execute(sa.select(events).where(events.c.sequence == 1)).one()
                db.execute(sa.insert(events).values({**row._mapping, "unit": "late/other"}))

    sa.event.listen(registry.store.engine, "before_cursor_execute", looked)
    forget(registry)
    sa.event.remove(registry.store.engine, "before_cursor_execute", looked)
    assert not left
    with registry.store.reading() as db:
        found = db.execute(sa.select(events.c.unit, events.c.sequence).order_by(events.c.sequence)).all()
    assert [tuple(row) for row in found if row.sequence < 9] == [("late/other", 1)], (
        "the rest went one by one"
    )


def test_the_present_month_and_those_to_come_are_refused(registry: Registry) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")
    for month in (202612, 202701, 999912):
        with pytest.raises(SyncError, match="present month"):
            forget(registry, month)
    assert len(registry.stored(unit)) == 12


def test_a_unit_whose_log_does_not_verify_keeps_everything_and_the_others_are_cut(registry: Registry) -> None:
    good, bad, last = filled(registry, "a/good", "b/bad", "c/good")
    edited = Record(bad.unit, 3, event(3, kind="DENIED_VOICE")).to_bytes()
    with registry.store.transaction() as db:
        mine = (events.c.unit == bad.unit, events.c.sequence == 3)
        db.execute(sa.update(events).where(*mine).values(body=edited))
    done = forget(registry)
    assert (done.events, list(done.refused)) == (16, [bad.unit])
    assert [len(registry.stored(unit)) for unit in (good, bad, last)] == [4, 12, 4]
    alarm = registry.alarms()["RETENTION_REFUSED"]
    assert (alarm["unit"], alarm["severity"]) == (bad.unit, "critical")
    assert [checked(registry, unit).sound for unit in (good, bad, last)] == [True, False, True]


def with_a_gap(registry: Registry) -> Unit:
    """61 events sent, 20 of them lost by the registry: it was put back from yesterday's backup."""
    unit = registry.register(Unit("st-mary/icu-2"))
    registry.clock.now_ms = OCTOBER_MS
    for first in range(1, 60, 10):
        registry.take(unit.batch(some(first, first + 9)))
    for first in (61, 66, 71, 76):
        unit.batch(some(first, first + 4))
    unit.oldest = 81
    registry.insists(unit.batch(some(81, 90)))
    registry.take(unit.batch(some(91, 100)))
    registry.clock.now_ms = NOVEMBER_MS
    registry.take(unit.batch(some(101, 104)))
    return unit


def test_missing_events_are_one_finding_and_what_follows_them_is_still_held_against_signatures(
    registry: Registry,
) -> None:
    unit = with_a_gap(registry)
    assert whats(checked(registry, unit)) == [
        "events 61 to 80: they are missing: the unit has written them, and this file does not have them"
    ]
    with registry.store.transaction() as db:
        edited = Record(unit.unit, 95, event(95, kind="DENIED_VOICE")).to_bytes()
        db.execute(sa.update(events).where(events.c.sequence == 95).values(body=edited))
    assert [finding.where for finding in checked(registry, unit).findings] == [
        "events 61 to 80",
        "events 91 to 100",
    ]
    log = export.bundle(registry.store, unit.unit)
    assert verify(prove_event(log, 7).to_bytes(), unit.signer.public_key()).findings == []
    with pytest.raises(ProofError):
        prove_event(log, 85)


def test_rows_that_somebody_deleted_are_one_finding_too(registry: Registry) -> None:
    unit = registry.register(Unit())
    for first in range(1, 100, 10):
        registry.take(unit.batch(some(first, first + 9)))
    with registry.store.transaction() as db:
        db.execute(sa.delete(events).where(events.c.sequence.between(41, 60)))
    report = checked(registry, unit)
    assert [finding.where for finding in report.findings] == ["events 41 to 60"]


def test_a_gap_keeps_no_unit_from_retention_and_is_still_told_afterwards(registry: Registry) -> None:
    unit = with_a_gap(registry)
    (other,) = filled(registry, "other/unit")
    done = forget(registry)
    assert (done.units, done.refused) == (2, {})
    assert [len(registry.stored(one)) for one in (unit, other)] == [4, 4]
    assert checked(registry, other).findings == []
    assert checked(registry, unit).findings == []
    assert set(registry.alarms()) == {"GAP"}


def test_a_message_from_inside_a_gap_is_no_second_history(registry: Registry) -> None:
    unit = registry.register(Unit())
    registry.take(unit.batch(some(1, 2)))
    lost = unit.batch(some(3, 4))
    unit.oldest = 5
    registry.insists(unit.batch(some(5, 6)))
    assert registry.take(lost)[0].status == "stored"
    assert set(registry.alarms()) == {"GAP"}


def test_events_are_stored_while_a_month_is_deleted(registry: Registry) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")
    other = registry.register(Unit("other/unit"))
    registry.seconds += 10
    came = []

    def meanwhile(_: int) -> None:
        came.append(registry.take(other.batch([event(len(came))]))[0].status)

    forget(registry, progress=meanwhile, batch_rows=3)  # a month in little
    assert set(came) <= {"stored"}
    assert came or registry.store.partitioned, "a partition goes as a whole"
    assert checked(registry, unit).findings == []


def test_killed_while_rows_go_the_export_is_sound_and_the_next_call_finishes(registry: Registry) -> None:
    (unit,) = filled(registry, "st-mary/icu-2")

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    if not registry.store.partitioned:
        with pytest.raises(KeyboardInterrupt):
            forget(registry, progress=killed, batch_rows=3)
        assert len(registry.stored(unit)) > 4
        assert checked(registry, unit).findings == []
    forget(registry)
    with registry.store.reading() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(heads)).scalar() == 2
        assert db.execute(sa.select(retained.c.size)).scalar() == 8
    assert len(registry.stored(unit)) == 4


def test_a_unit_without_an_event_is_sound_and_a_checkpoint_shows_what_it_should_have(
    registry: Registry,
) -> None:
    unit = registry.register(Unit())
    report = checked(registry, unit)
    assert (report.sound, report.notes[-1]) == (True, report.notes[-1])
    head = unit.batch(some(1, 2)).head
    assert not checked(registry, unit, checkpoints=[head]).sound


def test_the_command_asks_records_and_refuses_a_slip(tmp_path: Path) -> None:
    run = CliRunner().invoke
    registry = Registry(f"sqlite:///{tmp_path}/r.db")
    registry.clock.now_ms = START_MS - 400 * 86_400_000
    unit = registry.register(Unit())
    registry.take(unit.batch(some(1, 5)))
    registry.store.close()
    database = ["--database", f"sqlite:///{tmp_path}/r.db"]
    key = tmp_path / "receipts.key"
    assert run(registry_cli, ["new-key", str(key)]).exit_code == 0
    command = [
        "retain",
        "--from-month",
        "202601",
        "--signing-key",
        str(key),
        "--account",
        "m.desk",
        *database,
    ]
    refused = run(registry_cli, command, input="n\n")
    assert (refused.exit_code, "5 events of 1 units" in refused.output) == (1, True)
    wrong = [*command[:4], str(tmp_path / "reciepts.key"), *command[5:]]
    assert isinstance(run(registry_cli, wrong, input="y\n").exception, SyncError)
    assert not (tmp_path / "reciepts.key").exists(), "a name with a slip makes no key"
    future = [*command[:2], "209901", *command[3:]]
    assert run(registry_cli, future, input="y\n").exit_code == 2
    asked = run(registry_cli, command, input="y\n")
    assert (asked.exit_code, "5 events of 1 units were deleted" in asked.output) == (0, True)
    bundle = tmp_path / "unit.bundle"
    export_it = ["export", "--form", "bundle", "--unit", unit.unit, "-o", str(bundle), *database]
    assert run(registry_cli, export_it).exit_code == 0
    known = run(audit, ["verify", str(bundle), "--registry-key", str(key.with_suffix(".pem")), "--json"])
    assert (known.exit_code, json.loads(known.output)["sound"]) == (0, True)
    assert run(audit, ["verify", str(bundle)]).exit_code == 1
    assert run(audit, ["verify", str(bundle), "--from", "6"]).exit_code == 0
