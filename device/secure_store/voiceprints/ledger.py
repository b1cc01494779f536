"""Keeps the vault's files and the keystore's counter in step through power cuts.

Order of every change, and why it survives a cut at any point (the counter in the TPM is N):
1. commit the file with counter N + 1, durably; 2. advance the TPM's counter to N + 1; 3. write the copy.
A cut before 1 leaves file N, TPM N: nothing happened. Between 1 and 2: file N + 1, TPM N: accepted, and
healed by advancing. After 2: the copy is one behind and is written again at the next opening. A file below
the TPM's counter can only be an older one that was put back, one above N + 1 only an older TPM state.

The new epoch of a rotation: a. seal the next root beside the present one; b. the change above, with every
row rewrapped and the head naming the new epoch; c. raise the TPM's epoch counter, which makes the old
sealed root useless for ever, and drop it. A cut before b leaves an unused blob, dropped at the next
opening; a cut after b leaves c to be done then.
"""

from __future__ import annotations

import fcntl
import hmac
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from device.secure_store.errors import NotEnrolledError, RollbackError, StoreError, StoreUnavailableError
from device.secure_store.keystore import Keystore, Secrets
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.first_values import FIRST_VALUES, keep_first_values
from device.secure_store.voiceprints.head import Head
from device.secure_store.voiceprints.records import Row, RowKeys, check_uid, open_uid, rewrap_row
from device.secure_store.voiceprints.recovery import Recovery, disk_does_not_give, recover
from device.secure_store.voiceprints.vault_file import COPY, VAULT, VaultFile, unavailable
from sync.plain_file import check_plain_or_new


