"""The vault: enrols, uses and forgets people. `ledger.py` tells how it survives power cuts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from device.secure_store.errors import (
    ConsentError,
    ModelChangedError,
    NotEnrolledError,
    StoreError,
)
from device.secure_store.keystore import Keystore
from device.secure_store.memory import SecretBytes
from device.secure_store.settings import StoreSettings
from device.secure_store.voiceprints.growing import Growing
from device.secure_store.voiceprints.head import MAX_PINNED_BYTES
from device.secure_store.voiceprints.ledger import Ledger, Names
from device.secure_store.voiceprints.receipt import DeletionReceipt, sign_receipt
from device.secure_store.voiceprints.records import (
    Consent,
    Person,
    Row,
    RowKeys,
    check_uid,
    checked_consent,
    damaged,
    open_consent,
    open_followed,
    open_growth,
    open_row,
    seal_row,
)
from device.secure_store.voiceprints.templates import Template

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """`repaired` and `damaged` are record ids; `notes` says what was found at opening, one line each."""

    unit: uuid.UUID
    people: int
    counter: int
    epoch: int
    repaired: tuple[uuid.UUID, ...]
    damaged: tuple[uuid.UUID, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One person in the vault, without the voiceprint."""

    uid: str
    record_id: uuid.UUID
    model: str
    consent: Consent


