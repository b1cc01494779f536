"""What a door's contacts and its strike mean together. Pure: every step takes the time and returns a state.

A decision releases the strike, which locks again when its time is over or the door has closed behind
somebody. A door that opens without a decision and without the exit button is forced. One that stands open too
long, first asks to be closed, then is reported. The exit button moves nothing: the way out is always free,
and the button only tells that an opening is no break-in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

SETTLE_S = 0.7
"""A door that springs back open within this long after it closed is still the same passage."""
FORCED_GRACE_S = 0.3
"""So long a request to exit may follow the opening: a handle's switch may close after the contact opens."""
EXIT_STUCK_S = 60.0
"""A longer request to exit is a stuck or taped button, and explains no opening."""


class Line(StrEnum):
    """One wire of the door. Active means: open, pressed, case open, alarm."""

    CONTACT = "contact"
    EXIT = "request_to_exit"
    TAMPER = "tamper"
    FIRE = "fire"


class Happening(StrEnum):
    """What the unit writes into its log, or says at the door."""

    OPENED = "opened"
    CLOSED = "closed"
    EGRESS = "egress"
    FORCED = "forced"
    PRE_ALARM = "pre_alarm"
    HELD_OPEN = "held_open"
    TAMPERED = "tampered"
    UNTAMPERED = "untampered"
    EXIT_STUCK = "exit_stuck"
    RELOCKED = "relocked"
    """An emergency release or an order has ended."""


@dataclass(frozen=True, slots=True)
class DoorTiming:
    """Limits of a passage, in seconds."""

    held_open_s: float = field(default=30.0, metadata={"low": 2.0, "high": 3600.0})
    """A door open for longer is reported; a person's longer strike time is added."""
    pre_alarm_s: float = field(default=10.0, metadata={"low": 0.0, "high": 600.0})
    """So long before that the door asks to be closed."""
    exit_s: float = field(default=8.0, metadata={"low": 1.0, "high": 120.0})
    """After a request to exit the door may be opened for so long."""

    def __post_init__(self) -> None:
        if self.pre_alarm_s >= self.held_open_s:
            raise ValueError("pre_alarm_s must be shorter than held_open_s")


@dataclass(frozen=True, slots=True)
class DoorState:
    """What is known of one door. Times are readings of one monotonic clock, in seconds."""

    timing: DoorTiming = field(default_factory=DoorTiming)
    released_until_s: float = -math.inf
    """The strike is released until then; for ever in an emergency."""
    may_open_until_s: float = -math.inf
    """Until then an opening is explained."""
    held_until_s: float = -math.inf
    """The door stands unlocked until then, however often it opens and shuts."""
    extra_s: float = 0.0
    """How much longer this passage may stay open."""
    is_open: bool | None = None
    """None until the contact was read for the first time, and where there is none."""
    opened_s: float = math.inf
    unexplained_s: float = math.inf
    """When the door opened without a cause, while a request to exit may still explain it."""
    forced: bool = False
    pre_alarmed: bool = False
    held_open: bool = False
    exit_since_s: float | None = None
    exit_stuck: bool = False
    tampered: bool = False

    @property
    def emergency(self) -> bool:
        return self.released_until_s == math.inf

    @property
    def held(self) -> bool:
        return self.held_until_s > -math.inf

    def strike_released(self, now_s: float) -> bool:
        return now_s < max(self.released_until_s, self.held_until_s)

    @property
    def due_s(self) -> float:
        """When time alone changes something next; infinite if never."""
        due = [self.unexplained_s + FORCED_GRACE_S]
        if self.released_until_s > -math.inf:
            due.append(self.released_until_s)
        if self.held:
            due.append(self.held_until_s)
        if self.exit_since_s is not None and not self.exit_stuck:
            due.append(self.exit_since_s + EXIT_STUCK_S)
        if self._timed:
            due.append(self._held_s if self.pre_alarmed else self._pre_alarm_s)
        return min(due)

    @property
    def _timed(self) -> bool:
        return bool(self.is_open) and not (self.held_open or self.emergency or self.held)

    @property
    def _held_s(self) -> float:
        return self.opened_s + self.timing.held_open_s + self.extra_s

    @property
    def _pre_alarm_s(self) -> float:
        return self._held_s - self.timing.pre_alarm_s


Step = tuple[DoorState, tuple[Happening, ...]]


def granted(state: DoorState, now_s: float, unlock_s: float, extra_s: float = 0.0) -> Step:
    """Release the strike for `unlock_s`; the passage may stay open `extra_s` longer than others."""
    state, told = passed(state, now_s)
    until_s = max(state.released_until_s, now_s + unlock_s)
    state = replace(
        state,
        released_until_s=until_s,
        may_open_until_s=max(state.may_open_until_s, until_s),
        extra_s=extra_s,
        unexplained_s=math.inf,
    )
    if state.is_open and not state.forced:  # one more person goes through: the time begins anew
        state = replace(state, opened_s=now_s, pre_alarmed=False, held_open=False)
    return state, told


