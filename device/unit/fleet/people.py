"""The people of this unit by its fleet's roster: what it changes here, and what the unit reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from device.errors import DeviceError
from device.secure_store import (
    Consent,
    SealPolicyError,
    Store,
    StoreError,
    Template,
    TpmBusyError,
    TpmLockedError,
)
from device.settings import Settings
from device.unit.audit import AuditTrail
from device.unit.fleet.envelopes import checked_card, seal, unseal
from device.unit.fleet.memory import FleetMemory, Known
from sync.events import UnitId
from sync.orders.desired import (
    Enrolled,
    Held,
    Holding,
    Item,
    Part,
    Receipt,
    Roster,
    Sealed,
    Share,
    first_that_fit,
)

MOST_ITEMS = 300
"""In one statement, or as many as it has room for; the rest follows when the registry has these."""
MOST_HOLDINGS = 3000
"""Told to a registry that has lost its people; it drops nobody whom it was not told of."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Change:
    """The changes of a roster. `refused` counts enrolments that may not be taken here."""

    known: Known
    put: list[tuple[str, Template, Consent]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    refused: int = 0

    def wipe(self) -> None:
        for _, template, _ in self.put:
            template.wipe()


class People:
    """The vault's people under the fleet's numbers. `now` is the highest time known."""

    def __init__(
        self,
        unit: UnitId,
        store: Store,
        memory: FleetMemory,
        trail: AuditTrail,
        now: Callable[[], datetime],
        settings: Settings,
    ) -> None:
        self._unit = unit
        self._store = store
        self._memory = memory
        self._trail = trail
        self._door_name = settings.door.name
        self._now = now
        self._authority = settings.fleet.authority
        self._longest_days = settings.store.max_retention_days
        self._receipts: dict[tuple[str, int], bytes] = {}
        self._sealed: dict[tuple[str, int, str], bytes] = {}
        self._versions: tuple[int, dict[str, int]] = (-1, {})

    def versions(self) -> Mapping[str, int]:
        """Everybody in the vault, and how often they were enrolled; read again when the vault has changed."""
        counter = self._store.vault.status().counter
        if counter != self._versions[0]:
            self._versions = (counter, self._store.vault.versions())
        return self._versions[1]

    def of_the_fleet(self) -> int:
        """How many of them have a number of the fleet, and so go when its roster no longer names them."""
        held = self._memory.known.held
        return sum(self._memory.tag(uid) in held for uid in self.versions())

    def missing(self, roster: Roster) -> list[Part]:
        """The envelopes that are needed to do as the roster says."""
        return [one.envelope for one in roster.hold if one.envelope is not None and self._wanted(one)]

    def change(self, roster: Roster, document: int, read: Callable[[Part], bytes]) -> Change:
        """The changes of a roster, not yet made. Raises StoreError for an envelope that does not open."""
        memory, versions = self._memory, self.versions()
        held: dict[bytes, tuple[int, int]] = {}
        change = Change(Known(document))
        for one in roster.hold:
            tag = memory.tag(one.uid)
            before = memory.known.held.get(tag)
            if memory.known.forgotten(tag, one.number):
                change.refused += 1
            elif one.envelope is None and one.version:
                held[tag] = (one.number, one.version)
            elif one.envelope is None:  # the registry has lost the envelope, and this unit holds it still
                if before is not None:
                    held[tag] = before
            elif self._wanted(one):
                if (opened := self._opened(one, read)) is not None:
                    change.put.append((one.uid, *opened))
                    held[tag] = (one.number, versions.get(one.uid, 0) + 1)
                    continue
                change.refused += 1
                if before is not None:
                    held[tag] = before
            elif before is not None:
                # Also where it was enrolled anew here since: the fleet has not heard of that yet.
                held[tag] = before
        gone = dict(memory.known.gone)
        for erased in roster.gone:
            tag = memory.tag(erased.uid)
            gone[tag] = max(erased.number, gone.get(tag, 0))
        stay = set(held)
        forgotten = {one.uid for one in roster.gone}
        for uid in versions:
            tag = memory.tag(uid)
            if uid in forgotten or (tag in memory.known.held and tag not in stay):
                change.drop.append(uid)
        change.known = Known(document, held, gone)
        return change

    def commit(self, change: Change) -> None:
        """Make the changes in one step of the vault that pins the document, with events before and after."""
        note = partial(self._trail.note, reason="fleet", door=self._door_name, risk="low")
        vault = self._store.vault
        for uid, _, _ in change.put:
            note("ENROLMENT_BEGUN", uid=uid)
        records = {vault.record_id(uid): uid for uid in change.drop}
        for record, uid in records.items():
            note("ERASURE_BEGUN", uid=uid, count=0, record=record)
        pinned = self._memory.stage(change.known)
        receipts = vault.change(change.put, change.drop, pinned)
        self._memory.settle(change.known)
        for uid, _, _ in change.put:
            note("ENROLLED", uid=uid, record=vault.record_id(uid))
        for receipt in receipts:
            uid = records[receipt.record_id]
            note("FORGOTTEN", uid=uid, count=receipt.counter, record=receipt.record_id)
            self._receipts[uid, change.known.gone.get(self._memory.tag(uid), 0)] = receipt.to_bytes()

    def says(self, roster: Roster, *, lost: bool = False) -> tuple[Item, ...]:
        """News for the registry: receipts first, then enrolments made here, then shares; where its document
        has `lost` its roster, then everybody with a number of the fleet.
        """
        versions, known = self.versions(), self._memory.known
        items: list[Item] = []
        for one in roster.gone:
            if known.forgotten(self._memory.tag(one.uid), one.number):
                items.append(Receipt(one.uid, one.number, self._receipts.get((one.uid, one.number), b"")))
        for uid, version in versions.items():
            entry = known.held.get(self._memory.tag(uid))
            if entry is None or entry[1] != version:
                items += self._enrolled(uid, version)
        asked = {(one.uid, one.number, str(one.target)) for one in roster.share}
        self._sealed = {key: envelope for key, envelope in self._sealed.items() if key in asked}
        for share in roster.share[: max(0, MOST_ITEMS - len(items))]:
            items += self._shared(share)
        return first_that_fit([*items[:MOST_ITEMS], *(self._holdings() if lost else ())])

    def _holdings(self) -> tuple[Item, ...]:
        found: list[Item] = []
        for uid, version in self.versions().items():
            entry = self._memory.known.held.get(self._memory.tag(uid))
            if entry is None or entry[1] != version:
                continue
            for one in self._enrolled(uid, version):
                if isinstance(one, Enrolled):
                    told = (one.model, one.text_version, one.purpose, one.given_ms, one.until_ms)
                    found.append(Holding(uid, entry[0], version, *told))
        return tuple(found[:MOST_HOLDINGS])

    def _wanted(self, one: Held) -> bool:
        """Whether the fleet's enrolment replaces what is here: not an enrolment made here that is newer."""
        tag = self._memory.tag(one.uid)
        before, present = self._memory.known.held.get(tag), self.versions().get(one.uid)
        if present is None:
            return not self._memory.known.forgotten(tag, one.number)
        return before is not None and before[1] == present and before[0] != one.number

    def _opened(self, one: Held, read: Callable[[Part], bytes]) -> tuple[Template, Consent] | None:
        """The enrolment; None for one that is damaged, not for us, or out of its term."""
        if one.envelope is None:
            return None
        envelope, exchange = read(one.envelope), self._store.keystore.exchange()
        try:
            template, consent = unseal(exchange, envelope, self._unit, one.uid, one.number)
        except (TpmBusyError, TpmLockedError, SealPolicyError):
            raise  # it is the machine that is not well, and the next look tries again
        except StoreError as err:
            log.warning("an enrolment of the fleet is refused: %s", err)
            return None
        term = consent.retain_until - consent.given_at
        if consent.expired(self._now()) or term > timedelta(days=self._longest_days):
            log.warning("an enrolment of the fleet is refused: its consent has run out, or has no such term")
            template.wipe()
            return None
        return template, consent

    def _enrolled(self, uid: str, version: int) -> list[Item]:
        try:
            here = self._store.vault.enrolment(uid)
        except DeviceError:
            return []  # it cannot be read: nobody else needs it
        consent = here.consent
        if consent.expired(self._now()):
            return []
        given, until = (int(at.timestamp() * 1000) for at in (consent.given_at, consent.retain_until))
        return [Enrolled(uid, version, here.model, consent.text_version, consent.purpose, given, until)]

    def _shared(self, share: Share) -> list[Item]:
        key = (share.uid, share.number, str(share.target))
        envelope = self._sealed.get(key)
        if envelope is None:
            entry = self._memory.known.held.get(self._memory.tag(share.uid))
            if entry is None or entry[0] != share.number or entry[1] != self.versions().get(share.uid):
                return []
            try:
                envelope = self._seal(share)
            except DeviceError as err:
                log.warning("an enrolment was not shared: %s", err)
                return []
            self._sealed[key] = envelope
        return [Sealed(*key, envelope)]

    def _seal(self, share: Share) -> bytes:
        if self._authority is None:
            raise StoreError("this unit knows no authority for exchange keys; set [fleet] authority")
        key = checked_card(share, self._authority, self._now())
        template = self._store.vault.template(share.uid)
        try:
            return seal(share, key, template, self._store.vault.consent(share.uid))
        finally:
            template.wipe()
