"""The fire input and orders, at a unit that is busy with something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from device.access.decision import Decision, Outcome, Reason, RefusalError
from device.access.memory.holds import Hold
from device.access.memory.visits import MOST, Visit
from device.access.rules import Rules, parse_rules
from device.clock import Now
from device.unit.watch import Watch
from device.uplink.orders import Action, Order, OrderError, await_done, post
from sync.events import pseudonym
from sync.outbox import OutboxFullError
from tests.device.door.plain_door import PlainDoor
from tests.device.door_world import World, evidence
from tests.waiting import wait_until

RULES = """
version = {version}
[risks.standard]
[zones.ward]
[doors.ward]
zone = "ward"
risk = "standard"
fire_release = {release}
may_be_held = {held}
[calendar]
time_zone = "UTC"
holidays = [2026-11-25]
[[allow]]
roles = ["nurse"]
[people.anna]
roles = ["nurse"]
"""


def rules(version: int = 1, release: str = "true", held: str = "true") -> Rules:
    return parse_rules(RULES.format(version=version, release=release, held=held))


@dataclass
class SmallUnit:
    """What the watch needs of a unit: a real controller, and a log that can be read."""

    world: World
    logged: list[str] = field(default_factory=list)
    full: bool = False

    @property
    def controller(self) -> object:
        return self.world.controller

    def clock(self) -> Now:
        return self.world.now

    @property
    def trail(self) -> SmallUnit:
        return self

    def decided(self, decision: Decision) -> None:
        if self.full:
            raise OutboxFullError("the audit log is full")
        self.logged.append(f"{decision.outcome} {decision.code} {decision.door}")

    def note(
        self, kind: str, reason: str, door: str, *, count: int | None = None, risk: str = "high"
    ) -> None:
        if self.full:
            raise OutboxFullError("the audit log is full")
        self.logged.append(f"{kind} {reason} {door}" + ("" if count is None else f" {count}"))


class Display:
    def __init__(self) -> None:
        self.told: list[Decision] = []

    def tell(self, decision: Decision) -> None:
        self.told.append(decision)


class Scene:
    """A door with a fire contact and a folder of orders; `look` is one look of the watch."""

    def __init__(self, folder: Path, found: Rules) -> None:
        self.world = World(folder, found)
        self.unit = SmallUnit(self.world)
        self.display = Display()
        self.contact = folder / "value"
        self.contact.write_text("0\n")
        self.orders = folder / "orders"
        self.new_rules: Callable[[], Rules] = lambda: rules(2)
        self.door = PlainDoor("ward", 5.0, lambda: self.world.monotonic_s, lambda _: None)
        self.watch = Watch(
            self.unit,  # type: ignore[arg-type]
            "ward",
            self.door,
            self.display,  # type: ignore[arg-type]
            orders_folder=self.orders,
            rules=lambda: self.new_rules(),
            fire=lambda: self.contact.read_text().strip() == "1",
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, rules())


def test_a_fire_alarm_releases_the_door_until_it_ends_and_is_logged(scene: Scene) -> None:
    scene.watch.look()
    assert scene.door.is_locked
    scene.contact.write_text("1\n")
    scene.watch.look()
    scene.watch.look()
    scene.world.later(3600.0)
    assert not scene.door.is_locked
    assert scene.unit.logged == ["EMERGENCY_RELEASE fire_input ward"]
    assert [told.outcome for told in scene.display.told] == [Outcome.EMERGENCY_RELEASE]
    scene.contact.write_text("0\n")
    scene.watch.look()
    assert scene.door.is_locked


def test_a_door_without_emergency_release_stays_locked_in_a_fire_and_stays_in_service(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rules(release="false"))
    scene.contact.write_text("1")
    scene.watch.look()
    assert scene.door.is_locked
    assert scene.unit.logged == ["DENIED_RULE fire_input ward"]
    assert scene.display.told == []
    assert scene.world.attempt().opens


def test_a_full_log_keeps_nobody_in_a_fire_and_the_release_is_recorded_when_there_is_room(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.unit.full = True
    scene.contact.write_text("1")
    for _ in range(3):
        scene.watch.look()
    assert not scene.door.is_locked
    assert scene.unit.logged == []
    assert [record.levelname for record in caplog.records if "not in the log" in record.message] == ["ERROR"]
    scene.unit.full = False
    scene.watch.look()
    scene.watch.look()
    assert scene.unit.logged == ["EMERGENCY_RELEASE fire_input ward"]


def test_a_full_log_does_not_keep_a_lock_down_from_locking(scene: Scene) -> None:
    scene.contact.write_text("1")
    scene.watch.look()
    scene.unit.full = True
    post(scene.orders, Order(Action.LOCK_DOWN, "*"))
    scene.watch.look()
    assert scene.door.is_locked
    scene.unit.full = False
    scene.watch.look()
    assert scene.unit.logged == ["EMERGENCY_RELEASE fire_input ward", "LOCK_DOWN locked_down ward"]


def test_a_lock_down_takes_back_a_strike_that_is_released_and_beats_the_fire(scene: Scene) -> None:
    scene.door.obey(scene.world.attempt())
    assert not scene.door.is_locked
    post(scene.orders, Order(Action.LOCK_DOWN, "*"))
    scene.watch.look()
    assert scene.door.is_locked
    assert scene.world.attempt().outcome is Outcome.LOCK_DOWN
    scene.contact.write_text("1")
    scene.watch.look()
    assert scene.door.is_locked
    post(scene.orders, Order(Action.END_LOCK_DOWN, "*"))
    scene.watch.look()
    assert scene.world.attempt().opens
    assert scene.unit.logged[-1] == "COMMAND_APPLIED operator ward"


def test_new_rules_are_taken_at_once_and_old_ones_refused(scene: Scene) -> None:
    path = post(scene.orders, Order(Action.ADOPT_RULES))
    scene.watch.look()
    await_done(path)
    assert scene.world.controller.rules.version == 2
    path = post(scene.orders, Order(Action.ADOPT_RULES))
    scene.watch.look()
    with pytest.raises(OrderError, match="not newer"):
        await_done(path)


def test_an_order_that_cannot_be_obeyed_says_why(scene: Scene) -> None:
    for order, why in (
        (Order(Action.PARDON, "anna"), "no failures"),
        (Order(Action.LOCK_DOWN, "cellar"), "no door cellar"),
    ):
        path = post(scene.orders, order)
        scene.watch.look()
        with pytest.raises(OrderError, match=why):
            await_done(path)


def test_a_person_is_pardoned_while_the_unit_runs(scene: Scene) -> None:
    for _ in range(12):
        scene.world.attempt(heard=evidence(voice=-5.0))
    assert scene.world.attempt().outcome is Outcome.LOCKOUT_MAX_ATTEMPTS
    post(scene.orders, Order(Action.PARDON, "anna"))
    scene.watch.look()
    assert scene.world.attempt().opens


def test_the_watch_goes_on_after_whatever_went_wrong_in_one_look(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()

    def rules_that_break() -> Rules:
        broken.set()
        raise RuntimeError("no")

    scene.new_rules = rules_that_break
    with scene.watch:
        order = post(scene.orders, Order(Action.ADOPT_RULES))
        assert broken.wait(180)
        order.unlink(missing_ok=True)
        scene.contact.write_text("1")
        wait_until(lambda: not scene.door.is_locked)
    assert not scene.door.is_locked
    assert "goes on" in caplog.text


def test_a_watch_whose_look_does_not_end_is_said_to_stand_still(tmp_path: Path) -> None:
    scene, now_s = Scene(tmp_path, rules()), 0.0
    watch = Watch(
        scene.unit,  # type: ignore[arg-type]
        "ward",
        scene.door,
        scene.display,  # type: ignore[arg-type]
        orders_folder=scene.orders,
        rules=scene.new_rules,
        now_s=lambda: now_s,
    )
    now_s = 59.0
    assert watch.stuck() == ""
    now_s = 61.0
    assert "not looked at for 61 s" in watch.stuck()


def hold(scene: Scene, begins_s: float, ends_s: float, **conditions: bool) -> Path:
    """An order to hold the door, in seconds from now, and one look."""
    now_s = scene.world.wall.timestamp()
    text = Hold(now_s + begins_s, now_s + ends_s, **conditions).to_text("ward")
    path = post(scene.orders, Order(Action.HOLD_OPEN, text))
    scene.watch.look()
    return path


def test_a_hold_begins_and_ends_by_itself_and_the_record_comes_first(scene: Scene) -> None:
    await_done(hold(scene, 60.0, 3600.0))
    assert scene.door.is_locked
    scene.world.later(61.0)
    scene.unit.full = True
    scene.watch.look()
    assert scene.door.is_locked  # nothing unlocks that is not on record
    scene.unit.full = False
    scene.watch.look()
    scene.world.later(3000.0)
    scene.watch.look()
    assert not scene.door.is_locked
    scene.world.later(600.0)
    assert scene.door.is_locked  # also when nobody looks
    scene.watch.look()
    assert scene.door.is_locked
    assert scene.unit.logged == ["COMMAND_APPLIED operator ward", "UNLOCKED schedule ward"]
    assert scene.world.history.held("ward") is None


def test_a_hold_outlives_a_power_cut_and_its_end_does_not_move(scene: Scene) -> None:
    hold(scene, 0.0, 3600.0)
    assert not scene.door.is_locked
    scene.world.later(1800.0)
    scene.door.close()
    scene.world.reboot()
    scene.watch.look()
    assert not scene.door.is_locked
    scene.world.later(1801.0)
    scene.watch.look()
    assert scene.door.is_locked


def test_a_hold_that_waits_for_the_first_person_begins_with_them_and_not_under_duress(scene: Scene) -> None:
    hold(scene, 0.0, 3600.0, first_person=True)
    scene.world.later(10.0)
    scene.watch.look()
    assert scene.door.is_locked
    assert not scene.world.attempt(heard=evidence(voice=-5.0)).opens
    scene.watch.look()
    assert scene.door.is_locked
    decision = scene.world.attempt()
    assert decision.opens
    scene.world.controller.take_back(decision)  # its event could not be written: nobody went in
    scene.watch.look()
    assert scene.door.is_locked
    assert scene.world.attempt().opens
    scene.watch.look()
    scene.world.later(1000.0)
    assert not scene.door.is_locked


def test_a_holiday_is_kept_and_a_clock_that_was_set_back_holds_nothing_open(scene: Scene) -> None:
    day_s = 86_400.0
    hold(scene, day_s, day_s + 3600.0, on_holidays=False)
    scene.world.later(day_s + 60.0)
    scene.watch.look()
    assert scene.door.is_locked
    await_done(hold(scene, 0.0, 3600.0))
    assert not scene.door.is_locked
    scene.world.wall -= timedelta(hours=2)
    scene.watch.look()
    assert scene.door.is_locked


def test_a_lock_down_ends_a_hold_for_good(scene: Scene) -> None:
    hold(scene, 0.0, 3600.0)
    assert not scene.door.is_locked
    post(scene.orders, Order(Action.LOCK_DOWN, "*"))
    scene.watch.look()
    assert scene.door.is_locked
    with pytest.raises(OrderError, match="lock-down"):
        await_done(hold(scene, 0.0, 3600.0))
    post(scene.orders, Order(Action.END_LOCK_DOWN, "*"))
    scene.watch.look()
    assert scene.door.is_locked


def test_a_hold_is_ended_by_an_order(scene: Scene) -> None:
    hold(scene, 0.0, 3600.0)
    path = post(scene.orders, Order(Action.END_HOLD, "ward"))
    scene.watch.look()
    await_done(path)
    assert scene.door.is_locked


def test_a_door_that_its_rules_do_not_let_be_held_stays_locked(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rules(held="false"))
    with pytest.raises(OrderError, match="may_be_held"):
        await_done(hold(scene, 0.0, 3600.0))
    assert scene.door.is_locked


def test_rules_that_take_the_permission_back_end_a_hold(scene: Scene) -> None:
    hold(scene, 0.0, 3600.0)
    scene.new_rules = lambda: rules(2, held="false")
    post(scene.orders, Order(Action.ADOPT_RULES))
    scene.watch.look()
    assert scene.door.is_locked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ward",
        "ward 1 2 now",
        "ward nan 5",
        "ward 5 1",
        "ward 0 999999999",
        "cellar 1764700000 1764700060",
    ],
)
def test_what_is_no_hold_of_this_door_is_refused(scene: Scene, text: str) -> None:
    path = post(scene.orders, Order(Action.HOLD_OPEN, text))
    scene.watch.look()
    with pytest.raises(OrderError):
        await_done(path)
    assert scene.door.is_locked


ANNA = str(pseudonym(b"k" * 32, "ANNA"))


def visit(scene: Scene, begins_s: float | None = None, ends_s: float = 0.0) -> Path:
    """An order about Anna's visit, in seconds from now, and one look."""
    now_s = scene.world.wall.timestamp()
    order = Order(Action.LIFT_VISIT, ANNA)
    if begins_s is not None:
        order = Order(Action.LIMIT_VISIT, Visit(now_s + begins_s, now_s + ends_s).to_text(ANNA))
    path = post(scene.orders, order)
    scene.watch.look()
    return path


