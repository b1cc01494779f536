"""What a person types at the registry: slips are one line and a rc of their own, answers are on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sync.errors import SyncError
from sync.events import pseudonym
from sync.keys import FileSigner
from sync.person_id import person_id
from sync.proofs.bundle import key_from_bytes, key_to_der
from sync.registry.cli import registry as registry_cli
from sync.registry.database.fleet_tables import enrolments, passes
from sync.registry.database.store import Store, StoreError
from sync.registry.verification import Alarm
from tests.sync.parts import TENANT_KEY, event
from tests.sync.registry.ingest.test_ingest import Registry, Unit


class Desk:
    """A registry with twenty events of five people, and somebody at its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/r.db"
        registry = Registry(self.url)
        unit = registry.register(Unit())
        registry.take(unit.batch([event(n) for n in range(20)]))
        alarm = Alarm("TAMPER", "critical", unit.unit, "x", {})
        with registry.store.transaction() as db:
            registry.store.raise_alarms(db, [alarm], registry.clock())
        registry.store.close()
        self.key = folder / "tenant.key"
        self.key.write_bytes(TENANT_KEY)

    def types(self, *words: str) -> Result:
        return CliRunner().invoke(registry_cli, [*words, "--database", self.url])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    "words", [["units"], ["alarms"], ["refusals"], ["access"], ["revoke", "a/b"], ["acknowledge", "1"]]
)
def test_a_mistyped_database_is_refused_and_makes_no_file(tmp_path: Path, words: list[str]) -> None:
    slip = tmp_path / "regsitry.db"
    result = CliRunner().invoke(registry_cli, [*words, "--database", f"sqlite:///{slip}"])
    assert isinstance(result.exception, StoreError)
    assert "registry create" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_registry_is_made_by_its_own_command_only(tmp_path: Path) -> None:
    database = ["--database", f"sqlite:///{tmp_path}/r.db"]
    assert CliRunner().invoke(registry_cli, ["create", *database]).exit_code == 0
    assert CliRunner().invoke(registry_cli, ["create", *database]).exit_code == 0
    assert CliRunner().invoke(registry_cli, ["units", *database]).exit_code == 0


def test_a_worker_with_a_mistyped_or_another_receipts_key_does_not_begin(tmp_path: Path) -> None:
    """Units would refuse its receipts, and nobody would hear of it."""
    url = f"sqlite:///{tmp_path}/r.db"
    right, other, slip = (tmp_path / name for name in ("receipts.key", "other.key", "reciepts.key"))
    store = Store.open(url)
    store.remember_receipts_key(key_to_der(FileSigner.create(right).public_key()))
    store.close()
    FileSigner.create(other)
    tls = [word for name in ("ca", "cert", "key") for word in (f"--{name}", str(tmp_path / f"{name}.pem"))]
    start = ["worker", "--database", url, "--broker", "localhost:1", *tls]
    for key, why in ((slip, "there is no key"), (other, "signed by another key")):
        told = CliRunner().invoke(registry_cli, [*start, "--signing-key", str(key)])
        assert isinstance(told.exception, SyncError)
        assert why in str(told.exception)
    assert not slip.exists()


def test_a_new_receipts_key_comes_with_the_public_key_that_units_need(tmp_path: Path) -> None:
    words = ["new-key", str(tmp_path / "receipts.key")]
    assert CliRunner().invoke(registry_cli, words).exit_code == 0
    public = key_from_bytes((tmp_path / "receipts.pem").read_bytes())
    assert public == FileSigner.load(tmp_path / "receipts.key").public_key()
    again = CliRunner().invoke(registry_cli, words)
    assert "it is not replaced" in str(again.exception)


def test_acknowledging_what_is_not_there_says_so(desk: Desk) -> None:
    assert "there is no open alarm 999" in str(desk.types("acknowledge", "999").exception)
    (alarm,) = (json.loads(line) for line in desk.types("alarms", "--json").output.splitlines())
    assert desk.types("acknowledge", str(alarm["id"]), "--account", "m.desk").exit_code == 0
    assert "no open alarm" in str(desk.types("acknowledge", str(alarm["id"])).exception)


def test_a_persons_events_are_found_by_badge_and_the_question_is_on_record(desk: Desk) -> None:
    who = str(pseudonym(TENANT_KEY, "BADGE3"))
    key, why = ("--tenant-key", str(desk.key)), ("--why", "request 17", "--account", "m.desk")
    assert desk.types("pseudonym", "badge-3", *key, *why).output.strip() == who
    by_badge = [json.loads(line) for line in desk.types("person", "badge-3", *key, *why).output.splitlines()]
    by_name = [json.loads(line) for line in desk.types("person", who, *why).output.splitlines()]
    events = [row for row in by_badge if row["record"] == "event"]
    assert events == [row for row in by_name if row["record"] == "event"]
    assert [row["sequence"] for row in events] == [4, 9, 14, 19]
    assert {row["person"] for row in events} == {who}
    asked = [json.loads(line) for line in desk.types("access", "--json").output.splitlines()]
    assert [(row["action"], row["rows"], row["account"]) for row in asked] == [
        ("person", 4, "m.desk"), ("person", 4, "m.desk"), ("pseudonym", 1, "m.desk"),
    ]  # fmt: skip
    assert all("request 17" in row["subject"] and who in row["subject"] for row in asked)
    assert "badge-3" not in json.dumps(asked), "the badge itself is kept nowhere"


