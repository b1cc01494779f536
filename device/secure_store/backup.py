"""Moves people to another unit: enciphered to that unit's TPM, and only as the policy authority approves.

1. The new unit makes a `Passport`: its TPM's public keys and a nonce it will accept once.
2. The authority, at a desk, signs an `Approval`: from this unit (its audit key) to that passport.
3. The old unit enciphers its people under a fresh key, and that key to the new unit's TPM.
4. The new unit checks approval, nonce, age and the old unit's signature, and enrols them under its own keys.
Only the new unit's TPM can open the bundle (TPM2_ActivateCredential), nobody can make one without the
authority, and one bundle is accepted once. Rejected: TPM2_Duplicate of the sealed key (docs/adr/0004).
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.secure_store.errors import ConsentError, StoreError
from device.secure_store.hardware.tpm import credential_for
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.hardware.tpm_link import TpmObject
from device.secure_store.memory import SecretBytes
from device.secure_store.signing import verify_es256
from device.secure_store.store import Store
from device.secure_store.voiceprints.records import Consent
from device.secure_store.voiceprints.templates import DoorVector, Template
from device.secure_store.voiceprints.vault_file import write_durably
from sync.cose import ES256, raw_signature
from sync.keys import public_pem
from sync.plain_file import plain_bytes

MAX_AGE = timedelta(days=7)
MAX_BUNDLE_BYTES = 500_000_000
MAX_PAPER_BYTES = 8_000
_APPROVAL = b"ostiary backup approval v1"
_BUNDLE = b"ostiary backup bundle v1"
_PENDING = "restore-nonce"
_PASSPORT_KINDS = (bytes, bytes, bytes, bytes)
_HEADER_KINDS = (bytes, bytes, float, bytes, bytes, bytes)


@dataclass(frozen=True, slots=True)
class Restored:
    people: int
    expired: int
    """Left out because their consent ran out."""


def passport(store: Store, state_folder: Path) -> bytes:
    """The new unit's passport. Earlier ones of this unit no longer count."""
    keystore = _tpm_of(store)
    nonce = os.urandom(16)
    write_durably(state_folder / _PENDING, nonce)
    unit = store.vault.status().unit
    return cbor2.dumps(
        [unit.bytes, keystore.tpm.parent_public(), keystore.attestation_object().public, nonce]
    )


def approve(authority: ec.EllipticCurvePrivateKey, from_audit_key_pem: bytes, passport_: bytes) -> bytes:
    """At the authority's desk, after comparing the passport's fingerprint with the unit's display."""
    statement = cbor2.dumps([_APPROVAL, from_audit_key_pem, passport_])
    signature = raw_signature(authority.sign(statement, ES256))
    return cbor2.dumps([statement, signature])


def fingerprint(passport_: bytes) -> str:
    """Eight groups of four hex digits, for two people to compare by voice."""
    digits = hashlib.sha256(passport_).hexdigest()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


def export(store: Store, approval: bytes, now: datetime) -> bytes:
    """Everybody whose consent holds, for the unit in `approval`. Raises StoreError for another's approval."""
    keystore = _tpm_of(store)
    from_pem, target = _approved(approval, keystore.authority())
    if from_pem != audit_key_pem(store):
        raise StoreError("this approval is for another unit's people")
    _, parent_public, attestation_public, nonce = _fields(target, *_PASSPORT_KINDS)
    people, doors = [], {}
    for uid in store.vault.uids():
        consent = store.vault.consent(uid)
        if not consent.expired(now):
            template = store.vault.template(uid)
            if (door := template.door) is not None:
                doors[uid] = [door.made, door.vector.astype("<f4").tobytes()]
            people.append(_person_fields(uid, template, consent))
    with SecretBytes.random(32) as key:
        name = TpmObject(attestation_public, b"").name()
        credential, secret = credential_for(parent_public, name, key)
        header = cbor2.dumps([_BUNDLE, nonce, now.timestamp(), credential, secret, approval])
        plain = cbor2.dumps(people) + cbor2.dumps(doors)  # software of 0.1.0 reads the first item alone
        sealed = key.encrypt(plain, header)
    return cbor2.dumps([header, sealed, store.audit_signer.sign(header + hashlib.sha256(sealed).digest())])


