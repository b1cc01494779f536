"""What the desk asks, the door does: from the form on the page to the strike, and what the page then says."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from device.uplink.handler import unit_handler
from sync.dashboard.accounts import journal
from sync.dashboard.doors import holds
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import holds as table
from sync.dashboard.site import places
from sync.dashboard.site.places import Place
from sync.events import UnitId
from sync.orders.commands import open_result
from sync.registry.commands import issued as orders
from sync.registry.database.schema import commands
from sync.registry.fleet.wanted import keep_part, part_value, want
from tests.device.unit.test_watch import Scene, rules
from tests.sync.between import after_the_first_transaction
from tests.sync.dashboard.conftest import Hospital, token_of
from tests.sync.parts import SoftwareSigner

UNIT, PAGE = "st-mary/icu-1", "/doors/st-mary/icu-1/ward"
RULES = """
version = 8
admit_unlisted = true
[calendar]
time_zone = "Europe/Rome"
[risks.standard]
[zones.ward]
tags = ["patients"]
[doors.ward]
zone = "ward"
risk = "standard"
may_be_held = true
[doors.cellar]
zone = "ward"
risk = "standard"
[schedules.day]
days = ["mon", "fri"]
from = "07:30"
to = "19:00"
on_holidays = false
[[allow]]
roles = ["nurse"]
tags = ["patients"]
schedule = "day"
[[allow]]
roles = ["enrolled"]
doors = ["cellar"]
[[allow]]
roles = ["doctor"]
zones = ["ward"]
[people.4711]
roles = ["nurse"]
[people.4712]
roles = ["nurse", "doctor"]
valid_until = {soon}
[people.4713]
roles = ["nurse"]
disabled = true
"""


@dataclass
class Ward:
    """A page, and one real door that hears its commands through a real uplink's handler."""

    hospital: Hospital
    scene: Scene
    client: TestClient
    signer: SoftwareSigner = field(default_factory=SoftwareSigner)

    def post(self, path: str, **fields: str) -> Any:
        return self.client.post(PAGE + path, data={"csrf": token_of(self.client.get(PAGE).text), **fields})

    def delivered(self, watching: bool = True) -> None:
        """Every command in its order to the unit, and its answers back, as broker and worker do it."""
        now = dt.datetime.fromtimestamp(self.hospital.now_ms() / 1000, dt.UTC)
        self.scene.world.later(max(0.0, (now - self.scene.world.wall).total_seconds()))
        agent = SimpleNamespace(
            log=SimpleNamespace(unit=UnitId(UNIT)), signer=self.signer, time_ms=self.hospital.now_ms
        )
        outbox = SimpleNamespace(append=lambda *_, **__: None)
        handler = unit_handler(
            agent, outbox, self.hospital.signer.public_key(), self.scene.orders.parent / "commands",
            "ward", "software", self.scene.orders,
            order_within_s=180.0,  # a busy machine is no door that does not run
        )  # type: ignore[arg-type]  # fmt: skip
        stop = threading.Event()
        look = threading.Thread(target=self._look, args=(stop,))
        look.start()
        try:
            for unit, message in orders.due(self.hospital.store, self.hospital.now_ms()):
                if unit == UNIT:
                    answer = handler.take(message)
                    result = open_result(answer, self.signer.public_key(), UnitId(UNIT))
                    orders.answered(self.hospital.store, result, answer, self.hospital.now_ms())
        finally:
            stop.set()
            look.join()

    def _look(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            self.scene.watch.look()

    def until(self, hours: float) -> str:
        at = dt.datetime.fromtimestamp(self.hospital.now_ms() / 1000 + hours * 3600, dt.UTC)
        return at.strftime("%Y-%m-%dT%H:%M")


@pytest.fixture
def ward(hospital: Hospital, tmp_path: Path) -> Iterator[Ward]:
    with hospital.store.reading() as db:
        known = list(places.load(db).values())
    places.replace(hospital.store, [*known, Place(UNIT, "ward", "The ward", "icu", "Intensive care")])
    folder = tmp_path / "door"
    folder.mkdir()
    scene = Scene(folder, rules())
    scene.world.wall = dt.datetime.fromtimestamp(hospital.now_ms() / 1000, dt.UTC)
    with hospital.client("desk") as client:
        yield Ward(hospital, scene, client)


def test_the_desk_keeps_a_door_unlocked_and_the_door_ends_it_alone(ward: Ward) -> None:
    assert ward.post("/hold", ends=ward.until(2), why="Visiting hours").status_code == 303
    assert "asked, not answered yet" in ward.client.get(PAGE).text
    assert ward.scene.door.is_locked
    ward.delivered()
    assert not ward.scene.door.is_locked
    shown = ward.client.get(PAGE).text
    assert "the door will do it" in shown
    assert "Visiting hours" in shown
    ward.scene.world.later(2 * 3600.0 + 60.0)  # nothing reaches it any more
    assert ward.scene.door.is_locked
    ward.scene.watch.look()
    assert ward.scene.door.is_locked
    with ward.hospital.store.reading() as db:
        actions = [row.action for row in db.execute(sa.select(journal.journal.c.action))]
    assert "door held open" in actions


def test_the_desk_ends_it_and_a_lock_down_does(ward: Ward) -> None:
    ward.post("/hold", ends=ward.until(2), why="Moving beds")
    ward.delivered()
    number = ward.client.get(PAGE).text.partition("/hold/")[2].partition("/end")[0]
    assert ward.post(f"/hold/{number}/end").status_code == 303
    ward.delivered()
    assert ward.scene.door.is_locked
    assert ward.post(f"/hold/{number}/end").status_code == 409
    ward.post("/hold", ends=ward.until(2), why="Moving more beds")
    ward.delivered()
    assert not ward.scene.door.is_locked
    now_ms = ward.hospital.now_ms()
    orders.issue(
        ward.hospital.store, ward.hospital.signer, UnitId(UNIT), "lock_down", {}, account="desk",
        now_ms=now_ms, life_ms=60_000,
    )  # fmt: skip
    ward.delivered()
    assert ward.scene.door.is_locked
    with ward.hospital.store.reading() as db:
        assert [hold.state for hold in holds.of_door(db, UNIT, "ward", now_ms)] == ["ended", "ended"]


def test_a_door_whose_rules_do_not_say_so_refuses_and_the_page_says_it(ward: Ward) -> None:
    ward.scene.world.controller.rules = rules(held="false")
    ward.post("/hold", ends=ward.until(2), why="Visiting hours")
    ward.delivered()
    assert ward.scene.door.is_locked
    assert "the door refused" in ward.client.get(PAGE).text


def test_a_weekly_hold_is_asked_for_once_a_day_ahead_of_its_hour_by_one_worker(ward: Ward) -> None:
    store, signer, zone = ward.hospital.store, ward.hospital.signer, dt.UTC
    now = dt.datetime.fromtimestamp(ward.hospital.now_ms() / 1000, zone)
    begins = now + dt.timedelta(hours=6)
    days = {f"day-{day}": "1" for day in range(7)}
    hours = {"begins": f"{begins:%H:%M}", "ends": f"{begins + dt.timedelta(hours=1):%H:%M}"}
    assert ward.post("/weekly", **hours, **days, first_person="1", not_on_holidays="1").status_code == 303
    now_ms = ward.hospital.now_ms()
    for _ in range(3):
        holds.ask_due(store, signer, zone, now_ms)
    with store.reading() as db:
        (row,) = db.execute(sa.select(table)).all()
        (message,) = db.execute(sa.select(commands.c.arguments).where(commands.c.unit == UNIT)).scalars()
    assert (row.first_person, row.on_holidays, row.account) == (1, 0, "desk")
    assert row.begins_ms == int(begins.replace(second=0, microsecond=0).timestamp() * 1000)
    assert row.ends_ms - row.begins_ms == 3_600_000
    assert '"ends_ms"' in message
    holds.ask_due(store, signer, zone, now_ms + 86_400_000)
    with store.reading() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 2
        (plan,) = holds.plans_of(db, UNIT, "ward")
    assert ward.post(f"/weekly/{plan.id}/remove").status_code == 303
    with store.reading() as db:
        assert {hold.state for hold in holds.of_door(db, UNIT, "ward", now_ms)} == {"ended"}
    holds.ask_due(store, signer, zone, now_ms + 2 * 86_400_000)
    with store.reading() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 2


def test_bad_hours_get_one_clear_line_and_nothing_is_sent(ward: Ward) -> None:
    for fields, line in (
        ({"ends": "soon", "why": "x"}, "Say until when"),
        ({"ends": ward.until(-1), "why": "x"}, "later than now"),
        ({"ends": ward.until(30), "why": "x"}, "a day at most"),
        ({"begins": ward.until(72), "ends": ward.until(73), "why": "x"}, "within two days"),
        ({"ends": ward.until(1)}, "fill in: reason"),
    ):
        answer = ward.post("/hold", **fields)
        assert answer.status_code == 400
        assert line in answer.text
    assert ward.post("/weekly", begins="25:00", ends="12:00", **{"day-1": "1"}).status_code == 400
    assert ward.post("/weekly", begins="08:00", ends="12:00").status_code == 400
    with ward.hospital.store.reading() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(commands)).scalar_one() == 0


