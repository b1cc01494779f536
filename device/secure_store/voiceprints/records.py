"""What the vault keeps about one person, and how it is enciphered. Pure: no file, no TPM, no clock."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import numpy as np
import numpy.typing as npt

from device.secure_store.errors import ConsentError, RecordDamagedError, StoreError
from device.secure_store.memory import SecretBytes, wipe_array
from device.secure_store.settings import StoreSettings
from device.secure_store.voiceprints.growing import Growing
from device.secure_store.voiceprints.templates import DoorVector, Template
from device.secure_store.voiceprints.transform import Rotation
from sync.person_id import PersonIdError, person_id

FORMAT = 1
KEY_BYTES = 32
DIGEST_BYTES = 16
_NOW, _NEXT, _DOOR = "rotation", "rotation of the next", "rotation of the door vector"
_FOLLOWED = "rotation of what it follows"
_HEADER = struct.Struct(">BQI")  # format, version, generation of the transform


@dataclass(frozen=True, slots=True)
class Consent:
    """Permission to keep a voiceprint: who took it, when, to which text, until when (UTC), and what for."""

    taken_by: str
    given_at: datetime
    text_version: str
    retain_until: datetime
    purpose: str = "doors"

    def __post_init__(self) -> None:
        if not self.taken_by or not self.text_version:
            raise ValueError("a consent names who took it and the version of the text")
        if self.given_at.tzinfo is None or self.retain_until.tzinfo is None:
            raise ValueError("a consent's times carry a time zone")
        if self.retain_until <= self.given_at:
            raise ValueError("a consent ends after it was given")

    def expired(self, now: datetime) -> bool:
        return now >= self.retain_until


def checked_consent(consent: Consent | None, settings: StoreSettings, now: datetime) -> Consent:
    """What may be kept; on a laptop a missing one is noted as such. Raises ConsentError."""
    if consent is None:
        if settings.profile == "production":
            raise ConsentError("in production nobody is enrolled without a recorded consent")
        until = now + timedelta(days=settings.retention_days)
        return Consent("not recorded (laptop)", now, settings.consent_text_version, until)
    if consent.expired(now):
        raise ConsentError("this consent has run out already")
    if consent.retain_until - consent.given_at > timedelta(days=settings.max_retention_days):
        raise ConsentError(
            f"a voiceprint is kept for {settings.max_retention_days} days at most; ask again then"
        )
    return consent


@dataclass(frozen=True, slots=True)
class Row:
    """One person as the file holds them. Nothing in it is readable without the sealed key."""

    record_id: uuid.UUID
    tag: bytes
    wrapped: bytes
    record: bytes

    def digest(self) -> bytes:
        """What the head vouches for: all of the row, 16 bytes."""
        whole = hashlib.sha256(self.record_id.bytes)
        for part in (self.tag, self.wrapped, self.record):
            whole.update(struct.pack(">I", len(part)) + part)
        return whole.digest()[:DIGEST_BYTES]

    @property
    def version(self) -> int:
        """How often this person was written; raises RecordDamagedError."""
        return _header(self.record, self.record_id)[1]

    @property
    def generation(self) -> int:
        """Of its rotations; raises RecordDamagedError."""
        return _header(self.record, self.record_id)[2]

    @property
    def model(self) -> str:
        """The embedding model; raises RecordDamagedError."""
        return _header(self.record, self.record_id)[3]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A row opened: in memory only, for as long as one decision takes."""

    uid: str
    template: Template
    consent: Consent
    generation: int
    growing: Growing | None = None
    """The voiceprint by the model that is to follow."""
    followed: Growing | None = None
    """How the person sounded of late at this unit's door, by the model of the voiceprint."""

    def wipe(self) -> None:
        """Overwrite every vector."""
        self.template.wipe()
        for more in (self.growing, self.followed):
            if more is not None:
                more.wipe()

    def __repr__(self) -> str:
        return f"Person(uid=<secret>, template={self.template!r}, generation={self.generation})"


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The keys rows are made with. `wrap` changes with every epoch, the others stay with the unit."""

    unit: uuid.UUID
    epoch: int
    wrap: SecretBytes
    lookup: SecretBytes
    transform: SecretBytes


def check_uid(uid: str) -> str:
    """The normal form of a person's id; raises StoreError."""
    try:
        return person_id(uid)
    except PersonIdError as err:
        raise StoreError(f"this is no person's id: {err}") from err


