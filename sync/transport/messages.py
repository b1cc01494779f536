"""Messages over MQTT: batches of events from a unit, signed receipts from the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import decode, typed
from sync.errors import MalformedError
from sync.events import MAX_SEQUENCE, Signer, UnitId, unit_id

RECEIPT_TYPE = "application/ostiary-receipt+cbor"
MAX_BATCH_BYTES = 512 * 1024
MAX_BATCH_EVENTS = 500

ReceiptStatus = Literal["stored", "resend", "refused"]


@dataclass(frozen=True, slots=True)
class BatchMessage:
    """Events `first`, first+1, ... and the signed head over exactly the last of them.

    `oldest` is the first event that the unit still holds: everything before it has a receipt. It tells a
    message that overtook another (harmless) from events that will never come (a gap).
    """

    unit: UnitId
    first: int
    previous_chain: bytes
    oldest: int
    bodies: tuple[bytes, ...]
    head: bytes

    def to_bytes(self) -> bytes:
        values = [1, self.unit, self.first, self.previous_chain, self.oldest, [*self.bodies], self.head]
        return cbor2.dumps(values, canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchMessage:
        """Checks types and limits only; `sync.registry.verification` does the rest. Raises MalformedError."""
        values = decode(data, MAX_BATCH_BYTES, max_depth=2)
        if type(values) is not list or not typed(values, "isibilb") or values[0] != 1:
            raise MalformedError("a batch of an unknown form")
        _, unit, first, previous, oldest, bodies, head = values
        if not 1 <= len(bodies) <= MAX_BATCH_EVENTS or not all(type(body) is bytes for body in bodies):
            raise MalformedError("a batch has 1 to 500 events")
        if not all(1 <= n <= MAX_SEQUENCE for n in (first, oldest)) or len(previous) != 32:
            raise MalformedError("a batch has a number or a hash out of range")
        return cls(unit_id(unit), first, previous, oldest, tuple(bodies), head)

    @property
    def last(self) -> int:
        return self.first + len(self.bodies) - 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """The registry has committed this unit's events up to `size`, whose chain hash is `chain`.

    `resend`: it wants the one after `size` next. `refused`: it will not take this log; a person must look.
    """

    unit: UnitId
    size: int
    chain: bytes
    status: ReceiptStatus
    time_ms: int

    def signed(self, signer: Signer) -> bytes:
        told = (self.size, self.chain, self.status, self.time_ms)
        return cose.sign_fields(signer, RECEIPT_TYPE, self.unit, *told)


def open_receipt(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> Receipt:
    """A receipt for `unit`, signed by the registry. Raises MalformedError or ProofError."""
    size, chain_hash, status, time_ms = cose.open_fields(
        message, key, RECEIPT_TYPE, "ibsi", unit, "a receipt"
    )
    if status not in get_args(ReceiptStatus):
        raise MalformedError("a receipt of an unknown form")
    if not all(0 <= n <= MAX_SEQUENCE for n in (size, time_ms)) or len(chain_hash) != 32:
        raise MalformedError("a receipt has a number or a hash out of range")
    return Receipt(unit, size, chain_hash, status, time_ms)
