"""Proof that a person's voiceprint was destroyed. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import StoreError
from device.secure_store.signing import verify_es256
from sync.events import Signer

_TYPE = "ostiary deletion receipt v1"
_MAX_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class DeletionReceipt:
    """`record_id` is what the registry knows the enrolment by; `signature` is the unit's audit key's."""

    unit: uuid.UUID
    record_id: uuid.UUID
    forgotten_at: datetime
    counter: int
    """The vault counter at which the record was gone: an older vault is refused from then on."""
    epoch: int
    """The key epoch from which the record is gone."""
    reason: str
    keystore: str
    signature: bytes

    def statement(self) -> bytes:
        """The signed bytes: canonical CBOR (RFC 8949 4.2)."""
        return cbor2.dumps(
            [
                _TYPE,
                self.unit.bytes,
                self.record_id.bytes,
                int(self.forgotten_at.timestamp()),
                self.counter,
                self.epoch,
                self.reason,
                self.keystore,
            ],
            canonical=True,
        )

    def to_bytes(self) -> bytes:
        return cbor2.dumps([self.statement(), self.signature], canonical=True)


def sign_receipt(signer: Signer, unsigned: DeletionReceipt) -> DeletionReceipt:
    """`unsigned` with its signature filled in."""
    return replace(unsigned, signature=signer.sign(unsigned.statement()))


def verify_receipt(data: bytes, key: ec.EllipticCurvePublicKey) -> DeletionReceipt:
    """The receipt in `data`, if `key` signed it; raises StoreError otherwise."""
    if len(data) > _MAX_BYTES:
        raise StoreError("a deletion receipt is shorter than this")
    try:
        statement, signature = cbor2.loads(data)
        verify_es256(key, statement, signature)
        kind, unit, record, at, counter, epoch, reason, keystore = cbor2.loads(statement)
        if kind != _TYPE:
            raise StoreError("this is signed, but it is not a deletion receipt")
        return DeletionReceipt(
            uuid.UUID(bytes=unit),
            uuid.UUID(bytes=record),
            datetime.fromtimestamp(at, UTC),
            counter,
            epoch,
            reason,
            keystore,
            signature,
        )
    except (cbor2.CBORDecodeError, ValueError, TypeError) as err:
        raise StoreError("this is not a deletion receipt") from err