def seal_row(keys: RowKeys, row_id: uuid.UUID, tag: bytes, person: Person, version: int) -> Row:
    """Protect, encipher and wrap one person under a fresh key of their own."""
    header = _HEADER.pack(FORMAT, version, person.generation) + person.template.model.encode()
    with SecretBytes.random(KEY_BYTES) as key:
        consent, door = person.consent, person.template.door
        fields: dict[str, Any] = {
            "uid": person.uid,
            "vector": _protected(keys, key, person.generation, person.template.vector[np.newaxis])[0],
            "utterances": person.template.utterances,
            "consent": [
                consent.taken_by,
                consent.given_at.timestamp(),
                consent.text_version,
                consent.retain_until.timestamp(),
                consent.purpose,
            ],
        }
        if door is not None:  # records without it are those of up to 0.1.0
            # By a rotation of its own: by one, both vectors had the same angle at every unit that has them.
            rows = _protected(keys, key, person.generation, door.vector[np.newaxis], _DOOR)
            fields["door"] = [door.made, rows[0]]
        if (growing := person.growing) is not None:  # records without it are those of up to 0.1.0
            rows = _protected(keys, key, person.generation, growing.vectors, _NEXT)
            fields["next"] = [growing.model, list(growing.days), rows, growing.ready]
        if (followed := person.followed) is not None:  # software of up to 0.1.0 drops it where it writes
            rows = _protected(keys, key, person.generation, followed.vectors, _FOLLOWED)
            fields["followed"] = [followed.model, list(followed.days), rows]
        body = cbor2.dumps(fields)
        bound = _bound("record", keys.unit, row_id, header)
        record = struct.pack(">H", len(header)) + header + key.encrypt(body, bound)
        return Row(row_id, tag, wrap_key(keys, row_id, key), record)


def open_row(keys: RowKeys, row: Row) -> Person:
    """The person in `row`; raises RecordDamagedError, which names the record, when one bit is off."""
    _, _, generation, model = _header(row.record, row.record_id)
    with unwrap_key(keys, row) as key:
        fields = _open_body(keys, row, key)
        vector = _recovered(keys, key, generation, [fields["vector"]])[0]
        door = None
        if (beside := fields.get("door")) is not None:
            door = DoorVector(beside[0], _recovered(keys, key, generation, beside[1:], _DOOR)[0])
        growing = None
        if (told := fields.get("next")) is not None:
            named, days, rows, ready = told
            growing = Growing(named, tuple(days), _recovered(keys, key, generation, rows, _NEXT), ready)
        followed = None
        if (told := fields.get("followed")) is not None:
            named, days, rows = told
            followed = Growing(named, tuple(days), _recovered(keys, key, generation, rows, _FOLLOWED))
    template = Template(model, vector, fields["utterances"], door)
    return Person(fields["uid"], template, _consent(fields), generation, growing, followed)


def open_consent(keys: RowKeys, row: Row) -> Consent:
    """What a person agreed to, without undoing the rotation."""
    with unwrap_key(keys, row) as key:
        return _consent(_open_body(keys, row, key))


def open_uid(keys: RowKeys, row: Row) -> str:
    """Whose row this is, without undoing the rotation."""
    with unwrap_key(keys, row) as key:
        return str(_open_body(keys, row, key)["uid"])


def open_growth(keys: RowKeys, row: Row) -> tuple[str, int, bool] | None:
    """(model, days, ready) of what grows beside a voiceprint, without undoing a rotation."""
    with unwrap_key(keys, row) as key:
        told = _open_body(keys, row, key).get("next")
    return None if told is None else (told[0], len(told[1]), told[3])


def open_followed(keys: RowKeys, row: Row) -> tuple[int, ...]:
    """The days (UTC, since 1970) of what a voiceprint follows, without undoing a rotation."""
    with unwrap_key(keys, row) as key:
        told = _open_body(keys, row, key).get("followed")
    return () if told is None else tuple(told[1])


