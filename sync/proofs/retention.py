"""The registry's signed records of what it deleted on purpose, which tell retention from tampering."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from sync import cose
from sync.errors import MalformedError
from sync.events import MAX_SEQUENCE, MAX_TIME_MS, Signer, UnitId

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
        told = (self.first, self.last, self.chain, self.account, self.time_ms)
        return cose.sign_fields(signer, RETENTION_TYPE, self.unit, *told)


def open_record(message: bytes, key: ec.EllipticCurvePublicKey, unit: UnitId) -> RetentionRecord:
    """A record about `unit` that the registry signed. Raises MalformedError or ProofError."""
    told = cose.open_fields(message, key, RETENTION_TYPE, "iibsi", unit, "a record of retention")
    return RetentionRecord(unit, *told)
