"""The unit's signed statement about a recording: file, findings, models. COSE_Sign1."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from device.errors import DeviceError
from device.inspection.findings import Findings
from sync import cose
from sync.errors import SyncError
from sync.events import Signer

CONTENT_TYPE = "application/vnd.ostiary.inspection+cbor"
FORMAT = 1


def findings_bytes(found: Findings) -> bytes:
    """The findings as JSON, always the same bytes for the same findings."""
    return json.dumps(found.to_dict(), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def statement(found: Findings, unit: str) -> bytes:
    """The bytes to sign, without time or chance: the same for the same findings."""
    return cbor2.dumps(
        {
            "format": FORMAT,
            "unit": unit,
            "recording": bytes.fromhex(found.sha256),
            "findings": hashlib.sha256(findings_bytes(found)).digest(),
            "models": list(found.models),
        },
        canonical=True,
    )


def signed(found: Findings, unit: str, signer: Signer) -> bytes:
    """The statement, signed by the unit's audit key; only the signature varies."""
    return cose.sign1(statement(found, unit), signer, CONTENT_TYPE)


def checked(message: bytes, key: ec.EllipticCurvePublicKey, recording: bytes, findings: bytes) -> str:
    """The unit that states these findings about this file, signed by `key`. Raises DeviceError."""
    try:
        told: dict[str, Any] = cbor2.loads(cose.open1(message, key, CONTENT_TYPE))
    except SyncError as err:
        raise DeviceError(f"the statement does not verify: {err}") from err
    if told.get("format") != FORMAT:
        raise DeviceError("the statement has a format that this version does not know; update it")
    if told.get("recording") != hashlib.sha256(recording).digest():
        raise DeviceError("the statement is about another recording")
    if told.get("findings") != hashlib.sha256(findings).digest():
        raise DeviceError("the statement is about other findings")
    return str(told["unit"])
