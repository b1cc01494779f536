"""Keeps what a voiceprint follows, after granted attempts at this door; and drops it where that ends."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack

from device.access.voices import claimed
from device.errors import DeviceError
from device.evidence.enrolled import HeardVoice
from device.evidence.voice.followed import near
from device.secure_store import Vault
from device.unit.assembly import Unit
from device.unit.attempts import Attempt
from device.unit.audit import AuditTrail
from device.unit.succession.following_rule import with_another
from device.unit.succession.rule import well_inside
from device.unit.voices.enrol_again import today
from sync.errors import SyncError
from sync.plain_words import what_and_why

KEPT, DROPPED = "VOICE_FOLLOWED", "VOICE_FOLLOWS_DROPPED"

log = logging.getLogger(__name__)


def followed_on(unit: Unit, made: Attempt, door_name: str) -> None:
    """Have the voiceprint of a granted attempt follow it, after the door was told. Logs every error and
    raises none."""
    voice = made.evidence.voice if made.evidence is not None else None
    if voice is None:
        return
    try:
        if made.decision.person and well_inside(made.decision) and unit.follows_at(door_name):
            _followed_on(unit, voice, made.decision.person, door_name)
    except (DeviceError, SyncError, OSError, ValueError) as err:
        log.warning("a voiceprint could not follow what was heard: %s", what_and_why(err))
    finally:
        voice.drop()


def _followed_on(unit: Unit, voice: HeardVoice, uid: str, door_name: str) -> None:
    vault, speaker = unit.store.vault, unit.judge.newer
    with ExitStack() as held:
        enrolled = held.enter_context(claimed(vault, uid, unit.judge.generations, follows=True))
        heard = voice.take()
        if enrolled is None or not enrolled.follows or enrolled.model != voice.model or heard is None:
            return
        held.callback(heard.fill, 0.0)
        before = vault.follows(uid)
        if before is not None:
            held.callback(before.wipe)
        after = with_another(
            before, voice.model, today(unit), heard, lambda row: near(speaker, row, enrolled)
        )
        if after is None:
            return
        held.callback(after.wipe)
        # On the disk before it is kept: nothing is followed that the log does not know of.
        unit.trail.note(KEPT, "well_inside", door_name, uid=uid, count=len(after.days), risk="low")
        vault.follow(uid, after)


def drop_where_off(unit: Unit, door_name: str) -> None:
    """Drop what was followed at a door where voiceprints do not follow any more. Raises as `dropped`."""
    if not unit.follows_at(door_name):
        vault = unit.store.vault
        dropped(vault, unit.trail, door_name, vault.followed(), "follows_no_more")


def dropped(vault: Vault, trail: AuditTrail, door_name: str, uids: Iterable[str], reason: str) -> int:
    """Drop what the voiceprints of `uids` follow, each on record first; how many there were. Raises
    StoreError, OutboxError."""
    following, count = vault.followed(), 0
    for uid in uids:
        if uid in following:
            trail.note(DROPPED, reason, door_name, uid=uid, count=len(following[uid]), risk="low")
            vault.follow(uid, None)
            count += 1
    return count
