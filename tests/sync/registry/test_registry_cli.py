"""What a person types at the registry: slips are one line and a rc of their own, answers are on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sync.events import pseudonym
from sync.registry.cli import registry as registry_cli
from sync.registry.store import Store, StoreError
from sync.registry.verification import Alarm
from tests.sync.parts import TENANT_KEY, event
from tests.sync.registry.test_ingest import Registry, Unit


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


def test_acknowledging_what_is_not_there_says_so(desk: Desk) -> None:
    assert "there is no open alarm 999" in str(desk.types("acknowledge", "999").exception)
    (alarm,) = (json.loads(line) for line in desk.types("alarms", "--json").output.splitlines())
    assert desk.types("acknowledge", str(alarm["id"]), "--account", "m.desk").exit_code == 0
    assert "no open alarm" in str(desk.types("acknowledge", str(alarm["id"])).exception)


def test_a_persons_events_are_found_by_badge_and_the_question_is_on_record(desk: Desk) -> None:
    who = str(pseudonym(TENANT_KEY, "BADGE3"))
    key, why = ("--tenant-key", str(desk.key)), ("--why", "request 17", "--account", "m.desk")
    assert desk.types("pseudonym", "badge-3", *key, *why).output.strip() == who
    by_badge = desk.types("person", "badge-3", *key, *why).output.splitlines()
    by_name = desk.types("person", who, *why).output.splitlines()
    assert by_badge == by_name
    assert [json.loads(line)["sequence"] for line in by_badge] == [4, 9, 14, 19]
    assert {json.loads(line)["person"] for line in by_badge} == {who}
    asked = [json.loads(line) for line in desk.types("access", "--json").output.splitlines()]
    assert [(row["action"], row["rows"], row["account"]) for row in asked] == [
        ("person", 4, "m.desk"), ("person", 4, "m.desk"), ("pseudonym", 1, "m.desk"),
    ]  # fmt: skip
    assert all("request 17" in row["subject"] and who in row["subject"] for row in asked)
    assert "badge-3" not in json.dumps(asked), "the badge itself is kept nowhere"


def test_a_badge_without_the_key_or_with_another_file_is_one_line(desk: Desk) -> None:
    assert "--tenant-key" in str(desk.types("person", "badge-3", "--why", "x").exception)
    (desk.folder / "short").write_bytes(b"short")
    wrong = desk.types("person", "badge-3", "--why", "x", "--tenant-key", str(desk.folder / "short"))
    assert "32 bytes" in str(wrong.exception)
    assert desk.types("person", "badge-3").exit_code == 2, "nobody asks without saying why"


def test_a_persons_denials_and_a_doors_latest_are_found_by_an_index(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/r.db")
    questions = {
        "events_person": "SELECT * FROM events WHERE person = 'x' AND time_ms > 5 AND kind = 'DENIED_VOICE'",
        "events_door": "SELECT * FROM events WHERE unit = 'a/b' AND door = 'c' ORDER BY time_ms DESC LIMIT 1",
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
