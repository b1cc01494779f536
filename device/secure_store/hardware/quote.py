"""A TPM's statement about how its machine started, and how a registry checks it. Pure: no TPM needed."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import StoreError
from device.secure_store.hardware.sealing_policy import PcrValues, pcr_selection
from device.secure_store.signing import verify_es256

_MAGIC = 0xFF544347  # TPM_GENERATED_VALUE: a restricted key signs it for nobody but the TPM itself
_ST_ATTEST_QUOTE = 0x8018
_MAX_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Quote:
    """`statement` is TPMS_ATTEST, `signature` ES256 raw by the attestation key, `values` the PCRs."""

    statement: bytes
    signature: bytes
    values: PcrValues

    def to_bytes(self) -> bytes:
        return cbor2.dumps([self.statement, self.signature, dict(self.values)], canonical=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Quote:
        if len(data) > _MAX_BYTES:
            raise StoreError("a quote is shorter than this")
        try:
            statement, signature, values = cbor2.loads(data)
            quote = cls(bytes(statement), bytes(signature), {int(p): bytes(v) for p, v in values.items()})
        except (cbor2.CBORDecodeError, ValueError, TypeError, AttributeError) as err:
            raise StoreError("this is not a quote") from err
        return quote


@dataclass(frozen=True, slots=True)
class Attested:
    """What is proved: these PCR values, in this boot, on this TPM. `resets` counts unclean ones too."""

    values: PcrValues
    clock_ms: int
    resets: int
    restarts: int
    firmware: int


def verify_quote(quote: Quote, nonce: bytes, attestation_key: ec.EllipticCurvePublicKey) -> Attested:
    """Raises StoreError unless the TPM behind `attestation_key` stated these values for this `nonce`.

    The key has to be known from the unit's enrolment: a quote proves nothing about whose TPM it is.
    """
    # 1. signed by the attestation key; 2. made by a TPM, and a quote; 3. for this nonce;
    # 4. over exactly the PCRs given, with exactly these values (TPM 2.0 Part 2, 10.12.8)
    verify_es256(attestation_key, quote.statement, quote.signature)  # 1
    try:
        magic, kind = struct.unpack_from(">IH", quote.statement)
        _, at = _sized(quote.statement, 6)
        extra, at = _sized(quote.statement, at)
        clock_ms, resets, restarts, _safe, firmware = struct.unpack_from(">QIIBQ", quote.statement, at)
        selected = quote.statement[at + 25 :]
        selection = pcr_selection(tuple(quote.values))
        digest, end = _sized(selected, len(selection))
    except (struct.error, ValueError) as err:
        raise StoreError("the quote is cut short") from err
    if magic != _MAGIC or kind != _ST_ATTEST_QUOTE:  # 2
        raise StoreError("this is signed, but it is not a TPM's quote")
    if not hmac.compare_digest(extra, nonce):  # 3
        raise StoreError("the quote answers another nonce: it may be replayed")
    composite = hashlib.sha256(b"".join(quote.values[p] for p in sorted(quote.values))).digest()
    if selected[: len(selection)] != selection or end != len(selected) or digest != composite:  # 4
        raise StoreError("the quote covers other PCR values than it comes with")
    return Attested(quote.values, clock_ms, resets, restarts, firmware)


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from(">H", data, at)
    if at + 2 + size > len(data):
        raise ValueError("cut short")
    return data[at + 2 : at + 2 + size], at + 2 + size
