"""What a door is told beside attempts: lock-down, holds, visits, the fire input. On disk before it counts."""

from __future__ import annotations

import threading
from dataclasses import replace

from device.access.decision import Decision, Notice, Outcome, Reason, RefusalError, fault
from device.access.memory.history import History
from device.access.memory.holds import AHEAD_S, Hold
from device.access.memory.timekeeping import Timekeeper
from device.access.memory.visits import MOST, Visit
from device.access.passage import locked_down
from device.access.rules import Door, RiskClass, Rules
from device.clock import Now


class DoorOrders:
    """Keeps what a site, an admin or the building orders, within what the rules allow."""

    def __init__(self, rules: Rules, history: History) -> None:
        self.rules = rules
        self._history = history
        self.time = Timekeeper(history.time_seen, history.saw_time)
        # Attempts come from one thread, the fire input and orders from another.
        self._one_at_a_time = threading.Lock()

    def fire_input(self, door: str) -> Decision:
        """What the fire input does at `door`; the way out is always free. It opens no door that is in
        lock-down."""
        rule = self.rules.doors.get(door)
        if rule is None or not rule.fire_release:
            decision = Decision(
                Outcome.DENIED_RULE,
                Reason.FIRE_INPUT,
                "this door has no emergency release in its rules; the exit is free",
                Notice.NOT_HERE,
            )
        elif self._history.locked_down(door):
            decision = locked_down()
        else:
            decision = Decision(
                Outcome.EMERGENCY_RELEASE,
                Reason.FIRE_INPUT,
                "the fire input released the door",
                Notice.EMERGENCY,
            )
        return replace(decision, door=door)

    def lock_down(self, door: str, on: bool) -> Decision:
        """Lock a door, or all of them with `*`, until that is lifted; on disk when this returns. Raises
        HistoryError, and RefusalError for a door that the rules do not know."""
        with self._one_at_a_time:
            if door != "*":
                rule_of(self.rules, door)
            self._history.lock_down(door, on)
        return replace(locked_down(), door=door)

    def hold(self, door: str, hold: Hold | None, now: Now) -> None:
        """Have a door stand unlocked for a while, as `held_s` then says; None ends it. On disk on return.
        Raises HistoryError, and RefusalError for a door that the rules do not know or do not let be held."""
        with self._one_at_a_time:
            rule, _ = rule_of(self.rules, door)
            if hold is None:
                if self._history.held(door) is not None:
                    self._history.hold(door, None)
                return
            why = ""
            seen = self.time.look(now)
            now_s = seen.time(now.wall).timestamp()
            if not rule.may_be_held:
                why = f"the rules do not let {door} be held open (`may_be_held`)"
            elif self._history.locked_down(door):
                why = f"{door} is in lock-down"
            elif seen.behind(now.wall):
                why = "this unit's clock lies behind a time that it has seen"
            elif not now_s < hold.ends_s or hold.begins_s > now_s + AHEAD_S:
                why = "a hold ends later than now and begins within two days"
            if why:
                raise RefusalError(Decision(Outcome.DENIED_RULE, Reason.NOT_ALLOWED, why, Notice.NOT_HERE))
            self._history.hold(door, replace(hold, begun=False))

    def held_s(self, door: str, now: Now) -> float:
        """For how many seconds from now the door is to stand unlocked; 0 when it is not. Needs no network:
        the end came with the beginning. Raises HistoryError."""
        with self._one_at_a_time:
            hold = self._history.held(door)
            if hold is None:
                return 0.0
            rule, seen = self.rules.doors.get(door), self.time.look(now)
            at = seen.time(now.wall)
            if at.timestamp() >= hold.ends_s:
                self._history.hold(door, None)
                return 0.0
            if rule is None or not rule.may_be_held or self._history.locked_down(door):
                return 0.0
            if seen.behind(now.wall) or at.timestamp() < hold.begins_s:
                return 0.0
            holiday = at.astimezone(self.rules.time_zone).date() in self.rules.holidays
            if (hold.first_person and not hold.begun) or (holiday and not hold.on_holidays):
                return 0.0
            return hold.ends_s - at.timestamp()

    def limit(self, person: str, visit: Visit | None) -> None:
        """Let a pseudonym pass during a visit only, as far as the rules do; None: as the rules do. On disk on
        return. Raises HistoryError, and RefusalError where too many are kept."""
        with self._one_at_a_time:
            known = self._history.visit(person)
            if visit is not None and known is None and self._history.visits >= MOST:
                why = f"this unit keeps {MOST} visits already; end some for good"
                raise RefusalError(Decision(Outcome.DENIED_RULE, Reason.NOT_ALLOWED, why, Notice.NOT_HERE))
            if visit != known:
                self._history.keep_visit(person, visit)


def rule_of(rules: Rules, door_name: str) -> tuple[Door, RiskClass]:
    """A door and its risk class. Raises RefusalError for one that the rules do not know."""
    door = rules.doors.get(door_name)
    if door is None or door.risk not in rules.risks:
        raise RefusalError(
            fault(Reason.NO_SUCH_DOOR, f"the rules have no door {door_name}, so it stays locked")
        )
    return door, rules.risks[door.risk]
