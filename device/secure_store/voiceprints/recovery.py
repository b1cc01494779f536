"""Tells what of two files, which may be damaged, is current, sound, repairable or lost. Pure."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from device.secure_store.errors import StoreError, StoreUnavailableError
from device.secure_store.memory import SecretBytes
from device.secure_store.voiceprints.head import Head
from device.secure_store.voiceprints.records import Row
from device.secure_store.voiceprints.vault_file import Contents


@dataclass(frozen=True, slots=True)
class Recovery:
    """`rows` are exactly those the head vouches for; `damaged` are in the head and sound in neither file.

    `remains` is what is left of damaged rows: kept, so that they can be addressed by their person's id until
    somebody forgets them or enrols the person again.
    """

    head: Head
    rows: tuple[Row, ...]
    remains: tuple[Row, ...]
    tags: dict[bytes, uuid.UUID]
    main_sound: bool
    copy_sound: bool
    repaired: tuple[uuid.UUID, ...]
    damaged: tuple[uuid.UUID, ...]
    notes: tuple[str, ...]

    def without_rows(self) -> Recovery:
        return replace(self, rows=(), remains=())

    def noting(self, note: str) -> Recovery:
        return replace(self, notes=(*self.notes, note))

    def after(self, head: Head, put: Iterable[Row], drop: Iterable[uuid.UUID]) -> Recovery:
        """The same findings once a change was committed."""
        put = list(put)
        gone = {*drop, *(row.record_id for row in put)}
        tags = {tag: i for tag, i in self.tags.items() if i not in gone}
        tags.update({row.tag: row.record_id for row in put})
        return replace(self, head=head, tags=tags, damaged=tuple(i for i in self.damaged if i not in gone))


def recover(main: Contents, copy: Contents, head_key: SecretBytes) -> Recovery:
    """Decide between the two files. Raises StoreError when neither has a head that verifies, and
    StoreUnavailableError when the disk does not give what would be needed: that is not lost.

    A head that verifies in the main file always counts, even if the copy's is newer: an old main file that
    was put back must be refused, not healed.
    """
    notes = []
    heads = []
    for name, contents in (("vault.db", main), ("vault-copy.db", copy)):
        head = None
        try:
            head = Head.from_bytes(contents.head or b"", head_key)
        except ValueError as err:
            notes.append(f"{name}: {contents.complaint or err}")
        else:
            if contents.complaint:
                notes.append(f"{name}: {contents.complaint}")
        heads.append(head)
    head = heads[0] or heads[1]
    if head is None and (main.unread or copy.unread):
        raise StoreUnavailableError(disk_does_not_give(notes))
    if head is None:
        raise StoreError(
            "the vault and its copy are missing or damaged beyond repair "
            f"({'; '.join(notes)}); restore a backup, or begin again: `ostiary store init --replace`"
        )
    rows, repaired, damaged, left = [], [], [], []
    tags: dict[bytes, uuid.UUID] = {}
    for record_id, digest in head.roster.items():
        candidates = (main.rows.get(record_id), copy.rows.get(record_id))
        good = [row is not None and hmac.compare_digest(row.digest(), digest) for row in candidates]
        row = candidates[0] if good[0] else candidates[1]
        if any(good) and row is not None:
            rows.append(row)
            tags[row.tag] = record_id
            if not good[0]:
                repaired.append(record_id)
                notes.append(f"vault.db: record {record_id} was damaged and is restored from the copy")
        elif main.unread or copy.unread:
            raise StoreUnavailableError(disk_does_not_give(notes))
        else:
            damaged.append(record_id)
            notes.append(
                f"record {record_id} is damaged in both files: `ostiary forget --record {record_id}`, then "
                "enrol that person again"
            )
            left.append([c for c in candidates if c is not None])
    # The tag of a damaged row only serves to say "damaged" rather than "unknown", and to forget it by.
    remains = []
    for candidates_left in left:
        free = next((c for c in candidates_left if c.tag not in tags), None)
        if free is not None:
            remains.append(free)
            tags[free.tag] = free.record_id
    kept = [*rows, *remains]
    main_sound = _sound(main, heads[0], head, kept)
    copy_sound = _sound(copy, heads[1], head, kept)
    if not copy_sound and heads[1] is not None and not copy.complaint and heads[1].counter == head.counter:
        notes.append("vault-copy.db: was damaged and is written again")
    return Recovery(
        head,
        tuple(rows),
        tuple(remains),
        tags,
        main_sound,
        copy_sound,
        tuple(repaired),
        tuple(damaged),
        tuple(notes),
    )


def disk_does_not_give(notes: Iterable[str]) -> str:
    """What a person is told when a part of the vault cannot be read, and perhaps is not damaged."""
    return (
        f"the disk does not give the vault ({'; '.join(notes)}): see `dmesg`, its cable and its mount; "
        "replace a card that fails and restore a backup; nothing was changed"
    )


def _sound(contents: Contents, own: Head | None, head: Head, rows: list[Row]) -> bool:
    return own == head and not contents.complaint and contents.rows == {row.record_id: row for row in rows}