class Ledger:
    """Rows that are current, under keys that are open. Safe for threads, and for several processes."""

    keys: RowKeys
    secrets: Secrets
    found: Recovery
    """What the files held when they were last read, kept up to date with every change of ours."""

    def __init__(self, folder: Path, keystore: Keystore) -> None:
        self._keystore = keystore
        self._files = (VaultFile(folder / VAULT), VaultFile(folder / COPY))
        self._lock_path = folder / "vault.lock"
        self.lock = threading.RLock()
        self._locks_held = 0
        self._raw_counter = keystore.counter("vault")
        with self.exclusive():
            self.load()

    @property
    def head(self) -> Head:
        return self.found.head

    def row(self, record_id: uuid.UUID) -> Row | None:
        """The row the head vouches for, or None when the file no longer has it."""
        wanted = self.head.roster.get(record_id)
        row = None if wanted is None else self._files[0].find(record_id)
        if row is None or wanted is None or not hmac.compare_digest(row.digest(), wanted):
            return None
        return row

    def rows(self) -> Iterator[Row]:
        for record_id in self.head.roster:
            row = self.row(record_id)
            if row is not None:
                yield row

    def refresh(self) -> None:
        """See what another process committed."""
        with self.lock:
            if self._closed or self._edition is None or not self._as_it_was():
                with self.exclusive():
                    self.load()

    def _as_it_was(self) -> bool:
        try:
            return self._files[0].edition() == self._edition
        except sqlite3.DatabaseError:  # damaged meanwhile: to be looked at, and written again from the copy
            self._files[0].close()
            return False

    def settle(self) -> None:
        """Finish what an earlier change could not, so that the next one starts from a known counter."""
        if self._behind:
            self.load()

    def commit(
        self,
        put: Iterable[Row] = (),
        drop: Iterable[uuid.UUID] = (),
        rekeyed: tuple[Secrets, RowKeys] | None = None,
        pinned: bytes | None = None,
    ) -> None:
        """The three steps of the module's docstring. When the TPM goes away between 1 and 2 this raises
        TpmBusyError, what was committed holds, and the next change finishes the steps first."""
        self.settle()
        put, drop, old = list(put), list(drop), self.head
        roster = {i: d for i, d in old.roster.items() if i not in set(drop)}
        roster.update({row.record_id: row.digest() for row in put})
        epoch = old.epoch if rekeyed is None else rekeyed[0].epoch
        head = Head(old.unit, old.counter + 1, epoch, roster, old.pinned if pinned is None else pinned)
        body = head.to_bytes(self._head_key)
        edition, self._edition = self._edition, None  # a failed write: look again before anything else
        self._files[0].commit(body, put, drop)  # 1
        self._edition, self._behind = edition, True
        self.found = self.found.after(head, put, drop)
        if rekeyed is not None:
            self._swap_keys(*rekeyed)
        present = self._raw_counter.advance()  # 2
        if present != head.counter:
            raise RollbackError(_verdict(head.counter, present))
        self._files[1].commit(body, put, drop)  # 3
        if drop or rekeyed is not None:
            for file in self._files:
                file.scrub()
        self._behind = False

    def rekey(
        self,
        drop: list[uuid.UUID],
        put: Callable[[RowKeys], list[Row]] = lambda _: [],
        pinned: bytes | None = None,
    ) -> None:
        """Rewrap everybody but `drop` under the next epoch's key, and put what `put` makes under it."""
        readable = sum(1 for _ in self.rows())
        if self._behind or readable != len(self.head.roster) - len(self.found.damaged):
            self.load()  # repair first: what is not rewrapped now could never be opened again
        secrets = self.secrets.next()
        self._keystore.stage(secrets)
        keys = self._row_keys(secrets)
        new = put(keys)
        left_out = {*drop, *(row.record_id for row in new)}
        kept = [rewrap_row(self.keys, keys, r) for r in self.rows() if r.record_id not in left_out]
        self.commit([*kept, *new], drop, (secrets, keys), pinned)
        self._behind = True
        self._keystore.settle(secrets.epoch)
        self._behind = False

    def _swap_keys(self, secrets: Secrets, keys: RowKeys) -> None:
        for key in (self.keys.wrap, self.keys.lookup, self.keys.transform):
            key.wipe()
        self.secrets.wipe()
        self.secrets, self.keys = secrets, keys

    def _catch_up(self, head: Head) -> None:
        """Bring the TPM's counter to the head's: a no-op, or one step."""
        present = self._raw_counter.value()
        if present == head.counter - 1:
            present = self._raw_counter.advance()
        if present != head.counter:
            raise RollbackError(_verdict(head.counter, present))

    def load(self) -> None:
        """Verify both files and settle what a power cut or damage left. Call it under the exclusive lock.

        What keeps it from that is met again by the next who asks, until it is over.
        """
        self._edition = None
        try:
            self._load()
        except OSError as err:
            raise StoreUnavailableError(unavailable(VAULT, err)) from err

    def _load(self) -> None:
        self._wipe_keys()
        candidates = self._keystore.unlock()
        self._head_key = candidates[0].anchor.derive("head")
        fresh = self._keystore.fresh()
        if fresh:
            self._create(candidates[0])
        main, copy = self._files[0].read(), self._files[1].read()
        found = recover(main, copy, self._head_key)
        # 1. not older than the TPM says, and not from another TPM state; 2. under a key that still opens
        present = self._raw_counter.value()
        if found.head.counter not in (present, present + 1):
            if main.unread:  # the copy may be one behind, and the newer file is not read
                raise StoreUnavailableError(disk_does_not_give(found.notes))
            raise RollbackError(_verdict(found.head.counter, present))
        secrets = next((s for s in candidates if s.epoch == found.head.epoch), None)
        if secrets is None:
            raise RollbackError("the vault was written under a key that no longer exists: it was put back")
        self._catch_up(found.head)
        self._keystore.settle(secrets.epoch)
        for other in candidates:
            if other is not secrets:
                other.wipe()
        body = found.head.to_bytes(self._head_key)
        sounds = (found.main_sound, found.copy_sound)
        for file, sound, held in zip(self._files, sounds, (main, copy), strict=True):
            touched = not held.unread and file.tampered(self._head_key, found.head.counter)
            if touched and sound:
                found = found.noting(f"{file.path.name}: bytes outside any record changed; written again")
            if touched or not sound:
                file.rebuild(body, (*found.rows, *found.remains))
                file.vouch(self._head_key, found.head.counter)
            file.remove_draft()
        if fresh:
            self._keystore.confirm()
        self._behind = False
        self.found, self.secrets, self.keys = found.without_rows(), secrets, self._row_keys(secrets)
        self._edition = self._files[0].edition()

    def _create(self, secrets: Secrets) -> None:
        """An empty vault under freshly provisioned keys, unless there is one already.

        That the keystore calls itself fresh is no permission to remove anything: a cut between this and
        `confirm` leaves it so beside its vault, and anybody can edit a file. What is there is read and
        judged like any vault.
        """
        if not any(file.exists() for file in self._files):
            with secrets.anchor.derive(FIRST_VALUES) as key:
                keep_first_values(self._files[0].path.parent, key, self._keystore)
            unit = unit_id(secrets)
            body = Head(unit, self._raw_counter.value(), secrets.epoch, {}).to_bytes(self._head_key)
            for file in self._files:
                file.rebuild(body, ())
        self._keystore.confirm()

    def _row_keys(self, secrets: Secrets) -> RowKeys:
        return RowKeys(
            unit_id(secrets),
            secrets.epoch,
            secrets.root.derive("wrap"),
            secrets.anchor.derive("lookup"),
            secrets.anchor.derive("transform"),
        )

    def _wipe_keys(self) -> None:
        keys: RowKeys | None = getattr(self, "keys", None)
        if keys is not None:
            for key in (keys.wrap, keys.lookup, keys.transform, self._head_key):
                key.wipe()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One writer among all threads and processes: nobody else may see file N + 1 beside counter N."""
        with self.lock:
            if self._closed:
                raise StoreError("the store is closed")
            if self._locks_held:
                yield
                return
            with _opened(self._lock_path) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._locks_held += 1
                try:
                    yield
                finally:
                    self._locks_held -= 1

    def close(self) -> None:
        with self.lock:
            if not (self._behind or self._closed):
                # Only a convenience for the next opening; but another process may be closing, too.
                with suppress(sqlite3.Error, OSError, StoreError), self.exclusive():
                    for file in self._files:
                        file.vouch(self._head_key, self.head.counter)
            self._closed = True
            for file in self._files:
                file.close()
            self._wipe_keys()
            self.secrets.wipe()

    _head_key: SecretBytes
    _edition: tuple[int, int] | None = None
    _closed = False
    _behind = False


def _opened(path: Path) -> BinaryIO:
    try:
        return check_plain_or_new(path).open("ab")
    except OSError as err:
        raise StoreUnavailableError(unavailable(path.name, err)) from err


def unit_id(secrets: Secrets) -> uuid.UUID:
    """The unit's random id: bound to the anchor, so it cannot be copied without it."""
    with secrets.anchor.derive("unit id", 16) as raw, raw.view() as view:
        return uuid.UUID(bytes=bytes(view), version=4)


