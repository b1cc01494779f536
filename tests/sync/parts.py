"""What the sync tests build: a software signer and events that could have happened."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sync.cose import ES256
from sync.events import AuditEvent, EventTimings, UnitId, pseudonym
from sync.proofs import chain
from sync.proofs.bundle import LogBundle
from sync.proofs.merkle import Frontier

UNIT = "st-mary/icu-2"
DOORS = ("pharmacy", "icu-2")
TENANT_KEY = bytes(range(32))
START_MS = 1_790_000_000_000


class SoftwareSigner:
    """A P-256 key in memory, behind the same Protocol as the TPM's."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(message, ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Clock:
    """A clock that a test moves."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def whole_log(unit: UnitId, events: Sequence[bytes], heads: Sequence[bytes], key: bytes) -> LogBundle:
    """What an auditor takes away of a log from its first event on."""
    start = chain.genesis(unit), Frontier().to_bytes()
    return LogBundle(unit, key, 1, *start, tuple(events), tuple(heads))


def event(number: int = 0, **changes: Any) -> AuditEvent:
    fields: dict[str, Any] = {
        "event_id": uuid.UUID(int=number + 1, version=4),
        "time_ms": START_MS + number * 1000,
        "boot": 3,
        "monotonic_ms": number * 1000,
        "door": DOORS[number % 2],
        "kind": "GRANTED",
        "reason": "all_factors_passed",
        "attempt": uuid.UUID(int=number + 77, version=4),
        "person": pseudonym(TENANT_KEY, f"BADGE{number % 5}"),
        "phrase_llr": 4.25,
        "speaker_llr": 7.5 - number % 3,
        "spoof_llr": 2.125,
        "models": ("campplus-1.2.0", "tiny.en-q8@3"),
        "policy": "policy-7",
        "timings": EventTimings(280, 120, 30, 25, 190),
        "keystore": "software",
    }
    return AuditEvent(**{**fields, **changes})
