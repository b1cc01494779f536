"""The machine states in which the TPM gives the key: PCR values that an authority signed. Pure.

The sealed key's own policy never changes: PolicyAuthorize(authority), then PolicyNV(epoch counter <= E). An
update brings a new signed PCR set, a file (TPM 2.0 Library, Part 3, 23.7, 23.9 and 23.16).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import SealPolicyError, StoreError
from device.secure_store.signing import verify_es256
from sync.cose import ES256, raw_signature

POLICY_REF = b"ostiary store v1"
_START = bytes(32)
_CC_POLICY_NV = 0x0000_0149
_CC_POLICY_AUTHORIZE = 0x0000_016A
_CC_POLICY_PCR = 0x0000_017F
_EO_UNSIGNED_LE = 0x0009
_ALG_SHA256 = 0x000B
MAX_POLICY_BYTES = 10_000

PcrValues = Mapping[int, bytes]
"""PCR number -> SHA-256 bank value."""


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    """PCR values under which the key may be released, signed by the policy authority."""

    pcrs: tuple[int, ...]
    values: tuple[bytes, ...]
    note: str
    signature: bytes
    """ES256 raw over `approval(digest())`."""

    def digest(self) -> bytes:
        """The approved policy: one PolicyPCR."""
        return pcr_policy(dict(zip(self.pcrs, self.values, strict=True)))

    def to_json(self) -> dict[str, object]:
        return {
            "pcrs": {str(p): v.hex() for p, v in zip(self.pcrs, self.values, strict=True)},
            "note": self.note,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> SignedPolicy:
        """The policy in `text`, its signature unchecked. Raises SealPolicyError."""
        if len(text) > MAX_POLICY_BYTES:
            raise SealPolicyError("a signed policy is shorter than this")
        try:
            fields = json.loads(text)
            pcrs = {int(p): bytes.fromhex(v) for p, v in fields["pcrs"].items()}
            signature, note = bytes.fromhex(fields["signature"]), str(fields["note"])
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise SealPolicyError("this file is not a signed policy") from err
        if not pcrs or any(not 0 <= p <= 23 for p in pcrs) or any(len(v) != 32 for v in pcrs.values()):
            raise SealPolicyError("a signed policy names SHA-256 values of PCRs 0 to 23")
        ordered = tuple(sorted(pcrs))
        return cls(ordered, tuple(pcrs[p] for p in ordered), note, signature)


def sign_policy(authority: ec.EllipticCurvePrivateKey, values: PcrValues, note: str) -> SignedPolicy:
    """Sign PCR values at a desk, with the authority's key, which no unit has."""
    ordered = tuple(sorted(values))
    signature = raw_signature(authority.sign(approval(pcr_policy(values)), ES256))
    return SignedPolicy(ordered, tuple(values[p] for p in ordered), note, signature)


def verify_policy(policy: SignedPolicy, authority: ec.EllipticCurvePublicKey) -> SignedPolicy:
    """The policy, if the authority signed it; the TPM checks again. Raises SealPolicyError."""
    try:
        verify_es256(authority, approval(policy.digest()), policy.signature)
    except StoreError as err:
        raise SealPolicyError("this policy was not signed by this unit's policy authority") from err
    return policy


def matching(policies: tuple[SignedPolicy, ...], present: PcrValues) -> SignedPolicy:
    """The policy that fits the machine now. Raises SealPolicyError, which names the PCRs that changed."""
    for policy in policies:
        if all(present.get(p) == v for p, v in zip(policy.pcrs, policy.values, strict=True)):
            return policy
    if not policies:
        raise SealPolicyError(
            "no signed policy is installed: sign the output of `ostiary store measure` with the policy "
            "authority's key, then `ostiary store reseal FILE`"
        )
    last = policies[-1]
    drifted = [p for p, v in zip(last.pcrs, last.values, strict=True) if present.get(p) != v]
    raise SealPolicyError(
        f"this machine did not start as it was approved: PCR {', '.join(map(str, drifted))} changed. "
        "After a wanted update install its signed policy with `ostiary store reseal FILE`; otherwise treat "
        "the unit as tampered with"
    )


def pcr_policy(values: PcrValues) -> bytes:
    """The digest after PolicyPCR over these values (Part 3, 23.7)."""
    composite = hashlib.sha256(b"".join(values[p] for p in sorted(values))).digest()
    return _extend(_START, _CC_POLICY_PCR, pcr_selection(tuple(values)) + composite)


def approval(policy_digest: bytes) -> bytes:
    """The bytes that the authority signs (the TPM hashes them: aHash, Part 3, 23.16)."""
    return policy_digest + POLICY_REF


def sealing_policy(authority_name: bytes, epoch_index_name: bytes, epoch: int) -> bytes:
    """The sealed key's authPolicy: an approved machine, and an epoch counter of at most `epoch`."""
    operand = struct.pack(">QHH", epoch, 0, _EO_UNSIGNED_LE)
    nv = hashlib.sha256(operand).digest() + epoch_index_name
    return _extend(approved_policy(authority_name), _CC_POLICY_NV, nv)


def approved_policy(authority_name: bytes) -> bytes:
    """The exchange key's authPolicy: an approved machine."""
    digest = _extend(_START, _CC_POLICY_AUTHORIZE, authority_name)
    return hashlib.sha256(digest + POLICY_REF).digest()


def pcr_selection(pcrs: tuple[int, ...]) -> bytes:
    """TPML_PCR_SELECTION for the SHA-256 bank, marshalled (Part 2, 10.9.7)."""
    bits = sum(1 << p for p in pcrs)
    return struct.pack(">IHB", 1, _ALG_SHA256, 3) + bits.to_bytes(3, "little")


def _extend(old: bytes, command: int, data: bytes) -> bytes:
    return hashlib.sha256(old + struct.pack(">I", command) + data).digest()