def test_nobody_else_holds_a_door_and_nobody_one_that_they_may_not_see(ward: Ward) -> None:
    fields = {"ends": ward.until(1), "why": "x"}
    for account in ("facilities", "auditor", "wall", "pharmacist"):
        with ward.hospital.client(account) as client:
            token = token_of(client.get("/doors").text)
            answer = client.post(PAGE + "/hold", data={"csrf": token, **fields})
            assert answer.status_code in (403, 404), account
    with pytest.raises(RefusedError):
        holds.end(ward.hospital.store, ward.hospital.signer, _desk(), UNIT, "ward", 99, 1)


def _desk() -> Any:
    return SimpleNamespace(account="desk")


def test_a_door_says_who_may_pass_it_and_when_from_the_rules_that_are_wanted(ward: Ward) -> None:
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with ward.hospital.store.transaction() as db:
        part = keep_part(db, RULES.replace("{soon}", soon).encode())
    value = {"part": part_value(part), "version": 8}
    want(ward.hospital.store, f"unit:{UNIT}", "rules", value, "admin", ward.hospital.now_ms())
    shown = ward.client.get(PAGE).text
    for text in ("rules version 8", "nurse", "Monday Friday 07:30–19:00 Europe/Rome", "not on holidays",
                 "2 people", "doctor", "1 people", "at any hour", "these rules are wanted"):  # fmt: skip
        assert text in shown, text
    assert "4711" not in shown
    assert "cellar" not in shown
    assert "The rules do not let this door be held" not in shown
    named = ward.post("/who")
    assert "4711" in named.text
    assert "4712" in named.text
    assert "4713" not in named.text
    with ward.hospital.store.reading() as db:
        subjects = list(db.execute(sa.select(journal.journal.c.subject)).scalars())
    assert f"who may pass {UNIT}/ward" in subjects
    with ward.hospital.client("facilities") as client:
        token = token_of(client.get("/doors").text)
        assert client.post(PAGE + "/who", data={"csrf": token}).status_code == 403


