"""Files of the TPM keystore: public parts, blobs for its TPM only, names to pin. No secret."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from device.secure_store.errors import SealPolicyError, StoreError, StoreUnavailableError
from device.secure_store.hardware.sealing_policy import SignedPolicy
from device.secure_store.hardware.tpm_link import TpmObject
from device.secure_store.voiceprints.vault_file import refuse_a_link_to_nowhere, unavailable, write_durably
from sync.plain_file import plain_bytes

MAX_FILE_BYTES = 100_000
MAX_POLICIES = 4
"""The states before and after an update, and two for a second unit image."""


@dataclass(frozen=True, slots=True)
class TpmFacts:
    """Written once when the unit is provisioned; `fresh` until the vault under it exists."""

    fresh: bool
    parent_name: str
    counter_names: dict[str, str]
    audit: tuple[str, str]
    attestation: tuple[str, str]
    authority_pem: str

    def audit_key(self) -> TpmObject:
        return _object(self.audit)

    def attestation_key(self) -> TpmObject:
        return _object(self.attestation)

    def authority(self) -> ec.EllipticCurvePublicKey:
        return read_authority(self.authority_pem.encode())


class TpmFiles:
    """`tpm.json`, `sealed-<epoch>.json`, `exchange.json`, `policies.json`, all 0600 and written durably."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.marker = folder / "provisioning"
        self.own_authority = folder / "policy-authority.pem"
        self._facts_path = folder / "tpm.json"

    def facts(self) -> TpmFacts | None:
        """None when nothing was provisioned; raises StoreError for a damaged file."""
        refuse_a_link_to_nowhere(self._facts_path)
        if not self._facts_path.exists():
            return None
        fields = _read(self._facts_path)
        try:
            fields["audit"], fields["attestation"] = tuple(fields["audit"]), tuple(fields["attestation"])
            return TpmFacts(**fields)
        except (TypeError, KeyError) as err:
            raise _damaged(self._facts_path) from err

    def save_facts(self, facts: TpmFacts) -> None:
        write_durably(self._facts_path, json.dumps(asdict(facts), indent=1).encode())

    def forget_facts(self) -> None:
        self._facts_path.unlink(missing_ok=True)

    def sealed(self) -> dict[int, TpmObject]:
        """Epoch -> sealed secrets; raises StoreError for a damaged file."""
        found = {}
        for path in sorted(self.folder.glob("sealed-*.json")):
            number = path.stem.removeprefix("sealed-")
            if number.isdigit():
                found[int(number)] = _read_object(path)
        return found

    def save_sealed(self, epoch: int, blob: TpmObject) -> None:
        _write_object(self.folder / f"sealed-{epoch}.json", blob)

    def drop_sealed(self, *, keep: int | None) -> None:
        for path in self.folder.glob("sealed-*.json"):
            if path.name != f"sealed-{keep}.json":
                path.unlink(missing_ok=True)

    def exchange(self) -> TpmObject | None:
        """The exchange key, or None before it was made; raises StoreError for a damaged file."""
        path = self.folder / "exchange.json"
        return _read_object(path) if path.exists() else None

    def save_exchange(self, blob: TpmObject) -> None:
        _write_object(self.folder / "exchange.json", blob)

    def forget_exchange(self) -> None:
        (self.folder / "exchange.json").unlink(missing_ok=True)

    def policies(self) -> tuple[SignedPolicy, ...]:
        """Oldest first. The TPM checks every signature, so the file needs no protection."""
        path = self.folder / "policies.json"
        if not path.exists():
            return ()
        entries = _read(path).get("policies", [])
        return tuple(SignedPolicy.from_json(json.dumps(entry)) for entry in entries[-MAX_POLICIES:])

    def add_policy(self, policy: SignedPolicy) -> None:
        kept = [p for p in self.policies() if (p.pcrs, p.values) != (policy.pcrs, policy.values)]
        entries = [p.to_json() for p in [*kept, policy][-MAX_POLICIES:]]
        write_durably(self.folder / "policies.json", json.dumps({"policies": entries}, indent=1).encode())


def read_authority(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Raises SealPolicyError unless `pem` is a P-256 public key."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as err:
        raise SealPolicyError("the policy authority is a PEM public key on P-256") from err
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise SealPolicyError("the policy authority is a PEM public key on P-256")
    return key


def object_fields(blob: TpmObject) -> tuple[str, str]:
    return blob.public.hex(), blob.private.hex()


def _object(fields: tuple[str, str]) -> TpmObject:
    return TpmObject(bytes.fromhex(fields[0]), bytes.fromhex(fields[1]))


def _read_object(path: Path) -> TpmObject:
    fields = _read(path)
    try:
        return _object((fields["public"], fields["private"]))
    except (KeyError, TypeError, ValueError) as err:
        raise _damaged(path) from err


def _write_object(path: Path, blob: TpmObject) -> None:
    public, private = object_fields(blob)
    write_durably(path, json.dumps({"public": public, "private": private}).encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _damaged(path)
        fields = json.loads(plain_bytes(path))
    except OSError as err:
        raise StoreUnavailableError(unavailable(path.name, err)) from err
    except ValueError as err:
        raise _damaged(path) from err
    if not isinstance(fields, dict):
        raise _damaged(path)
    return fields


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path.name} of the store is damaged; restore a backup or begin again")
