"""The upkeep of a running unit: events at start and stop, erasures, checks of its parts.

Once a day it forgets people whose consent has run out, a tenth of the people at most, and only when the clock
has agreed with running time for days: a wrong clock must not erase anybody. At the start and once a day it
forgets the attempts of people who are not known here: a power cut after they were erased left those. Every
few minutes it checks clock, certificate, key store, vault and the room in the audit log, and on a unit
without a registry moves the log to files. All leave events, so that an operator knows of trouble before a
person stands at the door.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from device.background import Background
from device.errors import DeviceError
from device.unit.assembly import Unit
from device.unit.succession.following import drop_where_off
from device.unit.voices.enrol_again import today
from sync.errors import SyncError
from sync.plain_words import what_and_why

LOOK_EVERY_S = 300.0
DAY_S = 86_400.0
KEEP_TIME_EVERY_S = 3_600.0
PURGED_AT_ONCE = 10
"""At most one in so many people at one look, and one at least."""
WARN_SHARE = 0.5
"""From here on a log that fills up is reported: at a hundred events a day a year is left."""
TROUBLES = {
    "clock_fault": "the clock is behind a time that was seen; set it, or `ostiary policy trust-clock`",
    "backlog_too_large": "the audit log is half full; run `ostiary sync`, or set `[audit] standalone`",
    "disk_full": "the disk of the audit log is nearly full; make room",
    "tpm_fault": "the key store does not answer; run `ostiary doctor`",
    "tpm_locked": "others' wrong passwords locked the TPM; find out whose, then clear the lockout",
    "certificate_ends": "the certificate of `ostiary sync` ends soon; renew it, or events wait here",
    "store_fault": "the vault cannot be read, or records in it are damaged; run `ostiary doctor`",
}

log = logging.getLogger(__name__)


class Upkeep(Background):
    """A thread of its own, from entry to exit."""

    def __init__(
        self,
        unit: Unit,
        door_name: str,
        rotate: Callable[[], int] | None = None,
        certificate: Callable[[datetime], str] = lambda _: "",
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`rotate` moves the log to files when due, and returns the last event moved, or 0; `certificate`
        says what is wrong with the uplink's at a time; `every_s` lies between two looks.
        """
        self._unit = unit
        self._door_name = door_name
        self._rotate = rotate
        self._certificate = certificate
        self._every_s = every_s
        self._purge_at_s = self._keep_time_at_s = self._strangers_at_s = unit.clock().monotonic_s
        self._troubles: frozenset[str] = frozenset()
        super().__init__("upkeep")

    def _begin(self) -> None:
        self._note("BOOT", "started")
        if self._unit.store.warning is not None:
            self._note("FAULT", "software_keystore")

    def _ended(self) -> None:
        self._note("SHUTDOWN", "stopped")

    def trouble(self) -> str:
        """What the last look found, in one line; empty when all was well."""
        return "; ".join(TROUBLES[reason] for reason in sorted(self._troubles))

    def look(self) -> None:
        """Do what is due, and report new troubles."""
        now_s = self._unit.clock().monotonic_s
        self._look_at_the_clock()
        if now_s >= self._purge_at_s and self._unit.controller.time.settled():
            self._purge_at_s = now_s + DAY_S
            self._purge()
        if now_s >= self._strangers_at_s:
            self._strangers_at_s = now_s + DAY_S
            self._forget_strangers()
        if self._rotate is not None:
            self._put_away(self._rotate)
        troubles = self._found()
        for reason in sorted(troubles - self._troubles):
            self._note("FAULT", reason)
        self._troubles = troubles

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # a supervisor: this thread must outlive whatever goes wrong in one look
                log.exception("a look at the unit's health failed; the next one comes")
            if self._stop.wait(self._every_s):
                return

    def _look_at_the_clock(self) -> None:
        controller, now = self._unit.controller, self._unit.clock()
        if now.monotonic_s >= self._keep_time_at_s:
            self._keep_time_at_s = now.monotonic_s + KEEP_TIME_EVERY_S
            try:
                controller.keep_time(now)
            except DeviceError as err:
                log.error("the time that was seen could not be kept: %s", err)
        else:
            controller.time.look(now)
        if jumps := controller.time.jumps():
            log.warning("the clock of this unit was set; it now says %s", now.wall.isoformat())
            self._note("CLOCK_SET", "clock_fault", jumps)

    def _purge(self) -> None:
        vault = self._unit.store.vault
        try:
            before = vault.uids()
            receipts = vault.purge_expired(at_most=max(1, len(before) // PURGED_AT_ONCE))
        except DeviceError as err:
            log.error("nobody whose consent ran out could be forgotten: %s", err)
            self._note("FAULT", "store_fault")
            return
        if not receipts:
            return
        log.info("%d people were forgotten because their consent ran out", len(receipts))
        self._note("CONSENT_EXPIRED", "consent_expired", len(receipts))
        try:
            for uid in set(before) - set(vault.uids()):
                self._unit.controller.forget(uid)
        except DeviceError as err:
            log.error("attempts of people who are forgotten are still remembered: %s", err)
            self._note("FAULT", "store_fault")

    def _forget_strangers(self) -> None:
        """Forget the attempts of everybody who is neither enrolled nor in the rules; of nobody while a record
        is damaged, since that may be theirs."""
        vault, controller = self._unit.store.vault, self._unit.controller
        try:
            if not vault.status().damaged:
                controller.keep_only({*vault.uids(), *controller.rules.people})
            controller.drop_voice_refusals(today(self._unit))
        except DeviceError as err:
            log.error("attempts of people who are not known here are still remembered: %s", err)
        try:
            drop_where_off(self._unit, self._door_name)
        except (DeviceError, SyncError) as err:
            log.error("what voiceprints followed is still there, and does not count: %s", err)

    def _put_away(self, rotate: Callable[[], int]) -> None:
        try:
            last = rotate()
        except (DeviceError, SyncError, OSError) as err:
            log.error("the audit log could not be moved to files: %s", what_and_why(err))
            return
        if last:
            self._note("LOG_ROTATED", "schedule", last)

    def _found(self) -> frozenset[str]:
        """What is wrong with keys, vault and log now, in words of the vocabulary."""
        found = set()
        if self._unit.controller.time.seen.behind(self._unit.clock().wall):
            found.add("clock_fault")
        elif told := self._certificate(self._unit.clock().wall):
            log.warning("the uplink: %s", told)
            found.add("certificate_ends")
        try:
            keystore = self._unit.store.keystore.status()
            if not keystore.ready:
                found.add("tpm_locked" if keystore.locked else "tpm_fault")
                log.warning("the key store: %s", keystore.state)
        except DeviceError as err:
            log.error("the key store does not answer: %s", err)
            found.add("tpm_fault")
        try:
            if self._unit.store.vault.status().damaged:
                found.add("store_fault")
        except DeviceError as err:
            log.error("the vault cannot be read: %s", err)
            found.add("store_fault")
        try:
            fill = self._unit.log.fill()
            if fill.share >= WARN_SHARE:
                found.add(fill.reason)
        except SyncError as err:
            log.error("the audit log cannot be read: %s", err)
        return frozenset(found)

    def _note(self, kind: str, reason: str, count: int | None = None) -> None:
        """Write an event if there is room; the door itself reports a log that is full or broken."""
        try:
            self._unit.trail.note(kind, reason, self._door_name, count=count, risk="low")
        except SyncError as err:
            log.error("%s could not be written down: %s", kind, err)