def _verdict(file_counter: int, present: int) -> str:
    if file_counter < present:
        return (
            f"the vault is older than the keystore's counter ({file_counter} < {present}): an old copy was"
            " put back. Nobody is let in by it; restore the newest vault or start an empty one"
        )
    return (
        f"the keystore's counter is older than the vault ({present} < {file_counter} - 1): an old TPM state"
        " was put back. Restore it, or start an empty store and enrol again"
    )


class Names:
    """Which record is whose: by a keyed hash of the id, also where it was kept under another spelling.

    Call it under one of the ledger's locks.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._spelled: dict[bytes, str] = {}
        """By tag: the id of a record that was kept under another spelling of it, empty for all others."""

    def tag(self, uid: str) -> bytes:
        """The name under which a record stands."""
        with self._ledger.keys.lookup.view() as key:
            return hmac.digest(key, uid.encode(), "sha256")

    def uid(self, row: Row) -> str:
        """Whose row it is: the normal form, or as it was typed where that has none."""
        typed = open_uid(self._ledger.keys, row)
        try:
            return check_uid(typed)
        except StoreError:
            return typed

    def record_of(self, uid: str) -> uuid.UUID | None:
        """The record of an id in its normal form.

        Before ids had one, a person was kept under the id as it was typed. Those are found too, by opening
        every record once that is not known yet. Raises NotEnrolledError where two of them are one id now.
        """
        found = self._ledger.found.tags.get(self.tag(uid))
        if found is not None:
            return found
        for row in self._ledger.rows():
            if row.tag not in self._spelled:
                typed = self.uid(row)
                self._spelled[row.tag] = "" if self.tag(typed) == row.tag else typed
        tags = self._ledger.found.tags
        same = [tags[tag] for tag, typed in self._spelled.items() if typed == uid and tag in tags]
        if len(same) > 1:
            raise NotEnrolledError(
                f"{len(same)} people were enrolled under ids that are one id now; "
                f"`ostiary forget --record` erases one: {', '.join(map(str, same))}"
            )
        return same[0] if same else None
