"""Lock-downs: which doors were asked, which locked, which could not be reached."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from sync.dashboard.accounts.rights import Viewer
from sync.dashboard.demo.demo_places import demo_places
from sync.dashboard.emergency import lockdown
from sync.dashboard.errors import RefusedError
from sync.dashboard.migrations import prepare
from sync.dashboard.schema import journal, run_doors, runs
from sync.dashboard.site import places
from sync.events import UnitId
from sync.keys import FileSigner
from sync.orders.commands import Result, open_command
from sync.registry import commands
from sync.registry.database.schema import commands as commands_table
from sync.registry.database.schema import units
from sync.registry.database.store import Store
from tests.sync.dashboard.conftest import Hospital, token_of

DESK = Viewer("desk", "desk", (), "", "")
ICU = ("st-mary/icu-1", "st-mary/icu-2", "st-mary/icu-3")


def _start(
    hospital: Hospital, zones: tuple[str, ...] = ("icu",), *, drill: bool = False, now_ms: int = 0
) -> int:
    return lockdown.start(
        hospital.store,
        hospital.signer,
        DESK,
        name="Intensive care",
        site="st-mary",
        zones=zones,
        plan=0,
        drill=drill,
        now_ms=now_ms or hospital.now_ms(),
    )


def _answer(hospital: Hospital, now_ms: int, *names: str, status: str = "done") -> list[str]:
    """These units obey what they are ordered now; the actions."""
    actions = []
    for name, message in commands.due(hospital.store, now_ms):
        if name in names:
            order = open_command(message, hospital.signer.public_key(), name, now_ms)
            result = Result(UnitId(name), order.counter, status, "none", now_ms)  # type: ignore[arg-type]
            commands.answered(hospital.store, result, result.signed(FileSigner.generate()), now_ms)
            actions.append(order.action)
    return actions


def _run(hospital: Hospital, number: int, now_ms: int, viewer: Viewer = DESK) -> lockdown.Run:
    with hospital.store.reading() as db:
        found = lockdown.one(db, viewer, number, now_ms)
    assert found is not None
    return found


def test_a_run_says_of_every_door_since_when_it_is_locked_or_why_not(hospital: Hospital) -> None:
    start_ms = hospital.now_ms()
    with hospital.store.transaction() as db:
        db.execute(sa.update(units).values(seen_ms=start_ms, health_ms=start_ms))
        gone = {"seen_ms": start_ms - 3_600_000, "health_ms": start_ms - 3_600_000}
        db.execute(sa.update(units).where(units.c.unit == "st-mary/icu-3").values(gone))
    number = _start(hospital, now_ms=start_ms)
    assert _answer(hospital, start_ms + 1500, "st-mary/icu-1") == ["lock_down"]
    _answer(hospital, start_ms + 12_000, "st-mary/icu-2", status="failed")
    run = _run(hospital, number, start_ms + 13_000)
    told = {door.place.unit: (door.state, door.took_ms) for door in run.doors}
    assert told == {
        "st-mary/icu-1": ("locked", 1500),
        "st-mary/icu-2": ("refused", None),
        "st-mary/icu-3": ("unreachable", None),
    }
    assert run.most_locked_ms is None
    assert not run.settled


def test_the_time_until_most_doors_are_locked_is_that_of_the_last_one_needed(hospital: Hospital) -> None:
    start_ms = hospital.now_ms()
    number = _start(hospital, now_ms=start_ms)
    for step, name in enumerate(ICU, start=1):
        _answer(hospital, start_ms + step * 11_000, name)  # an order is repeated after ten seconds
    assert _run(hospital, number, start_ms + 34_000).most_locked_ms == 33_000


def test_zones_are_locked_in_the_order_of_the_plan(hospital: Hospital) -> None:
    number = _start(hospital, ("icu", "pharmacy"))
    zones = [door.place.zone for door in _run(hospital, number, hospital.now_ms()).doors]
    assert zones == ["icu"] * 3 + ["pharmacy"] * 3


class _TroubledSigner:
    """Signs so many commands; then `trouble` happens, while the next one is signed."""

    def __init__(self, signer: FileSigner, most: int, trouble: Callable[[], object]) -> None:
        self._signer, self._left, self._trouble = signer, most, trouble

    def sign(self, data: bytes) -> bytes:
        if not self._left:
            self._trouble()
        self._left -= 1
        return self._signer.sign(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)


def _fails() -> None:
    raise OSError("the key is gone")


def _orders(store: Store) -> dict[str, int]:
    """How many rows tell of lock-downs: commands, runs, doors of runs, entries of the journal."""
    told = {"commands": commands_table, "runs": runs, "run_doors": run_doors}
    with store.reading() as db:
        found = {
            name: int(db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for name, table in told.items()
        }
        mine = sa.select(sa.func.count()).where(journal.c.action.startswith("lock-down"))
        return found | {"journal": int(db.execute(mine).scalar_one())}


def test_a_failure_in_the_middle_asks_no_door_and_leaves_no_run(hospital: Hospital) -> None:
    before, signer = _orders(hospital.store), hospital.signer
    hospital.signer = _TroubledSigner(signer, 4, _fails)  # type: ignore[assignment]
    with pytest.raises(OSError, match="the key is gone"):
        _start(hospital, ("icu", "pharmacy"))
    assert _orders(hospital.store) == before
    hospital.signer = signer
    number = _start(hospital, ("icu", "pharmacy"))
    assert len(_run(hospital, number, hospital.now_ms()).doors) == 6
    started = _orders(hospital.store)
    hospital.signer = _TroubledSigner(signer, 4, _fails)  # type: ignore[assignment]
    with pytest.raises(OSError, match="the key is gone"):
        lockdown.end(hospital.store, hospital.signer, DESK, number, hospital.now_ms())
    assert _orders(hospital.store) == started
    assert _run(hospital, number, hospital.now_ms()).ended_ms is None


def test_a_process_killed_in_the_middle_leaves_all_doors_as_they_were(hospital: Hospital) -> None:
    before = _orders(hospital.store)
    child = multiprocessing.get_context("fork").Process(target=_killed_while_locking, args=(hospital,))
    child.start()
    child.join(180)
    assert child.exitcode == -signal.SIGKILL
    store = Store.open(f"sqlite:///{hospital.folder}/registry.db")
    assert _orders(store) == before
    store.close()
    number = _start(hospital, ("icu", "pharmacy"))
    assert len(_answer(hospital, hospital.now_ms(), *ICU)) == 3
    assert _run(hospital, number, hospital.now_ms()).locked == 3


def _killed_while_locking(hospital: Hospital) -> None:
    """Its own connection to the same file, killed while it signs the fifth of six commands."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)
    store = Store.open(f"sqlite:///{hospital.folder}/registry.db")
    troubled = _TroubledSigner(hospital.signer, 4, kill)
    _start(replace(hospital, store=store, signer=troubled), ("icu", "pharmacy"))  # type: ignore[arg-type]