def emergency(state: DoorState, now_s: float) -> Step:
    """Release the strike until `locked`."""
    state, told = passed(state, now_s)
    return replace(state, released_until_s=math.inf, may_open_until_s=math.inf, unexplained_s=math.inf), told


def held(state: DoorState, now_s: float, for_s: float) -> Step:
    """Stand unlocked for `for_s` from now; 0 ends it. A door still open at the end is timed from there."""
    state, told = passed(state, now_s)
    if for_s <= 0.0:
        state, more = _hold_ended(state, now_s) if state.held else (state, ())
        return state, (*told, *more)
    until_s = now_s + for_s
    return replace(
        state, held_until_s=until_s, unexplained_s=math.inf, forced=False, pre_alarmed=False, held_open=False
    ), told


def locked(state: DoorState, now_s: float) -> Step:
    """Lock at once, after an alarm or by an order. A door that stands open is timed from now."""
    state, told = passed(state, now_s)
    if not state.strike_released(now_s):
        return state, told
    was_long = state.emergency or state.held
    state = replace(
        state,
        released_until_s=-math.inf,
        held_until_s=-math.inf,
        may_open_until_s=-math.inf,
        opened_s=now_s if state.is_open and was_long else state.opened_s,
    )
    return state, (*told, Happening.RELOCKED)


def sensed(state: DoorState, line: Line, active: bool, now_s: float) -> Step:
    """A wire has another level. The rules, not this, decide on the fire input."""
    state, told = passed(state, now_s)
    if line is Line.CONTACT:
        state, more = _opened(state, now_s) if active else _closed(state, now_s)
    elif line is Line.EXIT:
        state, more = _exit(state, active, now_s)
    elif line is Line.TAMPER and active != state.tampered:
        state = replace(state, tampered=active)
        more = (Happening.TAMPERED if active else Happening.UNTAMPERED,)
    else:
        more = ()
    return state, (*told, *more)


def passed(state: DoorState, now_s: float) -> Step:
    """Apply what has become due by `now_s`."""
    told: list[Happening] = []
    if -math.inf < state.released_until_s <= now_s:
        state = replace(state, released_until_s=-math.inf)
    if state.held and state.held_until_s <= now_s:
        state, ended = _hold_ended(state, now_s)
        told.extend(ended)
    if now_s >= state.unexplained_s + FORCED_GRACE_S:
        state = replace(state, unexplained_s=math.inf, forced=True)
        told.append(Happening.FORCED)
    if state.exit_since_s is not None and not state.exit_stuck and now_s >= state.exit_since_s + EXIT_STUCK_S:
        state = replace(state, exit_stuck=True)
        told.append(Happening.EXIT_STUCK)
    if state._timed and not state.pre_alarmed and now_s >= state._pre_alarm_s:
        state = replace(state, pre_alarmed=True)
        told.append(Happening.PRE_ALARM)
    if state._timed and now_s >= state._held_s:
        state = replace(state, held_open=True)
        told.append(Happening.HELD_OPEN)
    return state, tuple(told)


def _hold_ended(state: DoorState, now_s: float) -> Step:
    state = replace(state, held_until_s=-math.inf, opened_s=now_s if state.is_open else state.opened_s)
    return state, () if state.strike_released(now_s) else (Happening.RELOCKED,)


def _opened(state: DoorState, now_s: float) -> Step:
    if state.is_open:
        return state, ()
    first_look = state.is_open is None  # after a power cut nobody knows why it stands open
    state = replace(state, is_open=True, opened_s=now_s, pre_alarmed=False, held_open=False)
    exit_pressed = state.exit_since_s is not None and not state.exit_stuck
    if not (first_look or exit_pressed or now_s < max(state.may_open_until_s, state.held_until_s)):
        state = replace(state, unexplained_s=now_s)
    return state, (Happening.OPENED,)


def _closed(state: DoorState, now_s: float) -> Step:
    if not state.is_open:
        return replace(state, is_open=False), ()
    explained = not state.forced and state.unexplained_s == math.inf
    told: tuple[Happening, ...] = (Happening.CLOSED,)
    if state.unexplained_s != math.inf:  # opened and shut again within the grace: still a break-in
        told = (Happening.FORCED, Happening.CLOSED)
    state = replace(
        state, is_open=False, opened_s=math.inf, unexplained_s=math.inf, forced=False, extra_s=0.0
    )
    if state.emergency:
        return state, told
    return replace(
        state,
        released_until_s=-math.inf,
        may_open_until_s=now_s + SETTLE_S if explained else -math.inf,
    ), told


def _exit(state: DoorState, pressed: bool, now_s: float) -> Step:
    if pressed == (state.exit_since_s is not None):
        return state, ()
    if not pressed and state.exit_stuck:
        return replace(state, exit_since_s=None, exit_stuck=False), ()
    state = replace(
        state,
        exit_since_s=now_s if pressed else None,
        may_open_until_s=max(state.may_open_until_s, now_s + state.timing.exit_s),
        unexplained_s=math.inf,
    )
    return state, (Happening.EGRESS,) if pressed else ()