def rewrap_row(old: RowKeys, new: RowKeys, row: Row) -> Row:
    """The same record under the next epoch's key-encryption key."""
    with unwrap_key(old, row) as key:
        return Row(row.record_id, row.tag, wrap_key(new, row.record_id, key), row.record)


def _open_body(keys: RowKeys, row: Row, key: SecretBytes) -> dict[str, Any]:
    size = _header(row.record, row.record_id)[0]
    header, sealed = row.record[2 : 2 + size], row.record[2 + size :]
    fields: dict[str, Any] = cbor2.loads(
        _decrypt(key, sealed, _bound("record", keys.unit, row.record_id, header), row)
    )
    return fields


def _consent(fields: dict[str, Any]) -> Consent:
    taken_by, given_at, text_version, retain_until, *purpose = fields["consent"]  # up to 0.1.0 without
    given, until = datetime.fromtimestamp(given_at, UTC), datetime.fromtimestamp(retain_until, UTC)
    return Consent(taken_by, given, text_version, until, *purpose)


def wrap_key(keys: RowKeys, row_id: uuid.UUID, key: SecretBytes) -> bytes:
    """A person's key under the key-encryption key of this epoch."""
    return keys.wrap.encrypt(key.view(), _bound("wrap", keys.unit, row_id, struct.pack(">Q", keys.epoch)))


def unwrap_key(keys: RowKeys, row: Row) -> SecretBytes:
    bound = _bound("wrap", keys.unit, row.record_id, struct.pack(">Q", keys.epoch))
    return SecretBytes.copy_of(_decrypt(keys.wrap, row.wrapped, bound, row))


def _protected(
    keys: RowKeys, key: SecretBytes, generation: int, rows: npt.NDArray[np.float32], label: str = _NOW
) -> list[bytes]:
    """Each of `rows` (n, size) as it is stored: little-endian float32."""
    with (
        _transform_secret(keys, key, generation, label) as secret,
        Rotation(secret, rows.shape[1]) as rotation,
    ):
        return [rotation.protect(row).astype("<f4").tobytes() for row in rows]


def _recovered(
    keys: RowKeys, key: SecretBytes, generation: int, stored: Sequence[bytes], label: str = _NOW
) -> npt.NDArray[np.float32]:
    """The inverse, (n, size) float32."""
    protected = [np.frombuffer(one, dtype="<f4") for one in stored]
    with (
        _transform_secret(keys, key, generation, label) as secret,
        Rotation(secret, len(protected[0])) as rotation,
    ):
        rows = [rotation.recover(one) for one in protected]
    made = np.stack(rows)
    for row in rows:
        wipe_array(row)
    return made


def _transform_secret(keys: RowKeys, key: SecretBytes, generation: int, label: str) -> SecretBytes:
    """Needs both the unit's transform key and the person's: a leak of one does not undo the rotation."""
    with keys.transform.view() as unit_part, key.view() as own_part, SecretBytes(2 * KEY_BYTES) as both:
        both.view()[:KEY_BYTES] = unit_part
        both.view()[KEY_BYTES:] = own_part
        return both.derive(f"{label} {generation}")


def _header(record: bytes, row_id: uuid.UUID) -> tuple[int, int, int, str]:
    try:
        (size,) = struct.unpack_from(">H", record)
        fmt, version, generation = _HEADER.unpack_from(record, 2)
        model = record[2 + _HEADER.size : 2 + size].decode()
    except (struct.error, UnicodeDecodeError) as err:
        raise damaged(row_id) from err
    if fmt != FORMAT or not model:
        raise damaged(row_id)
    return size, version, generation, model


def _bound(what: str, unit: uuid.UUID, row_id: uuid.UUID, header: bytes) -> bytes:
    """Additional data: a row copied to another unit, id, version or model does not open."""
    return b"ostiary " + what.encode() + b"\0" + unit.bytes + row_id.bytes + header


def _decrypt(key: SecretBytes, sealed: bytes, bound: bytes, row: Row) -> bytes:
    try:
        return key.decrypt(sealed, bound)
    except ValueError as err:
        raise damaged(row.record_id) from err


def damaged(row_id: uuid.UUID) -> RecordDamagedError:
    return RecordDamagedError(f"record {row_id} is damaged; forget that person and enrol them again")
