"""How an invented unit obeys its commands, so that the page shows what they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sync.orders.commands import Command

Happened = tuple[str, str]
"""Kind and reason of an event at the door."""


@dataclass(slots=True)
class Hold:
    """A time in which the door stands unlocked."""

    begins_ms: int
    ends_ms: int
    first_person: bool
    open: bool = False


@dataclass(slots=True)
class Obedience:
    """Lock-down, hold and visits of one invented door."""

    down: bool = False
    hold: Hold | None = None
    visits: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, order: Command, at_ms: int) -> Iterator[Happened]:
        """Obey; yields what then happens at the door."""
        told = order.arguments
        numbers = {name: value for name, value in told.items() if isinstance(value, int)}
        if order.action == "lock_down":
            self.down = True
            yield "LOCK_DOWN", "locked_down"
            yield from self._locked()
        elif order.action == "end_lock_down":
            self.down = False
        elif order.action == "hold_open" and not self.down:
            yield from self._locked()
            self.hold = Hold(numbers["begins_ms"], numbers["ends_ms"], bool(numbers["first_person"]))
            yield from self.passed(at_ms)
        elif order.action == "end_hold":
            yield from self._locked()
        elif order.action == "limit_visit":
            self.visits[str(told["person"])] = (numbers["begins_ms"], numbers["ends_ms"])
        elif order.action == "lift_visit":
            self.visits.pop(str(told["person"]), None)

    def passed(self, at_ms: int, *, somebody: bool = False) -> Iterator[Happened]:
        """Begin or end a hold when it is time; `somebody` was let in just now."""
        hold = self.hold
        if hold is None:
            return
        if at_ms >= hold.ends_ms:
            yield from self._locked()
        elif at_ms >= hold.begins_ms and not hold.open and (somebody or not hold.first_person):
            hold.open = True
            yield "UNLOCKED", "schedule"

    def refusal(self, person: str | None, at_ms: int) -> Happened | None:
        """Why a person whose every factor passed is not let in; None when they are."""
        if self.down:
            return "LOCK_DOWN", "locked_down"
        begins_ms, ends_ms = self.visits.get(person or "", (at_ms, at_ms + 1))
        if at_ms < begins_ms:
            return "DENIED_SCHEDULE", "visit_not_begun"
        return ("DENIED_SCHEDULE", "visit_ended") if at_ms >= ends_ms else None

    def _locked(self) -> Iterator[Happened]:
        was, self.hold = self.hold, None
        if was is not None and was.open:
            yield "RELOCKED", "schedule"