class Vault:
    """Use it through `open_store`. Safe for threads, and for several processes on one state folder."""

    def __init__(self, folder: Path, keystore: Keystore, settings: StoreSettings, clock: Clock) -> None:
        self._settings = settings
        self._keystore = keystore
        self._clock = clock
        self._ledger = Ledger(folder, keystore)
        self._names = Names(self._ledger)

    # What the door uses

    def enrol(self, uid: str, template: Template, consent: Consent | None = None) -> uuid.UUID:
        """Keep `template` for `uid`, in place of an earlier one. Returns the record's random id.

        On a laptop a missing consent is noted as such; in production it raises ConsentError.
        """
        consent = checked_consent(consent, self._settings, self._clock())
        uid = check_uid(uid)
        with self._ledger.exclusive():
            self._ledger.refresh()
            row = self._row(self._ledger.keys, uid, template, consent)
            self._ledger.commit(put=[row])
        return row.record_id

    def change(
        self, put: Sequence[tuple[str, Template, Consent]], forget: Iterable[str], pinned: bytes
    ) -> tuple[DeletionReceipt, ...]:
        """Enrol some, forget others and pin `pinned`, in one commit; returns the receipts of the forgotten.

        Raises ConsentError for a consent that has run out.
        """
        people = [
            (uid, template, checked_consent(consent, self._settings, self._clock()))
            for uid, template, consent in put
        ]
        with self._ledger.exclusive():
            self._ledger.refresh()
            found = (self._names.record_of(check_uid(uid)) for uid in forget)
            gone = list(dict.fromkeys(record_id for record_id in found if record_id is not None))

            def rows(keys: RowKeys) -> list[Row]:
                return [self._row(keys, check_uid(uid), made, given) for uid, made, given in people]

            return self._erased(gone, "asked", rows, pinned)

    def versions(self) -> dict[str, int]:
        """Of everybody whose record is sound: how often they were enrolled here."""
        with self._ledger.lock:
            self._ledger.refresh()
            return {self._names.uid(row): row.version for row in self._ledger.rows()}

    def version(self, uid: str) -> int:
        """How often `uid` was enrolled here. Raises NotEnrolledError, RecordDamagedError."""
        with self._ledger.lock:
            return self._row_of(uid).version

    def template(self, uid: str, *, model: str | None = None) -> Template:
        """The voiceprint of `uid`; overwrite its vector when done (`Template.wipe`).

        It is the one that was enrolled, never one that grew. Raises NotEnrolledError, ConsentError (run
        out), RecordDamagedError, and ModelChangedError where `model` did not make it.
        """
        template, *others = self.voiceprints(uid)
        for other in others:
            if other is not None:
                other.wipe()
        if model is not None and template.model != model:
            template.wipe()
            raise ModelChangedError(
                f"this voiceprint was made by {template.model}, not {model}; enrol this person again"
            )
        return template

    def voiceprints(self, uid: str) -> tuple[Template, Growing | None, Growing | None]:
        """The voiceprint that was enrolled, what grows beside it, and what it follows; overwrite all of them.
        Raises as `template`."""
        person = self._person(uid)
        if person.consent.expired(self._clock()):
            person.wipe()
            raise ConsentError("this person's consent has run out; ask again and enrol them, or forget them")
        return person.template, person.growing, person.followed

    def growing(self, uid: str) -> Growing | None:
        """What grows beside the voiceprint of `uid`; overwrite it when done. Raises as `template` does."""
        person = self._person(uid)
        replace(person, growing=None).wipe()
        return person.growing

    def follows(self, uid: str) -> Growing | None:
        """What the voiceprint of `uid` follows; overwrite it when done. Raises as `template` does."""
        person = self._person(uid)
        replace(person, followed=None).wipe()
        return person.followed

    def grow(self, uid: str, growing: Growing | None) -> None:
        """Keep `growing` beside the voiceprint of `uid`, in place of what grew before, in one commit.

        The enrolment stays the one that it was: nobody was enrolled anew.
        """
        self._beside(uid, lambda person: replace(person, growing=growing))

    def follow(self, uid: str, followed: Growing | None) -> None:
        """Keep what the voiceprint of `uid` follows, as `grow` does."""
        self._beside(uid, lambda person: replace(person, followed=followed))

    def followed(self) -> dict[str, tuple[int, ...]]:
        """By uid: the days (UTC, since 1970) of what a voiceprint follows; nobody who follows nothing."""
        with self._ledger.lock:
            self._ledger.refresh()
            keys, rows = self._ledger.keys, self._ledger.rows()
            return {self._names.uid(row): days for row in rows if (days := open_followed(keys, row))}

    def consent(self, uid: str) -> Consent:
        return self.enrolment(uid).consent

    def enrolment(self, uid: str) -> Enrolled:
        """An enrolment without its voiceprint, which stays enciphered."""
        with self._ledger.lock:
            row = self._row_of(uid)
            return Enrolled(
                self._names.uid(row), row.record_id, row.model, open_consent(self._ledger.keys, row)
            )

    def record_id(self, uid: str) -> uuid.UUID:
        """The random id the registry knows this enrolment by."""
        with self._ledger.lock:
            self._ledger.refresh()
            found = self._names.record_of(check_uid(uid))
            damaged_records = self._ledger.found.damaged
        if found is None and damaged_records:
            raise NotEnrolledError(
                f"nobody is enrolled under this id, but {len(damaged_records)} records are damaged: "
                "`ostiary store status` names them, `ostiary forget --record` erases one"
            )
        if found is None:
            raise NotEnrolledError("nobody is enrolled under this id")
        return found

    def uids(self) -> tuple[str, ...]:
        """Everybody enrolled whose record is sound, sorted."""
        with self._ledger.lock:
            self._ledger.refresh()
            return tuple(sorted(self._names.uid(row) for row in self._ledger.rows()))

    def enrolments(self) -> tuple[Enrolled, ...]:
        """Everybody enrolled whose record is sound, by id."""
        with self._ledger.lock:
            self._ledger.refresh()
            found = []
            for row in self._ledger.rows():
                consent = open_consent(self._ledger.keys, row)
                found.append(Enrolled(self._names.uid(row), row.record_id, row.model, consent))
            return tuple(sorted(found, key=lambda each: each.uid))

    def forget(self, uid: str, reason: str = "asked") -> DeletionReceipt:
        """Destroy this person's wrapped key and record; returns the signed proof."""
        return self.forget_records([self.record_id(uid)], reason)[0]

    def forget_records(self, record_ids: Iterable[uuid.UUID], reason: str) -> tuple[DeletionReceipt, ...]:
        """Forget by record id: damaged records, or many people under one new epoch key."""
        with self._ledger.exclusive():
            self._ledger.refresh()
            gone = list(dict.fromkeys(record_ids))
            if not all(record_id in self._ledger.found.head.roster for record_id in gone):
                raise NotEnrolledError("there is no record with this id")
            return self._erased(gone, reason)

    # What an administrator uses

    def rotate(self) -> int:
        """Make a new epoch key for everybody; the old one never opens again. Returns the epoch."""
        with self._ledger.exclusive():
            self._ledger.refresh()
            self._ledger.rekey(drop=[])
            return self._ledger.found.head.epoch

    def renew(self, uid: str) -> None:
        """Keep a voiceprint under a new key and new rotations, without a recording (ISO/IEC 24745).

        What a thief has of the old record tells nothing of the new one. Raises as `template` does.
        """
        self._beside(uid, lambda person: person)

    def go_by(self, clock: Clock) -> None:
        """Judge consents by this clock from now on: one that a clock set back does not mislead."""
        self._clock = clock

    def expired(self) -> int:
        """How many people's consent has run out, by the clock as it is."""
        with self._ledger.lock:
            self._ledger.refresh()
            now = self._clock()
            return sum(open_consent(self._ledger.keys, row).expired(now) for row in self._ledger.rows())

    def purge_expired(self, at_most: int | None = None) -> tuple[DeletionReceipt, ...]:
        """Forget people whose consent has run out, those of longest ago first, `at_most` so many at once.

        Erasing is for ever and clocks err: the caller has a reason to believe the clock, or a limit.
        """
        with self._ledger.exclusive():
            self._ledger.refresh()
            now = self._clock()
            ends = [(open_consent(self._ledger.keys, r).retain_until, r) for r in self._ledger.rows()]
            late = sorted(((end, r.record_id) for end, r in ends if now >= end), key=lambda each: each[0])
            gone = [record_id for _, record_id in late[:at_most]]
            return self.forget_records(gone, "consent ran out") if gone else ()

    def growth(self, model: str) -> dict[str, int | None]:
        """By uid: on how many days `model` has heard them so far, None for those who have come over to it."""
        with self._ledger.lock:
            self._ledger.refresh()
            found: dict[str, int | None] = {}
            for row in self._ledger.rows():
                grown = open_growth(self._ledger.keys, row)
                days = grown[1] if grown is not None and grown[0] == model else 0
                over = row.model == model or (grown is not None and grown[0] == model and grown[2])
                found[self._names.uid(row)] = None if over else days
            return found

    def status(self) -> VaultStatus:
        with self._ledger.lock:
            self._ledger.refresh()
            found = self._ledger.found
            return VaultStatus(
                found.head.unit,
                len(found.head.roster),
                found.head.counter,
                found.head.epoch,
                found.repaired,
                found.damaged,
                found.notes,
            )

    def pinned(self) -> bytes:
        """What `pin` kept last; empty when nothing was."""
        with self._ledger.lock:
            self._ledger.refresh()
            return self._ledger.head.pinned

    def pin(self, data: bytes) -> None:
        """Keep up to MAX_PINNED_BYTES that nobody can put back without putting back the keystore's counter.

        After a power cut it is the old content or the new, as with every change of the vault.
        """
        if not 0 < len(data) <= MAX_PINNED_BYTES:
            raise StoreError(f"1 to {MAX_PINNED_BYTES} bytes can be pinned")
        with self._ledger.exclusive():
            self._ledger.refresh()
            if data != self._ledger.head.pinned:
                self._ledger.commit(pinned=data)

    def derive(self, label: str) -> SecretBytes:
        """A key that stays with the unit for life, for one purpose outside the vault."""
        with self._ledger.lock:
            return self._ledger.secrets.anchor.derive(label)

    def close(self) -> None:
        self._ledger.close()

    # Inside

    def _beside(self, uid: str, changed: Callable[[Person], Person]) -> None:
        with self._ledger.exclusive():
            self._ledger.refresh()
            person = self._person(uid)
            try:
                self._rewrite(uid, changed(person))
            finally:
                person.wipe()

    def _rewrite(self, uid: str, person: Person) -> None:
        """The same enrolment in another record, under a new key and rotation. Under the exclusive lock."""
        record_id = self.record_id(uid)
        old = self._ledger.row(record_id)
        if old is None:
            raise damaged(record_id)
        fresh = replace(person, generation=person.generation + 1)
        row = seal_row(self._ledger.keys, record_id, self._names.tag(check_uid(uid)), fresh, old.version)
        self._ledger.commit(put=[row])

    def _row(self, keys: RowKeys, uid: str, template: Template, consent: Consent) -> Row:
        """Somebody's next record, under `keys`. Call it under the exclusive lock."""
        record_id, tag = self._names.record_of(uid) or uuid.uuid4(), self._names.tag(uid)
        version, generation = 1, 1
        old = self._ledger.row(record_id)
        if old is not None:
            version, generation = old.version + 1, old.generation + 1
        return seal_row(keys, record_id, tag, Person(uid, template, consent, generation), version)

    def _erased(
        self,
        gone: list[uuid.UUID],
        reason: str,
        put: Callable[[RowKeys], list[Row]] = lambda _: [],
        pinned: bytes | None = None,
    ) -> tuple[DeletionReceipt, ...]:
        """Drop these records, and put others, in one commit. Call it under the exclusive lock."""
        self._ledger.settle()
        head = self._ledger.head
        rotate = bool(gone) and self._settings.rotate_on_forget
        counter, epoch = head.counter + 1, head.epoch + (1 if rotate else 0)
        # Signed before, given out after: a TPM that goes away now leaves everything as it was.
        signer = self._keystore.audit_signer()
        now = self._clock().replace(microsecond=0)  # as the signed form has it
        blank = (now, counter, epoch, reason, self._keystore.kind, b"")
        receipts = tuple(sign_receipt(signer, DeletionReceipt(head.unit, i, *blank)) for i in gone)
        if rotate:
            self._ledger.rekey(drop=gone, put=put, pinned=pinned)
        else:
            self._ledger.commit(put(self._ledger.keys), gone, pinned=pinned)
        if (self._ledger.head.counter, self._ledger.head.epoch) != (counter, epoch):
            raise StoreError("forgotten, but not as the receipts say; note it by hand")
        return receipts

    def _person(self, uid: str) -> Person:
        with self._ledger.lock:
            row = self._row_of(uid)  # which may have read other keys
            return open_row(self._ledger.keys, row)

    def _row_of(self, uid: str) -> Row:
        record_id = self.record_id(uid)
        with self._ledger.lock:
            row = self._ledger.row(record_id)
            if row is None:  # damaged since it was opened: look at everything again, repair what can be
                with self._ledger.exclusive():
                    self._ledger.load()
                row = self._ledger.row(record_id)
            if row is None:
                raise damaged(record_id)
            return row

    def __repr__(self) -> str:
        return f"<Vault of {len(self._ledger.head.roster)} people>"
