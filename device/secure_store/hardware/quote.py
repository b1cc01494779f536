"""A TPM's statement about how its machine started. `sync.fleet.provisioning.tpm.proof` checks it."""

from __future__ import annotations

from dataclasses import dataclass

from device.secure_store.hardware.sealing_policy import PcrValues


@dataclass(frozen=True, slots=True)
class Quote:
    """`statement` is TPMS_ATTEST, `signature` ES256 raw by the attestation key, `values` the PCRs."""

    statement: bytes
    signature: bytes
    values: PcrValues