def test_rules_that_nobody_can_read_show_nothing(ward: Ward) -> None:
    with ward.hospital.store.transaction() as db:
        part = keep_part(db, b"version = [\xff")
    want(
        ward.hospital.store, "all", "rules", {"part": part_value(part), "version": 8}, "admin",
        ward.hospital.now_ms(),
    )  # fmt: skip
    answer = ward.client.get(PAGE)
    assert answer.status_code == 200
    assert "rules version" not in answer.text


def asked_of_the_door(hospital: Hospital) -> list[str]:
    """In order."""
    with hospital.store.reading() as db:
        query = sa.select(commands.c.action).where(commands.c.unit == UNIT).order_by(commands.c.counter)
        return list(db.execute(query).scalars())


def test_a_hold_that_is_ended_as_soon_as_it_is_there_is_over_at_the_door_too(hospital: Hospital) -> None:
    """Its command goes with it: one that came after the end would leave the door open."""
    store, signer, now_ms = hospital.store, hospital.signer, hospital.now_ms()

    def ended() -> None:
        with store.reading() as db:
            (row,) = db.execute(sa.select(table)).all()
        holds.end(store, signer, _desk(), UNIT, "ward", row.id, now_ms)

    with after_the_first_transaction(store, ended):
        holds.ask(
            store, signer, _desk(), UNIT, "ward", now_ms, now_ms + 3_600_000, holds.Conditions(), "x", now_ms
        )
    assert asked_of_the_door(hospital) == ["hold_open", "end_hold"]


def test_a_weekly_hold_that_is_removed_while_holds_are_asked_for_asks_for_none(hospital: Hospital) -> None:
    store, signer, now_ms = hospital.store, hospital.signer, hospital.now_ms()
    every_day, hour = tuple(range(7)), dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).hour
    hours = dt.time((hour + 2) % 24), dt.time((hour + 3) % 24)
    holds.plan(store, _desk(), UNIT, "ward", every_day, *hours, holds.Conditions(), now_ms)

    def removed() -> None:
        with store.reading() as db:
            (plan,) = holds.plans_of(db, UNIT, "ward")
        holds.drop_plan(store, signer, _desk(), UNIT, "ward", plan.id, now_ms)

    with after_the_first_transaction(store, removed):
        holds.ask_due(store, signer, dt.UTC, now_ms)
    assert asked_of_the_door(hospital) == []
    with store.reading() as db:
        assert db.execute(sa.select(table)).all() == []
