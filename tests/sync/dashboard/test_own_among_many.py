"""What an account with tags sees of a list does not depend on how much there is at other sites."""

from __future__ import annotations

import json

import sqlalchemy as sa

from sync.dashboard.accounts import approvals
from sync.dashboard.accounts.rights import Right, Viewer
from sync.dashboard.accounts.tokens import Tokens
from sync.dashboard.emergency import lockdown, muster
from sync.dashboard.people import visits
from sync.dashboard.records import handover
from sync.dashboard.schema import approvals as asked
from sync.dashboard.schema import handovers, musters, runs, tokens
from sync.dashboard.schema import visits as visit_rows
from tests.sync.dashboard.conftest import Hospital

MANY = 300
MINE, THEIRS = ("harbour-clinic",), ("st-mary",)
HERE = Viewer("h.desk", "desk", MINE, "", "")
THERE = Viewer("m.desk", "desk", THEIRS, "", "")
EVERYWHERE = Viewer("desk", "desk", (), "", "")


def fill(hospital: Hospital, table: sa.Table, mine: dict[str, object], theirs: dict[str, object]) -> None:
    """One row of ours, then many that are newer and of another site."""
    rows = [theirs | ({"id": f"{theirs['id']}{n}"} if "id" in theirs else {}) for n in range(MANY)]
    with hospital.store.transaction() as db:
        db.execute(sa.insert(table).values(**mine))
        db.execute(sa.insert(table), rows)


def test_a_roll_call_of_ours_stays_in_the_list(hospital: Hospital) -> None:
    row = {"account": "desk", "started_ms": 1}
    fill(hospital, musters, {**row, "site": MINE[0]}, {**row, "site": THEIRS[0]})
    with hospital.store.reading() as db:
        assert [one.site for one in muster.recent(db, HERE)] == [MINE[0]]


def test_a_visit_of_ours_stays_in_the_list(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    row = {"person": "p", "sponsor": "desk", "what": "w", "begins_ms": 1, "made_by": "desk", "made_ms": 1}
    mine = {**row, "site": MINE[0], "ends_ms": now_ms + 9_000_000}
    fill(hospital, visit_rows, mine, {**row, "site": THEIRS[0], "ends_ms": now_ms + 8_000_000})
    with hospital.store.reading() as db:
        assert [one.site for one in visits.listed(db, HERE, now_ms)] == [MINE[0]]


def test_a_request_of_ours_waits_in_the_list(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    row = {"action": "export", "why": "w", "account": "a", "asked_ms": now_ms}
    about = {"form": "csv", "filter": "", "rows": 1}
    mine, theirs = (json.dumps({**about, "tags": tags[0]}) for tags in (MINE, THEIRS))
    fill(hospital, asked, {**row, "about": mine}, {**row, "about": theirs})
    assert [one.about["tags"] for one in approvals.listed(hospital.store, now_ms, MINE)] == [MINE[0]]


def test_years_of_requests_are_not_read_for_a_list_of_fifty(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    about = json.dumps({"form": "csv", "filter": "", "rows": 1, "tags": MINE[0]})
    row = {"action": "export", "why": "w", "account": "a", "about": about}
    decided = {**row, "asked_ms": 1, "decided_by": "b", "decided_ms": 2, "agreed": 1}
    with hospital.store.transaction() as db:
        waits = db.execute(sa.insert(asked).values(**row, asked_ms=now_ms)).inserted_primary_key
        db.execute(sa.insert(asked), [decided] * 5 * approvals.AT_ONCE)
    read = []
    with hospital.store.reading() as db:
        sa.event.listen(db.engine, "before_cursor_execute", lambda *told: read.append(told[2]))
    found = approvals.listed(hospital.store, now_ms)
    ids = [one.id for one in found]
    assert waits is not None
    assert (ids[0], len(ids)) == (waits[0], approvals.MOST)
    assert ids[1:] == sorted(ids[1:], reverse=True), "the newest first"
    assert sum("FROM dashboard_approvals" in query for query in read) == 2, read
    assert len(approvals.listed(hospital.store, now_ms, ("nowhere",))) == 0


def test_a_token_of_ours_stays_in_the_list(hospital: Hospital) -> None:
    row = {
        "secret_hash": "", "name": "n", "rights": json.dumps([Right.DOORS.name]), "created_by": "a",
        "expires_ms": 2,
    }  # fmt: skip
    mine = {**row, "id": "mine", "scopes": json.dumps(MINE), "created_ms": 1}
    fill(hospital, tokens, mine, {**row, "id": "t", "scopes": json.dumps(THEIRS), "created_ms": 2})
    assert [one.id for one in Tokens(hospital.store).listed(HERE)] == ["mine"]


def test_a_handover_of_ours_stays_in_the_list(hospital: Hospital) -> None:
    row = {"account": "a", "time_ms": 1, "text": "t", "left_open": "{}"}
    mine = {**row, "scopes": json.dumps(MINE)}
    fill(hospital, handovers, mine, {**row, "scopes": json.dumps(THEIRS)})
    with hospital.store.reading() as db:
        assert [json.loads(one.scopes) for one in handover.listed(db, HERE)] == [list(MINE)]


def test_a_lock_down_in_force_is_handed_over_however_many_drills_came_after_it(hospital: Hospital) -> None:
    now_ms = hospital.now_ms()
    run = lockdown.start(
        hospital.store, hospital.signer, EVERYWHERE, name="Intruder", site="st-mary", zones=("icu",), plan=0,
        drill=False, now_ms=now_ms,
    )  # fmt: skip
    drill = {"plan": 0, "name": "Drill", "site": MINE[0], "drill": 1, "account": "a", "started_ms": now_ms}
    with hospital.store.transaction() as db:
        db.execute(sa.insert(runs), [drill] * MANY)
    with hospital.store.reading() as db:
        assert [one.id for one in handover.still_open(db, EVERYWHERE, now_ms).lockdowns] == [run]
        assert [one.id for one in lockdown.recent(db, THERE, now_ms)] == [run]