def test_a_visit_begins_and_ends_at_the_door_and_a_power_cut_moves_neither(scene: Scene) -> None:
    await_done(visit(scene, 600.0, 3600.0))
    assert scene.world.attempt().code is Reason.VISIT_NOT_BEGUN
    scene.world.later(601.0)
    assert scene.world.attempt().opens
    scene.world.reboot()
    assert scene.world.attempt().opens
    scene.world.later(3000.0)
    assert scene.world.attempt().code is Reason.VISIT_ENDED
    scene.world.reboot()
    assert scene.world.attempt().code is Reason.VISIT_ENDED  # an end stays: nobody has to repeat it
    await_done(visit(scene))
    assert scene.world.attempt().opens  # lifted: what the rules say


def test_a_visit_gives_nobody_what_the_rules_do_not(tmp_path: Path) -> None:
    ended = RULES.replace('[people.anna]\nroles = ["nurse"]', "[people.anna]\nroles = []")
    scene = Scene(tmp_path, parse_rules(ended.format(version=1, release="true", held="true")))
    visit(scene, 0.0, 3600.0)
    assert scene.world.attempt().code is Reason.NOT_ALLOWED


def test_a_person_who_says_wrong_words_hears_nothing_of_a_visit_that_ended(scene: Scene) -> None:
    visit(scene, 0.0, 60.0)
    scene.world.later(61.0)
    assert scene.world.attempt(heard=evidence(voice=-5.0)).outcome is Outcome.DENIED_VOICE


