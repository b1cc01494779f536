"""A door with contacts: moves the strike, watches the wires, writes events.

One thread reads the wires. After any failure it locks the strike first and writes the reason after; it opens
hardware that went away again without a restart.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from device.access.decision import Decision, Notice, Outcome
from device.background import Background
from device.door import supervision
from device.door.debounce import Debounce, Level
from device.door.lines import DoorError, Lines
from device.door.supervision import DoorState, DoorTiming, Happening, Line, Step
from sync.errors import SyncError

LOOK_S = 0.25
"""Between two readings of all levels; also the longest wait for a change."""
REOPEN_S = 1.0
STUCK_S = 60.0
MAX_UNWRITTEN = 1_000

log = logging.getLogger(__name__)

_EVENTS = {
    Happening.OPENED: ("DOOR_OPENED", "none"),
    Happening.CLOSED: ("DOOR_CLOSED", "none"),
    Happening.EGRESS: ("EGRESS", "request_to_exit"),
    Happening.FORCED: ("DOOR_FORCED_OPEN", "forced"),
    Happening.HELD_OPEN: ("DOOR_OPEN_TOO_LONG", "held_open"),
    Happening.TAMPERED: ("TAMPER", "case_opened"),
    Happening.UNTAMPERED: ("TAMPER_ENDED", "case_closed"),
    Happening.EXIT_STUCK: ("FAULT", "exit_stuck"),
    Happening.RELOCKED: ("RELOCKED", "none"),
}
"""Kind and reason of events. A pre-alarm is none: it is only said at the door."""
_WARNED = {Happening.PRE_ALARM, Happening.HELD_OPEN}

Note = Callable[[str, str], None]
"""Writes an event, given its kind and reason in words of `sync/vocabulary.py`. Raises SyncError."""


class SupervisedDoor(Background):
    """A Door. Its thread runs from entry to exit; leaving locks the strike."""

    def __init__(
        self,
        name: str,
        open_lines: Callable[[], Lines],
        *,
        unlock_s: float,
        timing: DoorTiming,
        debounce_s: float,
        now_s: Callable[[], float],
        note: Note,
        warn: Callable[[Notice], None],
        show: Callable[[str], None],
    ) -> None:
        """`warn` tells the person at the door, `show` the person at the terminal."""
        self._name = name
        self._open_lines = open_lines
        self._unlock_s = unlock_s
        self._debounce_s = debounce_s
        self._now_s = now_s
        self._note = note
        self._warn = warn
        self._show = show
        self._state = DoorState(timing)
        self._debounce = Debounce(debounce_s)
        self._lines: Lines | None = None
        self._moved: bool | None = None
        """The strike's last position; None when it is not known."""
        self._fault = ""
        self._looked_s = now_s()
        self._levels_due_s = 0.0
        self._unwritten: deque[tuple[str, str]] = deque(maxlen=MAX_UNWRITTEN)
        self._lock = threading.RLock()  # grants come from one thread, contacts from another
        super().__init__("door")

    def _begin(self) -> None:
        self._open()

    def _ended(self) -> None:
        self.close()
        self._write()

    @property
    def is_locked(self) -> bool:
        return not self._state.strike_released(self._now_s())

    def fire(self) -> bool:
        """Whether the fire input is active. Hardware that is gone is no alarm."""
        with self._lock:
            return self._lines is not None and self._debounce.active(Line.FIRE)

    def trouble(self) -> str:
        """What is wrong with the hardware; empty when nothing is."""
        return self._fault

    def stuck(self) -> str:
        """Says so when no look at the wires has ended for a minute; empty otherwise."""
        silent_s = self._now_s() - self._looked_s
        return f"the wires of the door were not read for {silent_s:.0f} s" if silent_s > STUCK_S else ""

    def obey(self, decision: Decision) -> None:
        """Release the strike for a decision that opens; for every other one keep it as it is."""
        if not decision.opens:
            self._show(f"{self._name}: stays locked")
            return
        with self._lock:
            now_s = self._now_s()
            if decision.outcome is Outcome.EMERGENCY_RELEASE:
                self._take(supervision.emergency(self._state, now_s))
                how_long = "until the alarm ends"
            else:
                unlock_s = max(self._unlock_s, decision.unlock_s or 0.0)
                self._take(supervision.granted(self._state, now_s, unlock_s, unlock_s - self._unlock_s))
                how_long = f"for {unlock_s:g} s"
            moved = self._moved
        self._show(
            f"{self._name}: strike released {how_long}"
            if moved
            else f"{self._name}: the strike cannot be moved"
        )

    def lock(self) -> None:
        """Lock at once."""
        with self._lock:
            self._take(supervision.locked(self._state, self._now_s()))
        self._show(f"{self._name}: locked")

    def hold(self, for_s: float) -> None:
        """Stand unlocked for so long from now; 0 ends it. The door's own thread ends it in time."""
        with self._lock:
            was = self._state.held
            self._take(supervision.held(self._state, self._now_s(), for_s))
            is_held = self._state.held
        if is_held != was:
            self._show(f"{self._name}: {f'held open for {for_s:.0f} s' if is_held else 'no longer held'}")

    def close(self) -> None:
        """Lock at once and let go of the hardware, silently."""
        with self._lock:
            self._state, _ = supervision.locked(self._state, self._now_s())
            self._let_go()

    def look(self, timeout_s: float = 0.0) -> None:
        """One look at every wire; waits up to `timeout_s` for a change."""
        try:
            if self._lines is None and not self._open():
                self._stop.wait(min(timeout_s, REOPEN_S))
            else:
                self._read(timeout_s)
        except DoorError as err:
            self._lost(str(err))
        self._write()
        self._looked_s = self._now_s()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look(REOPEN_S if self._lines is None else self._patience_s())
            except Exception:  # a supervisor: the strike is locked, and this thread goes on
                log.exception("watching the door failed; the strike is locked and its lines are opened again")
                self._lost("internal error")
                self._stop.wait(REOPEN_S)

    def _patience_s(self) -> float:
        due_s = min(self._state.due_s, self._debounce.due_s) - self._now_s()
        return min(LOOK_S, max(0.0, due_s))

    def _read(self, timeout_s: float) -> None:
        lines = self._lines
        if lines is None:
            return
        edges = list(lines.edges(timeout_s))
        with self._lock:
            for edge in edges:
                self._settle(self._debounce.feed(edge))
            now_s = self._now_s()
            if now_s >= self._levels_due_s:  # an edge that the kernel dropped is noticed here
                self._levels_due_s = now_s + LOOK_S
                for line, active in lines.levels().items():
                    self._settle(self._debounce.feed(Level(line, active, now_s)))
            self._settle(self._debounce.settled(now_s))
            self._take(supervision.passed(self._state, now_s))

    def _settle(self, levels: Iterable[Level]) -> None:
        for level in levels:
            self._take(supervision.sensed(self._state, level.line, level.active, self._now_s()))

    def _take(self, step: Step) -> None:
        """The strike first, then the record: nobody waits in a fire for a full disk."""
        self._state, happenings = step
        self._move()
        for happening in happenings:
            if (event := _EVENTS.get(happening)) is not None:
                self._unwritten.append(event)
            if happening in _WARNED:
                self._warn(Notice.CLOSE_DOOR)
            log.info("%s: %s", self._name, happening)

    def _move(self) -> None:
        released = self._state.strike_released(self._now_s())
        if released == self._moved or self._lines is None:
            return
        try:
            self._lines.move(released)
            self._moved = released
        except DoorError as err:
            self._lost(str(err))

    def _open(self) -> bool:
        try:
            lines = self._open_lines()
        except DoorError as err:
            self._lost(str(err))
            return False
        with self._lock:
            self._lines, self._moved = lines, None
            self._debounce = Debounce(self._debounce_s)
            self._levels_due_s = 0.0
            self._fault = ""
            self._move()
        return True

    def _lost(self, why: str) -> None:
        """Let go of lost hardware and end a running grant."""
        with self._lock:
            self._let_go()
            if not self._state.emergency:  # an alarm goes on, and releases as soon as the hardware is back
                self._state, _ = supervision.locked(self._state, self._now_s())
            if not self._fault:
                self._fault = why
                log.error("%s: %s", self._name, why)
                self._unwritten.append(("FAULT", "door_fault"))

    def _let_go(self) -> None:
        lines, self._lines, self._moved = self._lines, None, None
        if lines is not None:
            lines.close()

    def _write(self) -> None:
        """Write events in order; what cannot be written now is tried again."""
        while self._unwritten:
            kind, reason = self._unwritten[0]
            try:
                self._note(kind, reason)
            except SyncError as err:
                log.error("%s cannot be written down yet: %s", kind, err)
                return
            self._unwritten.popleft()