def test_a_thousand_doors_are_asked_in_one_transaction_and_freed_in_one(hospital: Hospital) -> None:
    ward = [replace(demo_places(1)[0], unit=f"st-mary/ward-{n}", zone="ward") for n in range(1000)]
    places.replace(hospital.store, ward)
    with hospital.store.transaction() as db:
        like = dict(db.execute(sa.select(units).limit(1)).one()._mapping)
        db.execute(sa.insert(units), [{**like, "unit": place.unit} for place in ward])
    began: list[object] = []
    sa.event.listen(hospital.store.engine, "commit", began.append)
    number = _start(hospital, ("ward",))
    assert len(began) == 1
    run = _run(hospital, number, hospital.now_ms())
    assert len(run.doors) == 1000
    began.clear()
    lockdown.end(hospital.store, hospital.signer, DESK, number, hospital.now_ms())
    assert len(began) == 1
    assert len(commands.due(hospital.store, hospital.now_ms(), limit=2000)) == 1000
    assert len(began) == 3  # one that reads, one that marks


def test_the_first_zone_of_a_plan_is_told_first(hospital: Hospital) -> None:
    _start(hospital, ("pharmacy", "icu"))
    told = [unit for unit, _ in commands.due(hospital.store, hospital.now_ms())]
    assert [unit.rpartition("-")[0] for unit in told] == ["st-mary/pharmacy"] * 3 + ["st-mary/icu"] * 3


def test_what_was_never_told_is_told_before_repeats(hospital: Hospital) -> None:
    start_ms = hospital.now_ms()
    _start(hospital, ("icu",), now_ms=start_ms)
    commands.due(hospital.store, start_ms)  # nobody answers
    _start(hospital, ("pharmacy",), now_ms=start_ms + 60_000)
    told = [unit for unit, _ in commands.due(hospital.store, start_ms + 60_001, limit=3)]
    assert [unit.rpartition("-")[0] for unit in told] == ["st-mary/pharmacy"] * 3


def test_a_drill_locks_nothing(hospital: Hospital) -> None:
    start_ms = hospital.now_ms()
    number = _start(hospital, drill=True, now_ms=start_ms)
    assert _answer(hospital, start_ms + 500, *ICU) == ["report_health"] * 3
    assert _run(hospital, number, start_ms + 1000).locked == 3


def test_ending_a_lock_down_asks_every_door_again(hospital: Hospital) -> None:
    start_ms = hospital.now_ms()
    number = _start(hospital, now_ms=start_ms)
    _answer(hospital, start_ms + 500, *ICU)
    lockdown.end(hospital.store, hospital.signer, DESK, number, start_ms + 60_000)
    assert not _run(hospital, number, start_ms + 60_000).settled
    assert _answer(hospital, start_ms + 61_000, *ICU) == ["end_lock_down"] * 3
    run = _run(hospital, number, start_ms + 62_000)
    assert run.settled
    assert (run.ended_by, run.locked) == ("desk", 3)
    with pytest.raises(RefusedError, match="ended already"):
        lockdown.end(hospital.store, hospital.signer, DESK, number, start_ms + 63_000)


