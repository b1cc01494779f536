"""Watches the fire input and the orders of other processes, between attempts and during them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from device.access.decision import Decision
from device.access.memory import visits
from device.access.memory.holds import Hold, from_text
from device.access.rules import Rules
from device.background import Background
from device.door import Door
from device.errors import DeviceError
from device.feedback.display import Display
from device.unit.assembly import Unit
from device.unit.progress import restart
from device.uplink import orders
from device.uplink.orders import Action, Order, OrderError
from sync.errors import SyncError

POLL_S = 0.1
STUCK_S = 60.0
PAUSE_S = 1.0
"""After something went wrong, so that a full disk does not fill the log as well."""

log = logging.getLogger(__name__)


class Watch(Background):
    """Looks every 100 ms in a thread of its own, also while the door is busy."""

    def __init__(
        self,
        unit: Unit,
        door_name: str,
        door: Door,
        display: Display,
        *,
        orders_folder: Path,
        rules: Callable[[], Rules],
        models: Callable[[], object] = lambda: None,
        fire: Callable[[], bool] = lambda: False,
        now_s: Callable[[], float] = time.monotonic,
        end: Callable[[], None] = restart,
    ) -> None:
        """`rules` reads the rules file again, `models` verifies the models on the disk, `end` restarts the
        unit, `fire` tells of an alarm.
        """
        self._unit = unit
        self._door_name = door_name
        self._door = door
        self._display = display
        self._folder = orders_folder
        self._rules = rules
        self._models = models
        self._end = end
        self._fire = fire
        self._alarm = False
        self._owed: list[Decision] = []
        self._told: Decision | None = None
        self._held = False
        self._hold_trouble = ""
        self._now_s = now_s
        self._looked_s = now_s()
        super().__init__("watch")

    def stuck(self) -> str:
        """Says so when no look has ended for a minute; empty otherwise."""
        silent_s = self._now_s() - self._looked_s
        return f"fire input and orders were not looked at for {silent_s:.0f} s" if silent_s > STUCK_S else ""

    def look(self) -> None:
        """One look at everything."""
        if (alarm := self._fire()) != self._alarm:
            self._fire_changed(alarm)
            self._alarm = alarm  # only now: what failed is tried again
        self._record_owed()
        for path, order in orders.waiting(self._folder):
            refusal = ""
            try:
                self._obey(order)
                log.info("ordered: %s", order.action)  # not whom: the journal knows nobody
            except (DeviceError, SyncError) as err:
                refusal = str(err)
                log.warning("the order %s was refused: %s", order.action, refusal)
            orders.done(path, refusal)
        self._keep_hold()

    def _keep_hold(self) -> None:
        """Unlock when a hold begins, after its event; lock when it ends, also without a network."""
        try:
            held_s = self._unit.controller.held_s(self._door_name, self._unit.clock())
            if held_s > 0.0 and not self._held:
                self._unit.trail.note("UNLOCKED", "schedule", self._door_name)
            if held_s > 0.0 or self._held:
                self._door.hold(held_s)
            self._held, self._hold_trouble = held_s > 0.0, ""
        except (DeviceError, SyncError) as err:
            if str(err) != self._hold_trouble:
                log.error("%s is not held open: %s", self._door_name, err)
            self._hold_trouble = str(err)
            if self._held:
                self._held = False
                self._door.hold(0.0)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.look()
            except Exception:  # a supervisor: this thread must outlive whatever goes wrong in one look
                log.exception("watching fire input and orders failed once; it goes on")
                self._stop.wait(PAUSE_S)
            self._looked_s = self._now_s()

    def _hold(self, text: str) -> tuple[str, Hold]:
        try:
            door, hold = from_text(text)
        except ValueError as err:
            raise OrderError(f"not a hold ({err})") from err
        if door != self._door_name:
            raise OrderError(f"this unit's door is {self._door_name}, not {door}")
        return door, hold

    def _limit(self, text: str, *, lifted: bool) -> None:
        try:
            person, visit = visits.from_text(text)
        except ValueError as err:
            raise OrderError(f"not a visit ({err})") from err
        if lifted != (visit is None):
            raise OrderError("a visit has an end unless it is lifted")
        self._unit.controller.limit(person, visit)

    def _erase(self, uid: str) -> None:
        """Forget a person, and say so before and after, as `ostiary forget` does."""
        vault, trail = self._unit.store.vault, self._unit.trail
        record = vault.record_id(uid)
        trail.note("ERASURE_BEGUN", "on_request", self._door_name, uid=uid, count=0, record=record)
        self._unit.controller.forget(uid)
        receipt = vault.forget(uid)
        trail.note("FORGOTTEN", "on_request", self._door_name, uid=uid, count=receipt.counter, record=record)

    def _fire_changed(self, alarm: bool) -> None:
        if not alarm:
            self._door.lock()
            log.warning("the fire input is quiet again; %s is locked", self._door_name)
            return
        decision = self._unit.controller.fire_input(self._door_name)
        # Lives first: a full log or a broken disk must not keep this door shut in a fire.
        self._door.obey(decision)
        log.warning("fire input: %s, %s", decision.outcome, decision.reason)
        self._owed.append(decision)
        if decision.opens:
            self._display.tell(decision)

    def _record_owed(self) -> None:
        """Write the events of acts that could not wait; each look tries again what could not be written."""
        while self._owed:
            try:
                self._unit.trail.decided(self._owed[0])
            except (DeviceError, SyncError) as err:
                if self._owed[0] is not self._told:
                    log.error("%s was carried out but is not in the log yet: %s", self._owed[0].outcome, err)
                self._told = self._owed[0]
                return
            del self._owed[0]

    def _obey(self, order: Order) -> None:
        controller = self._unit.controller
        if order.action is Action.PARDON:
            if not controller.pardon(order.subject):
                raise OrderError(f"{order.subject} had no failures.")
        elif order.action is Action.FORGET:
            controller.forget(order.subject)
            return  # the code that asked for it writes the events
        elif order.action is Action.TRUST_CLOCK:
            controller.trust_clock(self._unit.clock())
            self._unit.trail.note("CLOCK_SET", "operator", self._door_name)
            return
        elif order.action is Action.ERASE:
            self._erase(order.subject)
            return
        elif order.action is Action.ROTATE_KEYS:
            epoch = self._unit.store.vault.rotate()
            self._unit.trail.note("KEYS_ROTATED", "on_request", self._door_name, count=epoch)
            return
        elif order.action is Action.ADOPT_MODELS:
            self._models()  # verified whole, or refused
            self._unit.trail.note("MODELS_APPLIED", "on_request", self._door_name)
            self._end()
            return
        elif order.action is Action.ADOPT_THREATS:
            used, unused = self._unit.threats.adopt(self._unit.prints.delivered())
            self._unit.prints.hold(self._unit.threats.version)
            self._unit.trail.note("THREATS_APPLIED", "on_request", self._door_name, count=used, risk="low")
            if unused:
                log.warning("%d threats resemble people of this door and are not used here", unused)
            return
        elif order.action is Action.HOLD_OPEN:
            door, hold = self._hold(order.subject)
            controller.hold(door, hold, self._unit.clock())
        elif order.action is Action.END_HOLD:
            controller.hold(order.subject, None, self._unit.clock())
        elif order.action in (Action.LIMIT_VISIT, Action.LIFT_VISIT):
            self._limit(order.subject, lifted=order.action is Action.LIFT_VISIT)
        elif order.action is Action.ADOPT_RULES:
            rules = self._rules()
            if self._door_name not in rules.doors:
                raise OrderError(f"the new rules have no door {self._door_name}; the old ones stay in force")
            controller.adopt(rules)
            self._unit.trail.note("POLICY_APPLIED", "operator", self._door_name)
            return
        else:
            on = order.action is Action.LOCK_DOWN
            decision = controller.lock_down(order.subject, on)
            if on:
                self._door.lock()  # also what the fire input released: a lock-down beats it
                self._owed.append(replace(decision, door=self._door_name))
                self._display.tell(decision)
                self._record_owed()
                return
        self._unit.trail.note("COMMAND_APPLIED", "operator", self._door_name)
