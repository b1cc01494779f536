"""Brings people over from one speaker model to the next, after each attempt, unnoticed by them."""

from __future__ import annotations

import logging

from device.errors import DeviceError
from device.unit.assembly import Unit
from device.unit.attempts import Attempt
from device.unit.succession.rule import Step, well_inside, with_another
from device.unit.voices.enrol_again import today
from sync.errors import SyncError
from sync.plain_words import what_and_why

TAKE_WITHIN_S = 10.0

log = logging.getLogger(__name__)


def grown_on(unit: Unit, made: Attempt, door_name: str) -> None:
    """Grow the voiceprint of a granted attempt, after the door was told. Logs every error and raises none."""
    try:
        _grown_on(unit, made, door_name)
    except (DeviceError, SyncError, OSError) as err:
        log.warning("the next speaker model could not keep what it heard: %s", what_and_why(err))


def _grown_on(unit: Unit, made: Attempt, door_name: str) -> None:
    decision, evidence = made.decision, made.evidence
    heard = evidence.heard if evidence is not None else None
    if heard is None or decision.person is None or not well_inside(decision):
        if heard is not None:
            heard.drop()
        return
    newer = unit.judge.newer
    embedding = heard.take(TAKE_WITHIN_S)
    if embedding is None:
        return
    vault, uid = unit.store.vault, decision.person
    day = today(unit)
    before = vault.growing(uid)
    try:
        after = with_another(before, newer.version, day, embedding, newer.llr)
        if after.step is Step.NOTHING:
            return
        reason = "voices_differ" if after.step is Step.DROPPED else "well_inside"
        count = 0 if after.growing is None else len(after.growing.days)
        # On the disk before it grows: nothing grows that the log does not know of.
        unit.trail.note(
            f"SUCCESSOR_{after.step.upper()}", reason, door_name, uid=uid, count=count, risk="low"
        )
        vault.grow(uid, after.growing)
        if after.growing is not None:
            after.growing.wipe()
    finally:
        embedding[:] = 0.0
        if before is not None:
            before.wipe()