def test_a_lock_down_with_an_end_ends_by_itself_and_once(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        page = client.get("/lockdown/start?site=st-mary&zone=icu").text
        form = {"csrf": token_of(page), "site": "st-mary", "zone": "icu", "drill": "0"}
        assert client.post("/lockdown/start", data=form | {"minutes": "9999"}).status_code == 400
        path = client.post("/lockdown/start", data=form | {"minutes": "30"}).headers["location"]
        number, start_ms = int(path.rpartition("/")[2]), hospital.now_ms()
        assert "ends by itself" in client.get(path).text
    lockdown.end_due(hospital.store, hospital.signer, start_ms + 60_000)
    assert _run(hospital, number, start_ms + 60_000).ended_ms is None
    later_ms = start_ms + 31 * 60_000
    for _ in range(2):
        lockdown.end_due(hospital.store, hospital.signer, later_ms)
    assert _run(hospital, number, later_ms).ended_by == "timer"
    assert _answer(hospital, later_ms + 1000, *ICU) == ["end_lock_down"] * 3


def test_a_database_of_an_older_dashboard_is_brought_up_to_date(hospital: Hospital) -> None:
    with hospital.store.transaction() as db:
        db.execute(sa.text("ALTER TABLE dashboard_runs DROP COLUMN until_ms"))
        db.execute(sa.text("ALTER TABLE dashboard_accounts DROP COLUMN subject"))
        db.execute(sa.text("ALTER TABLE dashboard_reviews DROP COLUMN scopes"))
        for column in ("egress", "sensitive"):
            db.execute(sa.text(f"ALTER TABLE dashboard_places DROP COLUMN {column}"))
        for gone in (
            "challenges",
            "tokens",
            "approvals",
            "oidc_logins",
            "stamps",
            "incident_spans",
            "reports",
        ):
            db.execute(sa.text(f"DROP TABLE dashboard_{gone}"))
        db.execute(sa.text("DELETE FROM dashboard_version"))
        db.execute(sa.text("INSERT INTO dashboard_version VALUES (1)"))
    prepare(hospital.store)
    assert _run(hospital, _start(hospital), hospital.now_ms()).until_ms is None
    assert hospital.backend().passkeys.begin_login(hospital.now_ms())


def test_tags_limit_what_can_be_locked_and_seen(hospital: Hospital) -> None:
    number = _start(hospital, ("icu", "pharmacy"))
    pharmacy = replace(DESK, scopes=("st-mary/pharmacy",))
    with hospital.store.reading() as db:
        assert lockdown.one(db, pharmacy, number, hospital.now_ms()) is None
        assert {p.zone for p in lockdown.doors_of(db, pharmacy, "st-mary", ("icu", "pharmacy"))} == {
            "pharmacy"
        }


def test_the_page_locks_a_zone_and_shows_what_did_not_lock(hospital: Hospital) -> None:
    with hospital.client("desk") as client:
        page = client.get("/lockdown/start?site=st-mary&zone=icu").text
        assert "Intensive care" in page
        form = {"csrf": token_of(page), "site": "st-mary", "zone": "icu", "drill": "0"}
        answer = client.post("/lockdown/start", data=form)
        assert answer.status_code == 303
        _answer(hospital, hospital.now_ms(), "st-mary/icu-1", "st-mary/icu-2")
        with hospital.store.transaction() as db:
            gone = {"seen_ms": hospital.now_ms() - 3_600_000, "health_ms": None}
            db.execute(sa.update(units).where(units.c.unit == "st-mary/icu-3").values(gone))
        told = client.get(answer.headers["location"]).text
        assert "2 of 3" in told
        assert "in force" in client.get("/lockdown").text
        german = client.get(answer.headers["location"], headers={"Accept-Language": "de"}).text
        figures = re.findall(r'class="figure[^"]*"><strong>([^<]*)</strong><span>([^<]*)', german)
        wanted = [("2 von 3", "Türen verriegelt"), ("1", "nicht erreichbar"), ("0", "abgewiesen")]
        assert figures[:3] == wanted


def test_a_page_without_a_key_says_that_it_cannot_command(hospital: Hospital) -> None:
    hospital.signer = None  # type: ignore[assignment]
    with hospital.client("desk") as client:
        page = client.get("/lockdown").text
        assert "without a signing key" in page
        form = {"csrf": token_of(page), "site": "st-mary", "zone": "icu", "drill": "0"}
        assert client.post("/lockdown/start", data=form).status_code == 409
