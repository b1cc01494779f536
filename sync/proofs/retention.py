"""What was deleted on purpose, signed by the registry: it tells retention from a cut that nobody declares."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.cbor import dump_fields, fields
from sync.errors import MalformedError, ProofError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId, unit_id

RETENTION_TYPE = "application/ostiary-retention+cbor"
MAX_ACCOUNT = 64


@dataclass(frozen=True, slots=True)
class RetentionRecord:
    """Events `first` to `last` of a unit were deleted by `account`; `chain` is the hash after the last."""

    unit: UnitId
    first: int
    last: int
    chain: bytes
    account: str
    time_ms: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= MAX_SEQUENCE or not 0 <= self.time_ms <= MAX_TIME_MS:
            raise MalformedError("a record of retention has a number out of range")
        if (
            len(self.chain) != 32
            or not self.account.isprintable()
            or not 0 < len(self.account) <= MAX_ACCOUNT
        ):
            raise MalformedError("a record of retention has a hash or an account that cannot be")

    def signed(self, signer: Signer) -> bytes:
        payload = dump_fields(1, self.unit, self.first, self.last, self.chain, self.account, self.time_ms)
        return cose.sign1(payload, signer, RETENTION_TYPE)


def open_record(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> RetentionRecord:
    """A record about `unit` that the registry signed. Raises MalformedError or ProofError."""
    payload = cose.open1(message, key, RETENTION_TYPE)
    version, name, *rest = fields(payload, "isiibsi", cose.MAX_SIGN1_BYTES)
    if version != 1:
        raise MalformedError("a record of retention of an unknown form")
    record = RetentionRecord(unit_id(name), *rest)
    if record.unit != unit:
        raise ProofError("a record of retention about another unit")
    return record
