"""What the vault keeps about one person, and how it is enciphered. Pure: no file, no TPM, no clock."""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import cbor2
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device.secure_store.errors import RecordDamagedError, StoreError
from device.secure_store.memory import SecretBytes, wipe_array
from device.secure_store.voiceprints.transform import DIMENSIONS, Rotation, Vector
from sync.person_id import PersonIdError, person_id

FORMAT = 1
NONCE_BYTES = 12
KEY_BYTES = 32
DIGEST_BYTES = 16
_HEADER = struct.Struct(">BQI")  # format, version, generation of the transform


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A voiceprint: unit-norm float32 of shape (192,), by which model, from how many utterances."""

    model: str
    vector: Vector
    utterances: int

    def __post_init__(self) -> None:
        if not 0 < len(self.model) <= 128:
            raise ValueError("a template names its embedding model and version")
        if self.vector.dtype != np.float32 or self.vector.shape != (DIMENSIONS,):
            raise ValueError(
                f"a template is float32 of shape ({DIMENSIONS},), not {self.vector.dtype} {self.vector.shape}"
            )
        norm = float(np.linalg.norm(self.vector))
        if not abs(norm - 1.0) < 1e-3:  # also false for NaN
            raise ValueError(f"a template has unit norm, not {norm:.4f}")
        if not 1 <= self.utterances <= 1000:
            raise ValueError("a template is made from 1 to 1000 utterances")

    def wipe(self) -> None:
        """Overwrite the voiceprint; call it when the decision has been made."""
        wipe_array(self.vector)

    def __repr__(self) -> str:
        return f"Template(model={self.model!r}, vector=<secret>, utterances={self.utterances})"


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
    with (
        SecretBytes.random(KEY_BYTES) as key,
        _transform_secret(keys, key, person.generation) as secret,
        Rotation(secret) as rotation,
    ):
        consent = person.consent
        body = cbor2.dumps(
            {
                "uid": person.uid,
                "vector": rotation.protect(person.template.vector).astype("<f4").tobytes(),
                "utterances": person.template.utterances,
                "consent": [
                    consent.taken_by,
                    consent.given_at.timestamp(),
                    consent.text_version,
                    consent.retain_until.timestamp(),
                    consent.purpose,
                ],
            }
        )
        bound = _bound("record", keys.unit, row_id, header)
        record = struct.pack(">H", len(header)) + header + _encrypt(key, body, bound)
        return Row(row_id, tag, wrap_key(keys, row_id, key), record)


def open_row(keys: RowKeys, row: Row) -> Person:
    """The person in `row`; raises RecordDamagedError, which names the record, when one bit is off."""
    _, _, generation, model = _header(row.record, row.record_id)
    with unwrap_key(keys, row) as key:
        fields = _open_body(keys, row, key)
        with _transform_secret(keys, key, generation) as secret, Rotation(secret) as rotation:
            vector = rotation.recover(np.frombuffer(fields["vector"], dtype="<f4"))
    taken_by, given_at, text_version, retain_until, *purpose = fields["consent"]  # up to 0.1.0 without
    consent = Consent(
        taken_by,
        datetime.fromtimestamp(given_at, UTC),
        text_version,
        datetime.fromtimestamp(retain_until, UTC),
        *purpose,
    )
    return Person(fields["uid"], Template(model, vector, fields["utterances"]), consent, generation)


def open_uid(keys: RowKeys, row: Row) -> str:
    """Whose row this is, without undoing the rotation."""
    with unwrap_key(keys, row) as key:
        return str(_open_body(keys, row, key)["uid"])


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


def wrap_key(keys: RowKeys, row_id: uuid.UUID, key: SecretBytes) -> bytes:
    """A person's key under the key-encryption key of this epoch."""
    return _encrypt(keys.wrap, key.view(), _bound("wrap", keys.unit, row_id, struct.pack(">Q", keys.epoch)))


def unwrap_key(keys: RowKeys, row: Row) -> SecretBytes:
    bound = _bound("wrap", keys.unit, row.record_id, struct.pack(">Q", keys.epoch))
    return SecretBytes.copy_of(_decrypt(keys.wrap, row.wrapped, bound, row))


def _transform_secret(keys: RowKeys, key: SecretBytes, generation: int) -> SecretBytes:
    """Needs both the unit's transform key and the person's: a leak of one does not undo the rotation."""
    with keys.transform.view() as unit_part, key.view() as own_part, SecretBytes(2 * KEY_BYTES) as both:
        both.view()[:KEY_BYTES] = unit_part
        both.view()[KEY_BYTES:] = own_part
        return both.derive(f"rotation {generation}")


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


def _encrypt(key: SecretBytes, plain: bytes | memoryview, bound: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    with key.view() as raw:
        return nonce + AESGCM(raw).encrypt(nonce, plain, bound)


def _decrypt(key: SecretBytes, sealed: bytes, bound: bytes, row: Row) -> bytes:
    try:
        with key.view() as raw:
            return AESGCM(raw).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as err:
        raise damaged(row.record_id) from err


def damaged(row_id: uuid.UUID) -> RecordDamagedError:
    return RecordDamagedError(f"record {row_id} is damaged; forget that person and enrol them again")