def test_a_person_gets_what_is_kept_beside_the_events_too_and_nobody_elses(desk: Desk) -> None:
    store = Store.open(f"sqlite:///{desk.folder}/r.db", create=False)
    who, other = (str(pseudonym(TENANT_KEY, badge)) for badge in ("BADGE3", "BADGE4"))
    raised = [
        Alarm("VOICE_AT_TWO_SITES", "critical", None, f"V {one}", {"person": one, "apart_ms": 7})
        for one in (who, other)
    ]
    kept = {"number": 2, "holder": "st-mary/icu-2", "version": 1, "model": "m-1", "text_version": "t-1",
            "purpose": "doors", "given_ms": 1, "until_ms": 2, "since_ms": 1}  # fmt: skip
    with store.transaction() as db:
        store.raise_alarms(db, raised, 5)
        for uid in (person_id("badge-3"), person_id("badge-4")):
            db.execute(sa.insert(enrolments).values(uid=uid, **kept))
            db.execute(sa.insert(passes).values(uid=uid, scope="all"))
    store.close()
    key, why = ("--tenant-key", str(desk.key)), ("--why", "request 17", "--account", "m.desk")
    desk.types("person", other, *why)
    rows = [json.loads(line) for line in desk.types("person", "badge-3", *key, *why).output.splitlines()]
    beside = [row for row in rows if row["record"] != "event"]
    assert [row["record"] for row in beside] == ["alarm", "access", "enrolment", "pass"]
    assert beside[0]["evidence"] == {"person": who, "apart_ms": 7}
    assert (beside[1]["account"], beside[1]["action"]) == ("m.desk", "person"), "this very question"
    assert {row["uid"] for row in beside[2:]} == {person_id("badge-3")}
    assert other not in json.dumps(rows)


def test_a_badge_without_the_key_or_with_another_file_is_one_line(desk: Desk) -> None:
    assert "--tenant-key" in str(desk.types("person", "badge-3", "--why", "x").exception)
    (desk.folder / "short").write_bytes(b"short")
    wrong = desk.types("person", "badge-3", "--why", "x", "--tenant-key", str(desk.folder / "short"))
    assert "32 bytes" in str(wrong.exception)
    assert desk.types("person", "badge-3").exit_code == 2, "nobody asks without saying why"


def test_a_persons_denials_and_a_doors_latest_are_found_by_an_index(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/r.db")
    questions = {
        "events_person (person=? AND time_ms>?)": "SELECT * FROM events "
        "WHERE person = 'x' AND time_ms > 5 AND kind = 'DENIED_VOICE'",
        "events_door (unit=? AND door=?)": "SELECT * FROM events "
        "WHERE unit = 'a/b' AND door = 'c' ORDER BY time_ms DESC LIMIT 1",
    }
    with store.reading() as db:
        for index, question in questions.items():
            plan = " ".join(str(row) for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {question}"))
            assert index in plan
            assert "SCAN" not in plan
            assert "TEMP B-TREE" not in plan
    store.close()


def test_a_unit_is_readmitted_by_two_accounts_at_the_command_line(desk: Desk) -> None:
    asked = desk.types("readmit", "st-mary/icu-2", "--why", "new disk", "--account", "m.desk")
    assert "registry approve 1" in asked.output
    assert "second person" in str(desk.types("approve", "1", "--account", "m.desk").exception)
    assert "st-mary/icu-2~1" in desk.types("approve", "1", "--account", "n.desk").output
    (request,) = (json.loads(line) for line in desk.types("requests").output.splitlines())
    assert (request["account"], request["approved_by"]) == ("m.desk", "n.desk")
    out = str(desk.folder / "old.bundle")
    kept = desk.types("export", "--form", "bundle", "--unit", "st-mary/icu-2~1", "-o", out)
    assert "20 events" in kept.output


def test_what_is_missing_or_too_much_is_said_with_what_to_give_instead(desk: Desk, tmp_path: Path) -> None:
    bundle = desk.types(
        "export", "--form", "bundle", "-o", str(tmp_path / "a.bundle"), "--account", "m.auditor"
    )
    assert bundle.exit_code == 2
    assert "give --unit" in bundle.output
    FileSigner.create(tmp_path / "receipts.key")
    kept = desk.types("retain", "--from-month", "999912", "--signing-key", str(tmp_path / "receipts.key"))
    assert kept.exit_code == 2
    assert "this month or an earlier one" in kept.output