def test_a_visit_ends_by_the_highest_time_seen_and_is_gone_with_the_person_who_is_forgotten(
    scene: Scene,
) -> None:
    visit(scene, 0.0, 60.0)
    scene.world.later(61.0)
    assert scene.world.attempt().code is Reason.VISIT_ENDED
    scene.world.wall -= timedelta(hours=2)
    assert scene.world.attempt().code is Reason.VISIT_ENDED
    scene.world.controller.forget("ANNA")
    assert scene.world.history.visits == 0


def test_an_order_that_is_no_visit_changes_nothing(scene: Scene) -> None:
    for action, text in (
        (Action.LIMIT_VISIT, ANNA),
        (Action.LIFT_VISIT, f"{ANNA} 1.0 2.0"),
        (Action.LIMIT_VISIT, f"{ANNA} 2.0 1.0"),
        (Action.LIMIT_VISIT, "anna 1.0 2.0"),
    ):
        path = post(scene.orders, Order(action, text))
        scene.watch.look()
        with pytest.raises(OrderError):
            await_done(path)
    assert scene.world.history.visits == 0


def test_a_unit_keeps_so_many_visits_and_says_so(scene: Scene) -> None:
    for number in range(MOST - 1):
        scene.world.controller.limit(str(pseudonym(b"k" * 32, f"GUEST{number}")), Visit(0.0, 60.0))
    await_done(visit(scene, 0.0, 60.0))
    await_done(visit(scene, 0.0, 90.0))  # the same person's is changed
    with pytest.raises(RefusalError, match=f"keeps {MOST} visits"):
        scene.world.controller.limit(str(pseudonym(b"k" * 32, "BRUNO")), Visit(0.0, 60.0))