def restore(store: Store, state_folder: Path, bundle: bytes, now: datetime) -> Restored:
    """Enrol the people of `bundle` here, once. Raises StoreError unless every check holds."""
    keystore = _tpm_of(store)
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise StoreError("this bundle is too large to be one")
    # 1. our authority approved it; 2. for this passport, once; 3. made by the approved unit; 4. not old;
    # 5. our TPM opens the key; 6. the content is what was enciphered
    header, sealed, signature = _fields(bundle, bytes, bytes, bytes)
    kind, nonce, made_at, credential, secret, approval = _fields(header, *_HEADER_KINDS)
    from_pem, target = _approved(approval, keystore.authority())  # 1
    pending = state_folder / _PENDING
    if kind != _BUNDLE or not pending.exists() or plain_bytes(pending) != nonce:  # 2
        raise StoreError("this bundle is not for this unit's last passport, or it was restored already")
    if _fields(target, *_PASSPORT_KINDS)[3] != nonce:
        raise StoreError("the approval was given for another passport")
    key = serialization.load_pem_public_key(from_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise StoreError("the approval names no audit key")
    verify_es256(key, header + hashlib.sha256(sealed).digest(), signature)  # 3
    age = now - datetime.fromtimestamp(made_at, UTC)
    if not -timedelta(hours=1) <= age <= MAX_AGE:  # 4
        raise StoreError("this bundle is too old: people may have been forgotten since; make a new one")
    with keystore.tpm.activate(keystore.attestation_object(), credential, secret) as opened:  # 5
        try:
            plain = opened.decrypt(sealed, header)  # 6
        except ValueError as err:
            raise StoreError("this bundle is damaged") from err
    pending.unlink()
    people = expired = 0
    items = io.BytesIO(plain)  # authenticated: it is what an approved unit wrote
    every = cbor2.load(items)
    doors = cbor2.load(items) if items.tell() < len(plain) else {}
    for fields in every:
        uid, template, consent = _person(fields, doors.get(fields[0]))
        try:
            store.vault.enrol(uid, template, consent)
            people += 1
        except ConsentError:
            expired += 1
        template.wipe()
    return Restored(people, expired)


def audit_key_pem(store: Store) -> bytes:
    """The unit's audit key as the authority and the registry know it."""
    return public_pem(store.audit_signer.public_key())


def _tpm_of(store: Store) -> TpmKeystore:
    if not isinstance(store.keystore, TpmKeystore):
        raise StoreError("backups go from TPM to TPM; a software keystore has none")
    return store.keystore


def _approved(approval: bytes, authority: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    if len(approval) > MAX_PAPER_BYTES:
        raise StoreError("an approval is shorter than this")
    statement, signature = _fields(approval, bytes, bytes)
    verify_es256(authority, statement, signature)
    kind, from_pem, target = _fields(statement, bytes, bytes, bytes)
    if kind != _APPROVAL:
        raise StoreError("this is signed, but it is not an approval of a backup")
    return from_pem, target


def _fields(data: bytes, *kinds: type) -> list[Any]:
    """A list of exactly these types; raises StoreError."""
    try:
        fields = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as err:
        raise StoreError("this is no passport, approval or bundle of a backup") from err
    if not isinstance(fields, list) or [type(field) for field in fields] != list(kinds):
        raise StoreError("this is no passport, approval or bundle of a backup")
    return fields


def _person_fields(uid: str, template: Template, consent: Consent) -> list[Any]:
    vector = template.vector.astype("<f4").tobytes()
    template.wipe()
    return [
        uid,
        template.model,
        vector,
        template.utterances,
        consent.taken_by,
        consent.given_at.timestamp(),
        consent.text_version,
        consent.retain_until.timestamp(),
    ]


def _person(fields: list[Any], beside: list[Any] | None) -> tuple[str, Template, Consent]:
    uid, model, vector, utterances, taken_by, given_at, text_version, retain_until = fields
    since, until = (datetime.fromtimestamp(t, UTC) for t in (given_at, retain_until))
    door = None if beside is None else DoorVector(beside[0], np.frombuffer(beside[1], dtype="<f4").copy())
    template = Template(model, np.frombuffer(vector, dtype="<f4").copy(), utterances, door)
    return uid, template, Consent(taken_by, since, text_version, until)
