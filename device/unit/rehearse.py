"""A decision beside the door process, on what that process last wrote, and already in the audit log."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from device.access.decision import Decision
from device.access.memory.history import recall
from device.access.memory.remembered import Remembered
from device.access.memory.timekeeping import TimeSeen
from device.access.rehearsal import Rehearsal
from device.access.rules import Rules
from device.access.voices import alike, is_enrolled
from device.clock import Clock
from device.errors import DeviceError
from device.evidence.judge import Evidence, Judge
from device.secure_store import Store
from device.settings import Settings
from device.unit.assembly import HISTORY_FILE, open_log, witness_of


def time_seen(store: Store, state: Path) -> TimeSeen:
    """The highest time that the door process has seen; nothing where its history cannot be read."""
    try:
        return _recalled(store, state).time
    except DeviceError:
        return TimeSeen()


def check_clock(store: Store, state: Path, clock: Clock) -> None:
    """Before somebody is enrolled: raises DeviceError when the clock would date their consent wrongly."""
    wall = clock().wall
    if time_seen(store, state).behind(wall):
        raise DeviceError(
            f"this unit's clock says {wall:%Y-%m-%d %H:%M} UTC, behind a time that it has seen, so no "
            "consent can be dated; set it, or, if it is right, `ostiary policy trust-clock`"
        )


def go_by_time_seen(store: Store, state: Path, clock: Clock) -> None:
    """Judge consents as the door does: a clock that was set back revives none."""
    store.vault.go_by(lambda: time_seen(store, state).time(clock().wall))


def _recalled(store: Store, state: Path) -> Remembered:
    counter, never_used = store.keystore.counter("attempts"), store.never_used("attempts")
    return recall(state / HISTORY_FILE, counter, store.mac, never_used)


def rehearse(
    judge: Judge,
    store: Store,
    settings: Settings,
    state: Path,
    rules: Rules,
    *,
    door: str,
    uid: str,
    heard: Evidence | Exception,
    phrase: str,
    clock: Clock,
) -> Decision:
    """What `door` would do now. Its event is on the disk when this returns. Raises OutboxError.

    No strike moves, nothing is charged, and nobody is noted as inside or as first of two.
    """
    rehearsal = Rehearsal(
        rules,
        partial(_recalled, store, state),
        store.mac,
        enrolled=partial(is_enrolled, store.vault),
        same_voice_llr=partial(alike, store.vault, judge.speaker),
    )
    decision = rehearsal.decide(door, uid, heard, phrase, clock())
    evidence = heard if isinstance(heard, Evidence) else None
    with open_log(settings, state, rules, clock) as log:
        event = witness_of(store, rules, 0, clock).of(decision, evidence, clock())
        log.append(event, beside=True)
    return decision
